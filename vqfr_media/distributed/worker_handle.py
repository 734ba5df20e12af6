"""A worker on Ray, started and called: its result goes into a file, its log into ours."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vqfr_media.distributed.cluster import ray_library
from vqfr_media.distributed.resources import WorkerResources
from vqfr_media.distributed.worker import Worker, WorkerInfo, WorkerStatus
from vqfr_media.errors import BackendError
from vqfr_media.files import first_line, output_error
from vqfr_media.summary import Summary

_POLL_SECONDS = 0.5
_STATUS_SECONDS = 30.0
# Chunks of a result that wait on the worker's machine until they are fetched.
_CHUNKS_AHEAD = 4


class WorkerLostError(Exception):
    """A worker ended, or what it had made was lost, while the work was going on."""


class WorkerFailedError(Exception):
    """A worker raised `error`; what goes wrong here is raised as it is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class StoppedError(Exception):
    """The workers were stopped while work was going on."""


@dataclass(frozen=True, eq=False)
class WorkerHandle:
    """One worker."""

    actor: Any
    """Ray's handle."""
    info: WorkerInfo
    """What it is."""

    @property
    def name(self) -> str:
        """Machine and process."""
        return self.info.name


def start_worker(
    resources: WorkerResources,
    arguments: Sequence[object],
    *,
    attempts: int,
    on_actor: Callable[[Any], None],
) -> WorkerHandle:
    """Starts a worker as soon as the cluster has room for it, and waits until it is ready.

    Args:
        resources: cores and GPUs that it needs.
        arguments: of `Worker`.
        attempts: how many workers may be lost while they get ready.
        on_actor: called with Ray's handle of each of them, at once.

    Raises:
        BackendError: so many were lost.
        InputError, MachineError, EngineError: as `Worker.get_ready`.
    """
    ray = ray_library()
    lost = ""
    for _ in range(attempts):
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                max_restarts=0,
                max_concurrency=3,  # the work, its status, and settings
            )
            .remote(*arguments)
        )
        on_actor(actor)
        try:
            handle = WorkerHandle(actor, ray.get(actor.get_ready.remote()))
            fetch_status(handle, lambda _frames: None)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            lost = loss_reason(error)
            continue
        return handle
    raise BackendError(
        f"{attempts} workers were lost while they got ready, the last because {lost}"
    )


def fetch_result(
    handle: WorkerHandle,
    method: str,
    arguments: Sequence[object],
    target: Path,
    on_frames: Callable[[int], None],
) -> Summary | None:
    """Calls a generator of a worker and writes the chunks that it yields to `target`.

    Returns:
        The summary, if the generator yields one.

    Raises:
        WorkerLostError: the worker ended.
        WorkerFailedError: the generator raised something.
        OutputError: the disk is full or gone, here.
    """
    exceptions = ray_library().exceptions
    try:
        file = target.open("wb")
    except OSError as error:
        raise output_error(target, error) from error
    try:
        with file:
            return _fetch_result(handle, method, arguments, file, target, on_frames)
    except exceptions.RayTaskError as error:
        raise WorkerFailedError(error.cause) from None
    except exceptions.RayError as error:
        raise WorkerLostError(loss_reason(error)) from error


def _fetch_result(
    handle: WorkerHandle,
    method: str,
    arguments: Sequence[object],
    file: BinaryIO,
    target: Path,
    on_frames: Callable[[int], None],
) -> Summary | None:
    ray = ray_library()
    call = getattr(handle.actor, method).options(
        num_returns="streaming", _generator_backpressure_num_objects=_CHUNKS_AHEAD
    )
    stream = call.remote(*arguments)
    summary: Summary | None = None
    try:
        while True:
            ready, _ = ray.wait([stream], timeout=_POLL_SECONDS, fetch_local=False)
            if not ready:
                fetch_status(handle, on_frames)
                continue
            try:
                value = ray.get(next(stream))
            except StopIteration:
                break
            if isinstance(value, Summary):
                summary = value
                continue
            try:
                file.write(value)
            except OSError as error:
                raise output_error(target, error) from error
    except ray.exceptions.RayTaskError:
        fetch_status(handle, on_frames)  # what it said before it failed
        raise
    fetch_status(handle, on_frames)
    return summary


def fetch_status(handle: WorkerHandle, on_frames: Callable[[int], None]) -> None:
    """Passes on how many frames a worker has finished since the last call, and what it has logged.

    Raises:
        RayError: the worker is lost.
    """
    ray = ray_library()
    try:
        status: WorkerStatus = ray.get(handle.actor.status.remote(), timeout=_STATUS_SECONDS)
    except ray.exceptions.GetTimeoutError:
        return  # a machine that is that busy is asked again; if it is lost, Ray will say so
    for line in status.log:
        logging.getLogger(line.name).log(line.level, "%s: %s", handle.name, line.message)
    if status.frames:
        on_frames(status.frames)


def loss_reason(error: BaseException) -> str:
    """Returns why a worker was lost: one line of the many that Ray writes."""
    text = str(error)
    for pattern in (r"Worker exit detail: (.+?)(?: Some common causes|$)", r"\n(The actor .+?)\n"):
        if found := re.search(pattern, text, re.MULTILINE):
            return found[1].strip().rstrip(".")
    return first_line(error).rstrip(".")
