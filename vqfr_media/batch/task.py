"""The tasks of a batch, and the interface of what carries them out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from vqfr_media.errors import VqfrMediaError
from vqfr_media.frames import VideoInfo
from vqfr_media.options import RestoreOptions
from vqfr_media.summary import Summary

Kind = Literal["video", "image"]


@dataclass(frozen=True)
class Task:
    """One file to restore. Can be pickled."""

    source: Path
    """The video or image to read."""
    output: Path
    """File to write; its folder need not be there yet."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """What is done to it; those of an image lack what only videos have."""
    kind: Kind = "video"
    """What the file is, by its first bytes or else by its name."""
    url: str = ""
    """Where `source` is fetched from, if it is not a file of the user's."""


@dataclass(frozen=True)
class BatchPlan:
    """The files of a batch."""

    folder: Path
    """Folder for the outputs, and for `batch.json`."""
    tasks: tuple[Task, ...]
    """In natural order; no two have the same output."""
    left_out: tuple[str, ...] = ()
    """What was found and not taken, in sentences for the user."""
    unreadable: tuple[str, ...] = ()
    """Folders that could not be read, and why."""
    url: str = ""
    """Where the outputs are copied to, if `folder` is only a cache."""

    def display_name(self, path: Path) -> str:
        """Returns the path or the URL by which the user knows a file in `folder`."""
        below = path.relative_to(self.folder).as_posix()
        return f"{self.url.rstrip('/')}/{below}" if self.url else str(path)


def _ignore(*_: object) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class ProgressListener:
    """What a `FileWorker` calls, in any of its threads, while it restores a video."""

    on_start: Callable[[Task, VideoInfo], None] = _ignore
    """Called at the start, with what is known of the video."""
    on_frames: Callable[[Task, int], None] = _ignore
    """Called with the number of frames handed to the encoder since the last call."""
    on_resume: Callable[[Task, int], None] = _ignore
    """Called with the number of frames that an earlier run has finished, if any."""


class FileWorker(Protocol):
    """Restores files: in this process (`local_worker.LocalWorker`), or on other machines.

    `run_batch` calls `settings`, `content` and `stops_batch` in its own thread, and `work` in
    `max_concurrency` threads (in its own, if that is 1).
    """

    max_concurrency: int
    """Number of files that may be restored at the same time."""

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """Returns what decides a result's bits apart from its source (`identity_of_settings`)."""
        ...

    def content(self, task: Task) -> str:
        """Returns what identifies the source's content, such as its SHA-256.

        Called before anything else reads `task.source`, which must be a file afterwards.

        Raises:
            InputError: there is no such file, or it cannot be read.
        """
        ...

    def work(self, task: Task) -> Summary:
        """Restores one file.

        Raises:
            VqfrMediaError: the file could not be restored; the others go on.
        """
        ...

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """Tells whether every file after this error would fail too, so that the batch ends."""
        ...

    def stop(self) -> None:
        """Makes every running `work` return or raise soon; called when the batch ends early."""
        ...
