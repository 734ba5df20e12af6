"""Boxes, of which MP4, MOV and JPEG 2000 files are made: ISO/IEC 14496-12 and 15444-1."""

from collections.abc import Iterator
from typing import BinaryIO


def boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start of the content and end of each box between two places in the file.

    Ends at a box that is shorter than its head. An end beyond `stop` is one that the file claims
    without having it.
    """
    while start + 8 <= stop:
        file.seek(start)
        head = file.read(16)
        size, content = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:  # the length follows, in eight bytes
            size, content = int.from_bytes(head[8:16], "big"), start + 16
        end = start + size if size else stop
        if end < content:
            return
        yield head[4:8], content, end
        start = end
