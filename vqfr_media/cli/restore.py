"""`vqfr-media restore`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, fetch_progress, frame_progress, resumable_progress
from vqfr_media.errors import OptionError, OutputError
from vqfr_media.options import RestoreOptions

Persons = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="N|PHOTO")]


@dataclass(frozen=True, kw_only=True)
class RestoreCommand:
    """Restore the faces of a video or an image; everything else in the file stays as it is."""

    sources: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATH")]
    """Video or image to read. Several are restored into a folder, as `batch` does."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, whose suffix chooses the container, or the folder for the outputs of several
    inputs. An existing file is replaced at the end."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How the restoration is done."""
    person: Persons = ()
    """Restore this person only: a number as in the tracks file, or a photograph. Can be given again
    for another one."""
    not_person: Persons = ()
    """Leave this person alone, named in the same way."""
    report: Path | None = None
    """Also write what was done, with every track and skipped face, as JSON to this file."""
    quiet: bool = False
    """Print nothing but errors."""


def restore(command: RestoreCommand) -> int:
    """Restores one video or image to a file, or several into a folder."""
    from vqfr_media.cli.batch import restore_many

    match command.sources:
        case ():
            raise OptionError("restore needs a video or an image to read")
        case (source,):
            return restore_one(source, command)
        case sources:
            if command.report is not None:
                raise OptionError(
                    f"{command.output}/batch.json will tell of each of the {len(sources)} inputs; "
                    f"leave out --report {command.report}, or use "
                    "`vqfr-media batch --report` for one on each"
                )
            if command.person or command.not_person:
                raise OptionError(
                    "--person and --not-person are for one input; give them one by one"
                )
            return restore_many(sources, command.output, command.options, quiet=command.quiet)


def restore_one(source: Path, command: RestoreCommand) -> int:
    """Restores one video or image."""
    from vqfr_media.choices import check_available
    from vqfr_media.files import check_place, check_source, refuse_same, write_text

    output, report = command.output, command.report
    if report is not None:
        refuse_same(report, source)
        if command.options.tracks is not None:
            refuse_same(report, command.options.tracks)
        if report.resolve() == output.resolve():
            raise OptionError(f"the report and the output are both {report}; name another report")
        if report.is_dir() or not report.parent.is_dir():
            raise OutputError(f"the report {report} needs a file name in a folder that exists")
        check_place(report)
    check_source(source, kind="a video or an image")
    check_available(command.options)
    from vqfr_media.preflight import check_files

    check_files(source, output, command.options)
    # Only now what takes seconds to import: who mistyped a name is told at once.
    from vqfr_media.batch.file_report import report_text
    from vqfr_media.media.image import is_image
    from vqfr_media.pipeline import restore_image, restore_video

    with fetch_progress(command.quiet) as fetch, _chosen_persons(source, command) as options:
        if is_image(source):
            summary = restore_image(source, output, options, on_fetch=fetch)
        else:
            with resumable_progress(command.quiet) as (start, step, skip):
                summary = restore_video(
                    source,
                    output,
                    options,
                    on_start=start,
                    on_frame=step,
                    on_fetch=fetch,
                    on_resume=skip,
                )
    if report is not None:
        write_text(report, report_text(summary, command.options))
    if not command.quiet:
        echo(*summary.lines())
    return 0


@contextmanager
def _chosen_persons(source: Path, command: RestoreCommand) -> Iterator[RestoreOptions]:
    """Yields the options, with a tracks file of the chosen persons where some were chosen."""
    if not command.person and not command.not_person:
        yield command.options
        return
    from vqfr_media.faces.tracks_file import read_tracks, write_tracks
    from vqfr_media.restoration.find_tracks import find_tracks
    from vqfr_media.restoration.persons import only_persons

    options = command.options
    with TemporaryDirectory(prefix="vqfr-media-") as folder:
        with frame_progress(command.quiet) as (start, step):
            if options.tracks is not None:
                tracks = read_tracks(options.tracks)
            else:
                tracks = find_tracks(source, options, on_start=start, on_frame=step)
            chosen = only_persons(
                source, tracks, wanted=command.person, unwanted=command.not_person, options=options
            )
        path = Path(folder) / "tracks.json"
        write_tracks(path, chosen)
        yield replace(options, tracks=path)
