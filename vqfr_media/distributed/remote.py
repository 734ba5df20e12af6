"""Folders behind URLs: the files in them as tasks, and outputs that are uploaded when complete.

Both have a folder on this machine, in the user's cache: inputs are fetched into one when they are
first read, outputs are made in the other and copied from there.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from threading import Lock

from vqfr_media.batch.file_report import is_file_report, report_path
from vqfr_media.batch.find_media import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    FileFilter,
    left_out_messages,
    natural_key,
)
from vqfr_media.batch.plan import make_tasks
from vqfr_media.batch.record import REPORT_NAME, begins_as_report
from vqfr_media.batch.task import BatchPlan, FileWorker, Task
from vqfr_media.distributed.listing import Listing, fixed_part, list_inputs, list_outputs
from vqfr_media.distributed.staging import (
    RemoteFile,
    discard_outdated,
    fetch,
    fetch_cached,
    first_bytes,
    is_url,
    open_url,
    query_file,
    upload_file,
)
from vqfr_media.errors import InputError, OptionError, VqfrMediaError
from vqfr_media.files import lock_folder, output_error, write_text
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

# In the outputs' folder on this machine: which of its files have been uploaded, and their
# fingerprints.
_UPLOADS_NAME = ".published.json"


def refuse_output_within(output: str, source: str) -> None:
    """Refuses outputs among the inputs, where one of the two is a URL.

    Raises:
        BackendError: see `staging.open_url`.
        OptionError: they are the same place, or the outputs lie in the inputs.
    """
    inside, around = _normalised(output), _normalised(source)
    if f"{inside}/".startswith(f"{around}/"):
        raise OptionError(
            f"{output} lies in {source}: results would be taken for inputs; name another place"
        )


def _normalised(place: str) -> str:
    """Returns the URL of a folder or of the fixed part of a pattern, always spelt the same way."""
    if not is_url(place):
        return f"file://{Path(place).resolve()}"
    filesystem, path = open_url(fixed_part(place) if "*" in place or "?" in place else place)
    url: str = filesystem.unstrip_protocol(path)
    return url.rstrip("/")


def plan_url(
    source: str,
    folder: Path,
    options: RestoreOptions,
    *,
    cache: Path,
    file_filter: FileFilter | None = None,
    video_suffix: str | None = None,
    image_suffix: str | None = None,
) -> tuple[BatchPlan, dict[Path, RemoteFile]]:
    """Plans the videos and images below a URL, as `batch.plan.plan_folder` does those of a folder.

    Args:
        source: URL of a folder, or a pattern such as s3://films/*/*.mkv.
        folder: folder for the outputs.
        options: what is done to each file.
        cache: folder into which inputs are fetched.
        file_filter: which files are wanted.
        video_suffix: suffix of every video's output; by default its own, where that can be written.
        image_suffix: suffix of every image's output; by default its own.

    Returns:
        The plan, and by each task's source the file behind the URL.

    Raises:
        BackendError: what this kind of URL needs is not installed.
        InputError: it cannot be listed, or there is nothing in it; or as `plan_folder`.
    """
    file_filter = file_filter or FileFilter()
    listing = list_inputs(source)
    wanted, left_out = _filtered(source, listing, file_filter)
    if not wanted:
        reasons = "; left out: ".join(("", *left_out[:3], *listing.unreadable[:3]))
        raise InputError(f"{source}: no video or image to restore in it{reasons}")
    # Before anything reads them: a source that changes while it is being read is an error.
    files = {
        path: discard_outdated(wanted[path], cache) for path in sorted(wanted, key=natural_key)
    }
    tasks = make_tasks(files, folder, options, video_suffix=video_suffix, image_suffix=image_suffix)
    remote_files = {files[path]: remote for path, remote in wanted.items()}
    tasks = tuple(replace(task, url=remote_files[task.source].url) for task in tasks)
    return BatchPlan(folder, tasks, tuple(left_out), tuple(listing.unreadable)), remote_files


def _filtered(
    source: str, listing: Listing, file_filter: FileFilter
) -> tuple[dict[PurePath, RemoteFile], list[str]]:
    """Returns the files of a listing to restore, and what is left out, in sentences."""
    earlier = {
        path.parent
        for path, remote in listing.files.items()
        if path.name == REPORT_NAME and path.parent.parts and begins_as_report(first_bytes(remote))
    }
    wanted: dict[PurePath, RemoteFile] = {}
    others: Counter[str] = Counter()
    unwanted = 0
    for path, remote in listing.files.items():
        if any(part.startswith(".") for part in path.parts) or earlier.intersection(path.parents):
            continue
        if path == PurePosixPath(REPORT_NAME):
            continue
        if path.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            others[path.suffix.lower() or "without a suffix"] += 1
        elif file_filter.accepts(path):
            wanted[PurePath(path)] = remote
        else:
            unwanted += 1
    results = [
        f"{source.rstrip('/')}/{folder}: holds the results of an earlier batch"
        for folder in sorted(earlier, key=natural_key)
    ]
    return wanted, [*listing.left_out, *results, *left_out_messages(others, unwanted)]


class RemoteOutput:
    """A folder on this machine whose files are uploaded to a URL, each when it is complete."""

    def __init__(self, url: str, cache: Path) -> None:
        """Takes a folder in `cache`, always the same one for the same URL."""
        self.url = url.rstrip("/")
        self.folder = cache / "outputs" / hashlib.sha256(os.fsencode(self.url)).hexdigest()[:24]
        self._fingerprints: dict[str, str] = {}
        self._lock = Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps this machine's other processes away from the folder while the block runs.

        Raises:
            OutputError: one of them is using it, or it cannot be made.
        """
        busy = (
            f"{self.url}: another vqfr-media on this machine is writing to it; wait for it, or "
            "name another place"
        )
        with lock_folder(self.folder.parent, f"{self.folder.name}.lock", busy=busy):
            yield

    def download(self, plan: BatchPlan, *, reports: bool = False) -> None:
        """Brings the folder to the URL's state, as far as the plan's outputs and `batch.json` go.

        `run_batch` then sees what is missing there, what was altered, and what is not its own.

        Args:
            plan: what is to be restored, with outputs in the folder.
            reports: also what lies where the reports beside the outputs go.

        Raises:
            BackendError: what this kind of URL needs is not installed.
            MediaError: a file there cannot be read.
            OutputError: the folder cannot be written.
        """
        there = {path.as_posix(): remote for path, remote in list_outputs(self.url).items()}
        known = self._read_uploads()
        paths = [task.output for task in plan.tasks]
        if reports:
            paths += [report_path(path) for path in paths]
        outputs = {path.relative_to(self.folder).as_posix() for path in paths}
        for name in outputs | {REPORT_NAME}:
            path, remote = self.folder / name, there.get(name)
            try:
                if remote is None:
                    # A report that was never uploaded is that of an interrupted run on this one.
                    if name != REPORT_NAME or name in known:
                        path.unlink(missing_ok=True)
                    continue
                self._fingerprints[name] = _fingerprint(remote)
                if not path.is_file() or known.get(name) != self._fingerprints[name]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    fetch(remote, path)
            except VqfrMediaError:
                raise
            except OSError as error:
                raise output_error(path, error) from error

    def upload(self, path: Path) -> None:
        """Copies a file of the folder to the URL.

        Raises:
            OutputError: it cannot be written there.
        """
        name = path.relative_to(self.folder).as_posix()
        url = f"{self.url}/{name}"
        upload_file(path, url)
        with self._lock:
            self._fingerprints[name] = _fingerprint(query_file(url))
            write_text(self.folder / _UPLOADS_NAME, json.dumps(self._fingerprints))

    def upload_report(self) -> None:
        """Copies `batch.json` to the URL, if there is one.

        Raises:
            OutputError: it cannot be written there.
        """
        if (self.folder / REPORT_NAME).is_file():
            self.upload(self.folder / REPORT_NAME)

    def _read_uploads(self) -> dict[str, str]:
        try:
            values = json.loads((self.folder / _UPLOADS_NAME).read_text())
            return {str(name): str(fingerprint) for name, fingerprint in values.items()}
        except (OSError, ValueError, AttributeError):
            return {}  # the first run, or the last one was interrupted: everything is fetched


