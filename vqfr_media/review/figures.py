"""The figures of a report: how steady, how sharp, how much changed. Defined in docs/review.md.

All are kept as sums, so that a frame, a stretch of time, a track and a film are measured by the
same formulae, and memory does not grow with what is summed.
"""

from dataclasses import dataclass
from enum import IntEnum, auto

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
type Three[T] = tuple[T, T, T]

# Standard deviation of normal noise over the median of its absolute value.
_NORMAL = 1.4826


class Sum(IntEnum):
    """What is added up over faces; places in an array."""

    FACES = 0
    SECONDS = auto()
    JITTERS = auto()
    JITTER_BEFORE = auto()
    JITTER_AFTER = auto()
    FLICKERS = auto()
    FLICKER_BEFORE = auto()
    FLICKER_AFTER = auto()
    DETAIL_BEFORE = auto()
    DETAIL_AFTER = auto()
    CHANGE = auto()
    SKIPPED = auto()
    LOST = auto()
    MESHES = auto()
    MESH_JITTER_BEFORE = auto()
    MESH_JITTER_AFTER = auto()
    MOTIONS = auto()
    UNSTEADINESS_BEFORE = auto()
    UNSTEADINESS_AFTER = auto()
    DRIFTS = auto()
    DRIFT_BEFORE = auto()
    DRIFT_AFTER = auto()


def no_sums() -> npt.NDArray[np.float64]:
    """Returns an array of zeros, one for each `Sum`."""
    return np.zeros(len(Sum))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured of one face over some time, or of all; None where it cannot be."""

    seconds: float
    """Mean time of the frames, since the first frame."""
    faces: int
    """Faces that were measured, over all frames."""
    jitter_before: float | None
    """Landmark jitter of the source, display pixels of the source."""
    jitter_after: float | None
    """The same of the result, in the same pixels and over the same frames."""
    flicker_before: float | None
    """Flicker of the source's aligned face, 8-bit levels of luma."""
    flicker_after: float | None
    """The same of the result."""
    sharpness: float | None
    """Gradient energy of the result over that of the source: 1 is as sharp."""
    change: float
    """Mean difference between result and source, 8-bit levels of luma."""
    skipped: float
    """Share of the faces that were left alone, as far as that is known."""
    lost: float
    """Share of the faces that the detector does not find in the result."""
    mesh_jitter_before: float | None = None
    """Jitter of the face mesh in the source, display pixels of the source."""
    mesh_jitter_after: float | None = None
    """The same of the result."""
    unsteadiness_before: float | None = None
    """Change of the source's aligned face that its motion does not explain, in its pixels."""
    unsteadiness_after: float | None = None
    """The same of the result, along the source's motion and over the source's sharpness."""
    drift_before: float | None = None
    """Distance of neighbouring frames' faces in the source, as dlib's network tells persons apart:
    above 0.6 it would take them for two."""
    drift_after: float | None = None
    """The same of the result."""


def figures_of(sums: npt.NDArray[np.float64]) -> Figures:
    """Returns the figures that follow from sums over at least one face.

    Raises:
        ValueError: no face was added up.
    """
    faces = sums[Sum.FACES]
    if faces < 1:
        raise ValueError("figures need at least one face")

    def mean(total: Sum, count: Sum) -> float | None:
        return float(sums[total] / sums[count]) if sums[count] else None

    detail = sums[Sum.DETAIL_BEFORE]
    return Figures(
        seconds=float(sums[Sum.SECONDS] / faces),
        faces=round(faces),
        jitter_before=mean(Sum.JITTER_BEFORE, Sum.JITTERS),
        jitter_after=mean(Sum.JITTER_AFTER, Sum.JITTERS),
        flicker_before=mean(Sum.FLICKER_BEFORE, Sum.FLICKERS),
        flicker_after=mean(Sum.FLICKER_AFTER, Sum.FLICKERS),
        sharpness=float(sums[Sum.DETAIL_AFTER] / detail) if detail else None,
        change=float(sums[Sum.CHANGE] / faces),
        skipped=float(sums[Sum.SKIPPED] / faces),
        lost=float(sums[Sum.LOST] / faces),
        mesh_jitter_before=mean(Sum.MESH_JITTER_BEFORE, Sum.MESHES),
        mesh_jitter_after=mean(Sum.MESH_JITTER_AFTER, Sum.MESHES),
        unsteadiness_before=mean(Sum.UNSTEADINESS_BEFORE, Sum.MOTIONS),
        unsteadiness_after=mean(Sum.UNSTEADINESS_AFTER, Sum.MOTIONS),
        drift_before=mean(Sum.DRIFT_BEFORE, Sum.DRIFTS),
        drift_after=mean(Sum.DRIFT_AFTER, Sum.DRIFTS),
    )


