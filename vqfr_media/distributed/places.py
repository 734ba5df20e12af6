"""Folders behind URLs: what lies in them as tasks, and outputs that go there when they are done.

Both have a folder on this machine, in the user's cache: inputs are fetched into one when they are
looked at, outputs are made in the other and copied from there.
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

from filelock import FileLock, Timeout

from vqfr_media.batch.files import IMAGES, VIDEOS, Choice, natural, not_taken
from vqfr_media.batch.plan import tasks_of
from vqfr_media.batch.record import REPORT, begins_as_report
from vqfr_media.batch.task import FileWorker, Plan, Task
from vqfr_media.distributed.listing import Listing, fixed_part, list_inputs, list_outputs
from vqfr_media.distributed.staging import (
    Origin,
    discard_stale,
    fetch,
    first_bytes,
    is_url,
    open_url,
    origin_of,
    publish,
    stage,
)
from vqfr_media.errors import InputError, OptionError, OutputError, VqfrMediaError
from vqfr_media.files import atomic_output, output_error
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

# In the outputs' folder on this machine: what of it has been copied to the URL.
_LEDGER = ".published.json"


def refuse_within(output: str, source: str) -> None:
    """Refuses outputs among the inputs, where one of the two is a URL.

    Raises:
        BackendError: see `staging.open_url`.
        OptionError: they are the same place, or the outputs lie in the inputs.
    """
    inside, around = _spelt_out(output), _spelt_out(source)
    if f"{inside}/".startswith(f"{around}/"):
        raise OptionError(
            f"{output} lies in {source}: results would be taken for inputs; name another place"
        )


def _spelt_out(place: str) -> str:
    """The URL of a folder or of the fixed part of a pattern, always spelt the same way."""
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
    choice: Choice | None = None,
    video_suffix: str | None = None,
    image_suffix: str | None = None,
) -> tuple[Plan, dict[Path, Origin]]:
    """The videos and images below a URL, as `batch.plan.plan_folder` does it, and their origins.

    Args:
        source: URL of a folder, or a pattern such as s3://films/*/*.mkv.
        folder: folder for the outputs.
        options: what is done to each file.
        cache: folder into which inputs are fetched.
        choice: which files are wanted.
        video_suffix: suffix of every video's output; by default its own, where that can be written.
        image_suffix: suffix of every image's output; by default its own.

    Raises:
        BackendError: what this kind of URL needs is not installed.
        InputError: it cannot be listed, or there is nothing in it; or as `plan_folder`.
    """
    choice = choice or Choice()
    listing = list_inputs(source)
    found, left_out = _chosen(source, listing, choice)
    if not found:
        why = "; left out: ".join(("", *left_out[:3], *listing.unreadable[:3]))
        raise InputError(f"{source}: no video or image to restore in it{why}")
    # Before anybody looks at it: what changes between two looks is an error.
    files = {path: discard_stale(found[path], cache) for path in sorted(found, key=natural)}
    tasks = tasks_of(files, folder, options, video_suffix=video_suffix, image_suffix=image_suffix)
    fetched = {files[path]: origin for path, origin in found.items()}
    named = tuple(replace(task, url=fetched[task.source].url) for task in tasks)
    return Plan(folder, named, tuple(left_out), tuple(listing.unreadable)), fetched


def _chosen(
    source: str, listing: Listing, choice: Choice
) -> tuple[dict[PurePath, Origin], list[str]]:
    """What of a listing is to be restored, and what is left out, in sentences."""
    earlier = {
        path.parent
        for path, origin in listing.files.items()
        if path.name == REPORT and path.parent.parts and begins_as_report(first_bytes(origin))
    }
    found: dict[PurePath, Origin] = {}
    others: Counter[str] = Counter()
    unwanted = 0
    for path, origin in listing.files.items():
        if any(part.startswith(".") for part in path.parts) or earlier.intersection(path.parents):
            continue
        if path == PurePosixPath(REPORT):
            continue
        if path.suffix.lower() not in (*IMAGES, *VIDEOS):
            others[path.suffix.lower() or "without a suffix"] += 1
        elif choice.takes(path):
            found[PurePath(path)] = origin
        else:
            unwanted += 1
    results = [
        f"{source.rstrip('/')}/{folder}: holds the results of an earlier batch"
        for folder in sorted(earlier, key=natural)
    ]
    return found, [*listing.left_out, *results, *not_taken(others, unwanted)]


class Target:
    """A folder on this machine whose files go to a URL, each under its name when it is complete."""

    def __init__(self, url: str, cache: Path) -> None:
        """The folder is always the same for the same URL."""
        self.url = url.rstrip("/")
        self.folder = cache / "outputs" / hashlib.sha256(os.fsencode(self.url)).hexdigest()[:24]
        self._marks: dict[str, str] = {}
        self._lock = Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps this machine's other processes from the folder while the block runs.

        Raises:
            OutputError: one of them works in it, or it cannot be made.
        """
        place = self.folder.with_suffix(".lock")
        lock = FileLock(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{self.url}: another vqfr-media on this machine is writing to it; wait for it, or "
                "name another place"
            ) from error
        except OSError as error:
            raise output_error(place, error) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, plan: Plan) -> None:
        """Makes the folder hold, of the plan's outputs and their report, what the URL holds.

        So that `run_batch` sees what is missing there, what was altered, and what is another's.

        Raises:
            BackendError: what this kind of URL needs is not installed.
            MediaError: what lies there cannot be read.
            OutputError: the folder cannot be written.
        """
        there = {path.as_posix(): origin for path, origin in list_outputs(self.url).items()}
        known = self._read()
        outputs = {task.output.relative_to(self.folder).as_posix() for task in plan.tasks}
        for name in outputs | {REPORT}:
            path, origin = self.folder / name, there.get(name)
            try:
                if origin is None:
                    # A report that was never put there is of a run here that was cut off.
                    if name != REPORT or name in known:
                        path.unlink(missing_ok=True)
                    continue
                self._marks[name] = _mark(origin)
                if not path.is_file() or known.get(name) != self._marks[name]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    fetch(origin, path)
            except VqfrMediaError:
                raise
            except OSError as error:
                raise output_error(path, error) from error

    def put(self, path: Path) -> None:
        """Copies a file of the folder to its place.

        Raises:
            OutputError: it cannot be put there.
        """
        name = path.relative_to(self.folder).as_posix()
        place = f"{self.url}/{name}"
        publish(path, place)
        with self._lock:
            self._marks[name] = _mark(origin_of(place))
            with atomic_output(self.folder / _LEDGER) as temporary:
                temporary.write_text(json.dumps(self._marks))

    def finish(self) -> None:
        """Puts `batch.json` beside the outputs.

        Raises:
            OutputError: it cannot be put there.
        """
        if (self.folder / REPORT).is_file():
            self.put(self.folder / REPORT)

    def _read(self) -> dict[str, str]:
        try:
            values = json.loads((self.folder / _LEDGER).read_text())
            return {str(name): str(mark) for name, mark in values.items()}
        except (OSError, ValueError, AttributeError):
            return {}  # of a first run, or one that was cut off: all is fetched


