"""What became of each file, as `batch.json` records it; its format is in docs/batch.md."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from vqfr_media.batch.task import Kind
from vqfr_media.errors import OutputError, VqfrMediaError
from vqfr_media.values import SkipReason

REPORT_NAME = "batch.json"
SCHEMA = "vqfr-media batch"
# The schema's name is within so many bytes from the start of the file.
REPORT_HEAD_BYTES = 200
VERSION = 1

Status = Literal["pending", "working", "done", "unchanged", "failed"]


@dataclass(frozen=True)
class FileState:
    """Content, size and time of a file when it was last checked."""

    sha256: str
    """SHA-256 of its content, or what else a `FileWorker` knows it by."""
    size: int
    """Its size in bytes."""
    modified_ns: int
    """When it was last written, nanoseconds since 1970."""

    def matches(self, path: Path) -> bool:
        """Tells whether the file at `path` has this size and this time."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one file. Figures are those of the run that made the output."""

    output: str
    """The output, relative to the folder of the report, with "/": what a file is known by."""
    source: str
    """Absolute path of the source, or its URL."""
    kind: Kind = "video"
    """What it was read as."""
    status: Status = "pending"
    """`done` in this run, `unchanged` since an earlier one, or `failed`; `working` or `pending` if
    the run ended during the work on it or before."""
    reason: str = ""
    """Why it failed, or why it was restored."""
    error: str = ""
    """Class of the error (docs/batch.md), if it failed."""
    started: str = ""
    """When the work on it began, ISO 8601, UTC."""
    finished: str = ""
    """When the work on it ended, ISO 8601, UTC."""
    seconds: float = 0.0
    """Wall time of the work, seconds."""
    frames: int = 0
    """Number of frames written."""
    resumed: int = 0
    """How many of them an earlier, interrupted run had finished."""
    shots: int = 0
    """Number of shots in the video."""
    restored: int = 0
    """Number of faces restored, over all frames."""
    tracks: int = 0
    """Number of tracks of restored faces: persons, counted once in each shot."""
    skipped: Mapping[SkipReason, int] = field(default_factory=dict)
    """Number of faces left alone, over all frames, by reason."""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """Model, device, backend, precision and detector."""
    warnings: tuple[str, ...] = ()
    """What could not be kept exactly, in sentences."""
    content: FileState | None = None
    """The state of the source."""
    result: FileState | None = None
    """The state of the output."""
    made_from: str = ""
    """The source of the output `result`; an output of another source is not replaced unasked."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """What decided the result (`identity.identity_of_settings`); empty if that is not known."""

    @property
    def fps(self) -> float | None:
        """Frames restored per second of wall time in the last run; None for an image."""
        restored = self.frames - self.resumed
        return restored / self.seconds if restored > 1 and self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `json.dumps`."""
        versions = {n: v for n, v in self.identity.items() if n.startswith("version.")}
        return {
            "output": self.output,
            "source": self.source,
            "kind": self.kind,
            "status": self.status,
            "reason": self.reason,
            "error": self.error,
            "faces": {
                "restored": self.restored,
                "tracks": self.tracks,
                "left_alone": dict(self.skipped),
            },
            "figures": {
                "frames": self.frames,
                "resumed": self.resumed,
                "shots": self.shots,
                "seconds": self.seconds,
                "fps": None if self.fps is None else round(self.fps, 3),
            },
            "times": {"started": self.started, "finished": self.finished},
            "made_with": dict(self.made_with),
            "versions": {n.removeprefix("version."): v for n, v in versions.items()},
            "identity": {n: v for n, v in self.identity.items() if n not in versions},
            "warnings": list(self.warnings),
            "source_file": _state_json(self.content),
            "output_file": _state_json(self.result),
            "made_from": self.made_from,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Makes a record of what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: these are not the values of a record.
        """
        faces, figures, times = values["faces"], values["figures"], values["times"]
        if values["status"] not in get_args(Status) or values["kind"] not in get_args(Kind):
            raise ValueError(f"{values['status']!r} {values['kind']!r}")
        return cls(
            output=str(values["output"]),
            source=str(values["source"]),
            kind=values["kind"],
            status=values["status"],
            reason=str(values["reason"]),
            error=str(values["error"]),
            started=str(times["started"]),
            finished=str(times["finished"]),
            seconds=float(figures["seconds"]),
            frames=int(figures["frames"]),
            resumed=int(figures["resumed"]),
            shots=int(figures["shots"]),
            restored=int(faces["restored"]),
            tracks=int(faces["tracks"]),
            skipped={SkipReason(n): int(v) for n, v in faces["left_alone"].items()},
            made_with={str(n): str(v) for n, v in values["made_with"].items()},
            warnings=tuple(map(str, values["warnings"])),
            content=_state(values["source_file"]),
            result=_state(values["output_file"]),
            made_from=str(values.get("made_from", "")),  # not there before 2026-11
            identity={str(n): str(v) for n, v in values["identity"].items()}
            | {f"version.{n}": str(v) for n, v in values["versions"].items()},
        )


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What one run of a plan came to."""

    records: tuple[Record, ...]
    """One for each file of the plan, in its order."""
    seconds: float
    """Wall time, seconds."""
    stopped: VqfrMediaError | None = None
    """The error that ended it before its last file, if any."""
    left_behind: tuple[str, ...] = ()
    """Work folders of files that are no longer part of the plan, in sentences."""

    @property
    def counts(self) -> dict[Status, int]:
        """Files by status."""
        counted = Counter(record.status for record in self.records)
        return {status: counted[status] for status in get_args(Status) if counted[status]}


def _state_json(state: FileState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {"sha256": state.sha256, "bytes": state.size, "modified_ns": state.modified_ns}


def _state(values: Mapping[str, Any] | None) -> FileState | None:
    if values is None:
        return None
    return FileState(str(values["sha256"]), int(values["bytes"]), int(values["modified_ns"]))


def json_bytes(values: object, *, indent: int | None = None) -> bytes:
    """Returns JSON in which letters of any script can be read.

    A byte of a file name that is no UTF-8 is written as its surrogate's escape, which JSON allows.
    """
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


def report_json(records: Sequence[Record], written: str) -> bytes:
    """Returns the content of `batch.json`."""
    counts = Counter(record.status for record in records)
    values = {
        "schema": SCHEMA,
        "version": VERSION,
        "written": written,
        "counts": {status: counts[status] for status in get_args(Status)},
        "files": [record.to_json() for record in records],
    }
    return json_bytes(values, indent=1) + b"\n"


def read_report(path: Path) -> list[Record]:
    """Reads the records of an earlier run; none if there is no such file.

    Raises:
        OutputError: the file is another's, a newer version's, or damaged.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']!r}")
        if values["version"] != VERSION:
            raise OutputError(
                f"{path}: is of version {values['version']}, this vqfr-media writes {VERSION}; "
                "use the one that wrote it, or another folder"
            )
        return [Record.from_json(one) for one in values["files"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{path}: is not the report of an earlier batch, or damaged; move it away, or choose "
            "another folder for the outputs"
        ) from error


def is_report(path: Path) -> bool:
    """Tells whether `path` is there and begins as `batch.json` does."""
    with suppress(OSError), path.open("rb") as file:
        return begins_as_report(file.read(REPORT_HEAD_BYTES))
    return False


def begins_as_report(head: bytes) -> bool:
    """Tells whether these first `REPORT_HEAD_BYTES` bytes of a file are those of a `batch.json`."""
    return json_bytes(SCHEMA) in head