def line_deviation(values: Three[Floats], seconds: Three[float]) -> Floats:
    """Returns how far the middle one is from the straight line between its neighbours.

    Scaled so that independent noise of standard deviation σ gives values of standard deviation σ,
    whatever the times: what goes on evenly, a pan or a fade, gives 0.

    Args:
        values: the same quantity at three times, of one shape.
        seconds: the times, each later than the one before.

    Raises:
        ValueError: the times do not increase.
    """
    before, here, after = seconds
    if not before < here < after:
        raise ValueError(f"times must increase, got {seconds}")
    share = (after - here) / (after - before)
    line = share * values[0] + (1 - share) * values[2]
    result: Floats = (values[1] - line) / np.sqrt(1 + share**2 + (1 - share) ** 2)
    return result


def jitter(landmarks: Three[npt.NDArray[np.float64]], seconds: Three[float]) -> float:
    """Returns the root mean square of (n, 2) points' deviation from the line in time."""
    return float(np.sqrt(np.mean(np.square(line_deviation(landmarks, seconds)))))


def flicker(lumas: Three[npt.NDArray[np.float32]], seconds: Three[float], inner: slice) -> float:
    """Returns how much an aligned face flickers, in the units of its luma.

    The neighbours are moved onto the middle one first, by dense inverse search (Kroeger et al.,
    2016) at a quarter of the size, so that motion and a sharper picture count for little, while
    noise and changes of brightness stay. Of what is left off the line, the median over the pixels
    of the `inner` square counts, as the standard deviation of normal noise with that median: what
    passes in front of a face is no flicker.

    Args:
        lumas: (S, S) 8-bit levels at three times.
        seconds: the times, each later than the one before.
        inner: rows and columns that count.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(2)
    # Refinement would go down to the pixel, and take noise for motion.
    search.setVariationalRefinementIterations(0)
    moved = [_moved(search, lumas[1], lumas[0]), lumas[1], _moved(search, lumas[1], lumas[2])]
    rest = line_deviation((moved[0], moved[1], moved[2]), seconds)[inner, inner]
    return _NORMAL * float(np.median(np.abs(rest)))


def _moved(
    search: cv2.DISOpticalFlow, here: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns `other`, resampled so that what it shows lies where it is `here`."""
    codes = [np.rint(luma.clip(0, 255)).astype(np.uint8) for luma in (here, other)]
    rows, columns = here.shape
    flow = search.calc(codes[0], codes[1], np.zeros((rows, columns, 2), np.float32))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return np.asarray(
        cv2.remap(
            other, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )  # fmt: skip


def detail(luma: Floats) -> float:
    """Returns gradient energy: mean |∂²/∂x∂y| by Sobel's operator (3 × 3)."""
    return float(np.abs(cv2.Sobel(luma, cv2.CV_32F, 1, 1)).mean())


def luma_of(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns (rows, columns) 8-bit levels, not rounded, of RGB of 0 to 1 (BT.601)."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) * np.float32(255), np.float32)


class FigureSeries:
    """Sums along a track, in at most `capacity` stretches of equal numbers of frames.

    When they are full, neighbouring stretches are joined, so memory stays what it is.
    """

    def __init__(self, capacity: int) -> None:
        """Makes an empty series.

        Raises:
            ValueError: the capacity is odd or less than 2.
        """
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity must be even and at least 2, got {capacity}")
        self._sums = np.zeros((capacity, len(Sum)))
        self._width = 1

    def add(self, position: int, sums: npt.NDArray[np.float64]) -> None:
        """Adds to what is known of frame number `position` of the track, from 0."""
        capacity = len(self._sums)
        while position // self._width >= capacity:
            joined = self._sums[0::2] + self._sums[1::2]
            self._sums[: capacity // 2], self._sums[capacity // 2 :] = joined, 0
            self._width *= 2
        self._sums[position // self._width] += sums

    @property
    def total(self) -> npt.NDArray[np.float64]:
        """The sums over all frames."""
        total: npt.NDArray[np.float64] = self._sums.sum(axis=0)
        return total

    def figures(self) -> tuple[Figures, ...]:
        """Returns those of each stretch in which there is a face, in order."""
        return tuple(figures_of(row) for row in self._sums if row[Sum.FACES])
