"""`vqfr-media batch`, and `vqfr-media restore` with several inputs."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vqfr_media.cli.batch_progress import BatchProgress
from vqfr_media.cli.batch_table import printable, table, total
from vqfr_media.cli.console import echo, fetch_progress, warn
from vqfr_media.errors import OptionError, VqfrMediaError
from vqfr_media.options import RestoreOptions

if TYPE_CHECKING:
    from vqfr_media.batch.planner import RerunPolicy
    from vqfr_media.batch.task import BatchPlan, FileWorker, ProgressListener
    from vqfr_media.distributed.remote import RemoteOutput
    from vqfr_media.distributed.staging import RemoteFile

logger = logging.getLogger(__name__)

# Files were restored, and some of them failed. The other codes are those of `cli.main`.
PARTIAL_FAILURE = 4

Patterns = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="GLOB")]


@dataclass(frozen=True, kw_only=True)
class BatchCommand:
    """Restore the faces of all videos and images in a folder and those below it.

    The outputs form the same tree, and batch.json beside them lists every file. Given again, the
    same command restores only what is missing or changed: see docs/batch.md.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IN_DIR")]
    """Folder of videos and images, or its URL (s3://..., https://..., or a pattern of such)."""
    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT_DIR")]
    """Folder for the outputs and batch.json, or its URL; is made if it does not exist."""
    include: Patterns = ()
    """Take only files that match one of these: '*.jpg', 'season 1/*'."""
    exclude: Patterns = ()
    """Leave out files and folders that match one of these."""
    video_suffix: str | None = None
    """Write every video as .mp4, .mkv, .mov ...; by default as it came, or as .mkv (.avi, .wmv,
    .flv, .mpg and others that cannot hold the result)."""
    image_suffix: str | None = None
    """Write every image as .png, .jpg ...; by default as it came."""
    follow_links: bool = False
    """Search folders behind symbolic links too."""
    redo: bool = False
    """Restore everything again."""
    retry: bool = False
    """Try again what failed, though neither the file nor an option has changed."""
    overwrite: bool = False
    """Replace existing files that no earlier batch has made."""
    trust_times: bool = False
    """Take a file of the same size and time for unchanged, instead of reading it."""
    report: bool = False
    """Also write beside each output what was done, with every track and skipped face, as JSON:
    film.mp4.report.json."""
    dry_run: bool = False
    """Only say what would be restored, and why."""
    ray: str | None = None
    """Spread the work over a Ray cluster: HOST:PORT, auto (this machine's, else a new local one) or
    local (a new one); see docs/distributed.md."""
    ray_workers: int | None = None
    """With --ray: number of workers; by default as many as the cluster has room for."""
    cpus_per_worker: int | None = None
    """With --ray: cores of each; by default so many that a machine has one worker for each GPU, or
    up to 8."""
    gpus_per_worker: float | None = None
    """With --ray: GPUs of each, also a part of one; by default 1 if there are GPUs, else 0."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """What is done to each file."""
    quiet: bool = False
    """Print nothing but errors."""


def batch(command: BatchCommand) -> int:
    """Restores a folder of videos and images."""
    from vqfr_media.batch.planner import RerunPolicy
    from vqfr_media.choices import check_available

    plan, remote = _plan(command)
    check_available(command.options)
    policy = RerunPolicy(
        redo=command.redo,
        retry=command.retry,
        overwrite=command.overwrite,
        trust_times=command.trust_times,
    )
    quiet = command.quiet
    with (
        BatchProgress(plan, policy, quiet=quiet or command.dry_run) as progress,
        _open_worker(command, plan, policy, remote, progress.listener()) as worker,
    ):
        if command.dry_run:
            return _show_plan(plan, worker, policy)
        code = _run_plan(plan, worker, policy, progress, quiet=quiet)
    if command.report and not quiet:
        echo(*_without_report(plan))
    return code


def _without_report(plan: "BatchPlan") -> list[str]:
    """Says how many outputs of this machine were made by a run that wrote no report on them."""
    from vqfr_media.batch.file_report import report_path

    made = [] if plan.url else [task.output for task in plan.tasks if task.output.exists()]
    count = sum(not report_path(output).exists() for output in made)
    if not count:
        return []
    from vqfr_media.summary import counted

    return [
        f"{counted(count, 'output')} of an earlier run without a report; --redo restores again and "
        "writes it"
    ]


def restore_many(
    sources: Sequence[Path], folder: Path, options: RestoreOptions, *, quiet: bool
) -> int:
    """Restores several files into a folder."""
    from vqfr_media.batch.find_media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
    from vqfr_media.batch.plan import plan_files
    from vqfr_media.batch.planner import RerunPolicy
    from vqfr_media.choices import check_available

    if not folder.is_dir() and folder.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        raise OptionError(f"{len(sources)} inputs need a folder for their outputs, not {folder}")
    plan, policy = plan_files(sources, folder, options), RerunPolicy(overwrite=True)
    check_available(options)
    with (
        BatchProgress(plan, policy, quiet=quiet) as progress,
        _open_local_worker(plan, policy, options, progress.listener(), quiet=quiet) as worker,
    ):
        return _run_plan(plan, worker, policy, progress, quiet=quiet)


@dataclass(frozen=True)
class _RemoteFolders:
    """What of a batch lies behind URLs."""

    files: "dict[Path, RemoteFile]"
    """The remote file of each source that is not a file of this machine."""
    cache: Path
    """Folder on this machine for fetched inputs, and for outputs that are uploaded."""
    output: "RemoteOutput | None"
    """Where the outputs are uploaded, if they do not stay on this machine."""


def _plan(command: BatchCommand) -> "tuple[BatchPlan, _RemoteFolders]":
    """Finds the files of a batch, in a folder or behind a URL."""
    from vqfr_media.batch.find_media import FileFilter
    from vqfr_media.batch.plan import plan_folder
    from vqfr_media.distributed.remote import RemoteOutput, plan_url, refuse_output_within
    from vqfr_media.distributed.staging import cache_folder, is_url

    if is_url(command.source) or is_url(command.output):
        refuse_output_within(command.output, command.source)
    cache = cache_folder()
    output = RemoteOutput(command.output, cache) if is_url(command.output) else None
    folder = Path(command.output) if output is None else output.folder
    file_filter = FileFilter(command.include, command.exclude)
    if is_url(command.source):
        plan, files = plan_url(
            command.source,
            folder,
            command.options,
            cache=cache,
            file_filter=file_filter,
            video_suffix=command.video_suffix,
            image_suffix=command.image_suffix,
        )
    else:
        files = {}
        plan = plan_folder(
            Path(command.source),
            folder,
            command.options,
            file_filter=file_filter,
            video_suffix=command.video_suffix,
            image_suffix=command.image_suffix,
            follow_links=command.follow_links,
        )
    if output is not None:
        plan = replace(plan, url=output.url)
    return plan, _RemoteFolders(files, cache, output)


@contextmanager
def _open_worker(
    command: BatchCommand,
    plan: "BatchPlan",
    policy: "RerunPolicy",
    remote: _RemoteFolders,
    listener: "ProgressListener",
) -> "Iterator[FileWorker]":
    """Yields a worker for the plan; URLs are dealt with around it."""
    from vqfr_media.distributed.remote import StagingWorker

    with ExitStack() as stack:
        if remote.output is not None:
            stack.enter_context(remote.output.locked())
        worker = stack.enter_context(
            _open_process_or_cluster(command, plan, policy, remote, listener)
        )
        if command.report:
            from vqfr_media.batch.file_report import ReportingWorker

            worker = ReportingWorker(worker, overwrite=policy.overwrite)
        if remote.output is None and not remote.files:
            yield worker
            return
        if remote.output is not None:
            remote.output.download(plan, reports=command.report)
            if not command.dry_run:
                stack.enter_context(_report_uploaded(remote.output))
        yield StagingWorker(
            worker,
            remote_files=remote.files,
            cache=remote.cache,
            output=remote.output,
            reports=command.report,
        )


@contextmanager
def _report_uploaded(output: "RemoteOutput") -> Iterator[None]:
    """Uploads the report at the end, also after an error."""
    try:
        yield
    except BaseException:
        try:
            output.upload_report()
        except VqfrMediaError as error:  # the first error counts for more
            logger.warning("%s", error)
        raise
    output.upload_report()


@contextmanager
def _open_process_or_cluster(
    command: BatchCommand,
    plan: "BatchPlan",
    policy: "RerunPolicy",
    remote: _RemoteFolders,
    listener: "ProgressListener",
) -> "Iterator[FileWorker]":
    """Yields this process's worker, or with --ray that of a cluster."""
    if command.ray is None:
        for name in ("ray_workers", "cpus_per_worker", "gpus_per_worker"):
            if getattr(command, name) is not None:
                raise OptionError(f"--{name.replace('_', '-')} is for --ray; add it or leave both")
        options, quiet = command.options, command.quiet
        with _open_local_worker(plan, policy, options, listener, quiet=quiet) as local:
            yield local
        return
    from vqfr_media.distributed.options import RayOptions
    from vqfr_media.distributed.ray_worker import open_workers

    ray = RayOptions(
        address=command.ray,
        workers=command.ray_workers,
        cpus_per_worker=command.cpus_per_worker,
        gpus_per_worker=command.gpus_per_worker,
    )
    with open_workers(
        ray, command.options, listener=listener, remote_files=remote.files
    ) as cluster:
        yield cluster


