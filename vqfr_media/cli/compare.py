"""`vqfr-media compare`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vqfr_media.cli.console import echo, frame_progress
from vqfr_media.cli.tracks import DetectionOptions
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import counted

if TYPE_CHECKING:
    from vqfr_media.faces.tracks import Tracks


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Draw two videos of the same moments, or two images, into one: before and after.

    See docs/review.md.
    """

    before: tyro.conf.Positional[Path]
    """Video or image, usually what went into `restore`."""
    after: tyro.conf.Positional[Path]
    """The same moments, usually what came out."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write: a video, or a picture (.png) with a few evenly spaced moments."""
    mode: Literal["side-by-side", "wipe", "faces"] = "side-by-side"
    """Both pictures whole, one picture with a divider, or the faces enlarged."""
    labels: tuple[str, str] = ("before", "after")
    """Names of the two, written on the picture."""
    divider: float | None = None
    """Place of a wipe's divider, 0 (left) to 1 (right); by default it moves, and stands in the
    middle of a picture."""
    sweep_seconds: float = 4.0
    """Time in which a moving divider goes to both sides and comes back."""
    moments: int = 6
    """Evenly spaced moments of a video on a sheet, where the output is a picture."""
    rows: int = 3
    """Most faces that mode faces shows at the same time."""
    tracks: Path | None = None
    """File of the faces for mode faces, made by `vqfr-media tracks`; by default they are looked
    for in the first video."""
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    """How faces are found."""
    quiet: bool = False
    """Print nothing but errors."""


def compare(command: CompareCommand) -> int:
    """Draws two clips or images into one."""
    from vqfr_media.choices import check_available
    from vqfr_media.files import check_source

    found = replace(command.detection.options(), tracks=command.tracks)
    for source in (command.before, command.after):
        check_source(source, kind="a video or an image")
    check_available(found)
    # Only now what takes seconds to import.
    from vqfr_media.review.compare import CompareOptions
    from vqfr_media.review.compare import compare as draw

    options = CompareOptions(
        mode=command.mode,
        labels=command.labels,
        divider=command.divider,
        sweep_seconds=command.sweep_seconds,
        moments=command.moments,
        rows=command.rows,
    )
    with frame_progress(command.quiet) as (start, step):
        done = draw(
            command.before,
            command.after,
            command.output,
            options,
            find=lambda: _tracks(command.tracks, command.before, found),
            on_start=start,
            on_frame=step,
        )
    if not command.quiet:
        echo(
            f"{command.output}: {counted(done.frames, 'picture')}, {done.size[0]}×{done.size[1]}",
            *(f"note: {note}" for note in done.notes),
        )
    return 0


def _tracks(path: Path | None, source: Path, options: RestoreOptions) -> "Tracks":
    from vqfr_media.faces.tracks_file import read_tracks
    from vqfr_media.restoration.find_tracks import find_tracks as find

    return find(source, options) if path is None else read_tracks(path)
