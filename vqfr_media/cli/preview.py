"""`vqfr-media preview`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, fetch_progress, frame_progress
from vqfr_media.errors import OptionError
from vqfr_media.options import RestoreOptions


@dataclass(frozen=True, kw_only=True)
class PreviewCommand:
    """Restore a few seconds of a film before all of it, and show them beside the original.

    Takes the places with the most, the least clear and the largest faces; writes a film without
    sound, and a picture (.png) of the same name with moments of it. See docs/preview.md.
    """

    source: tyro.conf.Positional[Path]
    """Video to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("preview.mp4")
    """Film to write; the picture has the same name with .png."""
    seconds: float = 5.0
    """Length of each stretch, 0.2 to 60 seconds."""
    stretches: int = 3
    """Most stretches, 1 to 3."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How the restoration is done, as for `restore`."""
    quiet: bool = False
    """Print nothing but errors."""


def preview(command: PreviewCommand) -> int:
    """Restores stretches of a film, and says where they are and what the whole would take."""
    from vqfr_media.choices import check_available
    from vqfr_media.files import check_source

    source, output = command.source, command.output
    sheet = output.with_suffix(".png")
    if output == sheet:
        raise OptionError(f"{output}: the preview is a film; give it a name in .mp4 or .mkv")
    check_source(source, kind="a video")
    check_available(command.options)
    # Only now what takes seconds to import.
    from vqfr_media.review.film_preview import clock, preview_film

    with (
        fetch_progress(command.quiet) as fetch,
        frame_progress(command.quiet) as (start, step),
    ):
        done = preview_film(
            source,
            output,
            sheet,
            command.options,
            seconds=command.seconds,
            stretches=command.stretches,
            on_start=start,
            on_frame=step,
            on_fetch=fetch,
        )
    if not command.quiet:
        echo(
            f"{output}, {sheet}: {done.frames} frames in {done.seconds:.1f} s",
            *(f"from {clock(one.start)} to {clock(one.stop)}: {one.why}" for one in done.stretches),
            f"the whole film has {done.film_frames} frames: about {clock(done.film_seconds)[:-2]} "
            "(hours:minutes:seconds) if all of it were like this",
        )
    return 0
