"""The progress bars of a batch."""

import time
from threading import Lock
from typing import TYPE_CHECKING

from tqdm import tqdm

from vqfr_media.cli.batch_table import printable, short
from vqfr_media.cli.console import warn
from vqfr_media.frames import VideoInfo

if TYPE_CHECKING:
    from vqfr_media.batch.estimate import RemainingTime
    from vqfr_media.batch.planner import RerunPolicy
    from vqfr_media.batch.record import Record
    from vqfr_media.batch.task import BatchPlan, ProgressListener, Task

_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} files [{elapsed}{postfix}]"
# Seconds between two looks at the remaining time.
_TICK = 1.0


class BatchProgress:
    """A bar for all files with the time that is left, and one for each video that is worked."""

    def __init__(self, plan: "BatchPlan", policy: "RerunPolicy", *, quiet: bool) -> None:
        self._plan, self._policy, self._quiet = plan, policy, quiet
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        self._videos: dict[Task, tqdm] = {}  # type: ignore[type-arg]
        self._remaining: RemainingTime | None = None
        self._began_at = self._shown_at = 0.0
        self._lock = Lock()

    def __enter__(self) -> "BatchProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all bars; that of the files stays on the screen."""
        for bar in self._videos.values():
            bar.close()
        self._videos.clear()
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.close()

    @property
    def _files(self) -> "tqdm":  # type: ignore[type-arg]
        """The bar for all files, whose clock starts with the first of them."""
        if self._bar is None:
            self._bar = tqdm(
                total=len(self._plan.tasks),
                bar_format=_FORMAT,
                disable=self._quiet,
                dynamic_ncols=True,
            )
        return self._bar

    def listener(self) -> "ProgressListener":
        """Returns what a worker is to call."""
        from vqfr_media.batch.task import ProgressListener

        return ProgressListener(self.start, self.step, self.skip)

    def check(self, task: "Task") -> None:
        """Shows that a file is being checked for changes."""
        self._files.set_description_str(f"checking {short(task.source.name)}")

    def begin(self, task: "Task", _reason: str) -> None:
        """Adds a bar for a file that is being restored."""
        if not self._quiet and self._remaining is None:
            from vqfr_media.batch.estimate import RemainingTime, frames_to_do

            self._remaining = RemainingTime(frames_to_do(self._plan, self._policy))
            self._began_at = self._shown_at = time.monotonic()
        self._files.set_description_str("")
        self._videos[task] = tqdm(
            desc=short(task.source.name),
            unit="frame",
            disable=self._quiet,
            dynamic_ncols=True,
            leave=False,
        )

    def start(self, task: "Task", info: VideoInfo) -> None:
        """Sets the length of a video's bar."""
        bar = self._videos[task]
        bar.total = info.frame_count_from_header
        bar.unpause()
        if bar.total and self._remaining is not None and task.options.part.is_whole:
            with self._lock:
                self._remaining.count(task, bar.total)

    def step(self, task: "Task", count: int) -> None:
        """Moves a video's bar on by so many frames."""
        self._videos[task].update(count)
        if self._remaining is not None:
            with self._lock:
                self._remaining.work(task, count)
            self._show_remaining()

    def skip(self, task: "Task", count: int) -> None:
        """Moves a video's bar on by frames of an earlier run, which do not count for the speed."""
        self._videos[task].initial = count
        self._videos[task].update(count)
        if self._remaining is not None:
            with self._lock:
                self._remaining.skip(task, count)

    def record(self, task: "Task", record: "Record") -> None:
        """Removes a finished file's bar, and says why it failed if it did."""
        if (bar := self._videos.pop(task, None)) is not None:
            bar.close()
        if record.status == "failed":
            warn(f"failed: {printable(record.reason)}")
        if self._remaining is not None:
            with self._lock:
                if record.status == "done" and record.kind == "image":
                    self._remaining.work(task, 1)
                self._remaining.finish(task)
            self._show_remaining()
        self._files.update()
        self._files.set_description_str("")

    def _show_remaining(self) -> None:
        """Says how long the rest takes, by the frames that are left of all files."""
        now = time.monotonic()
        with self._lock:
            if self._remaining is None or now - self._shown_at < _TICK:
                return
            self._shown_at = now
            seconds = self._remaining.seconds(now - self._began_at)
        if seconds is not None:
            self._files.set_postfix_str(f"about {tqdm.format_interval(seconds)} left")
