"""Where the files of a batch are, and who works them: this process, or a Ray cluster."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqfr_media.commands_batch import Batch
from vqfr_media.errors import OptionError, VqfrMediaError

if TYPE_CHECKING:
    from vqfr_media.batch.task import FileWorker, Plan, Watch
    from vqfr_media.distributed.places import Target
    from vqfr_media.distributed.staging import Origin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """What of a batch lies behind URLs."""

    found: "dict[Path, Origin]"
    """Where each source is to be had, if it is not a file of this machine."""
    cache: Path
    """Folder of this machine for what is fetched, and for what goes to a URL."""
    target: "Target | None"
    """Where the outputs go, if not to a folder of this machine."""


def planned(command: Batch) -> "tuple[Plan, Places]":
    """The files of a batch, from a folder or from a URL."""
    from vqfr_media.batch.files import Choice
    from vqfr_media.batch.plan import plan_folder
    from vqfr_media.distributed.places import Target, plan_url, refuse_within
    from vqfr_media.distributed.staging import cache_folder, is_url

    if is_url(command.source) or is_url(command.output):
        refuse_within(command.output, command.source)
    cache = cache_folder()
    target = Target(command.output, cache) if is_url(command.output) else None
    folder = Path(command.output) if target is None else target.folder
    choice = Choice(command.include, command.exclude)
    if is_url(command.source):
        plan, found = plan_url(
            command.source,
            folder,
            command.options,
            cache=cache,
            choice=choice,
            video_suffix=command.video_suffix,
            image_suffix=command.image_suffix,
        )
    else:
        found = {}
        plan = plan_folder(
            Path(command.source),
            folder,
            command.options,
            choice=choice,
            video_suffix=command.video_suffix,
            image_suffix=command.image_suffix,
            follow_links=command.follow_links,
        )
    if target is not None:
        plan = replace(plan, url=target.url)
    return plan, Places(found, cache, target)


@contextmanager
def chosen_worker(
    command: Batch, plan: "Plan", places: Places, watch: "Watch"
) -> "Iterator[FileWorker]":
    """Yields this process's worker, or with --ray a cluster's."""
    from vqfr_media.distributed.places import PlacesWorker

    with ExitStack() as stack:
        if places.target is not None:
            stack.enter_context(places.target.locked())
        worker = stack.enter_context(_worker(command, places, watch))
        if places.target is None and not places.found:
            yield worker
            return
        if places.target is not None:
            places.target.begin(plan)
            if not command.dry_run:
                stack.enter_context(_finish(places.target))
        yield PlacesWorker(worker, found=places.found, cache=places.cache, target=places.target)


@contextmanager
def _finish(target: "Target") -> Iterator[None]:
    """Puts the report to the outputs at the end, whatever that was."""
    try:
        yield
    except BaseException:
        try:
            target.finish()
        except VqfrMediaError as error:  # the error on its way counts for more
            logger.warning("%s", error)
        raise
    target.finish()


@contextmanager
def _worker(command: Batch, places: Places, watch: "Watch") -> "Iterator[FileWorker]":
    if command.ray is None:
        for name in ("ray_workers", "cpus_per_worker", "gpus_per_worker"):
            if getattr(command, name) is not None:
                raise OptionError(f"--{name.replace('_', '-')} is for --ray; add it or leave both")
        from vqfr_media.cli.batch import local_worker

        with local_worker(command.options, watch, quiet=command.quiet) as local:
            yield local
        return
    from vqfr_media.distributed.options import RayOptions
    from vqfr_media.distributed.run import open_workers

    ray = RayOptions(
        address=command.ray,
        workers=command.ray_workers,
        cpus_per_worker=command.cpus_per_worker,
        gpus_per_worker=command.gpus_per_worker,
    )
    with open_workers(ray, command.options, watch=watch, origins=places.found) as cluster:
        yield cluster
