"""What was done to one file, as JSON: of `restore --report`, and beside each output of a batch."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from vqfr_media.batch.task import FileWorker, Task
from vqfr_media.errors import OutputError, VqfrMediaError
from vqfr_media.files import LONGEST_NAME, write_text
from vqfr_media.jobs.identity import library_versions
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

_SUFFIX = ".report.json"
# Digits of the hash in the name of a report whose output's name is too long for the suffix.
_DIGITS = 8
# What the JSON of every report names, of whatever version.
_KEYS = {"source", "output", "frames", "restored", "tracks", "options", "versions"}


def report_path(output: Path) -> Path:
    """Returns the place of a batch's report on one file: `film.mp4.report.json` beside the output.

    A name that would be too long is cut, and gets some digits of its SHA-256 instead.
    """
    name = output.name + _SUFFIX
    encoded = os.fsencode(output.name)
    if len(encoded) + len(_SUFFIX) > LONGEST_NAME:
        mark = f"-{hashlib.sha256(encoded).hexdigest()[:_DIGITS]}{_SUFFIX}"
        name = encoded[: LONGEST_NAME - len(mark)].decode("utf-8", "ignore") + mark
    return output.with_name(name)


def report_text(summary: Summary, options: RestoreOptions) -> str:
    """Returns what was done to a file, by which options and with which libraries, as JSON."""
    done = {**summary.to_json(), "options": asdict(options), "versions": library_versions()}
    return json.dumps(done, indent=2, default=str) + "\n"


def is_file_report(path: Path) -> bool:
    """Returns whether a file is there and is what `report_text` made."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.keys() >= _KEYS


class ReportingWorker:
    """A `FileWorker` that writes a report beside each output of another one."""

    def __init__(self, worker: FileWorker, *, overwrite: bool = False) -> None:
        """Wraps a worker; only with `overwrite` it replaces files that are no reports."""
        self.max_concurrency = worker.max_concurrency
        self._worker, self._overwrite = worker, overwrite

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """See `FileWorker.settings`."""
        return self._worker.settings(options)

    def content(self, task: Task) -> str:
        """See `FileWorker.content`."""
        return self._worker.content(task)

    def work(self, task: Task) -> Summary:
        """Restores a file and writes the report.

        A warning says where that cannot be written, or would replace a file that is no report.

        Raises:
            VqfrMediaError: as `FileWorker.work`.
        """
        summary = self._worker.work(task)
        path = report_path(task.output)
        try:
            if path.is_file() and not (self._overwrite or is_file_report(path)):
                raise OutputError(
                    f"{path}: is there already and not a report of this program; move it away, or "
                    "add --overwrite, and --redo makes the report"
                )
            write_text(path, report_text(summary, task.options))
        except OutputError as error:  # the film is worth more than the report on it
            return replace(summary, warnings=(*summary.warnings, f"without a report: {error}"))
        return summary

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """See `FileWorker.stops_batch`."""
        return self._worker.stops_batch(error)

    def stop(self) -> None:
        """See `FileWorker.stop`."""
        self._worker.stop()
