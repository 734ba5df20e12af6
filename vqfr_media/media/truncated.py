"""How many bytes a file lacks by its own outermost sizes, which no decoder looks at."""

import os
from pathlib import Path

_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Bytes between the end of the file and the end that its container promises; 0 if unknown.

    Knows MP4/MOV boxes, Matroska segments and AVI chunks. A recording that was never finished
    promises nothing, and other containers have no such size.

    Raises:
        OSError: the file cannot be read.
    """
    actual = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == _MATROSKA:
            promised = _matroska_end(file.read(4096), head)
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            promised = 8 + int.from_bytes(head[4:8], "little")
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            promised = 0
            while True:
                file.seek(promised)
                box = file.read(16)
                size = int.from_bytes(box[:4], "big")
                if size == 1 and len(box) == 16:
                    size = int.from_bytes(box[8:16], "big")
                # Size 0 runs to the end of the file; less than a header is not a box.
                if len(box) < 8 or size < 8 or not box[4:8].isascii():
                    break
                promised += size
                if promised >= actual:
                    break
        else:
            promised = 0
    return max(0, promised - actual)


def _matroska_end(more: bytes, head: bytes) -> int:
    """End of the segment in bytes, 0 where its size is left open."""
    data = head + more
    size, start = _matroska_size(data, 4)
    place = start + size
    if data[place : place + 4] != _SEGMENT or place + 12 > len(data):
        return 0
    length, content = _matroska_size(data, place + 4)
    unknown = (1 << 7 * (content - place - 4)) - 1
    return 0 if length == unknown else content + length


def _matroska_size(data: bytes, place: int) -> tuple[int, int]:
    """The variable-length size at `place`, and where it ends."""
    width = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + width], "big")
    return value & ((1 << 7 * width) - 1), place + width
