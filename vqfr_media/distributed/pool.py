"""Workers on a Ray cluster: started, compared, given one piece of work at a time, replaced.

Ray places the actors, carries calls and results, and reports deaths. An actor gets one call at a
time, so work waits only here.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Condition, Event
from typing import Any

from vqfr_media.differences import describe_mismatch
from vqfr_media.distributed.cluster import ray_library
from vqfr_media.distributed.resources import WorkerResources
from vqfr_media.distributed.worker import (
    PreparedFactory,
    UnsuitableWorkerError,
    WorkerInfo,
    package_versions,
)
from vqfr_media.distributed.worker_handle import (
    StoppedError,
    WorkerFailedError,
    WorkerHandle,
    WorkerLostError,
    fetch_result,
    loss_reason,
    start_worker,
)
from vqfr_media.errors import (
    BackendError,
    EngineError,
    MachineError,
    SkippedFaceError,
    VqfrMediaError,
)
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

logger = logging.getLogger(__name__)

# Workers that may be lost over one piece of work, or in a row while they get ready.
ATTEMPTS = 3
# How long the other workers may take to get ready after the first one is, before all are compared;
# and how long work waits for a worker when none is left but some are being started.
START_TIMEOUT_SECONDS = 600.0
# After this time without a ready worker, the user is told what is being waited for.
NOTICE_SECONDS = 60.0


@contextmanager
def open_pool(
    resources: WorkerResources, options: RestoreOptions, *, factory: PreparedFactory, cache: Path
) -> Iterator["WorkerPool"]:
    """Yields workers that are ready, all of one kind; their processes end when the block is left.

    Args:
        resources: how many, and what each has.
        options: chooses their engine and their detector.
        factory: makes both, on their machine.
        cache: folder on their machine for inputs that lie behind a URL.

    Raises:
        BackendError: no worker starts, or none fits this process.
        InputError, MachineError, EngineError: what they need cannot be made ready.
    """
    pool = WorkerPool(resources, options, factory, cache)
    try:
        pool.start()
        yield pool
    finally:
        pool.close()


class WorkerPool:
    """The workers; any number of threads may use it."""

    def __init__(
        self,
        resources: WorkerResources,
        options: RestoreOptions,
        factory: PreparedFactory,
        cache: Path,
    ) -> None:
        self._resources = resources
        self._arguments = (options, resources.cpus, factory, cache)
        self._ray = ray_library()
        self._free: LifoQueue[WorkerHandle] = LifoQueue()
        self._changed = Condition()  # guards what follows
        self._waiting: list[WorkerHandle] = []  # ready, and not compared yet
        self._handles: list[WorkerHandle] = []
        self._failures: list[BaseException] = []
        self._actors: list[Any] = []
        self._starting = 0
        self._reference: WorkerInfo | None = None
        self._closed = Event()
        self._starters = ThreadPoolExecutor(resources.workers, thread_name_prefix="vqfr-start")

    @property
    def info(self) -> WorkerInfo:
        """What all workers are, by the first of them."""
        assert self._reference is not None, "start() comes first"  # noqa: S101
        return self._reference

    @property
    def is_empty(self) -> bool:
        """Whether no worker is left, and none is on its way."""
        with self._changed:
            return not self._handles and not self._starting

    def start(self) -> None:
        """Starts the workers, and keeps those of the most common kind.

        Raises:
            BackendError: no worker starts, or none fits this process.
            InputError, MachineError, EngineError: what they need cannot be made ready.
        """
        for _ in range(self._resources.workers):
            self._start_one()
        with self._changed:
            capacity = self._resources.capacity
            seconds_left, until_notice = START_TIMEOUT_SECONDS, NOTICE_SECONDS
            while len(self._waiting) + len(self._failures) < capacity and seconds_left > 0:
                self._changed.wait(0.5)
                seconds_left -= 0.5 * bool(self._waiting)
                until_notice -= 0.5
                if until_notice == 0:
                    ready = f"{len(self._waiting)} of {capacity} workers are ready"
                    logger.warning("%s; the others get ready, or wait until Ray has room", ready)
            if not self._waiting:
                raise as_own_error(self._failures[0])
            self._reference = most_common([handle.info for handle in self._waiting])
            waiting, self._waiting = self._waiting, []
        for failure in self._failures:
            logger.warning("a worker could not start, the others go on without it: %s", failure)
        for handle in waiting:
            self._admit(handle)
        if self.is_empty:
            raise BackendError(self._no_worker_left())

    def close(self) -> None:
        """Ends all workers; who waits for one, or for its result, gets StoppedError."""
        with self._changed:
            self._closed.set()
            actors = self._actors.copy()
        for actor in actors:
            self._ray.kill(actor)
        self._starters.shutdown(wait=True, cancel_futures=True)

    def settings(self, options: RestoreOptions) -> dict[str, str]:
        """Returns what decides the bits of a result, apart from the source.

        Raises:
            BackendError: no worker is left.
            WeightsError: a file of weights cannot be read there.
        """
        while True:
            handle = next(iter(self._handles), None)
            if handle is None:
                self._free.put(self._acquire())
                continue
            try:
                found: dict[str, str] = self._ray.get(handle.actor.settings.remote(options))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._replace(handle, loss_reason(error))
                continue
            return found

    def run(
        self,
        what: str,
        method: str,
        arguments: Sequence[object],
        *,
        target: Path,
        on_frames: Callable[[int], None],
    ) -> Summary | None:
        """Has one worker do a piece of work, and another one if that is lost; see `fetch_result`.

        Args:
            what: names the piece in errors.
            method: of `Worker`, a generator of a file's chunks.
            arguments: its arguments.
            target: file to write the chunks to.
            on_frames: called with the number of frames finished since the last call; negative where
                they were lost.

        Raises:
            BackendError: no worker is left.
            EngineError: one worker after the other was lost over this.
            OutputError: `target` cannot be written.
            InputError, MachineError, EngineError: as `method`.
        """
        reported = 0

        def count(frames: int) -> None:
            nonlocal reported
            reported += frames
            on_frames(frames)

        lost = 0
        while True:
            handle = self._acquire()
            try:
                summary = fetch_result(handle, method, arguments, target, count)
            except WorkerLostError as error:
                self._replace(handle, str(error))
                lost += 1
                logger.warning("%s: %s was lost: %s", what, handle.name, error)
                if lost == ATTEMPTS:
                    raise EngineError(
                        f"{what}: {lost} workers were lost over it, the last because {error}; "
                        "look into Ray's logs there, or restore this file by itself"
                    ) from error
            except WorkerFailedError as failed:
                cause = failed.error
                if isinstance(cause, UnsuitableWorkerError):
                    self._exclude(handle, str(cause))
                elif not is_machine_fault(cause) or lost == ATTEMPTS - 1:
                    self._free.put(handle)
                    raise cause from None
                else:
                    lost += 1
                    self._replace(handle, str(cause))
                    logger.warning("%s: failed on %s: %s", what, handle.name, cause)
            except BaseException:
                self._free.put(handle)
                raise
            else:
                self._free.put(handle)
                return summary
            count(-reported)

    def _acquire(self) -> WorkerHandle:
        """Returns a worker that has nothing to do, as soon as there is one."""
        since = time.monotonic()
        while True:
            if self._closed.is_set():
                raise StoppedError("the workers were stopped")
            try:
                handle = self._free.get(timeout=0.2)
            except Empty:
                if self._handles:
                    since = time.monotonic()
                elif self.is_empty or time.monotonic() - since > START_TIMEOUT_SECONDS:
                    raise BackendError(self._no_worker_left()) from None
                continue
            with self._changed:
                if handle in self._handles:
                    return handle

    def _no_worker_left(self) -> str:
        with self._changed:
            last = f": {self._failures[-1]}" if self._failures else ""
        return f"no worker is left on the Ray cluster{last}"

    def _start_one(self) -> None:
        with self._changed:
            if not self._closed.is_set():
                self._starting += 1
                self._starters.submit(self._start_in_thread)

    def _start_in_thread(self) -> None:
        try:
            self._start_and_admit()
        except BaseException as error:  # raised where a worker is waited for
            with self._changed:
                self._failures.append(error)
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()

    def _start_and_admit(self) -> None:
        """Starts a worker, waits until it is ready, and admits it."""
        handle = start_worker(
            self._resources, self._arguments, attempts=ATTEMPTS, on_actor=self._track_actor
        )
        with self._changed:
            if self._reference is None:
                self._waiting.append(handle)
                self._changed.notify_all()
                return
        self._admit(handle)

    def _track_actor(self, actor: Any) -> None:
        """Notes an actor that must end with the pool."""
        with self._changed:
            self._actors.append(actor)
            if self._closed.is_set():
                self._ray.kill(actor)
                raise StoppedError("the workers were stopped")

    def _admit(self, handle: WorkerHandle) -> None:
        """Takes a worker in, if it fits this process and the other workers."""
        reference, info = self.info, handle.info
        reason = describe_mismatch(
            "here", package_versions(), info.package_versions
        ) or describe_mismatch(f"on {reference.name}", reference.settings, info.settings)
        with self._changed:
            self._handles.append(handle)
            self._changed.notify_all()
        if reason is not None:
            self._exclude(handle, reason)
        else:
            self._free.put(handle)

    def _exclude(self, handle: WorkerHandle, reason: str) -> None:
        """Ends a worker without replacing it, since the next one would be of the same kind."""
        logger.warning("%s takes no part in the work: %s", handle.name, reason)
        self._remove(handle, reason)

    def _replace(self, handle: WorkerHandle, reason: str) -> None:
        """Starts a new worker in the place of a lost one."""
        if self._closed.is_set():
            raise StoppedError("the workers were stopped")
        if self._remove(handle, reason):
            self._start_one()

    def _remove(self, handle: WorkerHandle, reason: str) -> bool:
        """Ends a worker; returns whether it was still in the pool."""
        with self._changed:
            if handle not in self._handles:
                return False
            self._handles.remove(handle)
            self._actors.remove(handle.actor)
            self._failures.append(BackendError(f"{handle.name}: {reason}"))
        self._ray.kill(handle.actor)
        return True


def as_own_error(error: BaseException) -> BaseException:
    """Returns what went wrong in a worker as an error that the command line can show."""
    if isinstance(error, VqfrMediaError):
        return error
    if isinstance(error, ImportError):
        return BackendError(f"a worker lacks {error}; install the same packages on every machine")
    return error


def is_machine_fault(error: BaseException) -> bool:
    """Tells whether another machine may do better: a broken GPU, for example, fails every file."""
    return isinstance(error, EngineError | MachineError) and not isinstance(error, SkippedFaceError)


def most_common(infos: Sequence[WorkerInfo]) -> WorkerInfo:
    """Returns one of the most common kind; of several such kinds, always the same one."""

    def rank(info: WorkerInfo) -> tuple[int, list[tuple[str, str]]]:
        count = sum(other.settings == info.settings for other in infos)
        return -count, sorted(info.settings.items())

    return min(infos, key=rank)
