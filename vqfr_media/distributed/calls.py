"""A worker on Ray, and one call to it: pieces into a file, its log into ours, death an error."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vqfr_media.distributed.cluster import ray_library
from vqfr_media.distributed.sizing import Sizing
from vqfr_media.distributed.worker import Introduction, News, Worker
from vqfr_media.errors import BackendError
from vqfr_media.files import output_error
from vqfr_media.summary import Summary

_POLL_SECONDS = 0.5
_NEWS_SECONDS = 30.0
# Pieces of a result that wait at the worker's until they are fetched.
_PIECES_AHEAD = 4


class LostError(Exception):
    """A worker ended, or what it had made was lost, while the work was going on."""


class FailedThereError(Exception):
    """A worker raised `error`; what goes wrong here is raised as it is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class StoppedError(Exception):
    """The workers were sent away while work was going on."""


@dataclass(frozen=True, eq=False)
class Member:
    """One worker."""

    actor: Any
    """Ray's handle."""
    introduction: Introduction
    """What it is."""

    @property
    def name(self) -> str:
        """Machine and process."""
        return self.introduction.name


def hire(
    sizing: Sizing,
    arguments: Sequence[object],
    *,
    attempts: int,
    on_actor: Callable[[Any], None],
) -> Member:
    """Starts a worker where the cluster has room, as soon as it has, and waits until it is ready.

    Args:
        sizing: what it has.
        arguments: of `Worker`.
        attempts: how many may be lost while they get ready.
        on_actor: called with Ray's handle of each, at once.

    Raises:
        BackendError: so many were lost.
        InputError, MachineError, EngineError: as `Worker.introduce`.
    """
    ray = ray_library()
    lost = ""
    for _ in range(attempts):
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=sizing.cpus,
                num_gpus=sizing.gpus,
                max_restarts=0,
                max_concurrency=3,  # the work, news of it, and settings
            )
            .remote(*arguments)
        )
        on_actor(actor)
        try:
            member = Member(actor, ray.get(actor.introduce.remote()))
            fetch_news(member, lambda _frames: None)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            lost = reason_of(error)
            continue
        return member
    raise BackendError(
        f"{attempts} workers were lost while they got ready, the last because {lost}"
    )


def collect(
    member: Member,
    method: str,
    arguments: Sequence[object],
    target: Path,
    on_frames: Callable[[int], None],
) -> Summary | None:
    """Calls a generator of a worker and writes the pieces that it yields into `target`.

    Returns:
        What it yields besides pieces.

    Raises:
        LostError: the worker ended.
        FailedThereError: the generator raised something.
        OutputError: the disk is full or gone, here.
    """
    exceptions = ray_library().exceptions
    try:
        file = target.open("wb")
    except OSError as error:
        raise output_error(target, error) from error
    try:
        with file:
            return _collect(member, method, arguments, file, target, on_frames)
    except exceptions.RayTaskError as error:
        raise FailedThereError(error.cause) from None
    except exceptions.RayError as error:
        raise LostError(reason_of(error)) from error


def _collect(
    member: Member,
    method: str,
    arguments: Sequence[object],
    file: BinaryIO,
    target: Path,
    on_frames: Callable[[int], None],
) -> Summary | None:
    ray = ray_library()
    call = getattr(member.actor, method).options(
        num_returns="streaming", _generator_backpressure_num_objects=_PIECES_AHEAD
    )
    stream = call.remote(*arguments)
    summary: Summary | None = None
    try:
        while True:
            ready, _ = ray.wait([stream], timeout=_POLL_SECONDS, fetch_local=False)
            if not ready:
                fetch_news(member, on_frames)
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
        fetch_news(member, on_frames)  # what it said before it failed
        raise
    fetch_news(member, on_frames)
    return summary


def fetch_news(member: Member, on_frames: Callable[[int], None]) -> None:
    """Passes on how many frames a worker has done since the last call, and what it has logged.

    Raises:
        RayError: it is not there any more.
    """
    ray = ray_library()
    try:
        news: News = ray.get(member.actor.news.remote(), timeout=_NEWS_SECONDS)
    except ray.exceptions.GetTimeoutError:
        return  # a machine that is that busy is asked again; if it is lost, Ray will say so
    for said in news.said:
        logging.getLogger(said.name).log(said.level, "%s: %s", member.name, said.message)
    if news.frames:
        on_frames(news.frames)


def reason_of(error: BaseException) -> str:
    """Why a worker was lost, in one line of the many that Ray says."""
    text = str(error)
    for pattern in (r"Worker exit detail: (.+?)(?: Some common causes|$)", r"\n(The actor .+?)\n"):
        if found := re.search(pattern, text, re.MULTILINE):
            return found[1].strip().rstrip(".")
    lines = text.strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
