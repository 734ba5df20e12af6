"""What is to be done about a file: by its record, its content and its output."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vqfr_media.batch.book import Book, now, read_book
from vqfr_media.batch.plan import Again, identity_of_task, output_name, why_work
from vqfr_media.batch.record import FileState, Record
from vqfr_media.batch.task import FileWorker, Plan, Task
from vqfr_media.errors import InputError, MediaError, VqfrMediaError
from vqfr_media.files import file_sha256
from vqfr_media.options import RestoreOptions


@dataclass(frozen=True)
class Begun:
    """A file that is to be worked."""

    task: Task
    record: Record
    """Status working, with its reason."""
    interrupted: bool = False
    """Whether an earlier run ended in the middle of it."""


def preview(plan: Plan, worker: FileWorker, again: Again) -> Iterator[tuple[Task, Record]]:
    """What `run_batch` would do, without doing it: what is to be worked is pending, with why.

    Raises:
        OutputError: what lies in the plan's folder as `batch.json` is not ours.
    """
    look = Look(plan, worker, read_book(plan.folder), again)
    for task in plan.tasks:
        outcome = look.at(task)
        if isinstance(outcome, Begun):
            outcome = replace(outcome.record, status="pending", started="")
        yield task, outcome


class Look:
    """Decides about one file after the other: by its record, its content and its output."""

    def __init__(self, plan: Plan, worker: FileWorker, book: Book, again: Again) -> None:
        self._plan, self._worker, self._book, self._again = plan, worker, book, again
        self._settings: dict[RestoreOptions, dict[str, str]] = {}

    def pending(self, task: Task) -> Record:
        """The record of a file that was not reached."""
        return Record(
            output=output_name(self._plan, task),
            source=task.url or str(task.source.absolute()),
            kind=task.kind,
        )

    def expect(self) -> None:
        """Notes the files of which nothing is known yet."""
        for task in self._plan.tasks:
            if self._book[output_name(self._plan, task)] is None:
                self._book.note(self.pending(task))
        self._book.save()

    def at(self, task: Task) -> Begun | Record:
        """The file as one to be worked, or the record of one that is left as it is or fails."""
        earlier = self._book[output_name(self._plan, task)]
        record = replace(self.pending(task), started=now())
        if earlier is not None and earlier.result is not None:
            made_from = earlier.made_from or earlier.source
            record = replace(record, result=earlier.result, made_from=made_from)
        try:
            content = self._content(task, earlier)
            settings = self._settings_of(task.options)
            identity = identity_of_task(task, settings, content.sha256)
            why = why_work(task, earlier, identity, self._again)
            if why is None and earlier is not None:
                if earlier.status == "failed":
                    return earlier
                why = self._fault(task.output, earlier.result)
                if why is None:
                    return replace(
                        earlier,
                        status="unchanged",
                        source=record.source,
                        made_from=record.source,
                        content=content,
                    )
            self._refuse_to_overwrite(task, earlier)
        except InputError as error:
            failed = failed_record(record, error, task)
            if earlier is not None and (earlier.status, earlier.reason) == (
                "failed",
                failed.reason,
            ):
                return earlier
            return failed
        del identity["source"]
        record = replace(
            record, status="working", reason=why or "", content=content, identity=identity
        )
        return Begun(task, record, earlier is not None and earlier.status == "working")

    def _settings_of(self, options: RestoreOptions) -> dict[str, str]:
        if options not in self._settings:
            self._settings[options] = dict(self._worker.settings(options))
        return self._settings[options]

    def _content(self, task: Task, earlier: Record | None) -> FileState:
        known = earlier.content if earlier is not None else None
        if self._again.trust_times and known is not None and known.looks_like(task.source):
            return known
        before = _times(task.source)
        sha256 = self._worker.content(task)
        after = _times(task.source)
        if after is None or before not in (None, after):
            raise MediaError(f"{task.source}: was changed while it was being read")
        return FileState(sha256, *after)

    def _fault(self, output: Path, result: FileState | None) -> str | None:
        """What is wrong with an output that was made before."""
        if result is None or not output.is_file():
            return "the output is not there any more"
        if self._again.trust_times and result.looks_like(output):
            return None
        try:
            same = file_sha256(output) == result.sha256
        except OSError as error:
            return f"the output cannot be read: {error.strerror}"
        return None if same else "the output was altered"

    def _refuse_to_overwrite(self, task: Task, earlier: Record | None) -> None:
        output, place = task.output, self._plan.place_of(task.output)
        if self._again.overwrite:
            return
        if earlier is None or (earlier.result is None and earlier.status != "working"):
            if output.exists():
                raise InputError(
                    f"{place}: is there already, and no earlier batch made it; move it away, or "
                    "add --overwrite"
                )
        elif _is_another(made_from := earlier.made_from or earlier.source, task):
            raise InputError(
                f"{place}: was made from {made_from}; choose another folder for the "
                "outputs, or add --overwrite"
            )


def _is_another(before: str, task: Task) -> bool:
    """Whether the source of before is another URL, or another file that is still there."""
    if "://" in before:
        return before != task.url
    path, source = Path(before), task.source
    if path == source.absolute() or not path.is_file():
        return False
    return not (source.exists() and path.samefile(source))


def failed_record(record: Record, error: VqfrMediaError, task: Task) -> Record:
    """The record of a file that was not restored because of `error`."""
    reason = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if task.url:  # not where it lies in the cache, where nobody is to mend anything
        reason = reason.replace(str(task.source), task.url)
    return replace(
        record, status="failed", reason=reason, error=type(error).__name__, finished=now()
    )


def _times(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
