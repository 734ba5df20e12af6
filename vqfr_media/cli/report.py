"""`vqfr-media report`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, frame_progress
from vqfr_media.cli.tracks import DetectionOptions


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Measure what a restoration did to each face, and write it as one HTML page.

    Needs `pip install 'vqfr-media[report]'`; the figures are defined in docs/review.md.
    """

    source: tyro.conf.Positional[Path]
    """Video or image that went into `restore`."""
    restored: tyro.conf.Positional[Path]
    """What came out."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, HTML, with everything in it."""
    restore_report: Path | None = None
    """File that `restore --report` wrote: says the options, and why faces were left alone."""
    tracks: Path | None = None
    """File of the faces, if `restore --tracks` was given one; by default they are looked for in
    the source."""
    max_tracks: int = 40
    """Tracks with plots and pictures, the longest ones; the others have a line in a table."""
    json: Path | None = None
    """Also write the figures to this file."""
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    """How faces are found, in the source and in the result."""
    quiet: bool = False
    """Print nothing but errors."""


def report(command: ReportCommand) -> int:
    """Measures a restoration and writes the page."""
    from vqfr_media.choices import check_available
    from vqfr_media.files import check_source

    detection = command.detection.options()
    for source in (command.source, command.restored):
        check_source(source, kind="a video or an image")
    check_available(replace(detection, tracks=command.tracks))
    # Only now what takes seconds to import.
    from vqfr_media.review.report import write_report
    from vqfr_media.summary import counted

    with frame_progress(command.quiet) as (start, step):
        done = write_report(
            command.source,
            command.restored,
            command.output,
            detection,
            restore_report=command.restore_report,
            tracks=command.tracks,
            figures=command.json,
            max_tracks=command.max_tracks,
            on_start=start,
            on_frame=step,
        )
    if not command.quiet:
        frames, tracks = counted(done.pairs, "frame"), counted(len(done.tracks), "track")
        echo(f"{command.output}: {frames}, {tracks}", *done.lines())
    return 0
