"""Files and folders: whole or not at all, checked, hashed, and locked for one process."""

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vqfr_media.errors import InputError, MediaError, OutputError

# Bytes of a file's name, on nearly every file system.
LONGEST_NAME = 255

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")

logger = logging.getLogger(__name__)

# What the operating system says when the medium, not the content, is at fault.
_MEDIUM = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENODEV, errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENAMETOOLONG,
}  # fmt: skip


def is_medium_error(error: BaseException) -> bool:
    """Returns whether `error` carries the number of a full, missing or forbidden place to write."""
    return getattr(error, "errno", None) in _MEDIUM


def output_error(path: Path, error: BaseException) -> OutputError:
    """Returns the error to raise `from error` when `path` cannot be written."""
    reason = getattr(error, "strerror", None) or str(error)
    advice = {
        errno.ENOSPC: "free some space or write to another disk",
        errno.EDQUOT: "free some space or write to another disk",
        errno.ENOENT: "make the folder first",
        errno.EFBIG: "this place does not take files of that size",
        errno.ENAMETOOLONG: "give it a shorter name",
    }.get(getattr(error, "errno", None) or 0, "choose another place for the output")
    return OutputError(f"{path}: cannot be written: {reason}; {advice}")


def refuse_same(output: Path, source: Path) -> None:
    """Refuses to replace the source, also by way of a symbolic or hard link.

    Raises:
        InputError: the output is the source.
        OutputError: the output's name is no name, or lies in a forbidden folder.
    """
    _refuse_nul(output)
    try:
        same = output.exists() and source.exists() and output.samefile(source)
    except OSError as error:  # a name too long, a forbidden folder
        raise output_error(output, error) from error
    if same:
        raise InputError(f"{output}: is the input itself; give the output another name")


