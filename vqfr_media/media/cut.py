"""A part of a film, cut to the frame: which frames of it, and what else of it belongs to them."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vqfr_media.errors import OptionError
from vqfr_media.frames import VideoInfo
from vqfr_media.media.index import FrameIndex
from vqfr_media.time_range import TimeRange

# Containers tell their beginning in FFmpeg's microseconds: a frame there may seem a bit early.
_TICK = Fraction(1, av.time_base)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What of a film comes out. Times are seconds by the source's own clock."""

    frames: range
    """Numbers of the frames, in the whole film."""
    begin: Fraction | None = None
    """Time of the first frame, at which the output's clock shows 0; packets before it are left
    out. None where the film's first frame is among them: then the clock stays, and all before."""
    end: Fraction | None = None
    """Packets of this time and later are left out; None keeps all to the film's end."""

    def holds(self, seconds: Fraction) -> bool:
        """Returns whether a packet of this time comes out."""
        return (self.begin is None or seconds >= self.begin) and (
            self.end is None or seconds < self.end
        )


def find_cut(path: Path, index: FrameIndex, info: VideoInfo, part: TimeRange) -> Cut:
    """Finds the frames whose times lie in a range: from its start on, and before its stop.

    So ranges that follow each other share no frame and no packet, and leave none out.

    Args:
        path: The film; only for messages.
        index: Its frames.
        info: What is known of it.
        part: The range, in time from the container's beginning, which players show as 0.

    Raises:
        OptionError: it begins or stops beyond the film's end, or no frame lies in it.
    """
    if part.is_whole:
        return Cut(frames=range(len(index)))
    base, zero = info.time_base, info.clock_start
    start, stop = part.start_seconds, part.stop_seconds
    length = int(index.times[-1]) * base - zero + 1 / info.frame_rate
    if info.duration_seconds_from_header is not None:
        length = max(length, Fraction(info.duration_seconds_from_header))

    def first_at(seconds: Fraction) -> int:
        """Finds the first frame at this time or later."""
        pts = math.ceil((seconds + zero - _TICK) / base)
        return int(np.searchsorted(index.times, pts))

    first = 0 if start == 0 else first_at(start)
    if first == len(index):
        raise OptionError(
            f"start ({part.start}) lies beyond the end of {path}, which has {float(length):.3f} s"
        )
    if stop is not None and stop > math.ceil(length):  # who rounds up means the end
        name = f"end ({part.end})" if part.end is not None else f"duration ({part.duration})"
        raise OptionError(
            f"{name} goes beyond the end of {path}, which has {float(length):.3f} s; leave it out "
            "to go on to the end"
        )
    last = len(index) if stop is None else first_at(stop)
    if last <= first:
        at = float(int(index.times[first]) * base - zero)
        raise OptionError(
            f"{path}: no frame lies between {float(start):.3f} and {float(stop or 0):.3f} s; the "
            f"next one is at {at:.3f} s"
        )
    begin = None if first == 0 else int(index.times[first]) * base
    if last < len(index):
        return Cut(frames=range(first, last), begin=begin, end=int(index.times[last]) * base)
    end = None if stop is None or stop >= length else stop + zero
    return Cut(frames=range(first, last), begin=begin, end=end)
