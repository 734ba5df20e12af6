"""`vqfr-media tracks`, `vqfr-media compare` and `vqfr-media report`."""

from pathlib import Path
from typing import TYPE_CHECKING

from vqfr_media.cli.say import frame_progress, say
from vqfr_media.commands_look import Compare, FindTracks, Report
from vqfr_media.errors import OptionError, OutputError
from vqfr_media.options import RestoreOptions

if TYPE_CHECKING:
    from vqfr_media.faces.tracks import Tracks


def find_tracks(command: FindTracks) -> int:
    """Writes a video's faces to a file, draws them, or both."""
    from vqfr_media.faces.tracks_file import read_tracks, write_tracks
    from vqfr_media.files import check_place, refuse_same
    from vqfr_media.prepare import ChosenDetector
    from vqfr_media.restoration.find_tracks import find_tracks as find
    from vqfr_media.review.preview import check_preview, write_preview

    options, source = command.finding.options(), command.source
    output, preview = command.output, command.preview
    if output is None and preview is None:
        raise OptionError("tracks needs a file to write: -o tracks.json, or --preview faces.mp4")
    if command.tracks is not None and output is not None:
        raise OptionError(
            f"--tracks {command.tracks} is drawn as it is, so there is nothing to write to "
            f"{output}; leave out one of the two"
        )
    for path in filter(None, (output, preview)):
        refuse_same(path, source)
        if not path.parent.is_dir():  # said before the work, not after it
            raise OutputError(f"{path}: there is no folder {path.parent}")
    if preview is not None:
        for other in filter(None, (output, command.tracks)):
            if preview.resolve() == other.resolve():
                raise OptionError(f"the preview and the tracks are both {preview}; name another")
        check_preview(source, preview)
        check_place(preview)
    lines: list[str] = []
    if command.tracks is not None:
        tracks = read_tracks(command.tracks)
    else:
        chosen: list[ChosenDetector] = []
        with frame_progress(command.quiet) as (start, step):
            tracks = find(source, options, on_start=start, on_frame=step, on_detector=chosen.append)
        lines += [f"detector {one.name} ({one.why})" for one in chosen]
    if output is not None:
        write_tracks(output, tracks)
        lines.insert(
            0,
            f"{output}: {len(tracks.tracks)} tracks in {len(tracks.shots)} shots, "
            f"{tracks.source.frame_count} frames",
        )
    if preview is not None:
        with frame_progress(command.quiet) as (start, step):
            drawn = write_preview(source, preview, tracks, on_start=start, on_frame=step)
        lines += [f"{preview}: {drawn.what}", *(f"note: {warning}" for warning in drawn.warnings)]
    if not command.quiet:
        say(*lines)
    return 0


def compare(command: Compare) -> int:
    """Draws two clips or images into one."""
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
    found = command.finding.options()
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
        say(
            f"{command.output}: {counted(done.frames, 'picture')}, {done.size[0]}×{done.size[1]}",
            *(f"note: {note}" for note in done.notes),
        )
    return 0


def report(command: Report) -> int:
    """Measures a restoration and writes the page."""
    from vqfr_media.review.report import write_report

    with frame_progress(command.quiet) as (start, step):
        done = write_report(
            command.source,
            command.restored,
            command.output,
            command.finding.options(),
            restore_report=command.restore_report,
            tracks=command.tracks,
            figures=command.json,
            max_tracks=command.max_tracks,
            on_start=start,
            on_frame=step,
        )
    if not command.quiet:
        frames, tracks = counted(done.pairs, "frame"), counted(len(done.tracks), "track")
        say(f"{command.output}: {frames}, {tracks}", *done.lines())
    return 0


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tracks(path: Path | None, source: Path, options: RestoreOptions) -> "Tracks":
    from vqfr_media.faces.tracks_file import read_tracks
    from vqfr_media.restoration.find_tracks import find_tracks as find

    return find(source, options) if path is None else read_tracks(path)
