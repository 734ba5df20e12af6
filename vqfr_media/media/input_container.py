"""A media file opened for reading: what is wrong with it, its video stream, and its key frames."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.rational import AVRational
from av.stream import Disposition
from av.video.stream import VideoStream

from vqfr_media.errors import MediaError
from vqfr_media.files import check_source

# PyAV declares packets as generic, but only to type checkers.
type AnyPacket = Packet[Any]

# What can be done about a file that is damaged.
DAMAGE_ADVICE = "copy it again, or go on over the damage with --damaged keep"

# FFmpeg shows text files as films of scrolling letters.
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
# MP4's brands of still pictures.
_PHOTOGRAPHS = {"heic", "heix", "heim", "heis", "mif1", "avif"}
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
# FFmpeg's AVFMT_TS_DISCONT: transport and program streams, whose clock starts and jumps anywhere.
_RUNNING_CLOCK = 0x0200
# Seconds before the wanted time to which the container is asked to go, in turn: an index may name
# decoding times, or be coarse, or be guessed.
_BACK_SECONDS = (0, 1, 10)
MATROSKA = b"\x1a\x45\xdf\xa3"
"""First bytes of a Matroska file."""
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
"""Kinds of boxes with which an MP4 or MOV file begins."""
# First bytes of Matroska's segment.
_SEGMENT = b"\x18\x53\x80\x67"


def fraction(value: AVRational) -> Fraction:
    """Returns PyAV's ratio as Python's."""
    return Fraction(value.num, value.den)


def has_running_clock(container: InputContainer | OutputContainer) -> bool:
    """Returns whether times in such a container have no origin (MPEG transport and program)."""
    return bool(container.format.flags & _RUNNING_CLOCK)


def reason_of(error: Exception) -> str:
    """Returns FFmpeg's words for an error, on one line and without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    log = getattr(error, "log", None)
    return " ".join(f"{text} ({log[2].strip()})".split()) if log else " ".join(text.split())


def open_container(path: Path) -> InputContainer:
    """Opens a demuxer on `path`.

    Raises:
        MediaError: missing, a folder, a pipe, empty, not readable or not a media file.
    """
    check_source(path, kind="a video")
    try:
        # Without the prefix, a colon in a name makes FFmpeg look for a protocol.
        container = av.open(f"file:{path}", "r")
    except (av.FFmpegError, OSError, ValueError) as error:
        if missing := missing_bytes(path):
            # In MP4 the index often comes last.
            raise MediaError(
                f"{path}: truncated, {missing} bytes are missing at its end, and what says where "
                "its frames are; copy it again"
            ) from error
        raise MediaError(f"{path}: not a video that can be read: {reason_of(error)}") from error
    if container.metadata.get("major_brand") in _PHOTOGRAPHS:
        container.close()
        raise MediaError(f"{path}: HEIC and AVIF images are not supported; convert it to PNG first")
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise MediaError(f"{path}: not a video but text")
    return container


def refuse_truncated(path: Path) -> None:
    """Raises MediaError if the end of a file that `open_container` has opened is missing."""
    if missing := missing_bytes(path):
        raise MediaError(
            f"{path}: truncated, {missing} bytes are missing at its end; {DAMAGE_ADVICE}"
        )


def find_stream(container: InputContainer, path: Path) -> VideoStream:
    """Finds the video stream that is restored: the default, then the largest, then the first.

    Raises:
        MediaError: there is none (cover art does not count), or it cannot be decoded here.
    """
    streams = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not streams:
        held = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
        cover = " (its cover art is no video)" if container.streams.video else ""
        raise MediaError(f"{path}: has no video stream, only {', '.join(held)}{cover}")
    if all(stream.codec_context is None for stream in streams):
        raise MediaError(f"{path}: no decoder for its video; convert it with ffmpeg first")

    def rank(stream: VideoStream) -> tuple[bool, bool, int]:
        known = stream.codec_context is not None
        area = stream.width * stream.height if known else 0
        return known, bool(stream.disposition & Disposition.default), area

    return max(streams, key=rank)


def quarter_turns(matrix: tuple[int, ...]) -> int:
    """Returns the counter-clockwise quarter turns that a display matrix makes, to the nearest.

    Of a matrix that also mirrors, this is the turn after which the picture stands upright with
    left and right swapped.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a * d - b * c < 0:
        a = -a  # undo the mirroring: x' = a x + c y changes its sign
    return round(-math.atan2(b, a) / (math.pi / 2)) % 4


def packets_from(
    container: InputContainer, stream: VideoStream, pts: int
) -> Iterator[AnyPacket] | None:
    """Returns the stream's packets from the key frame at `pts` on; None if it cannot be reached.

    Raises:
        av.FFmpegError: only later, from the iterator.
    """
    second = stream.time_base.den / stream.time_base.num
    for back in _BACK_SECONDS:
        try:
            container.seek(pts - round(back * second), stream=stream, backward=True)
            packets = container.demux(stream)
            found = _skip_to(packets, pts)
        except (av.FFmpegError, OSError):
            continue  # this way is closed; who asks has others, and reads from the start at last
        if found is not None:
            return chain([found], packets)
    return None


def _skip_to(packets: Iterator[AnyPacket], pts: int) -> AnyPacket | None:
    """Takes packets until the key frame at `pts`; None if it is not there or already passed."""
    for packet in packets:
        if packet.pts is not None and packet.is_keyframe and packet.size:
            if packet.pts == pts:
                return packet
            if packet.pts > pts:
                return None
    return None


def duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Returns the seconds that the header claims: the stream's, or else the container's."""
    if stream.duration:
        return float(stream.duration * fraction(stream.time_base))
    return container.duration / av.time_base if container.duration else None


def missing_bytes(path: Path) -> int:
    """Counts the bytes that the file's end lacks of what its container promises; 0 if unknown.

    Knows MP4/MOV boxes, Matroska segments and AVI chunks. A recording that was never finished
    promises nothing, and other containers have no such size. A file that cannot be read is for
    others to tell.
    """
    with suppress(OSError):
        return _missing_bytes(path)
    return 0


def _missing_bytes(path: Path) -> int:
    actual = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == MATROSKA:
            promised = _matroska_end(file.read(4096), head)
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            promised = 8 + int.from_bytes(head[4:8], "little")
        elif head[4:8] in MP4_BOXES:
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
    """Returns the end of the segment in bytes, 0 where its size is left open."""
    data = head + more
    size, start = matroska_size(data, 4)
    place = start + size
    if data[place : place + 4] != _SEGMENT or place + 12 > len(data):
        return 0
    length, content = matroska_size(data, place + 4)
    unknown = (1 << 7 * (content - place - 4)) - 1
    return 0 if length == unknown else content + length


def matroska_size(data: bytes, place: int) -> tuple[int, int]:
    """Returns Matroska's variable-length size at `place`, and where it ends."""
    width = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + width], "big")
    return value & ((1 << 7 * width) - 1), place + width
