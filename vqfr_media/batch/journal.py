"""The records of a batch while it runs: in `batch.json`, and newer ones in a journal beside it."""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from vqfr_media.batch.find_media import natural_key
from vqfr_media.batch.record import REPORT_NAME, Record, json_bytes, read_report, report_json
from vqfr_media.errors import OutputError
from vqfr_media.files import (
    lock_folder,
    output_error,
    remove_leftovers,
    sync_folder,
    write_bytes,
)

logger = logging.getLogger(__name__)

LOCK_NAME = ".batch.lock"
JOURNAL_NAME = ".batch.journal"

# `batch.json` holds every record, so writing it after each of many thousand files would take longer
# than restoring them. In between, a line for each file is appended to the journal.
_SECONDS_BETWEEN_SAVES = 2.0
_MOST_TIME_SAVING = 0.02


def now() -> str:
    """Returns the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """The records of a folder; made by `open_journal`."""

    def __init__(self, folder: Path, records: Iterable[Record]) -> None:
        self._folder = folder
        self._records = {record.output: record for record in records}
        self._saved_at = float("-inf")
        self._save_seconds = 0.0

    def __getitem__(self, output: str) -> Record | None:
        return self._records.get(output)

    def interrupted(self) -> list[Record]:
        """Returns the records of files in the middle of which a run ended, in natural order."""
        found = [record for record in self._records.values() if record.status == "working"]
        return sorted(found, key=lambda record: natural_key(PurePosixPath(record.output)))

    def made(self) -> list[Record]:
        """Returns the records of outputs that some run made, in natural order."""
        found = [record for record in self._records.values() if record.result is not None]
        return sorted(found, key=lambda record: natural_key(PurePosixPath(record.output)))

    def add(self, record: Record) -> None:
        """Adds or replaces a record that need not survive a crash."""
        self._records[record.output] = record

    def add_durably(self, record: Record) -> None:
        """Adds or replaces a record, which is on the disk when this returns.

        Raises:
            OutputError: the disk is full or gone.
        """
        self._records[record.output] = record
        try:
            with (self._folder / JOURNAL_NAME).open("ab") as file:
                file.write(json_bytes(record.to_json()) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self._folder / JOURNAL_NAME, error) from error
        waited = time.monotonic() - self._saved_at
        if waited > max(_SECONDS_BETWEEN_SAVES, self._save_seconds / _MOST_TIME_SAVING):
            self.save()

    def save(self) -> None:
        """Writes `batch.json`, after which the journal's file is removed.

        Raises:
            OutputError: the disk is full or gone.
        """
        started = time.monotonic()
        records = sorted(self._records.values(), key=lambda r: natural_key(PurePosixPath(r.output)))
        write_bytes(self._folder / REPORT_NAME, report_json(records, now()))
        try:
            (self._folder / JOURNAL_NAME).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise output_error(self._folder / JOURNAL_NAME, error) from error
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started


def read_journal(folder: Path) -> Journal:
    """Reads the records of `folder`; without the lock, so that nothing may be added.

    Raises:
        OutputError: the `batch.json` there was not written by this program.
    """
    added = _read_lines(folder / JOURNAL_NAME)
    return Journal(folder, [*read_report(folder / REPORT_NAME), *added])


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """Yields the records of `folder`, for this process alone; they are saved when the block ends.

    Raises:
        OutputError: the folder cannot be made or written, the `batch.json` there was not written by
            this program, or another process works in the folder.
    """
    busy = f"{folder}: another vqfr-media is writing into it; wait for it, or name another folder"
    with lock_folder(folder, LOCK_NAME, busy=busy, remove=True):
        remove_leftovers(folder / REPORT_NAME)
        journal = read_journal(folder)
        journal.save()
        try:
            yield journal
        except BaseException:
            try:
                journal.save()
            except (
                OutputError
            ) as error:  # the first error counts for more; the journal's file stays
                logger.warning("%s", error)
            raise
        journal.save()


def _read_lines(path: Path) -> list[Record]:
    """Reads what was added after `batch.json` was written; an incomplete line is left out."""
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
            logger.warning("%s: an incomplete line; that file is checked again", path)
    return records
