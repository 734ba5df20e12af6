"""Which files have to be restored in this run, and why: by record, content and output."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vqfr_media.batch.journal import Journal, now, read_journal
from vqfr_media.batch.plan import output_name
from vqfr_media.batch.record import FileState, Record
from vqfr_media.batch.task import BatchPlan, FileWorker, Task
from vqfr_media.differences import describe_changes
from vqfr_media.errors import InputError, MediaError, VqfrMediaError
from vqfr_media.files import file_sha256
from vqfr_media.jobs.identity import flattened
from vqfr_media.options import RestoreOptions

# What may differ without a result being made again, because the new one would be as good, though
# not equal to the last bit.
_NOT_DECISIVE = (
    "version.", "processor", "gpu", "engine.device", "engine.kind", "engine.batch_size",
    "engine.max_batch",  # what records of earlier versions call the batch size
    "engine.precision", "engine.threads",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RerunPolicy:
    """When a file is restored again, and what counts as unchanged."""

    redo: bool = False
    """Restore every file again."""
    retry: bool = False
    """Try again what failed, although nothing about it has changed."""
    overwrite: bool = False
    """Replace existing outputs that no earlier batch made."""
    trust_times: bool = False
    """Take a file of the same size and time as before for unchanged, without reading it."""


@dataclass(frozen=True)
class PendingTask:
    """A file that is to be restored in this run."""

    task: Task
    """The file, its output and its options."""
    record: Record
    """Its record so far: status `working`, with the reason why it is restored."""
    interrupted: bool = False
    """Whether an earlier run ended in the middle of it."""


def preview(
    plan: BatchPlan, worker: FileWorker, policy: RerunPolicy
) -> Iterator[tuple[Task, Record]]:
    """Yields what `run_batch` would do, without doing it.

    Files that would be restored have the status `pending` and the reason why.

    Raises:
        OutputError: the `batch.json` in the plan's folder was not written by this program.
    """
    planner = Planner(plan, worker, read_journal(plan.folder), policy)
    for task in plan.tasks:
        outcome = planner.decide(task)
        if isinstance(outcome, PendingTask):
            outcome = replace(outcome.record, status="pending", started="")
        yield task, outcome


def outputs_without_source(plan: BatchPlan) -> tuple[str, ...]:
    """Returns the outputs of earlier runs whose sources the plan no longer has, as sentences.

    Raises:
        OutputError: the `batch.json` in the plan's folder was not written by this program.
    """
    planned = {task.output for task in plan.tasks}
    return tuple(
        f"{record.output}: is kept; its source {record.source} is not part of this batch"
        for record in read_journal(plan.folder).made()
        if (output := plan.folder / record.output) not in planned and output.exists()
    )


class Planner:
    """Decides, file by file, what is to be done: by its record, its content and its output."""

    def __init__(
        self, plan: BatchPlan, worker: FileWorker, journal: Journal, policy: RerunPolicy
    ) -> None:
        self._plan, self._worker, self._journal, self._policy = plan, worker, journal, policy
        self._settings: dict[RestoreOptions, dict[str, str]] = {}

    def pending_record(self, task: Task) -> Record:
        """Returns the record of a file about which nothing is known yet."""
        return Record(
            output=output_name(self._plan, task),
            source=task.url or str(task.source.absolute()),
            kind=task.kind,
        )

    def add_pending(self) -> None:
        """Adds a record for each file that has none.

        Raises:
            OutputError: the disk is full or gone.
        """
        for task in self._plan.tasks:
            if self._journal[output_name(self._plan, task)] is None:
                self._journal.add(self.pending_record(task))
        self._journal.save()

    def decide(self, task: Task) -> PendingTask | Record:
        """Returns the file as one to be restored, or the record of one that is not.

        Such a file is unchanged, failed before, or cannot be read or written now.

        Raises:
            VqfrMediaError: an error that is not this file's fault.
        """
        earlier = self._journal[output_name(self._plan, task)]
        record = replace(self.pending_record(task), started=now())
        if earlier is not None and earlier.result is not None:
            made_from = earlier.made_from or earlier.source
            record = replace(record, result=earlier.result, made_from=made_from)
        try:
            content = self._content(task, earlier)
            settings = self._cached_settings(task.options)
            identity = identity_of_task(task, settings, content.sha256)
            reason = rerun_reason(task, earlier, identity, self._policy)
            if reason is None and earlier is not None:
                if earlier.status == "failed":
                    return earlier
                reason = self._output_fault(task.output, earlier.result)
                if reason is None:
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
            record, status="working", reason=reason or "", content=content, identity=identity
        )
        return PendingTask(task, record, earlier is not None and earlier.status == "working")

    def _cached_settings(self, options: RestoreOptions) -> dict[str, str]:
        if options not in self._settings:
            self._settings[options] = dict(self._worker.settings(options))
        return self._settings[options]

    def _content(self, task: Task, earlier: Record | None) -> FileState:
        known = earlier.content if earlier is not None else None
        if self._policy.trust_times and known is not None and known.matches(task.source):
            return known
        before = _times(task.source)
        sha256 = self._worker.content(task)
        after = _times(task.source)
        if after is None or before not in (None, after):
            raise MediaError(f"{task.source}: was changed while it was being read")
        return FileState(sha256, *after)

    def _output_fault(self, output: Path, result: FileState | None) -> str | None:
        """Returns what is wrong with an output that was made before, or None."""
        if result is None or not output.is_file():
            return "the output is not there any more"
        if self._policy.trust_times and result.matches(output):
            return None
        try:
            same = file_sha256(output) == result.sha256
        except OSError as error:
            return f"the output cannot be read: {error.strerror}"
        return None if same else "the output was altered"

    def _refuse_to_overwrite(self, task: Task, earlier: Record | None) -> None:
        output, place = task.output, self._plan.display_name(task.output)
        if self._policy.overwrite:
            return
        if earlier is None or (earlier.result is None and earlier.status != "working"):
            if output.exists():
                raise InputError(
                    f"{place}: is there already, and no earlier batch made it; move it away, or "
                    "add --overwrite"
                )
        elif _is_other_source(made_from := earlier.made_from or earlier.source, task):
            raise InputError(
                f"{place}: was made from {made_from}; choose another folder for the "
                "outputs, or add --overwrite"
            )


_STOOD_FOR = {"options.temporal.min_track": "0.0"}
"""What options did in versions that did not have them, where that is not their default."""


def rerun_reason(
    task: Task, earlier: Record | None, identity: Mapping[str, str], policy: RerunPolicy
) -> str | None:
    """Returns why a source with this content and these settings is to be restored, or None.

    Reads no files.

    Args:
        task: the file.
        earlier: its record of an earlier run.
        identity: what decides its result, with the SHA-256 of its content as "source".
        policy: what is restored again in any case.
    """
    if earlier is None or earlier.status == "pending":
        return "new"
    if policy.redo:
        return "asked for by --redo"
    if earlier.status == "working":
        return "was interrupted"
    before = _known_identity(earlier)
    if earlier.status == "failed":
        if not before or policy.retry:
            return "failed before"
        return "; ".join(describe_changes(before, identity)) or None
    now = _decisive(identity)
    # An option that an earlier version did not have, or that this one no longer has, is no reason
    # while it has its default, or what it stood for before.
    defaults = {f"options.{n}": str(v) for n, v in flattened(asdict(RestoreOptions())).items()}
    both = before.keys() & now.keys()
    same = {n: (defaults.get(n), _STOOD_FOR.get(n)) for n in now}
    now = {n: v for n, v in now.items() if n in both or v not in same[n]}
    then = {n: v for n, v in _decisive(before).items() if n in both or not n.startswith("options.")}
    if changes := describe_changes(then, now):
        return "; ".join(changes)
    if task.options.strict and any(not reason.is_chosen for reason in earlier.skipped):
        return "strict now, and faces were left alone before"
    return None


def identity_of_task(task: Task, settings: Mapping[str, str], content: str) -> dict[str, str]:
    """Returns what decides a task's result: its content as "source", and `settings`."""
    identity = {"source": content, **settings}
    if task.kind == "image":
        identity["options.encode.image_quality"] = str(task.options.encode.image_quality)
    return identity


def _is_other_source(before: str, task: Task) -> bool:
    """Tells whether the earlier source is another URL, or another file that still exists."""
    if "://" in before:
        return before != task.url
    path, source = Path(before), task.source
    if path == source.absolute() or not path.is_file():
        return False
    return not (source.exists() and path.samefile(source))


def failed_record(record: Record, error: VqfrMediaError, task: Task) -> Record:
    """Returns the record of a file that was not restored because of `error`."""
    reason = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if task.url:  # the path in the cache says nothing to the user
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


def _known_identity(record: Record) -> dict[str, str]:
    """Returns the identity of a record, empty where it is not known."""
    if not record.identity or record.content is None:
        return {}
    return {"source": record.content.sha256, **record.identity}


def _decisive(identity: Mapping[str, str]) -> dict[str, str]:
    own_weights = "model.weights" in identity
    return {
        name: value
        for name, value in identity.items()
        if not (name.startswith(_NOT_DECISIVE) or (name == "engine.identity" and own_weights))
    }
