"""Two clips of the same moments, frame by frame: paired by their times, never by their numbers."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqfr_media.errors import InputError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.image import is_image, read_image
from vqfr_media.media.read import open_video
from vqfr_media.restoration.find_tracks import info_of_image
from vqfr_media.review.picture import upright_size
from vqfr_media.windows import READ_AHEAD, prefetch

# Shapes of two upright pictures may differ by so much: odd sizes and pixel shapes are rounded.
_SHAPE = 0.02
# Shares of a clip's length by which two may drift apart, and seconds that containers round by.
_DRIFT = Fraction(1, 200)
_ROUNDING = Fraction(4, 1000)


@dataclass(frozen=True, eq=False)
class Pair:
    """The same moment in both clips."""

    before: Frame
    """The first clip's frame."""
    after: Frame
    """The second clip's frame."""
    seconds: float
    """Since the first clip's first frame."""

    def to_after(self) -> npt.NDArray[np.float64]:
        """Returns (2, 3) affine matrix from display coordinates of `before` to those of `after`."""
        (w0, h0), (w1, h1) = self.before.display_size, self.after.display_size
        x, y = w1 / w0, h1 / h0
        return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])


@dataclass(frozen=True, eq=False)
class Pairing:
    """Two clips that are open, or two images."""

    before: VideoInfo
    """What is known of the first."""
    after: VideoInfo
    """What is known of the second."""
    pairs: Iterator[Pair]
    """Both, frame by frame; memory does not grow with their length."""
    images: bool
    """Whether they are images."""


@contextmanager
def open_pair(before: Path, after: Path) -> Iterator[Pairing]:
    """Yields two videos, or two images, that show the same moments.

    Raises:
        MediaError: one of them cannot be read.
        InputError: one is an image and the other is not, or their shapes differ; while they are
            read: their frames have different times, or one ends before the other.
    """
    kinds = [is_image(path) for path in (before, after)]
    if kinds[0] != kinds[1]:
        image, video = (before, after) if kinds[0] else (after, before)
        raise InputError(
            f"{image} is an image and {video} is not; compare two images or two videos"
        )
    with ExitStack() as stack:
        if kinds[0]:
            (one, _), (other, _) = read_image(before), read_image(after)
            infos = info_of_image(one), info_of_image(other)
            pairs = iter([Pair(one, other, 0.0)])
        else:
            readers = [stack.enter_context(open_video(path)) for path in (before, after)]
            infos = readers[0].info, readers[1].info
            frames = [stack.enter_context(prefetch(reader, READ_AHEAD)) for reader in readers]
            pairs = pair_frames(frames[0], frames[1], infos, (before, after))
        _check_shapes(infos, (before, after))
        yield Pairing(infos[0], infos[1], pairs, kinds[0])


def pair_frames(
    before: Iterable[Frame],
    after: Iterable[Frame],
    infos: tuple[VideoInfo, VideoInfo],
    paths: tuple[Path, Path],
) -> Iterator[Pair]:
    """Yields frames of the same time, counted from each clip's first frame.

    Containers round times (Matroska to milliseconds), and count from different moments; two frames
    are the same moment where their times differ by less than half the shorter of the two steps from
    the frames before them. Clips that are too short for another rate to come to that are told by
    their last frames.

    Raises:
        InputError: a frame has no partner; both clips are named.
    """
    others = iter(after)
    starts: tuple[int, int] | None = None
    seconds, last = (Fraction(0), Fraction(0)), (Fraction(0), Fraction(0))
    count = 0
    for one in before:
        other = next(others, None)
        if other is None:
            raise _ended_early(paths[1], paths[0], count, float(seconds[1]), infos[0])
        starts = starts or (one.pts, other.pts)
        seconds = (
            (one.pts - starts[0]) * infos[0].time_base,
            (other.pts - starts[1]) * infos[1].time_base,
        )
        step = min(seconds[0] - last[0], seconds[1] - last[1])
        if count and 2 * abs(seconds[0] - seconds[1]) >= step:
            raise _different_times(paths, infos, count, (float(seconds[0]), float(seconds[1])))
        last = seconds
        count += 1
        yield Pair(one, other, float(seconds[0]))
    drift = abs(seconds[0] - seconds[1])
    if drift > max(_DRIFT * seconds[0], _ROUNDING):  # too short for it to have grown further
        raise _different_times(paths, infos, count - 1, (float(seconds[0]), float(seconds[1])))
    if next(others, None) is not None:
        raise _ended_early(paths[0], paths[1], count, float(seconds[0]), infos[1])


def common_size(pairing: Pairing) -> tuple[int, int]:
    """Returns columns and rows of the larger of the two upright pictures."""
    sizes = [upright_size(display_size(info)) for info in (pairing.before, pairing.after)]
    return max(sizes, key=lambda size: size[0] * size[1])


def display_size(info: VideoInfo) -> tuple[float, float]:
    """Returns width and height of the upright pictures, in display pixels."""
    width = info.width * float(info.display.sample_aspect_ratio)
    return (info.height, width) if info.display.quarter_turns % 2 else (width, info.height)


def _check_shapes(infos: tuple[VideoInfo, VideoInfo], paths: tuple[Path, Path]) -> None:
    sizes = [display_size(info) for info in infos]
    shapes = [width / height for width, height in sizes]
    if abs(shapes[0] / shapes[1] - 1) > _SHAPE:
        one, other = (f"{width:g}×{height:g}" for width, height in sizes)
        raise InputError(
            f"{paths[0]} is shown at {one} and {paths[1]} at {other}, which is another shape; "
            "crop or turn one of them first"
        )


def _different_times(
    paths: tuple[Path, Path],
    infos: tuple[VideoInfo, VideoInfo],
    index: int,
    seconds: tuple[float, float],
) -> InputError:
    rates = [float(info.frame_rate) for info in infos]
    return InputError(
        f"{paths[0]} ({rates[0]:.6g} frames per second) and {paths[1]} ({rates[1]:.6g}) do not "
        f"show the same moments: frame {index} is at {seconds[0]:.3f} s in the first and at "
        f"{seconds[1]:.3f} s in the second; bring both to one frame rate first"
    )


def _ended_early(
    short: Path, long: Path, count: int, seconds: float, info: VideoInfo
) -> InputError:
    claim = info.frame_count_from_header
    frames = f" to {claim} frames by its header" if claim is not None and claim > count else ""
    return InputError(
        f"{short} ends after {count} frames ({seconds:.3f} s), but {long} goes on{frames}; "
        "compare clips of the same length"
    )
