"""What runs on the other machines: an engine and a detector, made ready once, and the work itself.

Knows nothing of Ray; `worker_handle.py` makes actors of it. The file that is the result goes back
in chunks, so that only the caller's machine needs to reach the folder of the outputs.
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
from vqfr_media.distributed.staging import RemoteFile, fetch_cached
from vqfr_media.errors import CodecError, MediaError
from vqfr_media.frames import Frame
from vqfr_media.jobs.identity import identity_of_settings
from vqfr_media.jobs.segments import Job, check_encoder, restore_segments
from vqfr_media.jobs.work_folder import segment_name
from vqfr_media.logs import package_loggers
from vqfr_media.media.encoder import open_encoder
from vqfr_media.options import RestoreOptions
from vqfr_media.pipeline import restore_image, restore_video, summarise
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.summary import RunCounts, Summary

CHUNK_BYTES = 4 << 20
# Packages of which a worker must have the same version as its caller.
COMPARED_PACKAGES = ("vqfr-media", "av")

type PreparedFactory = Callable[[RestoreOptions], Prepared]


class UnsuitableWorkerError(Exception):
    """This machine cannot take part in this work; another one may."""


@dataclass(frozen=True)
class SourceFile:
    """The input of a piece of work, as the caller sees it."""

    path: Path
    """Its path on the caller's machine."""
    size: int
    """Its size in bytes."""
    modified_ns: int
    """When it was last written, nanoseconds since 1970."""
    remote: RemoteFile | None = None
    """Where every machine can get it, if it has no path that all of them share."""


