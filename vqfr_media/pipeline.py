"""From a path to a path: a whole restoration of a video, short or long, or of an image."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vqfr_media.engine import Engine
from vqfr_media.faces.detect import Detector
from vqfr_media.faces.tracks import Tracks
from vqfr_media.files import refuse_same, write_bytes
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.jobs.identity import identity_of_settings
from vqfr_media.jobs.resume import (
    RestoredVideo,
    may_be_long,
    may_stay_untouched,
    restore_in_segments,
)
from vqfr_media.jobs.segments import Job, restore_segments, segment_length
from vqfr_media.jobs.work_folder import open_work_folder, work_folder_of
from vqfr_media.media.cut import Cut, find_cut
from vqfr_media.media.encoder import encoder_threads
from vqfr_media.media.fields import check_fields, deinterlaced, deinterlaced_info, said_of_mixed
from vqfr_media.media.image import check_image_output, has_format_of, read_image, write_image
from vqfr_media.media.index import (
    FrameIndex,
    IndexMismatchError,
    corrected_index,
    make_index,
    read_frames,
    without_false_keys,
)
from vqfr_media.media.read import open_video
from vqfr_media.media.untouched import copy_untouched
from vqfr_media.media.write import open_writer, try_writer
from vqfr_media.options import RestoreOptions
from vqfr_media.preflight import refuse_range_of_image
from vqfr_media.prepare import Prepared, load_tracks, prepare
from vqfr_media.restoration.fields import frames_around, restore_pictures
from vqfr_media.restoration.restore import Restorer, refuse_skipped
from vqfr_media.restoration.stream import num_faces, restore_frames
from vqfr_media.summary import RunCounts, Summary
from vqfr_media.weights import Progress
from vqfr_media.windows import READ_AHEAD, prefetch, widened

__all__ = ["num_faces", "restore_frames", "restore_image", "restore_video"]


def restore_video(
    source: Path | str,
    output: Path | str,
    options: RestoreOptions | None = None,
    *,
    engine: Engine | None = None,
    detector: Detector | None = None,
    ready: Prepared | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    on_fetch: Progress | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> Summary:
    """Restores the faces of a video; everything else in the file is carried over.

    A long video is worked in segments, which are kept in a folder beside the output until that is
    there: whatever ends this call, the same call goes on from them, to the same bits.

    Args:
        source: Video to read.
        output: File to write; it gets this name only when it is complete.
        options: What to do; defaults are meant to be good.
        engine: Used instead of the one that `options.model` asks for.
        detector: Used instead of the one that `options.face` asks for.
        ready: What `prepare` gave for these options, to be used for many files.
        on_start: Called once, with what is known of the source; of a part of it, with the number
            of its frames.
        on_frame: Called with each frame handed to the encoder, for progress and inspection.
        on_fetch: Called with bytes done and bytes in all while weights are downloaded.
        on_resume: Called with how many frames an earlier call has finished, if any.

    Raises:
        InputError: the source, an option or the weights are at fault.
        MachineError: the output cannot be written, or weights, backend or device are not here.
        EngineError: the network failed.
    """
    options = options or RestoreOptions()
    source, output = Path(source), Path(output)
    started = time.monotonic()
    keep_damaged = options.damaged == "keep"
    with open_video(source, keep_damaged=keep_damaged, fields=options.fields) as reader:
        info = reader.info
        length = segment_length(options, info)
        frames: Iterable[Frame] = reader
        said = check_fields(source, info, options)
        if info.first_field and options.fields == "deinterlace":
            frames, info = deinterlaced(reader, info), deinterlaced_info(info)
        # All that can be refused is refused before a network is fetched or built.
        try_writer(
            output, source, info, options.encode,
            upscale=options.upscale, threads=encoder_threads(),
        )  # fmt: skip
        tracks = load_tracks(options.tracks, info.width, info.height, info.display)
        if tracks is not None:
            tracks.check_claim(info.frame_count_from_header)
        index, shown = None, info
        if not options.part.is_whole:
            index = make_index(source, info, keep_damaged=keep_damaged)
            cut = find_cut(source, index, info, options.part)
            shown = replace(info, frame_count_from_header=len(cut.frames))
        ready = ready or prepare(options, engine, detector, on_fetch=on_fetch)
        if on_start is not None:
            on_start(shown)
        restored = None
        if may_be_long(info, length, options.part):
            restored = _restore_in_segments(
                source, output, options=options, info=info, ready=ready, tracks=tracks,
                length=length, index=index, on_frame=on_frame, on_resume=on_resume,
            )  # fmt: skip
        if restored is None and index is not None:
            restored = _restore_part(
                source, output, info=info, index=index, options=options, ready=ready,
                tracks=tracks, on_frame=on_frame,
            )  # fmt: skip
        if restored is None:
            restored = _restore_in_one_go(
                source, output, info=info, frames=frames, cut=None, options=options, ready=ready,
                tracks=tracks, on_frame=on_frame,
            )  # fmt: skip
            restored = replace(restored, notes=tuple(reader.notes))
    counts = restored.counts
    said = said or said_of_mixed(info, options.fields, counts.interlaced, counts.frames)
    warnings = (*said, *restored.warnings)
    if may_stay_untouched(restored, options):
        untouched = copy_untouched(source, output, info, options.encode)
        if untouched is not None:
            warnings = untouched.said
            restored = replace(restored, read_back=untouched.read_back)
    return summarise(
        restored.counts, ready, source, output, started, (*warnings, *restored.notes),
        resumed=restored.resumed, time_base=info.time_base, read_back=restored.read_back,
        upscale=options.upscale,
    )  # fmt: skip


def _restore_in_segments(
    source: Path,
    output: Path,
    *,
    options: RestoreOptions,
    info: VideoInfo,
    ready: Prepared,
    tracks: Tracks | None,
    length: int,
    index: FrameIndex | None,
    on_frame: Callable[[Frame], None] | None,
    on_resume: Callable[[int], None] | None,
) -> RestoredVideo | None:
    """Restores a video in segments of `length` frames; None where it has not two of them."""

    def work_here(job: Job, numbers: range, folder: Path) -> Iterator[int]:
        return restore_segments(
            job, numbers, folder, engine=ready.engine, detector=ready.detector, on_frame=on_frame
        )

    return restore_in_segments(
        source,
        output,
        options,
        info=info,
        settings=identity_of_settings(options, ready),
        length=length,
        worker=work_here,
        on_resume=on_resume,
        check=tracks.check_count if tracks is not None else None,
        index=index,
    )


def _restore_part(
    source: Path,
    output: Path,
    *,
    info: VideoInfo,
    index: FrameIndex,
    options: RestoreOptions,
    ready: Prepared,
    tracks: Tracks | None,
    on_frame: Callable[[Frame], None] | None,
) -> RestoredVideo:
    """Restores a part of a video in one go; the windows at its ends see the frames around it."""
    restorer = Restorer(
        ready.engine, ready.detector, options, info.time_base, info.frame_rate, tracks
    )
    radius = frames_around(restorer, info.first_field)
    while True:
        cut = find_cut(source, index, info, options.part)
        if tracks is not None:
            tracks.check_count(len(index))
        read = widened(cut.frames, radius, len(index))
        index = without_false_keys(source, index, read.start)
        try:
            restored = _restore_in_one_go(
                source, output, info=info, frames=read_frames(source, index, read), cut=cut,
                options=options, ready=ready, tracks=tracks, on_frame=on_frame,
            )  # fmt: skip
            return replace(restored, notes=index.notes)
        except IndexMismatchError:
            better = corrected_index(source, index)
            if better is None:
                raise
            index = better


def _restore_in_one_go(
    source: Path,
    output: Path,
    *,
    info: VideoInfo,
    frames: Iterable[Frame],
    cut: Cut | None,
    options: RestoreOptions,
    ready: Prepared,
    tracks: Tracks | None,
    on_frame: Callable[[Frame], None] | None,
) -> RestoredVideo:
    """Restores frames from the first to the last, and keeps nothing but the output.

    With a `cut`, `frames` are those around it too, which only the windows see.
    """
    counts = RunCounts()
    # Around a cut the windows are cut short, so that faces there prove nothing.
    stages = options if cut is None else replace(options, strict=False)
    restorer = Restorer(
        ready.engine, ready.detector, stages, info.time_base, info.frame_rate, tracks
    )
    with (
        open_writer(
            output, source, info, options.encode,
            upscale=options.upscale, threads=encoder_threads(), cut=cut,
            keep_damaged=options.damaged == "keep",
        ) as writer,
        prefetch(frames, READ_AHEAD) as read,
        prefetch(
            restore_pictures(
                read, restorer, order=info.first_field, wanted=cut.frames if cut else None
            ),
            READ_AHEAD,
        ) as restored,
    ):  # fmt: skip
        for frame, parts in restored:
            for frame_faces in parts:
                if options.strict:
                    refuse_skipped(frame.index, frame_faces.skipped)
                counts.add(frame_faces)
            writer.write(frame)
            if on_frame is not None:
                on_frame(frame)
        if tracks is not None and cut is None:
            tracks.check_count(counts.frames)
    if work_folder_of(output).is_dir():  # of an earlier run in segments, which this one replaces
        with open_work_folder(output) as folder:
            folder.remove()
    return RestoredVideo(counts=counts, warnings=tuple(writer.warnings), read_back=writer.read_back)


def restore_image(
    source: Path | str,
    output: Path | str,
    options: RestoreOptions | None = None,
    *,
    engine: Engine | None = None,
    detector: Detector | None = None,
    ready: Prepared | None = None,
    on_fetch: Progress | None = None,
) -> Summary:
    """Restores the faces of an image; takes, returns and raises what `restore_video` does."""
    options = options or RestoreOptions()
    source, output = Path(source), Path(output)
    started = time.monotonic()
    refuse_range_of_image(source, options)
    refuse_same(output, source)
    frame, extras = read_image(source)
    check_image_output(output, frame, options.encode, upscale=options.upscale)
    tracks = load_tracks(options.tracks, frame.width, frame.height, frame.display)
    if tracks is not None:
        tracks.check_count(1)
    ready = ready or prepare(options, engine, detector, on_fetch=on_fetch)
    restorer = Restorer(ready.engine, ready.detector, options, Fraction(1), Fraction(1), tracks)
    counts = RunCounts()
    warnings: tuple[str, ...] = ()
    with closing(restore_frames([frame], restorer)) as pictures:
        for restored, frame_faces in pictures:
            counts.add(frame_faces)
            if not counts.restored and options.upscale == 1 and has_format_of(source, output):
                write_bytes(output, source.read_bytes())
                warnings = ("the output is the input, byte for byte",)
            else:
                write_image(output, restored, extras, options.encode)
                warnings = extras.notes
    summary = summarise(counts, ready, source, output, started, warnings, upscale=options.upscale)
    return replace(summary, kind="image")


def summarise(
    counts: RunCounts,
    ready: Prepared,
    source: Path,
    output: Path,
    started: float,
    warnings: tuple[str, ...],
    *,
    resumed: int = 0,
    time_base: Fraction = Fraction(1),
    read_back: tuple[str, ...] = (),
    upscale: int = 1,
) -> Summary:
    """Returns what a restoration that began at `started` (`time.monotonic`) came to."""
    return Summary(
        source=source,
        output=output,
        model=ready.model.name,
        why=ready.model.why,
        device=ready.engine.spec.device,
        backend=ready.model.backend,
        backend_why=ready.model.backend_why,
        precision=ready.engine.spec.precision,
        engine=ready.model.engine,
        engine_identity=ready.model.identity,
        detector=ready.chosen_detector.name,
        detector_why=ready.chosen_detector.why,
        frames=counts.frames,
        resumed=resumed,
        seconds=time.monotonic() - started,
        restored=counts.restored,
        skipped=dict(counts.skipped),
        shots=tuple(counts.shots),
        tracks=tuple(counts.tracks),
        damaged=counts.damaged_frames(time_base),
        read_back=read_back,
        upscale=upscale,
        warnings=warnings,
    )