@contextmanager
def _open_local_worker(
    plan: "BatchPlan",
    policy: "RerunPolicy",
    options: RestoreOptions,
    listener: "ProgressListener",
    *,
    quiet: bool,
) -> "Iterator[FileWorker]":
    """Yields this process's worker: one engine and one detector for all files.

    Where nothing seems to be left to do, they are not loaded.
    """
    from vqfr_media.batch.settled import settled_worker

    def open_worker() -> "FileWorker":
        from vqfr_media.batch.local_worker import LocalWorker
        from vqfr_media.prepare import prepare

        with fetch_progress(quiet) as fetch:
            ready = prepare(options, None, None, on_fetch=fetch)
        return LocalWorker(ready, listener=listener)

    yield settled_worker(plan, policy, options, open_worker) or open_worker()


def _run_plan(
    plan: "BatchPlan",
    worker: "FileWorker",
    policy: "RerunPolicy",
    progress: BatchProgress,
    *,
    quiet: bool,
) -> int:
    """Restores the files of a plan, and prints what became of them; 4 if a file failed."""
    from vqfr_media.batch.run import run_batch

    try:
        report = run_batch(
            plan,
            worker,
            policy=policy,
            on_check=progress.check,
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


def _show_plan(plan: "BatchPlan", worker: "FileWorker", policy: "RerunPolicy") -> int:
    """Prints what would be restored, and why."""
    from vqfr_media.batch.planner import outputs_without_source, preview

    for _, record in preview(plan, worker, policy):
        status = "to do" if record.status == "pending" else record.status
        reason = f": {record.reason}" if record.status in ("pending", "failed") else ""
        echo(printable(f"{status:9}  {record.output}{reason}"))
    echo(*map(printable, outputs_without_source(plan)))
    echo(*(f"left out: {reason}" for reason in (*plan.left_out, *plan.unreadable)))
    return 0
