"""What a zoom on each face shows: smoothed windows, and a place on the screen for each track."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23
from vqfr_media.faces.tracks import FaceTrack, Tracks

MARGIN = 1.6
"""Side of what a zoom shows over the size of the face."""
# Seconds (sigma of a Gaussian) over which place and size are averaged: a zoom that follows every
# twitch of the detector would hide the ones of the picture.
_PLACE_SIGMA = 0.1
_SIZE_SIGMA = 0.5
_SMALLEST, _LARGEST = 256, 512


@dataclass(frozen=True, eq=False)
class View:
    """What is shown of one face in one frame."""

    track: int
    """Number of the track."""
    slot: int
    """Row on the screen, from 0."""
    centre: tuple[float, float]
    """Middle of the square that is shown, display coordinates."""
    side: float
    """Its side, in display pixels."""

    def matrix(self, tile: int) -> Matrix23:
        """Returns (2, 3) from display coordinates to those of a tile of this side."""
        scale = tile / self.side
        # Corners fall on corners: the middle of the tile is at (tile - 1) / 2.
        shift = [(tile - 1) / 2 - scale * value for value in self.centre]
        return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


@dataclass(frozen=True, eq=False)
class ZoomPlan:
    """Every view of a clip, by frame."""

    views: dict[int, tuple[View, ...]]
    """Frames in which a face is shown, and how."""
    slots: int
    """Rows of the screen."""
    tile: int
    """Side of a tile, in pixels; even."""
    hidden: int
    """Tracks for which there was no row."""


def plan_zoom(tracks: Tracks, *, rows: int, scale: float = 1.0) -> ZoomPlan:
    """Gives every track a row for as long as it is there; the most seen faces come first.

    Args:
        tracks: of the clip.
        rows: how many there may be at most.
        scale: how much larger the largest clip is than the one the tracks are of.

    Raises:
        ValueError: rows is less than 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    shown = [track for track in tracks.tracks if track.appearances]
    taken: list[list[tuple[int, int]]] = [[] for _ in range(rows)]
    slots: dict[int, int] = {}
    for track in sorted(shown, key=lambda track: (-_weight(track), track.id)):
        span = (track.appearances[0].frame, track.appearances[-1].frame)
        free = (
            number
            for number, spans in enumerate(taken)
            if all(span[1] < first or last < span[0] for first, last in spans)
        )
        slot = next(free, None)
        if slot is not None:
            taken[slot].append(span)
            slots[track.id] = slot
    views: dict[int, list[View]] = {}
    for track in shown:
        if track.id in slots:
            for frame, centre, side in _windows(track, tracks.source.frame_rate):
                views.setdefault(frame, []).append(View(track.id, slots[track.id], centre, side))
    sides = [view.side for frame in views.values() for view in frame]
    wanted = float(np.median(sides)) * scale if sides else _SMALLEST
    return ZoomPlan(
        {frame: tuple(found) for frame, found in views.items()},
        max(slots.values(), default=-1) + 1,
        2 * round(min(max(wanted, _SMALLEST), _LARGEST) / 2),
        len(shown) - len(slots),
    )


def _weight(track: FaceTrack) -> float:
    return float(sum(one.face.size for one in track.appearances))


def _windows(
    track: FaceTrack, frame_rate: Fraction
) -> list[tuple[int, tuple[float, float], float]]:
    """Returns frame, centre and side of the window in every frame of the track."""
    frames = np.array([one.frame for one in track.appearances])
    centres = np.array([one.face.box.reshape(2, 2).mean(axis=0) for one in track.appearances])
    sizes = np.array([one.face.size for one in track.appearances])
    smoothed = _smoothed(frames, centres, _PLACE_SIGMA * float(frame_rate))
    sides = MARGIN * _smoothed(frames, sizes[:, None], _SIZE_SIGMA * float(frame_rate))[:, 0]
    return [
        (int(frame), (float(x), float(y)), max(float(side), 1.0))
        for frame, (x, y), side in zip(frames, smoothed, sides, strict=True)
    ]


def _smoothed(
    frames: npt.NDArray[np.int64], values: npt.NDArray[np.float64], sigma: float
) -> npt.NDArray[np.float64]:
    """Returns `values` (N, C), each read off a line fitted under a Gaussian around it.

    In the middle that is the Gaussian mean, and at the ends it does not lag behind a face that
    moves. Frames that are missing count for nothing.
    """
    place = frames - frames[0]
    dense = np.zeros((place[-1] + 1, values.shape[1] + 1))
    dense[place, :-1], dense[place, -1] = values, 1
    reach = max(1, int(np.ceil(3 * sigma)))
    offsets = np.arange(-reach, reach + 1)
    gauss = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)

    def around(power: int) -> npt.NDArray[np.float64]:
        # A convolution turns its kernel round, so that offset u is weighted as -u.
        kernel = gauss * (-offsets.astype(float)) ** power
        sums = [np.convolve(column, kernel)[reach:-reach] for column in dense.T]
        found: npt.NDArray[np.float64] = np.stack(sums, axis=1)[place]
        return found

    zeroth, first = around(0), around(1)
    count, mean, spread = zeroth[:, -1:], first[:, -1:], around(2)[:, -1:]
    determinant = count * spread - mean**2
    alone = determinant <= 1e-9 * count**2
    line = (spread * zeroth[:, :-1] - mean * first[:, :-1]) / np.where(alone, 1, determinant)
    result: npt.NDArray[np.float64] = np.where(alone, zeroth[:, :-1] / count, line)
    return result
