"""What a batch consists of, and what can work it."""

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
    """Video or image to read."""
    output: Path
    """File to write; its folder need not be there yet."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """What is done to it; those of an image lack what only videos have."""
    kind: Kind = "video"
    """What its first bytes, else its name, say that it is."""
    url: str = ""
    """Where `source` was fetched from, if it is not a file of the user's."""


@dataclass(frozen=True)
class Plan:
    """The files of a batch."""

    folder: Path
    """Folder for the outputs, and for `batch.json`."""
    tasks: tuple[Task, ...]
    """In natural order; no two have the same output."""
    left_out: tuple[str, ...] = ()
    """What was found and not taken, in sentences for the user."""
    unreadable: tuple[str, ...] = ()
    """Folders that could not be looked into, and why."""
    url: str = ""
    """Where the outputs go, if `folder` is only a stop on the way."""

    def place_of(self, path: Path) -> str:
        """What a file in `folder` is called for the user."""
        below = path.relative_to(self.folder).as_posix()
        return f"{self.url.rstrip('/')}/{below}" if self.url else str(path)


def _nobody(*_: object) -> None:
    """Is not told."""


@dataclass(frozen=True)
class Watch:
    """Who is told how the work on a video goes, by a `FileWorker`, in any of its threads."""

    on_start: Callable[[Task, VideoInfo], None] = _nobody
    """Called at its start, with what is known of it."""
    on_frames: Callable[[Task, int], None] = _nobody
    """Called with how many more frames have been handed to the encoder."""
    on_resume: Callable[[Task, int], None] = _nobody
    """Called with how many frames an earlier run has finished, if any."""


class FileWorker(Protocol):
    """Works files: in this process (`local.LocalWorker`), or on other machines.

    `run_batch` calls `settings`, `content` and `is_fatal` in its own thread, and `work` in as many
    threads as there may be files at once (in its own, if that is one).
    """

    at_once: int
    """Files that may be worked at the same time."""

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """What decides the bits of every result but its source: `identity.identity_of_settings`."""
        ...

    def content(self, task: Task) -> str:
        """What tells the source's content from another, such as its SHA-256.

        Called before anything else looks at `task.source`, which must be a file afterwards.

        Raises:
            InputError: there is no such file, or it cannot be read.
        """
        ...

    def work(self, task: Task) -> Summary:
        """Restores one file.

        Raises:
            VqfrMediaError: it could not be; the others go on.
        """
        ...

    def is_fatal(self, error: VqfrMediaError) -> bool:
        """Whether every file after this error would fail too, so that the batch ends."""
        ...

    def stop(self) -> None:
        """Makes every running `work` return or raise soon; called when the batch is stopped."""
        ...
