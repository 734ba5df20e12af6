"""Whether a file's header is damaged so that a whole stream may be gone, of which FFmpeg is silent.

FFmpeg passes over a box, an element or a list that it does not know, and with it over the track in
it. Three containers say enough of themselves to notice that.
"""

import itertools
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vqfr_media.media.input_container import MATROSKA, MP4_BOXES, matroska_size
from vqfr_media.media.iso_boxes import boxes

_SAID = "its header is damaged, and a track of sound, subtitles or data may be missing"
# What MP4 and MOV put first into a track.
_TRACK_HEADER = b"tkhd"
# The element itself, not its name in the index of elements.
_TRACKS = re.compile(rb"(?<!\x53\xab\x84)\x16\x54\xae\x6b")
_CRC_32 = b"\xbf\x84"
# Bytes in which Matroska's tracks and AVI's lists of streams are looked for.
_HEAD = 1 << 20
# In AVI's main header: the number of streams, after 24 bytes of names and 32 of other numbers.
_AVI_STREAMS = 56


def header_damage(path: Path) -> list[str]:
    """Says that a header is damaged; nothing where it is sound, or says nothing of itself.

    Of MP4 and MOV a track is found under a name that is none, or boxes that do not end where the
    header does; of Matroska a wrong checksum of the tracks, which not all programs write; of AVI
    fewer streams than it counts.
    """
    with suppress(OSError, ValueError), path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in MP4_BOXES:
            damaged = _mp4_damaged(file)
        elif head[:4] == MATROSKA:
            damaged = _matroska_damaged(head + file.read(_HEAD))
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            damaged = _avi_damaged(head + file.read(_HEAD))
        else:
            damaged = False
        return [_SAID] if damaged else []
    return []


def _mp4_damaged(file: BinaryIO) -> bool:
    end = file.seek(0, os.SEEK_END)
    for kind, start, stop in _whole_boxes(file, 0, end):
        if kind != b"moov":
            continue
        inner = _whole_boxes(file, start, stop)
        for name, begin, _ in inner:
            file.seek(begin)
            if name != b"trak" and file.read(8)[4:8] == _TRACK_HEADER:
                return True
        return not inner or inner[-1][2] != stop
    return False


def _whole_boxes(file: BinaryIO, start: int, stop: int) -> list[tuple[bytes, int, int]]:
    """Returns the boxes between two places in the file, as far as none reaches beyond them."""
    found = list(itertools.takewhile(lambda box: box[2] <= stop, boxes(file, start, stop)))
    # QuickTime may end a list of boxes by four bytes of zero.
    end = found[-1][2] if found else start
    file.seek(end)
    if found and stop - end == 4 and file.read(4) == bytes(4):
        found[-1] = (*found[-1][:2], stop)
    return found


def _matroska_damaged(head: bytes) -> bool:
    found = _TRACKS.search(head)
    if found is None or found.end() == len(head):
        return False
    length, start = matroska_size(head, found.end())
    content = head[start : start + length]
    if len(content) < length or not content.startswith(_CRC_32):
        return False
    return zlib.crc32(content[6:]) != int.from_bytes(content[2:6], "little")


def _avi_damaged(head: bytes) -> bool:
    header = head[: max(0, head.find(b"movi"))]
    claimed = int.from_bytes(header[_AVI_STREAMS : _AVI_STREAMS + 4], "little")
    found = len(re.findall(rb"LIST.{4}strlstrh", header, re.DOTALL))
    return header[24:28] == b"avih" and found < claimed
