"""Files that get their name only when they are complete."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vqfr_media.errors import OutputError

# What the operating system says when the medium, not the content, is at fault.
_MEDIUM = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENODEV, errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENAMETOOLONG,
}  # fmt: skip


def is_medium_error(error: BaseException) -> bool:
    """Whether `error` carries the number of a full, missing or forbidden place to write."""
    return getattr(error, "errno", None) in _MEDIUM


def output_error(path: Path, error: BaseException) -> OutputError:
    """The error to raise `from error` when `path` cannot be written."""
    reason = getattr(error, "strerror", None) or str(error)
    advice = {
        errno.ENOSPC: "free some space or write to another disk",
        errno.EDQUOT: "free some space or write to another disk",
        errno.ENOENT: "make the folder first",
        errno.EFBIG: "this place does not take files of that size",
    }.get(getattr(error, "errno", None) or 0, "choose another place for the output")
    return OutputError(f"{path}: cannot be written: {reason}; {advice}")


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yields a new temporary file beside `path`, which takes its name when the block succeeds.

    On any exception the temporary file is removed and `path` is left as it was.

    Raises:
        OutputError: the folder is missing or not writable, `path` is a folder, or the disk is full.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    temporary = path.with_name(f".{path.stem}.part-{secrets.token_hex(4)}{path.suffix}")
    try:
        # Not tempfile: its files are readable by their owner only, and keep that when renamed.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield temporary
        try:
            # Some file systems report a full disk only now; and a name must not outlive a crash
            # that its content did not.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise output_error(path, error) from error
    finally:
        with suppress(FileNotFoundError):  # renamed, as it should be
            temporary.unlink()
