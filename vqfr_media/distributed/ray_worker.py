"""Files restored on a Ray cluster: long videos by segments, others whole, by any free worker."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from vqfr_media.batch.task import ProgressListener, Task
from vqfr_media.distributed.cluster import connected, ray_library
from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.pool import WorkerPool, open_pool
from vqfr_media.distributed.resources import choose_resources
from vqfr_media.distributed.staging import RemoteFile, cache_folder
from vqfr_media.distributed.worker import PreparedFactory, SourceFile, make_prepared
from vqfr_media.errors import MediaError, VqfrMediaError
from vqfr_media.files import atomic_output, check_place, check_source, output_error, refuse_same
from vqfr_media.frames import VideoInfo
from vqfr_media.jobs.identity import content_of
from vqfr_media.jobs.resume import (
    RestoredVideo,
    may_be_long,
    may_stay_untouched,
    restore_in_segments,
)
from vqfr_media.jobs.segments import Job, segment_length
from vqfr_media.jobs.work_folder import open_work_folder, segment_name, work_folder_of
from vqfr_media.media.fields import check_fields, said_of_mixed, with_fields
from vqfr_media.media.read import open_video
from vqfr_media.media.segment_file import read_segment
from vqfr_media.media.untouched import copy_untouched
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import load_tracks
from vqfr_media.summary import Summary

# Files in progress beyond the number of workers, so that no worker waits while another file is cut
# into segments or joined, which is done in this process.
_FILES_AHEAD = 1


@contextmanager
def open_workers(
    ray: RayOptions,
    options: RestoreOptions,
    *,
    listener: ProgressListener | None = None,
    remote_files: Mapping[Path, RemoteFile] | None = None,
    factory: PreparedFactory = make_prepared,
    cache: Path | None = None,
) -> Iterator["RayWorker"]:
    """Yields what `batch.run.run_batch` takes as its worker; its processes end with the block.

    Args:
        ray: the cluster, and what is asked of it.
        options: for all files; chooses engine and detector.
        listener: is told of starts and frames, from many threads.
        remote_files: where every machine can get each task's source, if it has no path that all of
            them share.
        factory: makes engine and detector in each worker; can be pickled.
        cache: folder for fetched inputs, of the same name on every machine.

    Raises:
        BackendError: Ray is not installed, or there is no such cluster, or no room in it.
        InputError, MachineError, EngineError: what the workers need cannot be made ready.
    """
    with connected(ray.address):
        machines = [node["Resources"] for node in ray_library().nodes() if node["Alive"]]
        resources = choose_resources(ray, options.model, machines)
        portable = portable_options(options, on_gpu=resources.gpus > 0)
        with open_pool(resources, portable, factory=factory, cache=cache or cache_folder()) as pool:
            yield RayWorker(
                pool,
                resources.workers,
                listener=listener or ProgressListener(),
                remote_files=remote_files if remote_files is not None else {},
            )


def portable_options(options: RestoreOptions, *, on_gpu: bool) -> RestoreOptions:
    """Returns the same options for another process: absolute paths, and the device it has."""
    model, face = options.model, options.face
    device = model.device if on_gpu else "cpu"
    return replace(
        options,
        model=replace(
            model, device=device, weights=_absolute(model.weights), engine=_absolute(model.engine)
        ),
        face=replace(face, detector_weights=_absolute(face.detector_weights)),
    )


def _absolute(path: Path | None) -> Path | None:
    return path if path is None else path.absolute()


class RayWorker:
    """A `batch.task.FileWorker` whose work is done on a cluster; made by `open_workers`."""

    def __init__(
        self,
        pool: WorkerPool,
        workers: int,
        *,
        listener: ProgressListener,
        remote_files: Mapping[Path, RemoteFile],
    ) -> None:
        self.max_concurrency = workers + _FILES_AHEAD
        self._workers = workers
        self._pool = pool
        self._listener = listener
        self._remote_files = remote_files

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """Returns what decides the bits of a result, apart from its source."""
        return self._pool.settings(options)

    def content(self, task: Task) -> str:
        """Returns the SHA-256 of the source.

        Raises:
            MediaError: it is missing, empty, no ordinary file, or cannot be read.
        """
        check_source(task.source, kind="an image" if task.kind == "image" else "a video")
        return content_of(task.source)

    def work(self, task: Task) -> Summary:
        """Restores one file; raises what `restore_video` does.

        Raises:
            StoppedError: `stop` was called.
        """
        started = time.monotonic()
        refuse_same(task.output, task.source)
        check_place(task.output)
        if task.kind == "video":
            summary = self._restore_in_segments(task)
            if summary is not None:
                return replace(summary, seconds=time.monotonic() - started)
        summary = self._restore_whole(task)
        return replace(summary, seconds=time.monotonic() - started)

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """Tells whether no worker is left."""
        del error
        return self._pool.is_empty

    def stop(self) -> None:
        """Ends the workers, so that whatever waits for them ends."""
        self._pool.close()

    def _restore_in_segments(self, task: Task) -> Summary | None:
        """Restores a video in segments; returns None if it is too short for two of them."""
        source, options, listener = task.source, task.options, self._listener
        keep_damaged = options.damaged == "keep"
        with open_video(source, keep_damaged=keep_damaged) as reader:
            info = reader.info
        listener.on_start(task, info)
        length = segment_length(options, info)
        # Whether what is restored whole is interlaced is measured where that is done.
        whole = options.fields == "deinterlace" or not length
        if whole or not may_be_long(info, length, options.part):
            return None
        info = with_fields(info, options.fields, source)
        said = check_fields(source, info, options)
        tracks = load_tracks(options.tracks, info.width, info.height, info.display)
        if tracks is not None:
            tracks.check_claim(info.frame_count_from_header)
        resumed: list[int] = []

        def on_resume(frames: int) -> None:
            resumed.append(frames)
            listener.on_resume(task, frames)

        outcome = restore_in_segments(
            source,
            task.output,
            options,
            info=info,
            settings=self.settings(options),
            length=length,
            worker=partial(self._segments, task),
            on_resume=on_resume,
            check=tracks.check_count if tracks is not None else None,
        )
        if outcome is None:
            return None
        counts = outcome.counts
        said = said or said_of_mixed(info, options.fields, counts.interlaced, counts.frames)
        if may_stay_untouched(outcome, options):
            untouched = copy_untouched(source, task.output, info, options.encode)
            if untouched is not None:
                said = ()
                outcome = replace(outcome, warnings=untouched.said, read_back=untouched.read_back)
        outcome = replace(outcome, warnings=(*said, *outcome.warnings))
        return self._summary(task, outcome, info, sum(resumed))

    def _segments(self, task: Task, job: Job, numbers: range, folder: Path) -> Iterator[int]:
        """Returns a `resume.SegmentWorker`: each segment by any free worker, in any order."""
        source_file = self._source_file(task.source)

        def restore_segment(number: int) -> int:
            frames = job.frames(number)
            name = segment_name(number)
            with atomic_output(folder / name) as temporary:
                self._pool.run(
                    f"{job.source}: frames {frames.start} to {frames.stop - 1}",
                    "restore_segment",
                    (job, number, source_file),
                    target=temporary,
                    on_frames=partial(self._listener.on_frames, task),
                )
                try:
                    complete = read_segment(temporary, verify=True) is not None
                except (OSError, ValueError) as error:
                    raise output_error(temporary, error) from error
                if not complete:
                    raise MediaError(f"{job.source}: segment {number} arrived damaged; try again")
            return number

        with ThreadPoolExecutor(
            min(self._workers, len(numbers)), thread_name_prefix="vqfr-segment"
        ) as threads:
            running = [threads.submit(restore_segment, number) for number in numbers]
            try:
                for future in as_completed(running):
                    yield future.result()
            finally:
                # Segments that have started are finished and kept; the others are dropped.
                threads.shutdown(wait=True, cancel_futures=True)

    def _restore_whole(self, task: Task) -> Summary:
        source_file = self._source_file(task.source)
        with atomic_output(task.output) as temporary:
            summary = self._pool.run(
                str(task.source),
                "restore_file",
                (source_file, task.output.name, task.kind, task.options),
                target=temporary,
                on_frames=partial(self._listener.on_frames, task),
            )
        assert summary is not None, "restore_file yields one"  # noqa: S101
        if work_folder_of(task.output).is_dir():  # of an earlier run in segments
            with open_work_folder(task.output) as folder:
                folder.remove()
        return replace(summary, source=task.source, output=task.output)

    def _source_file(self, source: Path) -> SourceFile:
        try:
            status = source.stat()
        except OSError as error:
            raise MediaError(f"{source}: cannot be read: {error.strerror or error}") from error
        return SourceFile(
            source.absolute(), status.st_size, status.st_mtime_ns, self._remote_files.get(source)
        )

    def _summary(
        self, task: Task, outcome: RestoredVideo, info: VideoInfo, resumed: int
    ) -> Summary:
        counts = outcome.counts
        return replace(
            self._pool.info.summary,
            source=task.source,
            output=task.output,
            frames=counts.frames,
            resumed=resumed,
            restored=counts.restored,
            skipped=dict(counts.skipped),
            shots=tuple(counts.shots),
            tracks=tuple(counts.tracks),
            damaged=counts.damaged_frames(info.time_base),
            read_back=outcome.read_back,
            warnings=(*outcome.warnings, *outcome.notes),
        )