@dataclass(frozen=True)
class LogLine:
    """A line of the worker's log."""

    name: str
    """Name of the logger."""
    level: int
    """Level as in `logging`."""
    message: str
    """The line itself."""


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker did since it was last asked."""

    frames: int
    """Number of frames handed to the encoder."""
    log: tuple[LogLine, ...]
    """What was logged."""


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker is."""

    name: str
    """Machine and process, as in `host (123)`."""
    settings: dict[str, str]
    """What decides the bits of its results (`identity.identity_of_settings`)."""
    package_versions: dict[str, str]
    """Versions of the packages in `COMPARED_PACKAGES`."""
    summary: Summary
    """Model, device, engine and detector; all else in it is empty."""


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages in `COMPARED_PACKAGES` in this process."""
    return {name: version(name) for name in COMPARED_PACKAGES}


def make_prepared(options: RestoreOptions) -> Prepared:
    """Makes the engine and the detector that the options choose."""
    return prepare(options, None, None)


class Worker:
    """Restores files and segments, one at a time; `status` and `settings` may be asked then."""

    def __init__(
        self, options: RestoreOptions, threads: int, factory: PreparedFactory, cache: Path
    ) -> None:
        """Makes nothing ready yet: `get_ready` does, whose errors reach the caller.

        Args:
            options: chooses the engine and the detector.
            threads: threads of the network on a CPU.
            factory: makes engine and detector; can be pickled.
            cache: folder for inputs that lie behind a URL.
        """
        torch.set_num_threads(threads)
        self._options, self._factory, self._cache = options, factory, cache
        self._ready: Prepared | None = None
        self._log = _Log()
        self._frames = 0
        self._lock = Lock()
        for logger in package_loggers():
            logger.addHandler(self._log)

    def get_ready(self) -> WorkerInfo:
        """Makes engine and detector ready, and returns what they are.

        Raises:
            InputError, MachineError, EngineError: as `prepare`.
        """
        self._ready = ready = self._factory(self._options)
        return WorkerInfo(
            f"{socket.gethostname()} ({os.getpid()})",
            self.settings(self._options),
            package_versions(),
            summarise(RunCounts(), ready, Path(), Path(), 0.0, ()),
        )

    def settings(self, options: RestoreOptions) -> dict[str, str]:
        """Returns what decides the bits of this worker's results, apart from the source.

        Raises:
            WeightsError: a file of weights cannot be read.
        """
        return identity_of_settings(options, self._prepared())

    def status(self) -> WorkerStatus:
        """Returns what happened since the last call."""
        with self._lock:
            frames, self._frames = self._frames, 0
        return WorkerStatus(frames, self._log.take())

    def restore_segment(self, job: Job, number: int, source_file: SourceFile) -> Iterator[bytes]:
        """Restores one segment; yields the chunks of its file.

        Raises:
            UnsuitableWorkerError: the encoder here is not the one with which the job began.
            InputError, MachineError, EngineError: as `segments.restore_segments`.
        """
        ready = self._prepared()
        source, status = self._local_source(source_file)
        job = replace(job, source=source, size=status.st_size, modified_ns=status.st_mtime_ns)
        self._check_encoder(job)
        with TemporaryDirectory(prefix="vqfr-media-") as name:
            folder = Path(name)
            for _ in restore_segments(
                job, range(number, number + 1), folder,
                engine=ready.engine, detector=ready.detector, on_frame=self._count,
            ):  # fmt: skip
                pass
            yield from file_chunks(folder / segment_name(number))

    def restore_file(
        self, source_file: SourceFile, output: str, kind: Kind, options: RestoreOptions
    ) -> Iterator[Summary | bytes]:
        """Restores a file without segments; yields the summary, then the chunks of the result.

        Args:
            source_file: the input.
            output: name of the output file, without its folder.
            kind: what the input is.
            options: what is done to it.

        Raises:
            InputError, MachineError, EngineError: as `restore_video`.
        """
        ready = self._prepared()
        source, status = self._local_source(source_file)
        with TemporaryDirectory(prefix="vqfr-media-") as name:
            result = Path(name) / output
            if kind == "image":
                summary = restore_image(source, result, options, ready=ready)
            else:
                unsegmented = replace(options, segment_seconds=0)
                summary = restore_video(
                    source, result, unsegmented, ready=ready, on_frame=self._count
                )
            _check_same(source, status)
            yield summary
            yield from file_chunks(result)

    def _prepared(self) -> Prepared:
        assert self._ready is not None, "get_ready() comes first"  # noqa: S101
        return self._ready

    def _local_source(self, source_file: SourceFile) -> tuple[Path, os.stat_result]:
        """Returns the input's path on this machine, and what the file system says of it."""
        if source_file.remote is not None:
            source, _ = fetch_cached(source_file.remote, self._cache)
            return source, source.stat()
        try:
            status = source_file.path.stat()
        except OSError as error:
            raise MediaError(
                f"{source_file.path}: cannot be read on {socket.gethostname()}: "
                f"{error.strerror or error}; give a path that all machines share, or a URL"
            ) from error
        if (status.st_size, status.st_mtime_ns) != (source_file.size, source_file.modified_ns):
            raise MediaError(
                f"{source_file.path}: is another file on {socket.gethostname()}; give a path that "
                "all machines share, or a URL"
            )
        return source_file.path, status

    def _check_encoder(self, job: Job) -> None:
        try:
            with open_encoder(
                job.output, job.source, job.info, job.options.encode,
                upscale=job.options.upscale, threads=job.threads,
            ) as encoder:  # fmt: skip
                check_encoder(job, encoder.extradata)
        except CodecError as error:
            raise UnsuitableWorkerError(str(error)) from error

    def _count(self, _frame: Frame) -> None:
        with self._lock:
            self._frames += 1


class _Log(logging.Handler):
    """Keeps what is logged until it is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(LogLine(record.name, record.levelno, record.getMessage()))

    def take(self) -> tuple[LogLine, ...]:
        with self.lock or Lock():
            lines, self._lines = self._lines, []
        return tuple(lines)


def _check_same(source: Path, before: os.stat_result) -> None:
    now = source.stat()
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise MediaError(
            f"{source}: was changed while it was being restored; give the same command again"
        )


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yields the content of a file, at most `CHUNK_BYTES` at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
