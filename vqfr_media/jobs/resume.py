"""A long restoration that can be stopped at any moment: the same command goes on, to the same bits.

Finished segments are kept beside the output (`work_folder.py`); at the end they become one file.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from vqfr_media.errors import MediaError
from vqfr_media.frames import VideoInfo
from vqfr_media.jobs.identity import content_of
from vqfr_media.jobs.segments import Job, check_encoder
from vqfr_media.jobs.work_folder import SegmentPlan, WorkFolder, open_work_folder
from vqfr_media.media.cut import find_cut
from vqfr_media.media.encoder import encoder_threads
from vqfr_media.media.index import (
    FrameIndex,
    IndexMismatchError,
    corrected_index,
    make_index,
)
from vqfr_media.media.segment_file import SegmentFile, join_segments
from vqfr_media.media.write import open_writer, try_writer
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import FaceCounts, FrameCounts, RunCounts
from vqfr_media.time_range import TimeRange
from vqfr_media.values import SkipReason

logger = logging.getLogger(__name__)

# Works consecutive segments of a job into files of a folder, and yields the number of each.
SegmentWorker = Callable[[Job, range, Path], Iterator[int]]


@dataclass(frozen=True, kw_only=True)
class RestoredVideo:
    """What the restoration of a video came to."""

    counts: RunCounts
    """What was done to its frames; the same in segments and in one go."""
    warnings: tuple[str, ...]
    """What the output cannot hold exactly."""
    read_back: tuple[str, ...] = ()
    """What was found in the finished file."""
    notes: tuple[str, ...] = ()
    """What a user must know of the source."""
    resumed: int = 0
    """Frames that an earlier, interrupted run had finished."""


def may_be_long(info: VideoInfo, length: int, part: TimeRange) -> bool:
    """Returns whether part of a video may have two segments, by its container's claims.

    A segment has `length` frames; 0 says that the video is not to be cut.
    """
    if length == 0:
        return False
    stop = part.stop_seconds
    if stop is not None and (stop - part.start_seconds) * info.frame_rate < length:
        return False  # also at a variable rate, frames are rarely twice as dense as on average
    count = info.frame_count_from_header
    if count is None and info.duration_seconds_from_header is not None:
        count = round(info.duration_seconds_from_header * info.frame_rate)
    return count is None or count >= 2 * length


def may_stay_untouched(restored: RestoredVideo, options: RestoreOptions) -> bool:
    """Returns whether the film may be written as it was, because nothing in it was restored."""
    counts = restored.counts
    return (
        not counts.restored
        and not counts.damaged
        and options.upscale == 1
        and options.part.is_whole
        and options.fields != "deinterlace"
    )


def restore_in_segments(
    source: Path,
    output: Path,
    options: RestoreOptions,
    *,
    info: VideoInfo,
    settings: Mapping[str, str],
    length: int,
    worker: SegmentWorker,
    on_resume: Callable[[int], None] | None = None,
    check: Callable[[int], None] | None = None,
    index: FrameIndex | None = None,
) -> RestoredVideo | None:
    """Restores a video in segments of `length` frames; None where it has not two of them.

    Args:
        source: Video to read.
        output: File to write.
        options: What to do.
        info: What is known of the source.
        settings: What decides the bits but the source (`identity.identity_of_settings`).
        length: Frames in a segment.
        worker: Works segments; `segments.restore_segments` with an engine, or many of it.
        on_resume: Called with the number of frames that an earlier run has finished.
        check: Called with the number of frames of the whole film, before any is worked; may raise.
        index: The source's frames, where they are known already.

    Raises:
        InputError, MachineError, EngineError: as `restore_video`. What was finished is kept; the
            error, also an interruption, carries a note that says so.
    """
    with open_work_folder(output) as folder:
        try:
            stat = source.stat()  # before the content is looked at, to tell if it changes then
        except OSError as error:
            raise MediaError(f"{source}: cannot be read: {error.strerror or error}") from error
        identity = {
            "source": content_of(source), **settings, "segment_frames": str(length),
            # Measured, where the file does not say it: another version may find another.
            "first_field": info.first_field or "none",
            "first_field_of_output": info.tags.field_order or "none",
        }  # fmt: skip
        plan = folder.read_plan(identity)
        if plan is None:
            if index is None:
                index = make_index(source, info, keep_damaged=options.damaged == "keep")
            if len(find_cut(source, index, info, options.part).frames) < 2 * length:
                return None
            threads = encoder_threads()  # written down, because the encoder's bits depend on it
            extradata = try_writer(
                output, source, info, options.encode,
                upscale=options.upscale, threads=threads, folder=folder.path,
            )  # fmt: skip
            plan = SegmentPlan(index, threads, extradata)
            folder.write_plan(identity, plan)
        if check is not None:
            check(len(plan.index))
        job = Job(
            source=source, size=stat.st_size, modified_ns=stat.st_mtime_ns, output=output,
            info=info, options=options, index=plan.index, length=length, threads=plan.threads,
            extradata=plan.extradata,
        )  # fmt: skip
        try:
            job, resumed = _work_all(job, identity, folder, worker, on_resume)
            result = _join(job, folder, resumed)
        except BaseException as error:
            done = sum(1 for _ in folder.path.glob("[0-9]*.segment"))
            if done:
                error.add_note(
                    f"{done} of {job.count} segments are done; the same command goes on from there"
                )
            raise
        folder.remove()
    return result


def _work_all(
    job: Job,
    identity: dict[str, str],
    folder: WorkFolder,
    worker: SegmentWorker,
    on_resume: Callable[[int], None] | None,
) -> tuple[Job, int]:
    """Works what is missing, until nothing speaks against the index.

    Returns:
        The job with the right index, and the number of frames that an earlier run has finished.
    """
    resumed: int | None = None
    while True:
        done = folder.finished(job.count)
        if job.options.strict:  # an earlier run may have been less strict
            done = [number for number in done if not _has_refused(folder, number)]
        if resumed is None:  # in later rounds, what is done is of this run
            resumed = sum(len(job.frames(number)) for number in done)
            if on_resume is not None and done:
                on_resume(resumed)
        try:
            missing = sorted(set(range(job.count)) - set(done))
            for numbers in consecutive_ranges(missing):
                for _ in worker(job, numbers, folder.path):
                    pass
            index = _index_without_seeking(job, folder)
        except IndexMismatchError:
            index = corrected_index(job.source, job.index)
            if index is None:
                raise
            _forget_others(job, index, folder)
        if index is None:
            return job, resumed
        job = replace(job, index=index)
        folder.write_plan(identity, SegmentPlan(index, job.threads, job.extradata))


def _has_refused(folder: WorkFolder, number: int) -> bool:
    """Returns whether a finished segment leaves a face alone that `strict` does not."""
    reasons = (r for frame in folder.segment(number).notes["counts"] for r in frame["skipped"])
    return any(not SkipReason(reason).is_chosen for reason in reasons)


def consecutive_ranges(numbers: Sequence[int]) -> list[range]:
    """Returns ascending numbers as ranges without gaps."""
    edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1), len(numbers)]
    return [range(numbers[a], numbers[b - 1] + 1) for a, b in pairwise(edges) if b > a]


def _forget_others(job: Job, index: FrameIndex, folder: WorkFolder) -> None:
    """Keeps of the segments only those of which `index` says what the job's index says."""
    both = min(len(index), len(job.index))
    differ = np.flatnonzero(index.times[:both] != job.index.times[:both])
    same = int(differ[0]) if len(differ) else both
    now = replace(job, index=index)
    for number in range(job.count):
        if job.frames(number).stop > same or now.frames(number) != job.frames(number):
            folder.forget(number)


