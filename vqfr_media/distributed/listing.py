"""The files behind a URL: all of them or an error, never only some of them without a word.

fsspec's own `find` and `glob` take a folder that cannot be listed for an empty one, so the folders
are listed here, one by one.
"""

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vqfr_media.distributed.staging import (
    RemoteFile,
    decode_name,
    error_summary,
    file_from_info,
    open_url,
    query_file,
)
from vqfr_media.errors import MediaError


@dataclass
class Listing:
    """The files below a URL, and what was not searched."""

    files: dict[PurePosixPath, RemoteFile] = field(default_factory=dict)
    """Files and links to files, by their relative path."""
    left_out: list[str] = field(default_factory=list)
    """Links to folders, in sentences."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be listed, and why."""


def list_inputs(url: str) -> Listing:
    """Lists all files below a URL, or those that match it if it is a pattern.

    Folders below it that cannot be listed are in `Listing.unreadable`.

    Raises:
        BackendError: see `open_url`.
        MediaError: the URL itself does not exist, or cannot be listed.
    """
    return _list(url, for_outputs=False)


def list_outputs(url: str) -> dict[PurePosixPath, RemoteFile]:
    """Lists all files below a URL by their relative path; none if it does not exist.

    Raises:
        BackendError: see `open_url`.
        MediaError: it, or a folder below it, cannot be listed.
    """
    return _list(url, for_outputs=True).files


def _list(url: str, *, for_outputs: bool) -> Listing:
    filesystem, path = open_url(url)
    root, wanted, depth = path, None, None
    if "*" in path or "?" in path:
        from fsspec.utils import glob_translate  # type: ignore[import-untyped]

        root, wanted = fixed_part(path), re.compile(glob_translate(path))
        if "**" not in path:
            depth = path.count("/") - root.rstrip("/").count("/")
    listing = Listing()
    for name, values in _walk(filesystem, url, root, depth, listing, for_outputs=for_outputs):
        if wanted is None or wanted.match(name):
            place = filesystem.unstrip_protocol(name)
            remote = file_from_info(place, values)
            if remote.size is None:  # a web server's page of links says nothing else
                remote = query_file(place)
            below = PurePosixPath(decode_name(place, _relative(name, root)))
            if below.is_absolute() or ".." in below.parts or "\0" in str(below):
                raise MediaError(f"{url}: lists {place}, which leads out of it")
            listing.files[below] = remote
    return listing


def _walk(
    filesystem: Any,
    url: str,
    root: str,
    depth: int | None,
    listing: Listing,
    *,
    for_outputs: bool,
) -> list[tuple[str, dict[str, Any]]]:
    """Lists the files at most `depth` levels below `root`, and what the file system says of it."""
    found: list[tuple[str, dict[str, Any]]] = []
    waiting, known = [(root, 1)], {root.rstrip("/")}
    while waiting:
        folder, level = waiting.pop()
        try:
            entries = filesystem.ls(folder, detail=True)
        except Exception as error:  # every file system has errors of its own
            if isinstance(error, FileNotFoundError) and folder == root:
                if not for_outputs:
                    raise MediaError(f"{url}: no such folder") from error
                return []  # object stores know no empty folders either
            if for_outputs or folder == root:
                raise MediaError(f"{url}: cannot be listed: {error_summary(error)}") from error
            place = filesystem.unstrip_protocol(folder)
            listing.unreadable.append(f"{place}: cannot be listed: {error_summary(error)}")
            continue
        for values in entries:
            name, kind = values["name"], values.get("type", "file")
            itself = name.rstrip("/") == folder.rstrip("/")
            if kind == "link" or values.get("islink"):
                values, kind = _linked(filesystem, name, values)
                if kind == "directory":
                    place = filesystem.unstrip_protocol(name)
                    listing.left_out.append(f"{place}: a link to a folder")
                    continue
            if kind == "file" and not (itself and name.endswith("/")):
                found.append((name, values))
            elif kind == "directory" and not itself and (depth is None or level < depth):
                inside = name.startswith(folder.rstrip("/") + "/")
                if inside and name.rstrip("/") not in known:
                    known.add(name.rstrip("/"))
                    waiting.append((name, level + 1))
    return found


def _linked(filesystem: Any, name: str, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns what a link leads to, and its kind; "other" if its target does not exist."""
    if filesystem.isdir(name):
        return values, "directory"
    if not filesystem.isfile(name):
        return values, "other"
    here = "file" in filesystem.protocol
    return filesystem.info(os.path.realpath(name) if here else name), "file"


def fixed_part(pattern: str) -> str:
    """Returns the folder above the first part with a wildcard."""
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if "*" in part or "?" in part)
    return "/".join(parts[:first])


def _relative(name: str, root: str) -> str:
    root = root.rstrip("/")
    below = name.removeprefix(root).lstrip("/")
    return below or posixpath.basename(name)
