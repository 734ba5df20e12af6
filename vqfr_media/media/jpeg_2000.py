"""JPEG 2000: depth and colour profile, which Pillow leaves out, by ISO/IEC 15444-1's boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqfr_media.frames import Plane
from vqfr_media.media.iso_boxes import boxes

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
# Start of codestream, and the marker of the segment in which sizes and depths are.
_CODESTREAM = b"\xff\x4f\xff\x51"
# Brands of Motion JPEG 2000 (ISO/IEC 15444-3), which is a video.
_MOTION = {b"mjp2", b"mj2s"}
# Where the codestream holds the number of components, and after it three bytes for each.
_COUNT, _SIZES = 40, 42
_WITH_PROFILE = b"\x02"


@dataclass(frozen=True)
class Jpeg2000Header:
    """What a JPEG 2000 file says of its picture."""

    bits: tuple[int, ...] = ()
    """Bits per sample of each component; empty where the file ends before them."""
    icc_profile: bytes = b""
    """ICC colour profile."""


def starts_as_jpeg_2000(head: bytes) -> bool:
    """Returns whether a file that begins with these 24 bytes is a picture in JPEG 2000."""
    if head.startswith(_SIGNATURE):
        return not (head[16:20] == b"ftyp" and head[20:24] in _MOTION)
    return head.startswith(_CODESTREAM)


def read_header(path: Path) -> Jpeg2000Header:
    """Reads what a JPEG 2000 file says of its picture, wherever in the file that lies.

    Raises:
        OSError: the file cannot be read.
    """
    profile = b""
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return Jpeg2000Header(_depths(file, 0))
        length = path.stat().st_size
        for kind, start, stop in boxes(file, 0, length):
            if kind == b"jp2h":
                profile = _profile(file, start, min(stop, length))
            elif kind == b"jp2c":
                return Jpeg2000Header(_depths(file, start), profile)
    return Jpeg2000Header((), profile)


def _profile(file: BinaryIO, start: int, stop: int) -> bytes:
    """Returns the first ICC profile among the boxes between two places; empty without one."""
    for kind, begin, end in boxes(file, start, stop):
        if kind == b"colr":
            file.seek(begin)
            content = file.read(min(end, stop) - begin)
            if content.startswith(_WITH_PROFILE):
                return content[3:]  # after method, precedence and approximation
    return b""


def _depths(file: BinaryIO, start: int) -> tuple[int, ...]:
    """Returns the bits per sample of each component of the codestream at `start`."""
    file.seek(start)
    head = file.read(_SIZES)
    if len(head) < _SIZES or not head.startswith(_CODESTREAM):
        return ()
    sizes = file.read(3 * int.from_bytes(head[_COUNT:_SIZES], "big"))
    return tuple((size & 0x7F) + 1 for size in sizes[::3])


def spread(values: Plane, bits: int) -> Plane:
    """Spreads samples over 16 bits, of which Pillow leaves the lower ones 0.

    Args:
        values: samples with `bits` bits, the highest of which is the highest of 16.
        bits: 9 to 16.
    """
    most = (1 << bits) - 1
    samples = values.astype(np.uint32) >> (16 - bits)
    return ((samples * 65535 + most // 2) // most).astype(np.uint16)
