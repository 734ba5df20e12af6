"""How a batch shows where it is."""

from typing import TYPE_CHECKING

from tqdm import tqdm

from vqfr_media.cli.batch_table import printable, short
from vqfr_media.cli.console import warn
from vqfr_media.frames import VideoInfo

if TYPE_CHECKING:
    from vqfr_media.batch.record import Record
    from vqfr_media.batch.task import ProgressListener, Task


class BatchProgress:
    """A bar over the files, and one for each video that is being worked."""

    def __init__(self, count: int, *, quiet: bool) -> None:
        self._count = count
        self._quiet = quiet
        self._shown: tqdm | None = None  # type: ignore[type-arg]
        self._videos: dict[Task, tqdm] = {}  # type: ignore[type-arg]

    def __enter__(self) -> "BatchProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar over the files as it is."""
        for bar in self._videos.values():
            bar.close()
        self._videos.clear()
        if self._shown is not None:
            self._shown.close()

    @property
    def _files(self) -> "tqdm":  # type: ignore[type-arg]
        """The bar over the files, whose time begins with the first of them."""
        if self._shown is None:
            self._shown = tqdm(
                total=self._count, unit="file", disable=self._quiet, dynamic_ncols=True
            )
        return self._shown

    def listener(self) -> "ProgressListener":
        """What a worker tells."""
        from vqfr_media.batch.task import ProgressListener

        return ProgressListener(self.start, self.step, self.skip)

    def check(self, task: "Task") -> None:
        """A file is being looked at."""
        self._files.set_description_str(f"looking at {short(task.source.name)}")

    def begin(self, task: "Task", _why: str) -> None:
        """A file is being worked."""
        self._files.set_description_str("")
        self._videos[task] = tqdm(
            desc=short(task.source.name),
            unit="frame",
            disable=self._quiet,
            dynamic_ncols=True,
            leave=False,
        )

    def start(self, task: "Task", info: VideoInfo) -> None:
        """A video has begun."""
        bar = self._videos[task]
        bar.total = info.frame_count_from_header
        bar.unpause()

    def step(self, task: "Task", count: int) -> None:
        """So many frames more are done."""
        self._videos[task].update(count)

    def skip(self, task: "Task", count: int) -> None:
        """So many frames were done before: they do not count for the speed."""
        self._videos[task].initial = count
        self._videos[task].update(count)

    def record(self, task: "Task", record: "Record") -> None:
        """A file is finished."""
        if (bar := self._videos.pop(task, None)) is not None:
            bar.close()
        if record.status == "failed":
            warn(f"failed: {printable(record.reason)}")
        self._files.update()
        self._files.set_description_str("")
