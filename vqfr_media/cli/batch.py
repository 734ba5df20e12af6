"""`vqfr-media batch`, and `vqfr-media restore` with several inputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vqfr_media.cli.batch_bars import Progress
from vqfr_media.cli.batch_table import printable, table, total
from vqfr_media.cli.console import echo, fetch_progress, warn
from vqfr_media.commands_batch import Batch
from vqfr_media.errors import OptionError
from vqfr_media.options import RestoreOptions

if TYPE_CHECKING:
    from vqfr_media.batch.plan import Again
    from vqfr_media.batch.task import FileWorker, Plan, Watch

# Files were worked, and some of them failed. The other codes are those of `cli.main`.
PARTIAL_FAILURE = 4


def batch(command: Batch) -> int:
    """Restores a folder of videos and images."""
    from vqfr_media.batch.plan import Again
    from vqfr_media.cli.batch_places import chosen_worker, planned

    plan, places = planned(command)
    again = Again(
        redo=command.redo,
        retry=command.retry,
        overwrite=command.overwrite,
        trust_times=command.trust_times,
    )
    quiet = command.quiet
    with (
        Progress(len(plan.tasks), quiet=quiet or command.dry_run) as progress,
        chosen_worker(command, plan, places, progress.watch()) as worker,
    ):
        if command.dry_run:
            return show(plan, worker, again)
        return work(plan, worker, again, progress, quiet=quiet)


def restore_many(
    sources: Sequence[Path], folder: Path, options: RestoreOptions, *, quiet: bool
) -> int:
    """Restores several files into a folder."""
    from vqfr_media.batch.files import IMAGES, VIDEOS
    from vqfr_media.batch.plan import Again, plan_files

    if not folder.is_dir() and folder.suffix.lower() in (*IMAGES, *VIDEOS):
        raise OptionError(f"{len(sources)} inputs need a folder for their outputs, not {folder}")
    plan = plan_files(sources, folder, options)
    with (
        Progress(len(plan.tasks), quiet=quiet) as progress,
        local_worker(options, progress.watch(), quiet=quiet) as worker,
    ):
        return work(plan, worker, Again(overwrite=True), progress, quiet=quiet)


@contextmanager
def local_worker(options: RestoreOptions, watch: "Watch", *, quiet: bool) -> Iterator["FileWorker"]:
    """Yields this process's worker: one engine and one detector for all files."""
    from vqfr_media.batch.local import LocalWorker
    from vqfr_media.prepare import prepare

    with fetch_progress(quiet) as fetch:
        ready = prepare(options, None, None, on_fetch=fetch)
    yield LocalWorker(ready, watch=watch)


def work(
    plan: "Plan", worker: "FileWorker", again: "Again", progress: Progress, *, quiet: bool
) -> int:
    """Works a plan, and tells what became of it; 4 where a file failed."""
    from vqfr_media.batch.run import run_batch

    try:
        report = run_batch(
            plan,
            worker,
            again=again,
            on_look=progress.look,
            on_begin=progress.begin,
            on_record=progress.record,
        )
    except KeyboardInterrupt as stopped:
        progress.close()
        warn("; ".join(["stopped", *getattr(stopped, "__notes__", ())[-1:]]))
        return 130
    progress.close()
    if not quiet:
        echo(
            *table(report),
            *(f"left out: {reason}" for reason in plan.left_out),
            *report.left_behind,
            total(plan, report),
        )
    for reason in plan.unreadable:
        warn(reason)
    if report.stopped is not None:
        left = report.counts.get("pending", 0)
        report.stopped.add_note(
            f"no other file could have been restored, {left} of {len(plan.tasks)} were not tried; "
            "the same command goes on from there"
        )
        raise report.stopped
    return PARTIAL_FAILURE if report.counts.get("failed") or plan.unreadable else 0


def show(plan: "Plan", worker: "FileWorker", again: "Again") -> int:
    """Says what `work` would do."""
    from vqfr_media.batch.look import preview

    for _, record in preview(plan, worker, again):
        what = "to do" if record.status == "pending" else record.status
        said = f": {record.reason}" if record.status in ("pending", "failed") else ""
        echo(printable(f"{what:9}  {record.output}{said}"))
    echo(*(f"left out: {reason}" for reason in (*plan.left_out, *plan.unreadable)))
    return 0
