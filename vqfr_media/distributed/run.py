"""Files on a Ray cluster: long videos by segments, whole short ones, each by whoever is free."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from vqfr_media.batch.task import Task, Watch
from vqfr_media.distributed.cluster import connected, ray_library
from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.pool import Pool, open_pool
from vqfr_media.distributed.sizing import sizing
from vqfr_media.distributed.staging import Origin, cache_folder
from vqfr_media.distributed.worker import Given, Make, make_ready
from vqfr_media.errors import MediaError, VqfrMediaError
from vqfr_media.files import atomic_output, check_place, check_source, output_error, refuse_same
from vqfr_media.jobs.identity import content_of
from vqfr_media.jobs.resume import may_be_long, restore_in_segments
from vqfr_media.jobs.segments import Job, segment_length, segment_name
from vqfr_media.jobs.work_folder import open_work_folder, work_folder_of
from vqfr_media.media.read import open_video
from vqfr_media.media.segment_file import read_segment
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import load_tracks
from vqfr_media.summary import RunCounts, Summary

# Files that are worked at once beyond the workers: while some are cut or joined, which is done
# here, no worker waits.
_FILES_AHEAD = 1


@contextmanager
def open_workers(
    ray: RayOptions,
    options: RestoreOptions,
    *,
    watch: Watch | None = None,
    origins: Mapping[Path, Origin] | None = None,
    make: Make = make_ready,
    cache: Path | None = None,
) -> Iterator["RayWorker"]:
    """Yields what `batch.run.run_batch` takes as its worker; its processes end with the block.

    Args:
        ray: the cluster, and what is asked of it.
        options: of all files; chooses engine and detector.
        watch: is told of starts and frames, from many threads.
        origins: where each task's source can be had by every machine, if it is not on a path that
            all of them share.
        make: makes engine and detector in each worker; can be pickled.
        cache: folder for fetched inputs, of the same name on every machine.

    Raises:
        BackendError: Ray is not installed, or there is no such cluster, or no room in it.
        InputError, MachineError, EngineError: what the workers need cannot be made ready.
    """
    with connected(ray.address):
        machines = [node["Resources"] for node in ray_library().nodes() if node["Alive"]]
        size = sizing(ray, options.model, machines)
        wanted = as_seen_anywhere(options, on_gpu=size.gpus > 0)
        with open_pool(size, wanted, make=make, cache=cache or cache_folder()) as pool:
            yield RayWorker(
                pool,
                size.workers,
                watch=watch or Watch(),
                origins=origins if origins is not None else {},
            )


def as_seen_anywhere(options: RestoreOptions, *, on_gpu: bool) -> RestoreOptions:
    """The same for another process: with whole paths, and a device that it has been given."""
    model, face = options.model, options.face
    device = model.device if on_gpu else "cpu"
    return replace(
        options,
        model=replace(
            model, device=device, weights=_whole(model.weights), engine=_whole(model.engine)
        ),
        face=replace(face, detector_weights=_whole(face.detector_weights)),
    )


def _whole(path: Path | None) -> Path | None:
    return path if path is None else path.absolute()


class RayWorker:
    """A `batch.task.FileWorker` whose work is done on a cluster; made by `open_workers`."""

    def __init__(
        self,
        pool: Pool,
        workers: int,
        *,
        watch: Watch,
        origins: Mapping[Path, Origin],
    ) -> None:
        self.at_once = workers + _FILES_AHEAD
        self._workers = workers
        self._pool = pool
        self._watch = watch
        self._origins = origins

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """All that decides the bits of a result but its source."""
        return self._pool.settings(options)

    def content(self, task: Task) -> str:
        """SHA-256 of the source.

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
            done = self._in_segments(task)
            if done is not None:
                return replace(done, seconds=time.monotonic() - started)
        summary = self._whole(task)
        return replace(summary, seconds=time.monotonic() - started)

    def is_fatal(self, error: VqfrMediaError) -> bool:
        """Whether no worker is left."""
        del error
        return self._pool.is_empty

    def stop(self) -> None:
        """Ends the workers, so that whatever waits for them ends."""
        self._pool.close()

    def _in_segments(self, task: Task) -> Summary | None:
        """The summary of a video that was worked in segments; None if it has not two of them."""
        source, options, watch = task.source, task.options, self._watch
        with open_video(source) as reader:
            info = reader.info
        watch.on_start(task, info)
        length = segment_length(options, info)
        if not (length and may_be_long(info, length)):
            return None
        tracks = load_tracks(options.tracks, info.width, info.height, info.display)
        if tracks is not None:
            tracks.check_claim(info.frame_count_from_header)
        resumed: list[int] = []

        def on_resume(frames: int) -> None:
            resumed.append(frames)
            watch.on_resume(task, frames)

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
        return self._summary(task, outcome.counts, outcome.warnings, sum(resumed))

    def _segments(self, task: Task, job: Job, numbers: range, folder: Path) -> Iterator[int]:
        """A `resume.Worker`: each segment by whoever is free, in any order."""
        given = self._given(task.source)

        def one(number: int) -> int:
            frames = job.frames(number)
            name = segment_name(number)
            with atomic_output(folder / name) as temporary:
                self._pool.run(
                    f"{job.source}: frames {frames.start} to {frames.stop - 1}",
                    "segment",
                    (job, number, given),
                    target=temporary,
                    on_frames=partial(self._watch.on_frames, task),
                )
                try:
                    whole = read_segment(temporary, verify=True) is not None
                except (OSError, ValueError) as error:
                    raise output_error(temporary, error) from error
                if not whole:
                    raise MediaError(f"{job.source}: segment {number} arrived damaged; try again")
            return number

        with ThreadPoolExecutor(
            min(self._workers, len(numbers)), thread_name_prefix="vqfr-segment"
        ) as threads:
            running = [threads.submit(one, number) for number in numbers]
            try:
                for future in as_completed(running):
                    yield future.result()
            finally:
                # What is being worked is finished and kept; what is not begun is not.
                threads.shutdown(wait=True, cancel_futures=True)

    def _whole(self, task: Task) -> Summary:
        given = self._given(task.source)
        with atomic_output(task.output) as temporary:
            summary = self._pool.run(
                str(task.source),
                "whole",
                (given, task.output.name, task.kind, task.options),
                target=temporary,
                on_frames=partial(self._watch.on_frames, task),
            )
        assert summary is not None, "the worker yields one"  # noqa: S101
        if work_folder_of(task.output).is_dir():  # of an earlier run in segments
            with open_work_folder(task.output) as folder:
                folder.remove()
        return replace(summary, source=task.source, output=task.output)

    def _given(self, source: Path) -> Given:
        try:
            status = source.stat()
        except OSError as error:
            raise MediaError(f"{source}: cannot be read: {error.strerror or error}") from error
        return Given(
            source.absolute(), status.st_size, status.st_mtime_ns, self._origins.get(source)
        )

    def _summary(
        self, task: Task, counts: RunCounts, warnings: tuple[str, ...], resumed: int
    ) -> Summary:
        return replace(
            self._pool.introduction.about,
            source=task.source,
            output=task.output,
            frames=counts.frames,
            resumed=resumed,
            restored=counts.restored,
            skipped=dict(counts.skipped),
            shots=tuple(counts.shots),
            tracks=tuple(counts.tracks),
            warnings=warnings,
        )
