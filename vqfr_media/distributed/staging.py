"""Files behind URLs: inputs, which each machine fetches once, and outputs, which are uploaded."""

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

from platformdirs import user_cache_path

from vqfr_media.batch.record import REPORT_HEAD_BYTES
from vqfr_media.errors import BackendError, MediaError, OutputError, VqfrMediaError
from vqfr_media.files import atomic_output, first_line, lock_folder, output_error

# Under which names file systems tell what changes with a file's content, the most reliable first.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "version_id", "generation", "checksum")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated")
_COPY_BYTES = 4 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL, as it was when it was listed."""

    url: str
    """Its address."""
    size: int | None
    """Its size in bytes; None if the server does not say."""
    tag: str
    """What changes when its content does: ETag, a checksum or a time; empty if the server gives
    none."""
    sha256: str = ""
    """SHA-256 of its content in hexadecimal, once it has been read; before that, empty."""


def is_url(text: str) -> bool:
    """Tells whether this is a URL rather than a path."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.replace("+", "").replace("-", "").replace("::", "").isalnum()


def cache_folder() -> Path:
    """Returns the folder in which fetched inputs are kept by default."""
    return user_cache_path("vqfr-media") / "staged"


def open_url(url: str) -> tuple[Any, str]:
    """Returns the file system behind a URL, and the path in it.

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


def first_bytes(remote: RemoteFile, count: int = REPORT_HEAD_BYTES) -> bytes:
    """Reads the beginning of a file.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be read.
    """
    filesystem, path = open_url(remote.url)
    try:
        head: bytes = filesystem.cat_file(path, start=0, end=count)
    except Exception as error:
        raise MediaError(f"{remote.url}: cannot be fetched: {error_summary(error)}") from error
    return head[:count]  # some servers know no ranges and send everything


def query_file(url: str) -> RemoteFile:
    """Asks for a file's current size and tag.

    Raises:
        BackendError: see `open_url`.
        MediaError: there is no such file.
    """
    filesystem, path = open_url(url)
    try:
        return file_from_info(url, filesystem.info(path))
    except Exception as error:
        raise MediaError(f"{url}: cannot be read: {error_summary(error)}") from error


def cached_path(url: str, cache: Path) -> Path:
    """Returns the path on this machine of the file behind a URL, which is always the same."""
    # Decoded first: what was %2F must not become a path that leads out of the cache.
    name = posixpath.basename(decode_name(url, url.rstrip("/"))).replace("\0", "")
    if name in ("", ".", ".."):
        name = "file"
    return cache / hashlib.sha256(os.fsencode(url)).hexdigest()[:24] / name


def fetch_cached(remote: RemoteFile, cache: Path) -> tuple[Path, str]:
    """Returns the file's path on this machine, and its SHA-256; fetches it if it is not in `cache`.

    A file in the cache is used if it has the remote file's SHA-256 or, where that is not known yet,
    its size and tag. Without a tag it is fetched each time.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be fetched, or is not what was listed any more.
        OutputError: there is no room for it in `cache`.
    """
    target = cached_path(remote.url, cache)
    note = target.with_name("origin.json")
    try:
        with lock_folder(target.parent, "lock"):
            if target.is_file() and (sha256 := _cached_sha256(note, remote)):
                return target, sha256
            note.unlink(missing_ok=True)
            sha256 = fetch(remote, target)
            note.write_text(json.dumps(asdict(replace(remote, sha256=sha256))))
    except VqfrMediaError:
        raise
    except OSError as error:
        raise output_error(target, error) from error
    return target, sha256


def discard_outdated(remote: RemoteFile, cache: Path) -> Path:
    """Removes a cached file that is not known to have the same content; returns its path.

    Raises:
        OutputError: it cannot be removed.
    """
    target = cached_path(remote.url, cache)
    try:
        if target.exists() and not _cached_sha256(target.with_name("origin.json"), remote):
            target.unlink()
    except OSError as error:
        raise output_error(target, error) from error
    return target


def _cached_sha256(note: Path, remote: RemoteFile) -> str:
    """Returns the SHA-256 of the file beside `note`; empty if it is not the remote file's."""
    try:
        cached = RemoteFile(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return ""
    if remote.sha256:
        same = cached.sha256 == remote.sha256
    else:
        same = bool(remote.tag) and (cached.size, cached.tag) == (remote.size, remote.tag)
    return cached.sha256 if same else ""


def fetch(remote: RemoteFile, target: Path) -> str:
    """Fetches a file to `target`, which gets its name when it is complete; returns its SHA-256.

    Raises:
        BackendError: see `open_url`.
        MediaError: it cannot be fetched, or is not what was listed any more.
        OutputError: it cannot be written.
    """
    filesystem, path = open_url(remote.url)
    digest = hashlib.sha256()
    with atomic_output(target) as temporary, temporary.open("wb") as file:
        for block in _blocks(filesystem, path, remote.url):
            digest.update(block)
            file.write(block)
        size, sha256 = file.tell(), digest.hexdigest()
        if remote.size not in (None, size) or remote.sha256 not in ("", sha256):
            raise MediaError(
                f"{remote.url}: is another file than when it was listed; give the same command "
                "again"
            )
    return sha256


def _blocks(filesystem: Any, path: str, url: str) -> Iterator[bytes]:
    try:
        with filesystem.open(path, "rb") as source:
            while block := source.read(_COPY_BYTES):
                yield block
    except Exception as error:
        raise MediaError(f"{url}: cannot be fetched: {error_summary(error)}") from error


def upload_file(path: Path, url: str) -> None:
    """Copies a file to a URL under a temporary name, and renames it there when it is complete.

    In object stores, renaming is another copy on the server.

    Raises:
        BackendError: see `open_url`.
        OutputError: it cannot be written.
    """
    filesystem, target = open_url(url)
    folder, name = posixpath.split(target)
    stem, suffix = posixpath.splitext(name)
    temporary = posixpath.join(folder, f".{stem}.part-{secrets.token_hex(4)}{suffix}")
    try:
        with _removed_on_error(filesystem, temporary):
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
        raise OutputError(f"{url}: cannot be written: {error_summary(error)}") from error


@contextmanager
def _removed_on_error(filesystem: Any, temporary: str) -> Iterator[None]:
    """Removes the temporary file if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the first error counts for more
            filesystem.rm_file(temporary)
        raise


def file_from_info(url: str, values: dict[str, Any]) -> RemoteFile:
    """Makes a `RemoteFile` of what the file system says of a file."""
    tag = next((str(values[name]) for name in (*_TAGS, *_TIMES) if values.get(name)), "")
    return RemoteFile(url, values.get("size"), tag)


def decode_name(url: str, name: str) -> str:
    """Returns a file's name without the percent signs by which web addresses write most letters."""
    return unquote(name) if url.startswith(("http://", "https://")) else name


def error_summary(error: Exception) -> str:
    """Returns what went wrong, in one line, with the error's class."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
