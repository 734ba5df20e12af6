"""Runs a batch: the files of a plan, one after the other or several at once.

A file that fails gets a record with the reason, and the others go on. Three things end a batch
before its last file: Ctrl-C, a bug (any error that is not one of `errors.py`), and an error after
which every other file would fail too.
"""

import errno
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace

from vqfr_media.batch.journal import Journal, now, open_journal
from vqfr_media.batch.planner import PendingTask, Planner, RerunPolicy, failed_record
from vqfr_media.batch.record import BatchReport, FileState, Record
from vqfr_media.batch.task import BatchPlan, FileWorker, Task
from vqfr_media.errors import InputError, MediaError, OutputError, VqfrMediaError
from vqfr_media.files import file_sha256, is_medium_error, output_error, remove_leftovers
from vqfr_media.jobs.work_folder import work_folder_of
from vqfr_media.summary import Summary

# What the operating system reports when no other file would fit either.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class _Restored:
    """What is known of a file that was restored."""

    summary: Summary
    """What was done to it."""
    result: FileState
    """The output."""


def run_batch(
    plan: BatchPlan,
    worker: FileWorker,
    *,
    policy: RerunPolicy | None = None,
    on_check: Callable[[Task], None] | None = None,
    on_begin: Callable[[Task, str], None] | None = None,
    on_record: Callable[[Task, Record], None] | None = None,
) -> BatchReport:
    """Restores the files of a plan that are new or changed, and keeps `batch.json` in its folder.

    The record of every finished file is on disk before the next one begins: whatever ends this
    call, the same call goes on from there.

    Args:
        plan: the files.
        worker: what restores them.
        policy: when a file is restored again.
        on_check: called before a file is checked for changes, which may mean reading all of it.
        on_begin: called when the work on a file begins, with the reason for it.
        on_record: called with the record of each file when it is final, also of unchanged ones.

    Raises:
        MachineError: `batch.json` cannot be read or written.
    """
    started = time.monotonic()
    stopped: VqfrMediaError | None = None
    records: dict[Task, Record] = {}
    with open_journal(plan.folder) as journal:
        planner = Planner(plan, worker, journal, policy or RerunPolicy())
        planner.add_pending()

        def finish(task: Task, record: Record, *, durably: bool) -> None:
            (journal.add_durably if durably else journal.add)(record)
            records[task] = record
            if on_record is not None:
                on_record(task, record)

        def pending_tasks() -> Iterator[PendingTask]:
            for task in plan.tasks:
                if on_check is not None:
                    on_check(task)
                decision = planner.decide(task)
                if isinstance(decision, Record):
                    finish(task, decision, durably=decision.status == "failed")
                    continue
                journal.add_durably(decision.record)
                if on_begin is not None:
                    on_begin(task, decision.record.reason)
                yield decision

        try:
            with closing(_run_all(pending_tasks(), worker)) as outcomes:
                for pending, outcome in outcomes:
                    finish(pending.task, _record_of(pending, outcome), durably=True)
                    if isinstance(outcome, VqfrMediaError) and (
                        is_out_of_room(outcome) or worker.stops_batch(outcome)
                    ):
                        stopped = outcome
                        break
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"{len(records)} of {len(plan.tasks)} files are finished; the same command goes on "
                "from there"
            )
            raise
        reported = tuple(records.get(task) or planner.pending_record(task) for task in plan.tasks)
        left_behind = _left_behind(plan, journal)
    return BatchReport(
        records=reported,
        seconds=time.monotonic() - started,
        stopped=stopped,
        left_behind=left_behind,
    )


def _left_behind(plan: BatchPlan, journal: Journal) -> tuple[str, ...]:
    """Returns what an earlier run left unfinished of files that the plan no longer has."""
    planned = {task.output for task in plan.tasks}
    outputs = (plan.folder / record.output for record in journal.interrupted())
    return tuple(
        f"{plan.display_name(output)}: an earlier run ended in the middle of it, and its source is "
        f"not part of this one; {folder} may be deleted"
        for output in outputs
        if output not in planned and (folder := work_folder_of(output)).is_dir()
    )


def is_out_of_room(error: BaseException) -> bool:
    """Tells whether an output could not be written because its disk is full or read-only."""
    return isinstance(error, OutputError) and any(
        getattr(one, "errno", None) in _NO_ROOM for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _run_all(
    tasks: Iterable[PendingTask], worker: FileWorker
) -> Generator[tuple[PendingTask, _Restored | VqfrMediaError]]:
    """Yields outcomes in the order in which files are finished, `max_concurrency` at a time."""
    if worker.max_concurrency == 1:
        for pending in tasks:
            yield pending, _run_one(pending, worker)
        return
    with ThreadPoolExecutor(worker.max_concurrency, thread_name_prefix="vqfr-batch") as pool:
        running: dict[Future[_Restored | VqfrMediaError], PendingTask] = {}

        def finished() -> Iterator[tuple[PendingTask, _Restored | VqfrMediaError]]:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()

        try:
            for pending in tasks:
                running[pool.submit(_run_one, pending, worker)] = pending
                if len(running) == worker.max_concurrency:
                    yield from finished()
            while running:
                yield from finished()
        except BaseException:  # also when the caller closes this generator
            worker.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _run_one(pending: PendingTask, worker: FileWorker) -> _Restored | VqfrMediaError:
    """Restores one file; returns the error if it is one that the other files may not have."""
    task, content = pending.task, pending.record.content
    try:
        try:
            task.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(task.output.parent, error) from error
        if pending.interrupted:
            remove_leftovers(task.output)
        summary = worker.work(task)
        if content is not None and not content.matches(task.source):
            task.output.unlink(missing_ok=True)  # it may be made from parts of two files
            raise MediaError(
                f"{task.source}: was changed while it was being restored; give the same command "
                "again"
            )
        try:
            status = task.output.stat()
            state = FileState(file_sha256(task.output), status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise output_error(task.output, error) from error
        return _Restored(summary, state)
    except VqfrMediaError as error:
        return error
    except Exception as error:  # a bug
        error.add_note(f"while {task.source} was being restored")
        raise


def _record_of(pending: PendingTask, outcome: _Restored | VqfrMediaError) -> Record:
    if isinstance(outcome, _Restored):
        return _finished_record(pending.record, outcome.summary, outcome.result)
    record = failed_record(pending.record, outcome, pending.task)
    # Without an identity, the file is tried again in the next run. Only what would fail in the same
    # way keeps it.
    permanent = isinstance(outcome, InputError) and not any(map(is_medium_error, _chain(outcome)))
    unchanged = record.content is not None and record.content.matches(pending.task.source)
    return record if permanent and unchanged else replace(record, identity={})


def _finished_record(started: Record, summary: Summary, result: FileState) -> Record:
    """Returns the record of a file that was restored."""
    return replace(
        started,
        status="done",
        finished=now(),
        seconds=round(summary.seconds, 3),
        frames=summary.frames,
        resumed=summary.resumed,
        shots=len(summary.shots),
        restored=summary.restored,
        tracks=len(summary.tracks),
        skipped=summary.skipped,
        made_with={
            "model": summary.model,
            "device": summary.device,
            "backend": summary.backend,
            "precision": summary.precision,
            "detector": summary.detector,
        },
        warnings=summary.warnings,
        result=result,
        made_from=started.source,
    )
