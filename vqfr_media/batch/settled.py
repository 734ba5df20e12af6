"""A batch of which nothing is left to do, found so without the libraries that would do it."""

from collections.abc import Callable, Mapping

from vqfr_media.backends.cuda_driver import has_driver
from vqfr_media.batch.journal import Journal, read_journal
from vqfr_media.batch.plan import output_name
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.task import BatchPlan, FileWorker, Task
from vqfr_media.choices import ChosenDetector, ChosenModel, choose_detector, choose_model
from vqfr_media.errors import VqfrMediaError, WeightsError
from vqfr_media.files import check_source
from vqfr_media.jobs.identity import content_of, identity_of_choice
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

# What of a recorded identity is known only of an engine that was loaded.
_OF_THE_ENGINE = ("engine.", "processor", "gpu")


class SettledWorker:
    """A `FileWorker` for files that look unchanged; it opens a real one if one of them is not.

    What only a loaded engine could say is taken from the records: of this it decides nothing but
    which network, and that is compared with the one that would run now.
    """

    max_concurrency = 1

    def __init__(
        self,
        model: ChosenModel,
        detector: ChosenDetector,
        recorded: Mapping[str, str],
        open_worker: Callable[[], FileWorker],
    ) -> None:
        self._model, self._detector, self._recorded = model, detector, recorded
        self._open_worker = open_worker
        self._opened: FileWorker | None = None

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """Returns what decides the bits of a result, apart from its source.

        Raises:
            WeightsError: a file of weights cannot be read.
        """
        return {**self._recorded, **identity_of_choice(options, self._model, self._detector)}

    def content(self, task: Task) -> str:
        """Returns the SHA-256 of the source; raises what `content_of_task` does."""
        return content_of_task(task)

    def work(self, task: Task) -> Summary:
        """Restores one file, with a worker that is opened for it; raises what that one does."""
        if self._opened is None:
            self._opened = self._open_worker()
        return self._opened.work(task)

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """Tells whether every other file would fail too."""
        return self._opened is not None and self._opened.stops_batch(error)

    def stop(self) -> None:
        """Does nothing: the caller's own thread does the work."""


def settled_worker(
    plan: BatchPlan,
    policy: RerunPolicy,
    options: RestoreOptions,
    open_worker: Callable[[], FileWorker],
) -> SettledWorker | None:
    """Returns a worker that loads nothing, where sizes and times say that nothing is to be done.

    It reads the files as any worker does, so that it finds a change that left size and time alone.
    None where a file is new or changed, where the caller wants work done again, or where the
    machine may have a GPU, about which only PyTorch can say more.

    Args:
        plan: the files.
        policy: when a file is restored again.
        options: what is done to each file.
        open_worker: opens the worker that restores them.

    Raises:
        OutputError: the `batch.json` in the plan's folder was not written by this program.
    """
    if policy.redo or policy.retry or options.model.engine is not None:
        return None
    if options.model.device != "cpu" and has_driver():
        return None
    journal = read_journal(plan.folder)
    if not all(looks_settled(plan, task, journal) for task in plan.tasks):
        return None
    try:
        model = choose_model(options.model, has_gpu=False, offline=True)
        if options.tracks is None:
            detector = choose_detector(options.face, offline=True)
        else:
            detector = ChosenDetector.none(options.tracks)
    except WeightsError:  # the real worker fetches them, or says why not
        return None
    for task in plan.tasks:
        record = journal[output_name(plan, task)]
        if record is not None and record.identity.get("engine.model") == model.name:
            recorded = {n: v for n, v in record.identity.items() if n.startswith(_OF_THE_ENGINE)}
            return SettledWorker(model, detector, recorded, open_worker)
    return None


def looks_settled(plan: BatchPlan, task: Task, journal: Journal) -> bool:
    """Tells whether a file is done or has failed, as far as sizes and times say."""
    record = journal[output_name(plan, task)]
    if record is None or not record.identity or record.content is None:
        return False
    if not record.content.matches(task.source):
        return False
    if record.status == "failed":
        return True
    if record.status not in ("done", "unchanged") or record.result is None:
        return False
    return record.result.matches(task.output)


def content_of_task(task: Task) -> str:
    """Returns the SHA-256 of a task's source, a file of this machine.

    Raises:
        MediaError: it is missing, empty, no ordinary file, or cannot be read.
    """
    # First, because reading a pipe would wait for ever.
    check_source(task.source, kind="an image" if task.kind == "image" else "a video")
    return content_of(task.source)
