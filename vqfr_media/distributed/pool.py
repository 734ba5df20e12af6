"""Workers on a Ray cluster: hired, compared, lent out one piece of work at a time, replaced.

Ray places the actors, carries calls and results, and tells of deaths. There is one call at a time
to an actor, so that nothing waits anywhere but here.
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

from vqfr_media.distributed import calls
from vqfr_media.distributed.calls import FailedThereError, LostError, Member, StoppedError
from vqfr_media.distributed.cluster import ray_library
from vqfr_media.distributed.kinds import as_ours, is_the_machines, most_common, unlike
from vqfr_media.distributed.sizing import Sizing
from vqfr_media.distributed.worker import Introduction, Make, UnfitError, versions
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

logger = logging.getLogger(__name__)

# Workers that may be lost over one piece of work, or in a row while they get ready.
ATTEMPTS = 3
# Time that others are given to get ready when the first is, before they are compared; and time for
# which work waits for a worker when none is left but some are on their way.
PATIENCE_SECONDS = 600.0
SILENCE_SECONDS = 60.0


@contextmanager
def open_pool(
    sizing: Sizing, options: RestoreOptions, *, make: Make, cache: Path
) -> Iterator["Pool"]:
    """Yields workers that are ready, all of one kind; their processes end when the block is left.

    Args:
        sizing: how many, and what each has.
        options: chooses their engine and their detector.
        make: makes both, on their machine.
        cache: folder on their machine for inputs that have an `Origin`.

    Raises:
        BackendError: no worker starts, or none fits this process.
        InputError, MachineError, EngineError: what they need cannot be made ready.
    """
    pool = Pool(sizing, options, make, cache)
    try:
        pool.start()
        yield pool
    finally:
        pool.close()


class Pool:
    """The workers; any number of threads may use it."""

    def __init__(self, sizing: Sizing, options: RestoreOptions, make: Make, cache: Path) -> None:
        self._sizing = sizing
        self._arguments = (options, sizing.cpus, make, cache)
        self._ray = ray_library()
        self._free: LifoQueue[Member] = LifoQueue()
        self._changed = Condition()  # guards what follows
        self._waiting: list[Member] = []  # ready, and not compared yet
        self._members: list[Member] = []
        self._failures: list[BaseException] = []
        self._actors: list[Any] = []
        self._hiring = 0
        self._reference: Introduction | None = None
        self._closed = Event()
        self._hirers = ThreadPoolExecutor(sizing.workers, thread_name_prefix="vqfr-hire")

    @property
    def introduction(self) -> Introduction:
        """What all workers are, by the first of them."""
        assert self._reference is not None, "start() comes first"  # noqa: S101
        return self._reference

    @property
    def is_empty(self) -> bool:
        """Whether no worker is left, and none is on its way."""
        with self._changed:
            return not self._members and not self._hiring

    def start(self) -> None:
        """Hires the workers, and keeps those of the kind that most of them are of."""
        for _ in range(self._sizing.workers):
            self._hire()
        with self._changed:
            patience, silence = PATIENCE_SECONDS, SILENCE_SECONDS
            while len(self._waiting) + len(self._failures) < self._sizing.room and patience > 0:
                self._changed.wait(0.5)
                patience -= 0.5 * bool(self._waiting)
                silence -= 0.5
                if silence == 0:
                    ready = f"{len(self._waiting)} of {self._sizing.room} workers are ready"
                    logger.warning("%s; the others get ready, or wait until Ray has room", ready)
            if not self._waiting:
                raise as_ours(self._failures[0])
            self._reference = most_common([m.introduction for m in self._waiting])
            waiting, self._waiting = self._waiting, []
        for failure in self._failures:
            logger.warning("a worker could not start, the others go on without it: %s", failure)
        for member in waiting:
            self._admit(member)
        if self.is_empty:
            raise BackendError(self._nobody())

    def close(self) -> None:
        """Ends all workers; who waits for one, or for its result, gets StoppedError."""
        with self._changed:
            self._closed.set()
            actors = self._actors.copy()
        for actor in actors:
            self._ray.kill(actor)
        self._hirers.shutdown(wait=True, cancel_futures=True)

    def settings(self, options: RestoreOptions) -> dict[str, str]:
        """What decides the bits of results but the source; BackendError if no worker is left."""
        while True:
            member = next(iter(self._members), None)
            if member is None:
                self._free.put(self._take())
                continue
            try:
                found: dict[str, str] = self._ray.get(member.actor.settings.remote(options))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._replace(member, calls.reason_of(error))
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
        """Has one worker do one piece of work, and another where that is lost; see `collect`.

        Args:
            what: names the piece in errors.
            method: of `Worker`, a generator of a file's pieces.
            arguments: its arguments.
            target: file that the pieces become.
            on_frames: called with the number of frames worked since the last call; negative where
                they are lost.

        Raises:
            BackendError: no worker is left.
            EngineError: one worker after the other was lost over this.
            OutputError: `target` cannot be written.
            InputError, MachineError, EngineError: as `method`.
        """
        told = 0

        def count(frames: int) -> None:
            nonlocal told
            told += frames
            on_frames(frames)

        lost = 0
        while True:
            member = self._take()
            try:
                summary = calls.collect(member, method, arguments, target, count)
            except LostError as error:
                self._replace(member, str(error))
                lost += 1
                logger.warning("%s: %s was lost: %s", what, member.name, error)
                if lost == ATTEMPTS:
                    raise EngineError(
                        f"{what}: {lost} workers were lost over it, the last because {error}; "
                        "look into Ray's logs there, or restore this file by itself"
                    ) from error
            except FailedThereError as failed:
                cause = failed.error
                if isinstance(cause, UnfitError):
                    self._dismiss(member, str(cause))
                elif not is_the_machines(cause) or lost == ATTEMPTS - 1:
                    self._free.put(member)
                    raise cause from None
                else:
                    lost += 1
                    self._replace(member, str(cause))
                    logger.warning("%s: failed on %s: %s", what, member.name, cause)
            except BaseException:
                self._free.put(member)
                raise
            else:
                self._free.put(member)
                return summary
            count(-told)

    def _take(self) -> Member:
        """A worker that has nothing to do, as soon as there is one."""
        since = time.monotonic()
        while True:
            if self._closed.is_set():
                raise StoppedError("the workers were sent away")
            try:
                member = self._free.get(timeout=0.2)
            except Empty:
                if self._members:
                    since = time.monotonic()
                elif self.is_empty or time.monotonic() - since > PATIENCE_SECONDS:
                    raise BackendError(self._nobody()) from None
                continue
            with self._changed:
                if member in self._members:
                    return member

    def _nobody(self) -> str:
        with self._changed:
            last = f": {self._failures[-1]}" if self._failures else ""
        return f"no worker is left on the Ray cluster{last}"

    def _hire(self) -> None:
        with self._changed:
            if not self._closed.is_set():
                self._hiring += 1
                self._hirers.submit(self._hire_one)

    def _hire_one(self) -> None:
        try:
            self._introduce()
        except BaseException as error:  # told to whoever waits for a worker
            with self._changed:
                self._failures.append(error)
        finally:
            with self._changed:
                self._hiring -= 1
                self._changed.notify_all()

    def _introduce(self) -> None:
        """Starts a worker, waits until it is ready, and admits it."""
        member = calls.hire(self._sizing, self._arguments, attempts=ATTEMPTS, on_actor=self._note)
        with self._changed:
            if self._reference is None:
                self._waiting.append(member)
                self._changed.notify_all()
                return
        self._admit(member)

    def _note(self, actor: Any) -> None:
        """Keeps what is to be ended with the pool."""
        with self._changed:
            self._actors.append(actor)
            if self._closed.is_set():
                self._ray.kill(actor)
                raise StoppedError("the workers were sent away")

    def _admit(self, member: Member) -> None:
        """Takes a worker in, if it fits this process and those that are here."""
        here, there = self.introduction, member.introduction
        why = unlike("here", versions(), there.versions) or unlike(
            f"on {here.name}", here.settings, there.settings
        )
        with self._changed:
            self._members.append(member)
            self._changed.notify_all()
        if why is not None:
            self._dismiss(member, why)
        else:
            self._free.put(member)

    def _dismiss(self, member: Member, why: str) -> None:
        """Sends a worker away for good; its place stays empty, since the next would be no other."""
        logger.warning("%s takes no part in the work: %s", member.name, why)
        self._forget(member, why)

    def _replace(self, member: Member, why: str) -> None:
        """Puts a new worker in the place of a lost one."""
        if self._closed.is_set():
            raise StoppedError("the workers were sent away")
        if self._forget(member, why):
            self._hire()

    def _forget(self, member: Member, why: str) -> bool:
        """Ends a worker; whether it was here."""
        with self._changed:
            if member not in self._members:
                return False
            self._members.remove(member)
            self._actors.remove(member.actor)
            self._failures.append(BackendError(f"{member.name}: {why}"))
        self._ray.kill(member.actor)
        return True
