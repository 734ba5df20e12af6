"""How much grain the film has at a face: measured between frames, where only noise is new.

Noise is what differs between a frame and its neighbour when both show the same. The face is
followed by its crops' places, to whole samples, since a resampled picture has less noise; what
moves by itself (eyes, a mouth) differs by more than noise does and is left out.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import bounds, compose, invert
from vqfr_media.faces.grain import grids
from vqfr_media.faces.track import follow
from vqfr_media.frames import Frame
from vqfr_media.restoration.radii import GRAIN_RADIUS
from vqfr_media.values import AlignedFace, FrameFaces, Grain, PlaneGrain, RestoredFace
from vqfr_media.weak_memo import WeakMemo
from vqfr_media.windows import Window

# Where grain is measured, as fractions of the crop: from the forehead to above the mouth, between
# the temples.
_PART = (0.25, 0.25, 0.75, 0.65)
# At most so many samples a side: enough for a figure of 2 %, and a close-up costs no more.
_LARGEST = 112
# The difference is compared in blocks of so many samples a side.
_BLOCK = 8
# What is wider than this many samples is no grain but a change of light.
_WIDE = 21
# Blocks of grain alone have a tenth less than this times the variance of their lowest third; where
# something moved there is more.
_LOWEST, _MOVED = 0.3, 1.75
# Grain is everywhere; what a codec leaves and what moves is in some blocks only. Of all blocks, how
# many must have noise alone for none and for all of it to count as grain (measured: 0.3 to 0.55 of
# compressed films, 0.73 and more of grainy ones).
_UNEVEN, _EVEN = 0.5, 0.65
# A face moves where following it leaves less than this times what comparing place by place does.
_MOVES = 0.9
# Of the largest variance between two frames, what two others must have to count: those with less
# are the same picture twice.
_SAME_PICTURE = 0.4

# Standard deviation of luma, as a share of the full range, below which there is no grain worth
# adding: what a codec leaves in a clean film. Above twice as much all of it is added.
_FAINT = 0.9 / 255


@dataclass(frozen=True, eq=False)
class _Difference:
    """The noise in the difference of two frames at a face, by the grid of the planes."""

    groups: tuple[PlaneGrain, ...]
    """Covariance and size."""
    trust: float
    """How much of it is grain, 0 to 1, by how evenly it lies over the face."""

    @property
    def strength(self) -> float:
        """Variance of the first plane."""
        return float(self.groups[0].covariance[0, 0]) if self.groups else 0.0


# Of two frames that differ by no grain.
_NO_GRAIN = _Difference((), 0.0)


class GrainMeter:
    """Measures grain at faces; each pair of neighbours once while both of them are in use.

    What is kept changes no bit, only the work; any number of threads may use it.
    """

    def __init__(self) -> None:
        self._kept: WeakMemo[AlignedFace, WeakMemo[AlignedFace, _Difference]] = WeakMemo()

    def measure(self, window: Window[FrameFaces[RestoredFace]]) -> list[Grain | None]:
        """Measures the grain at each face of the centre frame.

        Args:
            window: Frames around the centre; those within `GRAIN_RADIUS` are looked at.

        Returns:
            One for each face; None where the film has no grain there, and where no neighbouring
            frame shows the face.
        """
        items, centre = window.items, window.centre
        measured = []
        for index in range(len(items[centre].faces)):
            chain = [
                (items[at].frame, items[at].faces[face].aligned)
                for at, face in follow(window, index)
                if abs(at - centre) <= GRAIN_RADIUS
            ]
            differences = [
                self._between(*earlier, *later) for earlier, later in itertools.pairwise(chain)
            ]
            measured.append(_mean(differences, items[centre].frame))
        return measured

    def _between(
        self, earlier: Frame, face_before: AlignedFace, later: Frame, face: AlignedFace
    ) -> _Difference:
        partners = self._kept.get(face, WeakMemo)
        return partners.get(face_before, lambda: difference(earlier, face_before, later, face))


def difference(
    earlier: Frame, face_before: AlignedFace, later: Frame, face: AlignedFace
) -> _Difference:
    """Measures the noise of two neighbouring frames at a face that both show.

    Args:
        earlier: A frame.
        face_before: The face in it.
        later: A neighbouring frame in the same format.
        face: The face in that one.
    """
    grid, *others = grids(later.format)
    noise = _new_noise(earlier, face_before, later, face, grid, moved=None)
    if noise is None:
        return _NO_GRAIN
    calm = _calm(noise.planes[0])
    even = float(calm.mean())
    group = _statistics(grid, noise.planes, calm)
    trust = float(np.clip((even - _UNEVEN) / (_EVEN - _UNEVEN), 0, 1))
    if trust == 0 or group.covariance[0, 0] <= (_FAINT * later.format.peak) ** 2:
        return _NO_GRAIN
    groups = [group]
    for grid in others:
        chroma = _new_noise(earlier, face_before, later, face, grid, moved=noise.moved)
        if chroma is None:  # a face so small that nobody sees the colour of its grain
            groups.append(PlaneGrain(grid, np.zeros((len(grid),) * 2), (0.0, 0.0)))
        else:
            groups.append(_statistics(grid, chroma.planes, _calm(chroma.planes[0])))
    return _Difference(tuple(groups), trust)


@dataclass(frozen=True, eq=False)
class _NewNoise:
    """What is new in a frame at a face, but for slow changes."""

    planes: tuple[npt.NDArray[np.float32], ...]
    """Of each plane of a grid, the measured area."""
    moved: bool
    """Whether it was compared along with the face, rather than place by place."""


def _new_noise(
    earlier: Frame,
    face_before: AlignedFace,
    later: Frame,
    face: AlignedFace,
    grid: tuple[int, ...],
    *,
    moved: bool | None,
) -> _NewNoise | None:
    """Subtracts the earlier frame, in place or along with the face, whichever leaves less."""
    to_plane = later.format.luma_to_plane(grid[0])
    from_crop = compose(to_plane, invert(face.matrix))
    area = _area(from_crop, face.crop.shape[0], later.planes[grid[0]].shape)
    if area is None:
        return None
    # From the later plane to the earlier one, as the face has moved.
    before = compose(to_plane, compose(invert(face_before.matrix), invert(from_crop)))
    now = [later.planes[number][area].astype(np.float32) for number in grid]

    def minus(then: Sequence[npt.NDArray[np.float32]]) -> tuple[npt.NDArray[np.float32], ...]:
        return tuple(_high(new - old) for new, old in zip(now, then, strict=True))

    def in_place() -> tuple[npt.NDArray[np.float32], ...]:
        return minus([earlier.planes[number][area].astype(np.float32) for number in grid])

    def along() -> tuple[npt.NDArray[np.float32], ...]:
        return minus([_shifted(earlier.planes[number], before, area) for number in grid])

    if moved is not None:
        return _NewNoise(along() if moved else in_place(), moved)
    still, followed = in_place(), along()
    if _lowest(followed[0]) < _MOVES * _lowest(still[0]):
        return _NewNoise(followed, True)
    return _NewNoise(still, False)


def _area(
    from_crop: npt.NDArray[np.float64], size: int, shape: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """Returns the rows and columns of a plane that are measured; None if there are too few."""
    part = tuple(share * size - 0.5 for share in _PART)
    left, top, right, bottom = bounds(from_crop, (part[0], part[1], part[2], part[3]))
    spans = []
    for first, last, length in ((top, bottom, shape[0]), (left, right, shape[1])):
        start, stop = max(first, 0), min(last, length)
        if stop - start > _LARGEST:
            start += (stop - start - _LARGEST) // 2
            stop = start + _LARGEST
        stop = start + (stop - start) // _BLOCK * _BLOCK
        if stop - start < 2 * _BLOCK:
            return None
        spans.append(slice(start, stop))
    return spans[0], spans[1]


def _shifted(
    plane: npt.NDArray[np.generic], matrix: npt.NDArray[np.float64], area: tuple[slice, slice]
) -> npt.NDArray[np.float32]:
    """Takes the samples of `plane` that are nearest to where `matrix` maps those of `area`."""
    rows, columns = area
    x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)[:, None]
    at_x = np.rint(matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]).astype(np.intp)
    at_y = np.rint(matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]).astype(np.intp)
    height, width = plane.shape
    return np.asarray(plane[np.clip(at_y, 0, height - 1), np.clip(at_x, 0, width - 1)], np.float32)


def _high(change: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Takes away what changes slowly over the area: light that flickers or moves."""
    wide = min(_WIDE, min(change.shape) // 2 * 2 - 1)
    return np.asarray(change - cv2.blur(change, (wide, wide)), dtype=np.float32)


def _blocks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the mean of each block."""
    rows, columns = (length // _BLOCK for length in values.shape)
    return np.asarray(values.reshape(rows, _BLOCK, columns, _BLOCK).mean((1, 3)), np.float32)


def _lowest(noise: npt.NDArray[np.float32]) -> float:
    return float(np.quantile(_blocks(noise * noise), _LOWEST))


def _calm(noise: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Returns the blocks in which nothing but noise is new."""
    variance = _blocks(noise * noise)
    return np.asarray(variance <= _MOVED * np.quantile(variance, _LOWEST))


def _statistics(
    grid: tuple[int, ...],
    noise: Sequence[npt.NDArray[np.float32]],
    calm: npt.NDArray[np.bool_],
) -> PlaneGrain:
    """Averages over the `calm` blocks, in which nothing but noise is new."""
    count = len(grid)
    covariance = np.zeros((count, count))
    for i in range(count):
        for j in range(i, count):
            product = _blocks(noise[i] * noise[j])
            # Of the difference of two frames, each with noise of its own.
            covariance[i, j] = covariance[j, i] = float(product[calm].mean()) / 2
    wide = np.zeros_like(noise[0])
    tall = np.zeros_like(noise[0])
    wide[:, 1:] = noise[0][:, 1:] * noise[0][:, :-1]
    tall[1:] = noise[0][1:] * noise[0][:-1]
    variance = max(2 * covariance[0, 0], 1e-12)
    correlation = [
        float(np.clip(_blocks(product)[calm].mean() / variance, 0, 0.99))
        for product in (wide, tall)
    ]
    return PlaneGrain(grid, covariance, (correlation[0], correlation[1]))


def _mean(differences: Sequence[_Difference], frame: Frame) -> Grain | None:
    """Averages what neighbours say of a frame's grain."""
    largest = max((one.strength for one in differences), default=0.0)
    if largest == 0:
        return None
    told = [one for one in differences if one.strength >= _SAME_PICTURE * largest]
    # From nothing at the bound to all of it at twice the bound, so that nothing jumps.
    rise = np.sqrt(largest) / (_FAINT * frame.format.peak) - 1
    share = min(rise, 1.0) * float(np.mean([one.trust for one in told]))
    groups = []
    for at, grid in enumerate(grids(frame.format)):
        own = [one.groups[at] for one in told]
        correlation = np.mean([group.correlation for group in own], axis=0)
        groups.append(
            PlaneGrain(
                grid,
                share**2 * np.mean([group.covariance for group in own], axis=0),
                (float(correlation[0]), float(correlation[1])),
            )
        )
    return Grain(tuple(groups))
