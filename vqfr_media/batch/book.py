"""The report while it grows: each finished file is on disk before the next one is told of."""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from vqfr_media.batch.files import natural
from vqfr_media.batch.record import REPORT, Record, encoded, read_report, report_json
from vqfr_media.errors import OutputError
from vqfr_media.files import atomic_output, output_error, remove_leftovers, sync_folder

logger = logging.getLogger(__name__)

LOCK = ".batch.lock"
JOURNAL = ".batch.journal"

# `batch.json` holds every record, so writing it after each of many thousand files would take longer
# than the files. In between, a line a file is added to the journal.
_SECONDS_BETWEEN = 2.0
_SHARE_OF_TIME = 0.02


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Book:
    """The records of a folder; made by `open_book`."""

    def __init__(self, folder: Path, records: Iterable[Record]) -> None:
        self._folder = folder
        self._records = {record.output: record for record in records}
        self._saved = float("-inf")
        self._took = 0.0

    def __getitem__(self, output: str) -> Record | None:
        return self._records.get(output)

    def interrupted(self) -> list[Record]:
        """Those in which a run ended, by name."""
        found = [record for record in self._records.values() if record.status == "working"]
        return sorted(found, key=lambda record: natural(PurePosixPath(record.output)))

    def note(self, record: Record) -> None:
        """Takes a record that need not outlive a crash."""
        self._records[record.output] = record

    def put(self, record: Record) -> None:
        """Takes a record, which is on disk on return.

        Raises:
            OutputError: the disk is full or gone.
        """
        self._records[record.output] = record
        try:
            with (self._folder / JOURNAL).open("ab") as file:
                file.write(encoded(record.to_json()) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self._folder / JOURNAL, error) from error
        waited = time.monotonic() - self._saved
        if waited > max(_SECONDS_BETWEEN, self._took / _SHARE_OF_TIME):
            self.save()

    def save(self) -> None:
        """Writes `batch.json`; the journal is of no use any more then.

        Raises:
            OutputError: the disk is full or gone.
        """
        started = time.monotonic()
        records = sorted(self._records.values(), key=lambda r: natural(PurePosixPath(r.output)))
        path = self._folder / REPORT
        with atomic_output(path) as temporary:
            try:
                temporary.write_bytes(report_json(records, now()))
            except OSError as error:
                raise output_error(path, error) from error
        try:
            (self._folder / JOURNAL).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise output_error(self._folder / JOURNAL, error) from error
        self._saved = time.monotonic()
        self._took = self._saved - started


def read_book(folder: Path) -> Book:
    """The records of `folder` as they are now, which are not to be changed.

    Raises:
        OutputError: what lies there as `batch.json` is not ours.
    """
    return Book(folder, [*read_report(folder / REPORT), *_journal(folder / JOURNAL)])


@contextmanager
def open_book(folder: Path) -> Iterator[Book]:
    """Yields the records of `folder`, for this process alone; they are saved when it is left.

    Raises:
        OutputError: the folder cannot be made or written, what lies there as `batch.json` is not
            ours, or another process works in it.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"{folder}: another vqfr-media is writing into it; wait for it, or name another folder"
        ) from error
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        remove_leftovers(folder / REPORT)
        book = read_book(folder)
        book.save()
        try:
            yield book
        except BaseException:
            try:
                book.save()
            except OutputError as error:  # the error on its way counts for more; the journal stays
                logger.warning("%s", error)
            raise
        book.save()
    finally:
        try:
            (folder / LOCK).unlink(missing_ok=True)  # while it is ours
        finally:
            lock.release()


def _journal(path: Path) -> list[Record]:
    """What was finished after `batch.json` was written; a line that broke off is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise output_error(path, error) from error
    records = []
    for line in lines:
        try:
            values = json.loads(line)
            if not isinstance(values, Mapping):
                raise ValueError(f"{values!r}")
            records.append(Record.from_json(values))
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s: a line broke off; that file is looked at again", path)
    return records
