"""A stretch of encoded video as a file: packets as they are, their times, and a checksum.

Packets one after the other; a line of JSON about them; the length of that line; the SHA-256 of all
that. Containers would round the times or refuse the codec.
"""

import hashlib
import json
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from av.packet import Packet

from vqfr_media.errors import CodecError
from vqfr_media.files import atomic_output, output_error
from vqfr_media.media.input_container import AnyPacket

_LENGTH = struct.Struct("<Q")
_FOOTER = _LENGTH.size + hashlib.sha256().digest_size
# What encoders hang on packets that a muxer has no use for.
_UNNEEDED_SIDE_DATA = {"quality_stats", "cpb_properties"}


@dataclass(frozen=True)
class PacketMark:
    """What must be known of a packet beside its bytes."""

    pts: int
    """Presentation time, in units of the encoder."""
    dts: int
    """Decoding time, in units of the encoder."""
    duration: int
    """0 where it is not known."""
    key: bool
    """Whether decoding can start here."""
    size: int
    """Bytes."""


@dataclass(frozen=True, eq=False)
class SegmentFile:
    """A segment that was read back; its packets are still on the disk."""

    path: Path
    """Where it lies."""
    marks: tuple[PacketMark, ...]
    """Of its packets, in coding order."""
    notes: dict[str, Any]
    """What the caller wrote beside the packets."""

    @property
    def delay(self) -> int | None:
        """Packets by which decoding runs ahead; None where packets are not one a frame."""
        shown = sorted({mark.pts for mark in self.marks})
        if len(shown) < len(self.marks):
            return None
        rank = {pts: place for place, pts in enumerate(shown)}
        needed = max(place - rank[mark.pts] for place, mark in enumerate(self.marks))
        return max(needed, sum(mark.dts < shown[0] for mark in self.marks))


class SegmentWriter:
    """Takes packets and says so at the end; made by `open_segment`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()
        self._marks: list[PacketMark] = []

    def add(self, packets: Iterable[AnyPacket]) -> None:
        """Writes packets.

        Raises:
            CodecError: they carry what no file of packets keeps.
            OutputError: the disk is full or gone.
        """
        for packet in packets:
            extra = {data.data_type for data in packet.iter_sidedata()} - _UNNEEDED_SIDE_DATA
            if extra or packet.pts is None or packet.dts is None:
                raise CodecError(
                    f"{self._path}: packets of this encoder cannot be kept "
                    f"({', '.join(sorted(extra)) or 'no times'}); use another codec, or work the "
                    "video in one go with segment_seconds 0"
                )
            self._write(bytes(packet))
            self._marks.append(
                PacketMark(
                    packet.pts,
                    packet.dts,
                    packet.duration or 0,
                    packet.is_keyframe,
                    packet.size,
                )
            )

    def finish(self, notes: dict[str, Any]) -> None:
        """Writes what is to be known beside the packets (plain values); nothing comes after.

        Raises:
            OutputError: the disk is full or gone.
        """
        marks = [list(asdict(mark).values()) for mark in self._marks]
        line = json.dumps({"packets": marks, "notes": notes}).encode()
        self._write(line)
        self._write(_LENGTH.pack(len(line)))
        self._write(self._digest.digest())

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise output_error(self._path, error) from error
        self._digest.update(data)


@contextmanager
def open_segment(path: Path) -> Iterator[SegmentWriter]:
    """Yields a writer of `path`, which gets its name when it is complete and on the disk.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_output(path) as temporary:
        try:
            file = temporary.open("wb")
        except OSError as error:
            raise output_error(path, error) from error
        writer = SegmentWriter(path, file)
        try:
            yield writer
        finally:
            try:
                file.close()
            except OSError as error:
                raise output_error(path, error) from error


def read_segment(path: Path, *, verify: bool) -> SegmentFile | None:
    """Reads a segment; None if it is not there or, if that is verified, not as it was written.

    Raises:
        OSError: the medium fails.
    """
    if not path.is_file() or path.stat().st_size < _FOOTER:
        return None
    with path.open("rb") as file:
        body = path.stat().st_size - _FOOTER
        file.seek(body)
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        promised = file.read()
        if length > body:
            return None
        if verify:
            file.seek(0)
            if _digest(file, body + _LENGTH.size) != promised:
                return None
        file.seek(body - length)
        values = json.loads(file.read(length))
    return SegmentFile(
        path, tuple(PacketMark(*mark) for mark in values["packets"]), values["notes"]
    )


def _digest(file: BinaryIO, length: int) -> bytes:
    digest = hashlib.sha256()
    while length > 0:
        block = file.read(min(length, 1 << 20))
        digest.update(block)
        length -= len(block) or length
    return digest.digest()


def join_segments(
    segments: Iterable[SegmentFile], *, delay: int | None, time_base: Fraction
) -> Iterator[AnyPacket]:
    """Yields the packets of all segments as one stream.

    Each encoder guesses the decoding times before its first picture, so those of two segments may
    overlap. In one stream the n-th packet is decoded when the frame `delay` places before the n-th
    is shown, which is what encoders with a constant delay say themselves.

    Args:
        segments: In order.
        delay: The largest of theirs; with None decoding times stay as they are.
        time_base: Seconds per unit of their times.

    Raises:
        CodecError: decoding times do not go on.
    """
    shown: deque[int] = deque()
    place = 0
    last: int | None = None
    for segment in segments:
        shown.extend(sorted(mark.pts for mark in segment.marks))
        step = shown[1] - shown[0] if len(shown) > 1 else 1
        as_written = delay is None or (place == 0 and segment.delay == delay)
        with segment.path.open("rb") as file:
            for mark in segment.marks:
                if delay is None or (place < delay and as_written):
                    dts = mark.dts
                elif place < delay:
                    dts = shown[0] - (delay - place) * step
                else:
                    dts = shown.popleft()
                if last is not None and dts <= last:
                    raise CodecError(
                        f"{segment.path}: the decoding times of this encoder do not go on from one "
                        "segment to the next; use another codec, or segment_seconds 0"
                    )
                place, last = place + 1, dts
                packet: AnyPacket = Packet(file.read(mark.size))
                packet.pts, packet.dts, packet.duration = mark.pts, dts, mark.duration
                packet.is_keyframe = mark.key
                packet.time_base = time_base
                yield packet
