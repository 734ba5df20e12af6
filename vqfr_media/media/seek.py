"""To a key frame of a container, wherever its own seeking lands."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

# PyAV declares packets as generic, but only to type checkers.
type AnyPacket = Packet[Any]

# Seconds before the wanted time to which the container is asked to go, in turn: an index may name
# decoding times, or be coarse, or be guessed.
_BACK_SECONDS = (0, 1, 10)


def packets_from(
    container: InputContainer, stream: VideoStream, pts: int
) -> Iterator[AnyPacket] | None:
    """The stream's packets from the key frame at `pts` on; None where that cannot be reached.

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
