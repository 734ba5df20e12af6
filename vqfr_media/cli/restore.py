"""`vqfr-media restore` and `vqfr-media tracks`."""

import json

from vqfr_media.cli.say import fetch_progress, frame_progress, resumable_progress, say
from vqfr_media.commands import FindTracks, Restore
from vqfr_media.errors import OptionError, OutputError
from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions, TemporalOptions


def restore(command: Restore) -> int:
    """Restores one video or image."""
    from vqfr_media.media.image import is_image
    from vqfr_media.media.output import atomic_output, check_place, output_error, refuse_same
    from vqfr_media.pipeline import restore_image, restore_video

    source, output, report = command.source, command.output, command.report
    if report is not None:
        refuse_same(report, source)
        if command.options.tracks is not None:
            refuse_same(report, command.options.tracks)
        if report.resolve() == output.resolve():
            raise OptionError(f"the report and the output are both {report}; name another report")
        if report.is_dir() or not report.parent.is_dir():
            raise OutputError(f"the report {report} needs a file name in a folder that exists")
        check_place(report)
    with fetch_progress(command.quiet) as fetch:
        if is_image(source):
            summary = restore_image(source, output, command.options, on_fetch=fetch)
        else:
            with resumable_progress(command.quiet) as (start, step, skip):
                summary = restore_video(
                    source,
                    output,
                    command.options,
                    on_start=start,
                    on_frame=step,
                    on_fetch=fetch,
                    on_resume=skip,
                )
    if report is not None:
        with atomic_output(report) as temporary:
            try:
                temporary.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
            except OSError as error:
                raise output_error(report, error) from error
    if not command.quiet:
        say(*summary.lines())
    return 0


def find_tracks(command: FindTracks) -> int:
    """Writes a video's faces to a file."""
    options = RestoreOptions(
        face=FaceOptions(
            score=command.score,
            detector=command.detector,
            detector_weights=command.detector_weights,
            proxy=command.proxy,
        ),
        temporal=TemporalOptions(max_gap=command.max_gap),
        model=ModelOptions(device=command.device),
        offline=command.offline,
    )
    from vqfr_media.find import find_tracks as find
    from vqfr_media.media.output import refuse_same
    from vqfr_media.prepare import ChosenDetector
    from vqfr_media.tracks_file import write_tracks

    refuse_same(command.output, command.source)
    if not command.output.parent.is_dir():  # said before the work, not after it
        raise OutputError(f"{command.output}: there is no folder {command.output.parent}")
    chosen: list[ChosenDetector] = []
    with frame_progress(command.quiet) as (start, step):
        tracks = find(
            command.source, options, on_start=start, on_frame=step, on_detector=chosen.append
        )
    write_tracks(command.output, tracks)
    if not command.quiet:
        say(
            f"{command.output}: {len(tracks.tracks)} tracks in {len(tracks.shots)} shots, "
            f"{tracks.source.frame_count} frames",
            *(f"detector {one.name} ({one.why})" for one in chosen),
        )
    return 0
