"""A batch from its plan to its report: what a file fails with becomes its record, the rest goes on.

Three things end a batch before its last file: Ctrl-C, a mistake of ours (any error that is not one
of `errors.py`), and an error after which every other file would fail too.
"""

import errno
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace

from vqfr_media.batch.book import Book, now, open_book
from vqfr_media.batch.look import Begun, Look, failed_record
from vqfr_media.batch.plan import Again
from vqfr_media.batch.record import FileState, Record, Report
from vqfr_media.batch.task import FileWorker, Plan, Task
from vqfr_media.errors import InputError, MediaError, OutputError, VqfrMediaError
from vqfr_media.files import file_sha256, is_medium_error, output_error, remove_leftovers
from vqfr_media.jobs.work_folder import work_folder_of
from vqfr_media.summary import Summary

# What the operating system says when no other file would fit either.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class _Worked:
    summary: Summary
    result: FileState


def run_batch(
    plan: Plan,
    worker: FileWorker,
    *,
    again: Again | None = None,
    on_look: Callable[[Task], None] | None = None,
    on_begin: Callable[[Task, str], None] | None = None,
    on_record: Callable[[Task, Record], None] | None = None,
) -> Report:
    """Works the files of a plan that are new or changed, and keeps `batch.json` in its folder.

    Every finished file is in the report, on disk, before the next begins: whatever ends this call,
    the same call goes on from there.

    Args:
        plan: the files.
        worker: what works them.
        again: what is worked although it was worked before.
        on_look: called before a file is looked at, which may take as long as reading it.
        on_begin: called when the work on a file begins, with the reason for it.
        on_record: called with the outcome of each file, also of those that are left as they are.

    Raises:
        MachineError: `batch.json` cannot be read or written.
    """
    started = time.monotonic()
    stopped: VqfrMediaError | None = None
    records: dict[Task, Record] = {}
    with open_book(plan.folder) as book:
        look = Look(plan, worker, book, again or Again())
        look.expect()

        def settle(task: Task, record: Record, *, lasting: bool) -> None:
            (book.put if lasting else book.note)(record)
            records[task] = record
            if on_record is not None:
                on_record(task, record)

        def begun() -> Iterator[Begun]:
            for task in plan.tasks:
                if on_look is not None:
                    on_look(task)
                outcome = look.at(task)
                if isinstance(outcome, Record):
                    settle(task, outcome, lasting=outcome.status == "failed")
                    continue
                book.put(outcome.record)
                if on_begin is not None:
                    on_begin(task, outcome.record.reason)
                yield outcome

        try:
            with closing(_worked(begun(), worker)) as outcomes:
                for one, outcome in outcomes:
                    settle(one.task, _record_of(one, outcome), lasting=True)
                    if isinstance(outcome, VqfrMediaError) and (
                        is_out_of_room(outcome) or worker.is_fatal(outcome)
                    ):
                        stopped = outcome
                        break
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"{len(records)} of {len(plan.tasks)} files are finished; the same command goes on "
                "from there"
            )
            raise
        told = tuple(records.get(task) or look.pending(task) for task in plan.tasks)
        left = _left_behind(plan, book)
    seconds = time.monotonic() - started
    return Report(records=told, seconds=seconds, stopped=stopped, left_behind=left)


def _left_behind(plan: Plan, book: Book) -> tuple[str, ...]:
    """Of files that are no part of the plan any more: what an earlier run had begun of them."""
    planned = {task.output for task in plan.tasks}
    outputs = (plan.folder / record.output for record in book.interrupted())
    return tuple(
        f"{plan.place_of(output)}: an earlier run ended in the middle of it, and its source is not "
        f"part of this one; {folder} may be deleted"
        for output in outputs
        if output not in planned and (folder := work_folder_of(output)).is_dir()
    )


def is_out_of_room(error: BaseException) -> bool:
    """Whether an output could not be written because its disk is full or read-only."""
    return isinstance(error, OutputError) and any(
        getattr(one, "errno", None) in _NO_ROOM for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _worked(
    begun: Iterable[Begun], worker: FileWorker
) -> Generator[tuple[Begun, _Worked | VqfrMediaError]]:
    """Outcomes in the order in which the files are finished; at most `at_once` are begun."""
    if worker.at_once == 1:
        for one in begun:
            yield one, _attempt(one, worker)
        return
    with ThreadPoolExecutor(worker.at_once, thread_name_prefix="vqfr-batch") as pool:
        running: dict[Future[_Worked | VqfrMediaError], Begun] = {}

        def finished() -> Iterator[tuple[Begun, _Worked | VqfrMediaError]]:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()

        try:
            for one in begun:
                running[pool.submit(_attempt, one, worker)] = one
                if len(running) == worker.at_once:
                    yield from finished()
            while running:
                yield from finished()
        except BaseException:  # also when nobody wants the rest
            worker.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _attempt(one: Begun, worker: FileWorker) -> _Worked | VqfrMediaError:
    task, content = one.task, one.record.content
    try:
        try:
            task.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(task.output.parent, error) from error
        if one.interrupted:
            remove_leftovers(task.output)
        summary = worker.work(task)
        if content is not None and not content.looks_like(task.source):
            task.output.unlink(missing_ok=True)  # of which film it is half, nobody knows
            raise MediaError(
                f"{task.source}: was changed while it was being restored; give the same command "
                "again"
            )
        try:
            status = task.output.stat()
            state = FileState(file_sha256(task.output), status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise output_error(task.output, error) from error
        return _Worked(summary, state)
    except VqfrMediaError as error:
        return error
    except Exception as error:  # a mistake of ours
        error.add_note(f"while {task.source} was being restored")
        raise


def _record_of(one: Begun, outcome: _Worked | VqfrMediaError) -> Record:
    if isinstance(outcome, _Worked):
        return _finished_record(one.record, outcome.summary, outcome.result)
    record = failed_record(one.record, outcome, one.task)
    # Only what would fail again the same way need not be tried again.
    lasting = isinstance(outcome, InputError) and not any(map(is_medium_error, _chain(outcome)))
    unchanged = record.content is not None and record.content.looks_like(one.task.source)
    return record if lasting and unchanged else replace(record, identity={})


def _finished_record(begun: Record, summary: Summary, result: FileState) -> Record:
    """The record of a file that was restored."""
    return replace(
        begun,
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
        made_from=begun.source,
    )
