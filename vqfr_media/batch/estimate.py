"""How long a batch still takes, by the frames that are left."""

import time
from statistics import mean

from vqfr_media.batch.journal import read_journal
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.settled import looks_settled
from vqfr_media.batch.task import BatchPlan, Task
from vqfr_media.errors import VqfrMediaError
from vqfr_media.media.frame_count import guess_frame_count

# Headers are read for so long at most, so that a batch of many thousand files begins at once.
_MOST_SECONDS = 3.0


class RemainingTime:
    """Folds what is finished into how long the rest takes. A photo counts as one frame."""

    def __init__(self, frames: dict[Task, int]) -> None:
        """Takes what is to be done: frames of each file, as far as known beforehand."""
        self._left = dict(frames)
        self._worked = 0

    def count(self, task: Task, frames: int) -> None:
        """Sets what is left of a file: what its header says when it is opened."""
        self._left[task] = frames

    def work(self, task: Task, frames: int) -> None:
        """Counts frames that were restored."""
        self._worked += frames
        self.skip(task, frames)

    def skip(self, task: Task, frames: int) -> None:
        """Leaves out frames of an earlier run, which do not count for the speed."""
        self._left[task] = max(0, self._left.get(task, 0) - frames)

    def finish(self, task: Task) -> None:
        """Leaves out what is left of a file."""
        self._left.pop(task, None)

    def seconds(self, elapsed: float) -> float | None:
        """Returns how long the rest takes at the speed so far; None before the first frame.

        Args:
            elapsed: seconds since the first file was begun.
        """
        if not self._worked:
            return None
        return sum(self._left.values()) * elapsed / self._worked


def frames_to_do(
    plan: BatchPlan, policy: RerunPolicy, *, most_seconds: float = _MOST_SECONDS
) -> dict[Task, int]:
    """Returns how many frames each file has that does not look unchanged.

    Headers are read for `most_seconds` at most; a file that was not reached, or is behind a URL and
    not here yet, counts as the mean of the others.

    Raises:
        OutputError: the `batch.json` in the plan's folder was not written by this program.
    """
    journal = read_journal(plan.folder)
    tasks = [t for t in plan.tasks if policy.redo or not looks_settled(plan, t, journal)]
    until = time.monotonic() + most_seconds
    known: dict[Task, int] = {}
    for task in tasks:
        if task.kind == "image":
            known[task] = 1
        elif time.monotonic() < until and task.source.exists():
            try:
                known[task] = guess_frame_count(task.source, task.options.part)
            except VqfrMediaError:  # will be a failure, which takes no time
                known[task] = 0
    films = [count for task, count in known.items() if task.kind == "video"]
    usual = round(mean(films)) if films else 1
    return {task: known.get(task, usual) for task in tasks}
