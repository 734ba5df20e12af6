"""One writer at a time for each engine's folder, across processes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of the engine in `folder`; makes the folder above where there is none.

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
