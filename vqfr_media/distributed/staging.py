"""Inputs that lie behind a URL, fetched once a machine; outputs that go to one."""

import hashlib
import json
import os
import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock
from platformdirs import user_cache_path

from vqfr_media.batch.record import REPORT_HEAD
from vqfr_media.errors import BackendError, MediaError, OutputError, VqfrMediaError
from vqfr_media.files import atomic_output, output_error

# What file systems call the mark of a file's content, the best first.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "version_id", "generation", "checksum")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated")
_COPY_BYTES = 4 << 20


@dataclass(frozen=True)
class Origin:
    """A file behind a URL, as it was when it was listed."""

    url: str
    """Where it lies."""
    size: int | None
    """Its bytes; None where the server does not say."""
    tag: str
    """What changes when its content does: ETag, a checksum, a time; empty where nothing is said."""
    sha256: str = ""
    """Of its content, once somebody has read it."""


def is_url(text: str) -> bool:
    """Whether this is a URL rather than a path."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.replace("+", "").replace("-", "").replace("::", "").isalnum()


def cache_folder() -> Path:
    """Where fetched inputs are kept by default."""
    return user_cache_path("vqfr-media") / "staged"


def open_url(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it.

    Raises:
        BackendError: fsspec, or what it needs for this scheme, is not installed.
    """
    try:
        import fsspec  # type: ignore[import-untyped]

        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise BackendError(
            f"{url}: cannot be opened: {error}; pip install 'vqfr-media[distributed]' and, for "
            "what lies in a cloud, fsspec's package for it, such as s3fs or gcsfs"
        ) from error
    return filesystem, path


def first_bytes(origin: Origin, count: int = REPORT_HEAD) -> bytes:
    """The beginning of a file.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be read.
    """
    filesystem, path = open_url(origin.url)
    try:
        head: bytes = filesystem.cat_file(path, start=0, end=count)
    except Exception as error:
        raise MediaError(f"{origin.url}: cannot be fetched: {reason(error)}") from error
    return head[:count]  # some servers know no ranges and send everything


def origin_of(url: str) -> Origin:
    """What is said of one file now.

    Raises:
        BackendError: see `open_url`.
        MediaError: there is no such file.
    """
    filesystem, path = open_url(url)
    try:
        return origin_from(url, filesystem.info(path))
    except Exception as error:
        raise MediaError(f"{url}: cannot be read: {reason(error)}") from error


def place_of(url: str, cache: Path) -> Path:
    """Where the file behind a URL lies, or will lie, on this machine: always the same place."""
    # Decoded first: what was %2F must not become a path that leads out of the cache.
    name = posixpath.basename(decoded(url, url.rstrip("/"))).replace("\0", "")
    if name in ("", ".", ".."):
        name = "file"
    return cache / hashlib.sha256(os.fsencode(url)).hexdigest()[:24] / name


def stage(origin: Origin, cache: Path) -> tuple[Path, str]:
    """The file on this machine, and its SHA-256; fetched where it is not here already.

    It is here if its content is the origin's, or where that is not known yet, its size and tag. A
    server that tells no tags is asked for the file each time.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be fetched, or is not what was listed any more.
        OutputError: there is no room for it in `cache`.
    """
    target = place_of(origin.url, cache)
    note = target.with_name("origin.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name("lock")):
            if target.is_file() and (sha256 := _noted(note, origin)):
                return target, sha256
            note.unlink(missing_ok=True)
            sha256 = fetch(origin, target)
            note.write_text(json.dumps(asdict(replace(origin, sha256=sha256))))
    except VqfrMediaError:
        raise
    except OSError as error:
        raise output_error(target, error) from error
    return target, sha256


def discard_stale(origin: Origin, cache: Path) -> Path:
    """Removes what was fetched of another content or is not known to be the same; where it lay.

    Raises:
        OutputError: it cannot be removed.
    """
    target = place_of(origin.url, cache)
    try:
        if target.exists() and not _noted(target.with_name("origin.json"), origin):
            target.unlink()
    except OSError as error:
        raise output_error(target, error) from error
    return target


def _noted(note: Path, origin: Origin) -> str:
    """SHA-256 of what lies beside `note`; empty where that is not the origin's content."""
    try:
        there = Origin(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return ""
    if origin.sha256:
        same = there.sha256 == origin.sha256
    else:
        same = bool(origin.tag) and (there.size, there.tag) == (origin.size, origin.tag)
    return there.sha256 if same else ""


def fetch(origin: Origin, target: Path) -> str:
    """Fetches a file to `target`, which gets its name when it is complete; returns its SHA-256.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be fetched, or is not what was listed any more.
        OutputError: it cannot be written.
    """
    filesystem, path = open_url(origin.url)
    digest = hashlib.sha256()
    with atomic_output(target) as temporary, temporary.open("wb") as file:
        for block in _blocks(filesystem, path, origin.url):
            digest.update(block)
            file.write(block)
        size, sha256 = file.tell(), digest.hexdigest()
        if origin.size not in (None, size) or origin.sha256 not in ("", sha256):
            raise MediaError(
                f"{origin.url}: is another file than when it was listed; give the same command "
                "again"
            )
    return sha256


def _blocks(filesystem: Any, path: str, url: str) -> Iterator[bytes]:
    try:
        with filesystem.open(path, "rb") as source:
            while block := source.read(_COPY_BYTES):
                yield block
    except Exception as error:
        raise MediaError(f"{url}: cannot be fetched: {reason(error)}") from error


def publish(path: Path, url: str) -> None:
    """Copies a file to a URL under a temporary name, and gives it its own when it is there.

    In object stores, where a file appears when it is complete, the renaming is a copy there.

    Raises:
        BackendError: see `open_url`.
        OutputError: it cannot be written.
    """
    filesystem, target = open_url(url)
    folder, name = posixpath.split(target)
    stem, suffix = posixpath.splitext(name)
    temporary = posixpath.join(folder, f".{stem}.part-{secrets.token_hex(4)}{suffix}")
    try:
        with _removed(filesystem, temporary):
            filesystem.makedirs(folder, exist_ok=True)
            filesystem.put_file(str(path), temporary)
            try:
                filesystem.mv(temporary, target)
            except (ConnectionError, TimeoutError, PermissionError):
                raise
            except OSError:  # some put nothing in the place of something
                if not (filesystem.exists(temporary) and filesystem.exists(target)):
                    raise
                filesystem.rm_file(target)
                filesystem.mv(temporary, target)
    except Exception as error:
        raise OutputError(f"{url}: cannot be written: {reason(error)}") from error


@contextmanager
def _removed(filesystem: Any, temporary: str) -> Iterator[None]:
    """Leaves nothing under a temporary name where the block fails."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the error on its way counts for more
            filesystem.rm_file(temporary)
        raise


def origin_from(url: str, values: dict[str, Any]) -> Origin:
    """Of a file, by what its file system says of it."""
    tag = next((str(values[name]) for name in (*_TAGS, *_TIMES) if values.get(name)), "")
    return Origin(url, values.get("size"), tag)


def decoded(url: str, name: str) -> str:
    """The name of a file, of which web addresses spell out most letters."""
    return unquote(name) if url.startswith(("http://", "https://")) else name


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"