class StagingWorker:
    """A `FileWorker` that fetches the inputs and uploads the outputs of another one."""

    def __init__(
        self,
        worker: FileWorker,
        *,
        remote_files: dict[Path, RemoteFile],
        cache: Path,
        output: RemoteOutput | None,
        reports: bool = False,
    ) -> None:
        """Wraps a worker.

        Args:
            worker: what restores the files.
            remote_files: the files behind URLs, by the tasks' sources; updated with their hashes,
                which the other worker may read there.
            cache: folder into which inputs are fetched.
            output: where outputs are uploaded; None if they stay on this machine.
            reports: whether the other worker writes a report beside each output.
        """
        self.max_concurrency = worker.max_concurrency
        self._worker, self._cache = worker, cache
        self._remote_files, self._output, self._reports = remote_files, output, reports

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """See `FileWorker.settings`."""
        return self._worker.settings(options)

    def content(self, task: Task) -> str:
        """Fetches the source to this machine and returns its SHA-256.

        Raises:
            InputError: it cannot be fetched.
        """
        if (remote := self._remote_files.get(task.source)) is not None:
            _, sha256 = fetch_cached(remote, self._cache)
            self._remote_files[task.source] = replace(remote, sha256=sha256)
        return self._worker.content(task)

    def work(self, task: Task) -> Summary:
        """Restores a file, and uploads the output.

        Raises:
            OutputError: it cannot be uploaded.
            VqfrMediaError: as `FileWorker.work`.
        """
        summary = self._worker.work(task)
        if self._output is not None:
            self._output.upload(task.output)
            report = report_path(task.output)
            if self._reports and is_file_report(report):
                self._output.upload(report)
        return summary

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """See `FileWorker.stops_batch`."""
        return self._worker.stops_batch(error)

    def stop(self) -> None:
        """See `FileWorker.stop`."""
        self._worker.stop()


def _fingerprint(remote: RemoteFile) -> str:
    """Returns what changes when the file's content does, as far as its server says."""
    return f"{remote.size} {remote.tag}"