class PlacesWorker:
    """A `FileWorker` that fetches inputs, and puts outputs to their place, for another one."""

    def __init__(
        self,
        worker: FileWorker,
        *,
        found: dict[Path, Origin],
        cache: Path,
        target: Target | None,
    ) -> None:
        """`found` is updated as contents become known; the other worker may look into it."""
        self.at_once = worker.at_once
        self._worker, self._found, self._cache, self._target = worker, found, cache, target

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """See `FileWorker.settings`."""
        return self._worker.settings(options)

    def content(self, task: Task) -> str:
        """SHA-256 of the source, which is then on this machine.

        Raises:
            InputError: it cannot be fetched.
        """
        if (origin := self._found.get(task.source)) is not None:
            _, sha256 = stage(origin, self._cache)
            self._found[task.source] = replace(origin, sha256=sha256)
        return self._worker.content(task)

    def work(self, task: Task) -> Summary:
        """Works a file, and puts the output to its place.

        Raises:
            OutputError: it cannot be put there.
            VqfrMediaError: as `FileWorker.work`.
        """
        summary = self._worker.work(task)
        if self._target is not None:
            self._target.put(task.output)
        return summary

    def is_fatal(self, error: VqfrMediaError) -> bool:
        """See `FileWorker.is_fatal`."""
        return self._worker.is_fatal(error)

    def stop(self) -> None:
        """See `FileWorker.stop`."""
        self._worker.stop()


def _mark(origin: Origin) -> str:
    return f"{origin.size} {origin.tag}"
