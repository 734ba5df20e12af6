"""What runs on the other machines: an engine and a detector, made ready once, and the work itself.

Knows nothing of Ray; `pool.py` makes actors of it. Results go back as pieces of the file that they
are, so that only the caller's machine needs to reach the place of the outputs.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import torch

from vqfr_media.batch.task import Kind
from vqfr_media.distributed.staging import Origin, stage
from vqfr_media.errors import CodecError, MediaError
from vqfr_media.frames import Frame
from vqfr_media.jobs.identity import identity_of_settings
from vqfr_media.jobs.segments import Job, check_encoder, segment_name, work
from vqfr_media.media.encoder import open_encoder
from vqfr_media.options import RestoreOptions
from vqfr_media.pipeline import restore_image, restore_video, summarise
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.summary import RunCounts, Summary

PIECE_BYTES = 4 << 20
# Of what both sides run, what must not differ between a worker and its caller.
SHARED = ("vqfr-media", "av")

type Make = Callable[[RestoreOptions], Prepared]


class UnfitError(Exception):
    """This machine cannot take part in this work; another one may."""


@dataclass(frozen=True)
class Given:
    """The input of a piece of work, as the caller sees it."""

    path: Path
    """Where it lies there."""
    size: int
    """Its bytes."""
    modified_ns: int
    """When it was written last."""
    origin: Origin | None = None
    """Where every machine can get it, if it lies on no path that all of them share."""


@dataclass(frozen=True)
class Said:
    """A line of the worker's log."""

    name: str
    """Of the logger."""
    level: int
    """As in `logging`."""
    message: str
    """The line."""


@dataclass(frozen=True)
class News:
    """What happened since it was asked last."""

    frames: int
    """Frames handed to the encoder."""
    said: tuple[Said, ...]
    """What was logged."""


@dataclass(frozen=True)
class Introduction:
    """What a worker is."""

    name: str
    """Machine and process."""
    settings: dict[str, str]
    """What decides the bits of its results (`identity.identity_of_settings`)."""
    versions: dict[str, str]
    """Of the packages in `SHARED`."""
    about: Summary
    """Model, device, engine and detector; all else in it is empty."""


def versions() -> dict[str, str]:
    """Of the packages in `SHARED`, here."""
    return {name: version(name) for name in SHARED}


def make_ready(options: RestoreOptions) -> Prepared:
    """What the options ask for."""
    return prepare(options, None, None)


class Worker:
    """Works files and segments, one at a time; `news` and `settings` may be asked meanwhile."""

    def __init__(self, options: RestoreOptions, threads: int, make: Make, cache: Path) -> None:
        """Makes nothing ready yet, so that what fails then can be told.

        Args:
            options: chooses the engine and the detector.
            threads: of the network, on a CPU.
            make: makes both; can be pickled.
            cache: folder for inputs that have an `Origin`.
        """
        torch.set_num_threads(threads)
        self._options, self._make, self._cache = options, make, cache
        self._ready: Prepared | None = None
        self._log = _Log()
        self._frames = 0
        self._lock = Lock()
        logging.getLogger("vqfr_media").addHandler(self._log)

    def introduce(self) -> Introduction:
        """Makes engine and detector ready, and says what they are.

        Raises:
            InputError, MachineError, EngineError: as `prepare`.
        """
        self._ready = ready = self._make(self._options)
        return Introduction(
            f"{socket.gethostname()} ({os.getpid()})",
            self.settings(self._options),
            versions(),
            summarise(RunCounts(), ready, Path(), Path(), 0.0, ()),
        )

    def settings(self, options: RestoreOptions) -> dict[str, str]:
        """What decides the bits of a result of this worker but the source.

        Raises:
            WeightsError: a file of weights cannot be read.
        """
        return identity_of_settings(options, self._prepared())

    def news(self) -> News:
        """What happened since the last call."""
        with self._lock:
            frames, self._frames = self._frames, 0
        return News(frames, self._log.taken())

    def segment(self, job: Job, number: int, given: Given) -> Iterator[bytes]:
        """Works one segment; yields the pieces of its file.

        Raises:
            UnfitError: the encoder here is not the one with which the job began.
            InputError, MachineError, EngineError: as `segments.work`.
        """
        ready = self._prepared()
        source, status = self._here(given)
        job = replace(job, source=source, size=status.st_size, modified_ns=status.st_mtime_ns)
        self._check_encoder(job)
        with TemporaryDirectory(prefix="vqfr-media-") as name:
            folder = Path(name)
            for _ in work(
                job, range(number, number + 1), folder,
                engine=ready.engine, detector=ready.detector, on_frame=self._count,
            ):  # fmt: skip
                pass
            yield from pieces(folder / segment_name(number))

    def whole(
        self, given: Given, output: str, kind: Kind, options: RestoreOptions
    ) -> Iterator[Summary | bytes]:
        """Works a file in one go; yields the summary, then the pieces of the result.

        Args:
            given: the input.
            output: name of the file that it will be, without its folder.
            kind: what the input is.
            options: what is done to it.

        Raises:
            InputError, MachineError, EngineError: as `restore_video`.
        """
        ready = self._prepared()
        source, status = self._here(given)
        with TemporaryDirectory(prefix="vqfr-media-") as name:
            result = Path(name) / output
            if kind == "image":
                summary = restore_image(source, result, options, ready=ready)
            else:
                in_one_go = replace(options, segment_seconds=0)
                summary = restore_video(
                    source, result, in_one_go, ready=ready, on_frame=self._count
                )
            _check_same(source, status)
            yield summary
            yield from pieces(result)

    def _prepared(self) -> Prepared:
        assert self._ready is not None, "introduce() comes first"  # noqa: S101
        return self._ready

    def _here(self, given: Given) -> tuple[Path, os.stat_result]:
        """The input on this machine, and what the file system says of it."""
        if given.origin is not None:
            source, _ = stage(given.origin, self._cache)
            return source, source.stat()
        try:
            status = given.path.stat()
        except OSError as error:
            raise MediaError(
                f"{given.path}: cannot be read on {socket.gethostname()}: "
                f"{error.strerror or error}; give a path that all machines share, or a URL"
            ) from error
        if (status.st_size, status.st_mtime_ns) != (given.size, given.modified_ns):
            raise MediaError(
                f"{given.path}: is another file on {socket.gethostname()}; give a path that all "
                "machines share, or a URL"
            )
        return given.path, status

    def _check_encoder(self, job: Job) -> None:
        try:
            with open_encoder(
                job.output, job.source, job.info, job.options.encode,
                upscale=job.options.upscale, threads=job.threads,
            ) as encoder:  # fmt: skip
                check_encoder(job, encoder.extradata)
        except CodecError as error:
            raise UnfitError(str(error)) from error

    def _count(self, _frame: Frame) -> None:
        with self._lock:
            self._frames += 1


class _Log(logging.Handler):
    """Keeps what is logged until it is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[Said] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(Said(record.name, record.levelno, record.getMessage()))

    def taken(self) -> tuple[Said, ...]:
        with self.lock or Lock():
            said, self._said = self._said, []
        return tuple(said)


def _check_same(source: Path, before: os.stat_result) -> None:
    now = source.stat()
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise MediaError(
            f"{source}: was changed while it was being restored; give the same command again"
        )


def pieces(path: Path) -> Iterator[bytes]:
    """The content of a file, a few megabytes at a time."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
