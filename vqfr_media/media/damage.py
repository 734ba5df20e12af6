"""Damage in a video: decoding over it, and what a file has lost without a word of the decoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from vqfr_media.frames import VideoInfo
from vqfr_media.media.header_damage import header_damage
from vqfr_media.media.input_container import (
    AnyPacket,
    fraction,
    has_running_clock,
    missing_bytes,
    reason_of,
)
from vqfr_media.media.quiet_damage import QuietDamage

# Of these codecs no later picture is made of a B picture.
_B_IS_LAST = {"mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3"}
# A reader that fails so often in a row has come to its end.
_FAILURES = 3
# Gaps between pictures are told where so many of the pictures are equally far apart.
_STEADY_SHARE = 0.9
_PACKET_OF_TS = 188
# A DVD's sectors each begin with MPEG's pack start code.
_SECTOR = 2048
_PACK = b"\0\0\x01\xba"
# Packets among which those are that belong before the first picture.
_START = 64
# Places that a note lists.
_MOST = 5


@dataclass(frozen=True, eq=False)
class DecodedPicture:
    """What a decoder gave."""

    picture: av.VideoFrame
    """The picture."""
    damaged: bool = False
    """Whether parts of it are guessed, or are of another picture."""


class DamagedDecoder:
    """Decodes over damage: what cannot be decoded is left out, what had to be guessed is marked.

    In one thread, so that the same file always gives the same pictures.
    """

    lost: list[str]
    """What could not be decoded, in sentences for the user."""
    num_packets: int
    """Packets that were read so far."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, decoder: VideoCodecContext
    ) -> None:
        self.lost = []
        self.num_packets = 0
        self._container, self._stream, self._decoder = container, stream, decoder
        decoder.thread_count = 1
        self._start = FirstPackets()
        self._quiet = QuietDamage(decoder.name)
        self._lost_times: list[float | None] = []
        self._incomplete: set[int | None] = set()
        self._is_broken = False  # whether pictures may be made of one that is damaged

    def decode(self) -> Iterator[DecodedPicture]:
        """Yields pictures in presentation order."""
        failures = 0
        while failures < _FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    yield from self._pictures(packet)
                break
            except (av.FFmpegError, OSError) as error:
                failures += 1
                reason = reason_of(error)
        else:
            self.lost.append(f"its pictures cannot be read to the end: {reason}")
            yield from self._pictures(None)
        self.lost += self._quiet.notes(float(fraction(self._stream.time_base)))
        if self._container.format.name != "avi":  # whose times are made up
            self.lost += self._start.lost(float(fraction(self._stream.time_base)))
        if self._lost_times:
            count = len(self._lost_times)
            self.lost.append(
                f"{count} picture{'s' * (count > 1)} could not be decoded at all: "
                f"{_places([time for time in self._lost_times if time is not None])}"
            )

    def _pictures(self, packet: AnyPacket | None) -> Iterator[DecodedPicture]:
        self.num_packets += bool(packet and packet.size)
        # A transport stream calls a mere splice corrupt, so there the decoder is asked alone.
        if packet and packet.is_corrupt and not has_running_clock(self._container):
            self._incomplete.add(packet.pts)
        if packet and self._quiet.look(packet):
            self._incomplete.add(packet.pts)
        try:
            pictures = self._decoder.decode(packet)
        except (av.FFmpegError, OSError):
            base = fraction(self._stream.time_base)
            pts = packet.pts if packet else None
            self._lost_times.append(None if pts is None else float(pts * base))
            self._is_broken = True
            return
        if packet is not None:
            self._start.add(packet, pictures)
        for picture in pictures:
            yield DecodedPicture(picture, self._judge(picture))

    def _judge(self, picture: av.VideoFrame) -> bool:
        """Returns whether a picture is damaged, or may be made of one that is."""
        kind = picture.pict_type
        if kind == PictureType.I:
            self._is_broken = False
        own = picture.is_corrupt or picture.pts in self._incomplete
        is_last = kind == PictureType.B and self._decoder.name in _B_IS_LAST
        damaged = own or self._is_broken
        self._is_broken |= own and not is_last
        return damaged


class FirstPackets:
    """Tells of packets at a video's start that give no picture."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._first_pts: int | None = None

    def add(self, packet: AnyPacket, pictures: Sequence[av.VideoFrame]) -> None:
        """Takes a packet, and what the decoder gave for it."""
        if self._first_pts is None and pictures:
            self._first_pts = pictures[0].pts
        # Those of the first group that are shown before its key frame come behind it.
        is_start = not self._first_pts or len(self._times) < _START
        if is_start and packet.size and packet.pts is not None and not packet.is_discard:
            self._times.append(packet.pts)

    def lost(self, base: float) -> list[str]:
        """Says which gave none; `base` is seconds per unit of time."""
        first = self._first_pts
        count = 0 if first is None else sum(time < first for time in self._times)
        if first is None or not count:
            return []
        return [
            f"the first {count} picture{'s' * (count > 1)}, before {first * base:.3f} s, cannot be "
            "decoded without pictures that are not in the file"
        ]


def losses(path: Path, info: VideoInfo, times: Sequence[int]) -> list[str]:
    """Says what a file seems to have lost, by its own claims and by the times of its pictures.

    Args:
        path: the file.
        info: what it claims.
        times: pts of all its pictures, in order.
    """
    said = header_damage(path)
    if missing := missing_bytes(path):
        said.append(f"truncated: {missing} bytes are missing at its end")
    if cut := _cut_unit(path):
        said.append(f"its last {cut} is incomplete: it may have been cut off, or lack a piece")
    steps = [b - a for a, b in pairwise(times)]
    if not steps:
        return said
    base = float(info.time_base)
    usual = median(steps)
    near = max(1.0, usual / 2)
    if sum(abs(step - usual) <= near for step in steps) >= _STEADY_SHARE * len(steps):
        gaps = [(a, b) for a, b in pairwise(times) if b - a > usual + near]
        if gaps:
            count = sum(round((b - a) / usual) - 1 for a, b in gaps)
            where = _places([a * base for a, _ in gaps])
            said.append(f"about {count} picture{'s' * (count > 1)} missing after {where}")
    claim = info.picture_seconds_from_header
    there = (times[-1] - times[0] + usual) * base
    if claim is not None and there < claim - max(0.1, 2.5 * usual * base):
        said.append(f"its header says {claim:.3f} s of pictures, of which {there:.3f} s are there")
    return said


def _cut_unit(path: Path) -> str:
    """Names the unit of which the file is not a whole number; empty where it is, or has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SECTOR + len(_PACK))
    transport = len(head) > _PACKET_OF_TS and head[0] == head[_PACKET_OF_TS] == 0x47
    if transport and size % _PACKET_OF_TS:
        return "transport packet"
    on_disc = head.startswith(_PACK) and head[_SECTOR:] == _PACK
    return "sector" if on_disc and size % _SECTOR else ""


def _places(seconds: Sequence[float]) -> str:
    shown = ", ".join(f"{second:.3f}" for second in seconds[:_MOST])
    more = f" s and {len(seconds) - _MOST} more" if len(seconds) > _MOST else " s"
    return f"{shown}{more}" if seconds else "at unknown times"
