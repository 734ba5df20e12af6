"""OpenCV's threads, where stages work side by side."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import cv2

from vqfr_media.shared_settings import SharedSettings


def opencv_threads_for(upscale: int) -> AbstractContextManager[None]:
    """Returns what gives OpenCV one thread while it lasts, unless pictures are enlarged.

    The stages have a thread each, and most of their pictures are the size of a face: sharing one of
    those among OpenCV's threads takes them longer than the work, half as much processor time again
    in all. Enlarging a whole picture is worth all of them. No bit depends on it.

    Args:
        upscale: How many times pictures are enlarged; 1 for not at all.
    """
    return _one_thread().held() if upscale == 1 else nullcontext()


@functools.cache
def _one_thread() -> SharedSettings:
    """Returns the one of this process, as OpenCV has one number of threads."""
    return SharedSettings(_changed)


@contextmanager
def _changed() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
