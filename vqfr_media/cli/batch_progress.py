"""The progress bars of a batch."""

from typing import TYPE_CHECKING

from tqdm import tqdm

from vqfr_media.cli.batch_table import printable, short
from vqfr_media.cli.console import warn
from vqfr_media.frames import VideoInfo

if TYPE_CHECKING:
    from vqfr_media.batch.record import Record
    from vqfr_media.batch.task import ProgressListener, Task


class BatchProgress:
    """A bar for all files, and one for each video that is being restored."""

    def __init__(self, count: int, *, quiet: bool) -> None:
        self._count = count
        self._quiet = quiet
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        self._videos: dict[Task, tqdm] = {}  # type: ignore[type-arg]

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
            self._bar.close()

    @property
    def _files(self) -> "tqdm":  # type: ignore[type-arg]
        """The bar for all files, whose clock starts with the first of them."""
        if self._bar is None:
            self._bar = tqdm(
                total=self._count, unit="file", disable=self._quiet, dynamic_ncols=True
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

    def step(self, task: "Task", count: int) -> None:
        """Moves a video's bar on by so many frames."""
        self._videos[task].update(count)

    def skip(self, task: "Task", count: int) -> None:
        """Moves a video's bar on by frames of an earlier run, which do not count for the speed."""
        self._videos[task].initial = count
        self._videos[task].update(count)

    def record(self, task: "Task", record: "Record") -> None:
        """Removes a finished file's bar, and says why it failed if it did."""
        if (bar := self._videos.pop(task, None)) is not None:
            bar.close()
        if record.status == "failed":
            warn(f"failed: {printable(record.reason)}")
        self._files.update()
        self._files.set_description_str("")
