"""What must hold of any file before its bytes are looked at."""

from pathlib import Path

from vqfr_media.errors import MediaError


def check_source(path: Path, *, kind: str) -> None:
    """Refuses what is no ordinary file with something in it; `kind` is what it should have been.

    Raises:
        MediaError: missing, a folder, a pipe, a device, empty, or no file name at all.
    """
    if "\0" in str(path):
        raise MediaError(f"{str(path)!r}: a file name cannot hold a NUL byte; give another name")
    try:
        if not path.exists():
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