def _index_without_seeking(job: Job, folder: WorkFolder) -> FrameIndex | None:
    """Returns None where neighbours saw the same pictures at their border, as they should.

    Else those that were read by seeking are forgotten, and the index names no key frame any more.
    """
    borders = []
    for number in range(job.count):
        notes = folder.segment(number).notes
        borders.append((notes["begins"], notes["ends"], notes["sought"]))
    if all(one[1] == other[0] for one, other in pairwise(borders)):
        return None
    sought = [number for number, border in enumerate(borders) if border[2]]
    if not sought:
        raise MediaError(
            f"{job.source}: its decoder gives other pictures each time it is read; convert it with "
            "ffmpeg first, or restore it in one go with segment_seconds 0"
        )
    logger.warning("%s: seeking in it gives other pictures; reading it through", job.source)
    for number in sought:
        folder.forget(number)
    return job.index.without_keys()


def _join(job: Job, folder: WorkFolder, resumed: int) -> RestoredVideo:
    """Makes one file of the segments, and counts what is in them."""
    counts = RunCounts()

    def counted() -> Iterator[SegmentFile]:
        for number in range(job.count):
            segment = folder.segment(number)
            for frame in segment.notes["counts"]:
                counts.count(_counts(frame))
            yield segment

    delays = [folder.segment(number).delay for number in range(job.count)]
    base = Fraction(folder.segment(0).notes["time_base"])
    known = [delay for delay in delays if delay is not None]
    delay = max(known) if len(known) == len(delays) else None
    with open_writer(
        job.output, job.source, job.info, job.options.encode,
        upscale=job.options.upscale, threads=job.threads, folder=folder.path, cut=job.cut,
        keep_damaged=job.index.keeps_damaged,
    ) as writer:  # fmt: skip
        check_encoder(job, writer.extradata)
        writer.join(join_segments(counted(), delay=delay, time_base=base))
    warnings = tuple(writer.warnings)
    return RestoredVideo(
        counts=counts,
        warnings=warnings,
        read_back=writer.read_back,
        notes=job.index.notes,
        resumed=resumed,
    )


def _counts(values: dict[str, object]) -> FrameCounts:
    faces = values["faces"]
    assert isinstance(faces, list)  # noqa: S101 - its checksum was right
    return FrameCounts(
        values["index"],  # type: ignore[arg-type]
        values["new_shot"],  # type: ignore[arg-type]
        tuple(FaceCounts(**face) for face in faces),
        tuple(map(SkipReason, values["skipped"])),  # type: ignore[call-overload]
        values["damaged_pts"],  # type: ignore[arg-type]
        values["interlaced"],  # type: ignore[arg-type]
    )
