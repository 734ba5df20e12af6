"""Finds videos and images: recursively, in natural order, by patterns, never our own results."""

import fnmatch
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from vqfr_media.batch.record import REPORT_NAME, is_report
from vqfr_media.errors import InputError
from vqfr_media.media.heif import READ_ONLY
from vqfr_media.media.image import FORMATS
from vqfr_media.summary import counted

# Containers that can be written, and keep their name.
WRITABLE_VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts", ".m2t", ".3gp", ".3g2",
    ".f4v", ".nut",
)  # fmt: skip
# The others, and what they become. AVI, MPEG program streams, WMV and FLV cannot hold exact times
# or the codecs that keep every depth; Matroska can hold both.
REPLACED_SUFFIXES = {".qt": ".mov"} | dict.fromkeys(
    (
        ".avi", ".divx", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".m1v", ".m2v", ".vob", ".mxf",
        ".ogv", ".ogm", ".rm", ".rmvb", ".dv", ".y4m", ".wtv", ".mk3d",
        ".mj2",
    ),
    ".mkv",
)  # fmt: skip
WRITABLE_IMAGES = tuple(FORMATS)
IMAGE_SUFFIXES = (*WRITABLE_IMAGES, *READ_ONLY)
VIDEO_SUFFIXES = (*WRITABLE_VIDEOS, *REPLACED_SUFFIXES)


@dataclass
class FoundFiles:
    """What was found in a folder."""

    files: list[PurePath] = field(default_factory=list)
    """Videos and images, relative to it, in natural order."""
    left_out: list[str] = field(default_factory=list)
    """What was not taken, in sentences."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be read, and why."""


@dataclass(frozen=True)
class FileFilter:
    """Which of the files are wanted."""

    include: tuple[str, ...] = ()
    """Patterns, of which a file has to match one; without any, all are wanted."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders that are not wanted."""

    def accepts(self, path: PurePath) -> bool:
        """Tells whether the file with this relative path is wanted."""
        wanted = not self.include or any(_matches(path, pattern) for pattern in self.include)
        return wanted and not self.excludes(path)

    def excludes(self, path: PurePath) -> bool:
        """Tells whether the file or folder with this relative path is excluded."""
        return any(_matches(path, pattern) for pattern in self.exclude)


def _matches(path: PurePath, pattern: str) -> bool:
    """Tells whether a pattern matches a path, upper or lower case.

    A pattern with a "/" is compared with the whole path, another one with each part of it. A `*`
    also matches "/", and `**/` may match nothing (docs/batch.md).
    """
    pattern = pattern.casefold().rstrip("/")
    if "**/" in pattern and _matches(path, pattern.replace("**/", "", 1)):
        return True
    if "/" in pattern:
        whole = path.as_posix().casefold()
        wanted = pattern.removeprefix("./").removeprefix("/")
        return fnmatch.fnmatchcase(whole, wanted) or fnmatch.fnmatchcase(whole, f"{wanted}/*")
    return any(fnmatch.fnmatchcase(part.casefold(), pattern) for part in path.parts)


def natural_key(path: PurePath) -> tuple[object, ...]:
    """Returns the key that sorts "clip 2" before "clip 10", and a folder's files together."""
    parts = tuple(
        tuple(
            (0, int(piece), "") if piece.isdecimal() else (1, 0, piece)
            for piece in re.split(r"(\d+)", part.casefold())
            if piece
        )
        for part in path.parts
    )
    return parts, path.parts


def find_media(
    folder: Path,
    *,
    file_filter: FileFilter | None = None,
    avoid: Path | None = None,
    follow_links: bool = False,
) -> FoundFiles:
    """Finds the videos and images under `folder`, by their suffixes.

    Hidden files and folders are never taken, and neither are folders with the report of an earlier
    batch, other than `folder` itself.

    Args:
        folder: folder to search.
        file_filter: which files are wanted.
        avoid: a folder that is not searched: that of the outputs.
        follow_links: search folders behind symbolic links too, but never one above the link again.

    Raises:
        InputError: `folder` is no folder, or cannot be read.
    """
    if "\0" in str(folder) or not folder.exists():
        raise InputError(f"{str(folder)!r}: no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; `vqfr-media restore` takes files")
    search = _Search(folder, file_filter or FileFilter(), avoid, follow_links)
    search.scan(PurePath(), ())
    if search.first_error is not None:
        raise InputError(
            f"{folder}: cannot be read: {search.first_error.strerror}"
        ) from search.first_error
    return search.result()


class _Search:
    def __init__(
        self, root: Path, file_filter: FileFilter, avoid: Path | None, follow_links: bool
    ) -> None:
        self.first_error: OSError | None = None
        self._root, self._filter, self._follow = root, file_filter, follow_links
        self._avoid = os.path.realpath(avoid) if avoid is not None else None
        self._found = FoundFiles()
        self._others: Counter[str] = Counter()
        self._unwanted = 0

    def result(self) -> FoundFiles:
        found = self._found
        found.files.sort(key=natural_key)
        found.left_out += left_out_messages(self._others, self._unwanted)
        return found

    def scan(self, below: PurePath, above: tuple[tuple[int, int], ...]) -> None:
        """Searches a folder.

        Args:
            below: its path relative to the root.
            above: device and inode of each folder from the root down to it.
        """
        folder = self._root / below
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not below.parts:
                self.first_error = error
            else:
                self._found.unreadable.append(f"{folder}: cannot be read: {error.strerror}")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            self._found.left_out.append(f"{folder}: a link that leads back to a folder above it")
            return
        if below.parts and is_report(folder / REPORT_NAME):
            self._found.left_out.append(f"{folder}: holds the results of an earlier batch")
            return
        for entry in entries:
            self._take(entry, below / entry.name, (*above, here))

    def _take(
        self, entry: "os.DirEntry[str]", below: PurePath, above: tuple[tuple[int, int], ...]
    ) -> None:
        if entry.name.startswith("."):  # our unfinished files, AppleDouble, caches
            return
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link in a circle, or into a forbidden folder: the reader will say so
            is_folder = False
        if not is_folder:
            suffix = below.suffix.lower()
            if suffix not in IMAGE_SUFFIXES and suffix not in VIDEO_SUFFIXES:
                self._others[suffix or "without a suffix"] += 1
            elif self._filter.accepts(below):
                self._found.files.append(below)
            else:
                self._unwanted += 1
        elif self._filter.excludes(below) or os.path.realpath(entry.path) == self._avoid:
            return
        elif entry.is_symlink() and not self._follow:
            self._found.left_out.append(f"{entry.path}: a link to a folder; add --follow-links")
        else:
            self.scan(below, above)


def left_out_messages(others: "Counter[str]", unwanted: int) -> list[str]:
    """Returns sentences about files that are no videos or images, by suffix, and unwanted ones."""
    messages = []
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(6))
        more = "" if len(others) <= 6 else ", ..."
        messages.append(f"{counted(sum(others.values()), 'file')} of other kinds: {kinds}{more}")
    if unwanted:
        messages.append(f"{counted(unwanted, 'file')} by --include or --exclude")
    return messages
