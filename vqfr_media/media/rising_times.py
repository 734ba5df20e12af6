"""Times of copied packets that do not rise, mended by the least step that the container takes."""

import math
from fractions import Fraction

from av.container import OutputContainer

from vqfr_media.media.input_container import AnyPacket, fraction

# FFmpeg's AVFMT_TS_NONSTRICT: two packets may have the same time.
_EQUAL_ALLOWED = 0x20000


class RisingTimes:
    """The decoding times of one stream on their way into a container.

    FFmpeg's muxers refuse a packet that is not later than the one before it; of subtitles and data,
    and in some containers of everything, one that is earlier.
    """

    num_moved: int
    """Packets that got another time."""
    farthest_seconds: float
    """How far the farthest of them was moved."""

    def __init__(self, output: OutputContainer, kind: str) -> None:
        """Takes the kind of stream: video, audio, subtitle or data."""
        self.num_moved = 0
        self.farthest_seconds = 0.0
        self._media = kind in ("video", "audio")
        self._strict = self._media and not output.format.flags & _EQUAL_ALLOWED
        self._last: int | None = None
        self._end = 0
        self._last_given: Fraction | None = None

    def mend(self, packet: AnyPacket, step: Fraction) -> None:
        """Gives the packet a decoding time that can follow, if it has none such.

        `step` is the container's unit of time in seconds. Other packets stay as they are.
        """
        base = fraction(packet.time_base)
        given = None if packet.dts is None else packet.dts * base
        due = self._end if given is None else _rounded(given / step)
        least = self._least(packet, given)
        earliest = due if self._last is None else self._last + least
        if given is None or due < earliest:
            moved = max(due, earliest)
            if given is not None:
                self.num_moved += 1
                far = float(moved * step - given)
                self.farthest_seconds = max(self.farthest_seconds, far)
            due = moved
            shown = None if packet.pts is None else _rounded(packet.pts * base / step)
            packet.pts = due if shown is None else max(shown, due)
            packet.dts = due
            packet.duration = _rounded((packet.duration or 0) * base / step)
            packet.time_base = step
        self._last = due
        self._last_given = given
        self._end = due + max(
            1, _rounded((packet.duration or 0) * fraction(packet.time_base) / step)
        )

    def _least(self, packet: AnyPacket, given: Fraction | None) -> int:
        """Returns the ticks from the packet before it; 0 where both may be at the same time."""
        if self._strict:
            return 1
        # Where equal times are allowed, packets that are shorter than a tick have them rightly.
        twice = given is not None and self._last_given is not None and given <= self._last_given
        return int(self._media and twice and bool(packet.duration))


def _rounded(value: Fraction) -> int:
    """Rounds as FFmpeg does: halves away from zero."""
    nearest = math.floor(abs(value) + Fraction(1, 2))
    return nearest if value >= 0 else -nearest