def check_place(path: Path) -> None:
    """Tries whether `atomic_output` will be able to start, and leaves nothing behind.

    Raises:
        OutputError: it will not.
    """
    temporary, _ = _make_temporary(path)
    try:
        temporary.unlink()
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def atomic_output(path: Path, *, folder: Path | None = None) -> Iterator[Path]:
    """Yields a new temporary file beside `path`, which takes its name when the block succeeds.

    With `folder` the temporary file lies in that one, which must be on the same disk. A symbolic
    link stays; what it points to is replaced. On any exception the temporary file is removed and
    `path` is left as it was.

    Raises:
        OutputError: the folder is missing or not writable, `path` is a folder, a pipe or a device,
            or the disk is full.
    """
    temporary, target = _make_temporary(path, folder)
    try:
        yield temporary
        try:
            # Some file systems report a full disk only now; and a name must not outlive a crash
            # that its content did not.
            sync_file(temporary)
            os.replace(temporary, target)
            sync_folder(target.parent)
        except OSError as error:
            raise output_error(path, error) from error
    finally:
        with suppress(FileNotFoundError):  # renamed, as it should be
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a whole file in UTF-8; a crash at any moment leaves the old file or the new one.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file; a crash at any moment leaves the old file or the new one.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_output(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise output_error(path, error) from error


def is_temporary(path: Path) -> bool:
    """Returns whether `atomic_output` gave this name to a file that is not complete."""
    return re.fullmatch(r"\..*\.part-[0-9a-f]{8}(\..*)?", path.name, re.DOTALL) is not None


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder `folder`.partial, which takes its name when the block succeeds.

    What a killed process left of it is removed first; `folder` itself must be absent or empty.

    Raises:
        OutputError: it cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        partial.replace(folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_nul(path: Path) -> None:
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: a file name cannot hold a NUL byte; give another name")


def sync_file(path: Path) -> None:
    """Makes the content of a file outlive a crash.

    Raises:
        OSError: the medium fails.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes new names in `folder` outlive a crash, where the system can promise that.

    Raises:
        OSError: the medium fails.
    """
    if os.name != "posix":
        return  # Windows opens no folders; it writes names through by itself
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # A folder that can be written but not read, or a file system that promises nothing.
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise


def target_of(path: Path) -> Path:
    """Returns the file that an output of this name will be: `path` without symbolic links.

    Raises:
        OutputError: the folder is missing, or `path` is a folder, a pipe or a device.
    """
    _refuse_nul(path)
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is not an ordinary file; name another output")
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OutputError(f"{path}: is a link that leads to itself; name another output")
        if not target.parent.is_dir():
            if url := url_of(path):
                raise OutputError(f"{url}: is a URL; write to a file, or let batch write to URLs")
            parent = target.parent if path.is_symlink() else path.parent
            raise OutputError(f"{path}: there is no folder {parent}; make it first")
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
    return target


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files that `atomic_output` left beside `path` when it was killed.

    To be called only where no other process can be writing `path`.

    Raises:
        OutputError: the folder cannot be read or written.
    """
    target = target_of(path)
    ours = re.compile(
        rf"\.{re.escape(_temporary_stem(target))}\.part-[0-9a-f]{{8}}{re.escape(target.suffix)}",
        re.DOTALL,
    )
    try:
        for beside in target.parent.iterdir():
            if ours.fullmatch(beside.name) and beside.is_file():
                beside.unlink()
    except OSError as error:
        raise output_error(path, error) from error


def _temporary_stem(target: Path) -> str:
    """Returns as much of the target's name as leaves room for what temporary names add to it."""
    stem = os.fsencode(target.stem)
    room = LONGEST_NAME - len(os.fsencode(f"..part-01234567{target.suffix}"))
    if len(stem) > room:
        # A name that is cut may end amid a character, of which nothing is kept.
        return stem[: max(room, 0)].decode(errors="ignore")
    return target.stem


def _make_temporary(path: Path, folder: Path | None = None) -> tuple[Path, Path]:
    """Makes an empty file; returns it and the file whose name it is to take, links resolved."""
    target = target_of(path)
    end = f".part-{secrets.token_hex(4)}{target.suffix}"
    temporary = target.with_name(f".{_temporary_stem(target)}{end}")
    if folder is not None:
        temporary = folder / temporary.name
    try:
        with suppress(FileNotFoundError):
            target.lstat()  # to be told now if the final name is too long
        # Not tempfile: its files are readable by their owner only, and keep that when renamed.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise output_error(path, error) from error
    return temporary, target


@contextmanager
def lock_folder(
    folder: Path,
    lock_name: str,
    *,
    busy: str | None = None,
    remove: bool = False,
    owner: Path | None = None,
) -> Iterator[None]:
    """Makes `folder` and holds it for this process alone, by a lock file in it.

    Args:
        folder: the folder.
        lock_name: name of the lock file.
        busy: what the error says if another process holds it; by default, waits for that process.
        remove: also remove the lock file at the end, so that the folder holds only its content.
        owner: what the error names if the folder cannot be made; by default the folder.

    Raises:
        OutputError: the folder cannot be made, or another process holds it.
    """
    lock = FileLock(folder / lock_name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout as error:
        raise OutputError(busy) from error
    except OSError as error:
        raise output_error(owner or folder, error) from error
    try:
        yield
    finally:
        try:
            if remove:
                (folder / lock_name).unlink(missing_ok=True)  # while no other process can hold it
        finally:
            lock.release()


@contextmanager
def wait_for_folder(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process alone, by a lock file beside it; waits for who has it.

    The folder need not be there yet; the one above is made where there is none.

    Raises:
        OSError: the lock's file cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process is at work on %s; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of all bytes of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """Returns what an error says in its first line, or its class's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def url_of(path: Path) -> str:
    """Returns the URL that somebody gave as a path, of which a path keeps one slash; else empty."""
    return re.sub(":/+", "://", str(path), count=1) if _URL.match(str(path)) else ""


def check_source(path: Path, *, kind: str) -> None:
    """Refuses what is no ordinary file with something in it; `kind` is what it should have been.

    Raises:
        MediaError: missing, a folder, a pipe, a device, empty, or no file name at all.
    """
    if "\0" in str(path):
        raise MediaError(f"{str(path)!r}: a file name cannot hold a NUL byte; give another name")
    try:
        if not path.exists():
            if url := url_of(path):
                raise MediaError(
                    f"{url}: is a URL; download it, or give the URL of its folder to batch"
                )
            raise MediaError(f"{path}: no such file")
        if path.is_dir():
            raise MediaError(f"{path}: is a folder, not {kind}; give the files in it")
        # Opening a pipe waits for its other end, and what was read of it is gone.
        if path.is_fifo():
            raise MediaError(f"{path}: is a pipe; give a file")
        if not path.is_file():
            raise MediaError(f"{path}: is not an ordinary file; give a file")
        if path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty (0 bytes)")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
