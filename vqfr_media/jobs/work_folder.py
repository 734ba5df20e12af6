"""The folder beside an output in which a long job keeps what it has finished."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqfr_media.differences import describe_changes
from vqfr_media.errors import OutputError
from vqfr_media.files import lock_folder, output_error, target_of, write_text
from vqfr_media.media.index import FrameIndex
from vqfr_media.media.segment_file import SegmentFile, read_segment

logger = logging.getLogger(__name__)

JOURNAL = "job.json"
LOCK = "lock"
VERSION = 4


@dataclass(frozen=True, eq=False)
class SegmentPlan:
    """How a job is cut; decided once, so that whoever goes on cuts it the same way."""

    index: FrameIndex
    """The source's frames."""
    threads: int
    """Of the encoder."""
    extradata: bytes
    """What the encoder said of itself."""


def segment_name(number: int) -> str:
    """Returns the name of the file of segment `number`."""
    return f"{number:06}.segment"


def work_folder_of(output: Path) -> Path:
    """Returns the folder that belongs to `output`, on the same disk.

    Raises:
        OutputError: no file can have this name.
    """
    target = target_of(output)
    return target.with_name(f".{target.name}.work")


@contextmanager
def open_work_folder(output: Path) -> Iterator["WorkFolder"]:
    """Yields the folder that belongs to `output`, for this process alone.

    It stays when the block is left, unless `remove` was called or it holds no finished segment.

    Raises:
        OutputError: it cannot be made, or another process works in it.
    """
    path = work_folder_of(output)
    busy = f"{output}: another vqfr-media is working on it; wait for it, or name another output"
    with lock_folder(path, LOCK, busy=busy, owner=output):
        folder = WorkFolder(path, output)
        try:
            yield folder
        finally:
            folder.leave()


class WorkFolder:
    """What lies in the folder; made by `open_work_folder`."""

    def __init__(self, path: Path, output: Path) -> None:
        self.path = path
        self.removed = False
        self._output = output

    def remove(self) -> None:
        """Leaves nothing behind when the block is left: the output is there."""
        self.removed = True

    def leave(self) -> None:
        """Removes the folder, if `remove` was called or nothing in it is of use to a later run."""
        try:
            if self.removed or not any(self.path.glob("[0-9]*.segment")):
                self.clear()
                # While it is ours: another would be another's.
                (self.path / LOCK).unlink(missing_ok=True)
                if not any(self.path.iterdir()):
                    self.path.rmdir()
        except OSError as error:  # the output, or the error that ends the work, counts for more
            logger.warning("%s: cannot be removed: %s", self.path, error.strerror or error)

    def clear(self, *, keep: frozenset[str] = frozenset()) -> None:
        """Removes what jobs leave there, but for what is named; never what others put there."""
        for path in self.path.iterdir():
            ours = path.name == JOURNAL or path.suffix == ".segment" or ".part-" in path.name
            if ours and path.name not in keep:
                path.unlink()

    def read_plan(self, identity: dict[str, str]) -> SegmentPlan | None:
        """Reads the plan of this job; None, and an empty folder, if there is another's or none.

        Raises:
            OutputError: the folder cannot be read or emptied.
        """
        journal = self.path / JOURNAL
        try:
            if not journal.exists():
                self.clear()
                return None
            plan, why = None, "its journal is damaged"
            with suppress(ValueError, KeyError, TypeError):
                values = json.loads(journal.read_text())
                before = values["identity"] | {"journal": str(values["version"])}
                other = describe_changes(before, identity | {"journal": str(VERSION)})
                why = "; ".join(other)
                plan = None if other else _plan_of(values["plan"])
            if plan is None:
                logger.warning(
                    "%s: begins again, what was finished of it is of no use: %s", self._output, why
                )
                self.clear()
            return plan
        except OSError as error:
            raise output_error(self.path, error) from error

    def write_plan(self, identity: dict[str, str], plan: SegmentPlan) -> None:
        """Writes down what the job is, in place of what was written before.

        Raises:
            OutputError: the disk is full or gone.
        """
        index = plan.index
        values = {
            "version": VERSION,
            "identity": identity,
            "plan": {
                "times": index.times.tolist(),
                "keys": index.keys.tolist(),
                "decoded": index.decoded,
                "keeps_damaged": index.keeps_damaged,
                "notes": index.notes,
                "threads": plan.threads,
                "extradata": plan.extradata.hex(),
            },
        }
        write_text(self.path / JOURNAL, json.dumps(values))

    def finished(self, count: int) -> list[int]:
        """Returns the numbers of the segments, of `count`, that are whole; removes anything else.

        Raises:
            OutputError: the folder cannot be read or cleaned.
        """
        try:
            names = {segment_name(number): number for number in range(count)}
            whole = [
                number
                for name, number in names.items()
                if read_segment(self.path / name, verify=True) is not None
            ]
            self.clear(keep=frozenset({JOURNAL, *map(segment_name, whole)}))
        except OSError as error:
            raise output_error(self.path, error) from error
        return whole

    def segment(self, number: int) -> SegmentFile:
        """Reads a finished segment.

        Raises:
            OutputError: it is not there any more.
        """
        path = self.path / segment_name(number)
        try:
            found = read_segment(path, verify=False)
        except (OSError, ValueError) as error:
            raise output_error(path, error) from error
        if found is None:
            raise OutputError(f"{path}: was removed; give the same command again")
        return found

    def forget(self, number: int) -> None:
        """Removes a segment, so that it is worked again."""
        (self.path / segment_name(number)).unlink(missing_ok=True)


def _plan_of(values: Mapping[str, Any]) -> SegmentPlan:
    index = FrameIndex(
        np.array(values["times"], np.int64),
        np.array(values["keys"], np.int64),
        bool(values["decoded"]),
        bool(values["keeps_damaged"]),
        tuple(values["notes"]),
    )
    return SegmentPlan(index, int(values["threads"]), bytes.fromhex(values["extradata"]))
