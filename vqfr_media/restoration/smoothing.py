"""Temporal smoothing: three pure functions of a finite, centred window, cut at shot boundaries.

Times come from the frames' own pts, so that variable frame rates are averaged over seconds and not
over frame counts. No function keeps anything between calls: the same window gives the same bits,
whoever asks and in whatever order.
"""

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.track import follow
from vqfr_media.values import AlignedFace, EncodedFace, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import Window

# How far two aligned inputs may differ, as a share of the full range, before one stops speaking
# for the other. Compression noise that the blur below leaves is about 0.01; a blink is above 0.1.
DIFFERENCE_SIGMA = 0.035
# Inputs are compared after a blur of this share of the crop's side: noise is averaged out, while
# an eyelid (about 0.03 of the side) still shows.
BLUR = 0.012


def _seconds[F: (TrackedFace, EncodedFace, RestoredFace)](
    items: Sequence[FrameFaces[F]], centre: int, time_base: Fraction
) -> list[float]:
    """Returns the seconds from the centre frame to each frame of the window."""
    return [
        float((frame_faces.frame.pts - items[centre].frame.pts) * time_base)
        for frame_faces in items
    ]


def _gauss(seconds: float, radius: float) -> float:
    """Returns the weight of a neighbour at `seconds`, where `radius` is three sigmas."""
    return float(np.exp(-0.5 * (3 * seconds / radius) ** 2))


def smooth_landmarks(
    window: Window[FrameFaces[TrackedFace]], *, radius: float, time_base: Fraction
) -> list[npt.NDArray[np.float64]]:
    """Smooths the landmarks of the centre frame's faces, against the detector's jitter.

    A straight line is fitted to each coordinate over the face's track by least squares under a
    Gaussian weight in time, and read off at the centre: in the middle of a track this is the plain
    zero-phase Gaussian mean, and at its ends it does not lag behind a moving head.

    Args:
        window: Frames around the centre; only the centre's own track is followed.
        radius: Seconds, three sigmas of the Gaussian; 0 returns the landmarks as they are.
        time_base: Seconds per unit of pts.

    Returns:
        One (5, 2) array per face of the centre frame, display coordinates.
    """
    items, centre = window.items, window.centre
    if radius <= 0:
        return [tracked.face.landmarks for tracked in items[centre].faces]
    seconds = _seconds(items, centre, time_base)
    smoothed = []
    for index in range(len(items[centre].faces)):
        chain = [
            (seconds[at], items[at].faces[face].face.landmarks)
            for at, face in follow(window, index)
            if abs(seconds[at]) <= radius
        ]
        times = np.array([t for t, _ in chain])
        points = np.stack([p for _, p in chain])
        weights = np.array([_gauss(t, radius) for t in times])
        weights /= weights.sum()
        mean_time = weights @ times
        mean_point = np.tensordot(weights, points, 1)
        spread = weights @ (times - mean_time) ** 2
        if spread > 0:
            slope = np.tensordot(weights * (times - mean_time), points, 1) / spread
            mean_point = mean_point - slope * mean_time
        smoothed.append(mean_point)
    return smoothed


def _guide(aligned: AlignedFace) -> npt.NDArray[np.float32]:
    """Blurs the input to (S/2, S/2, 3): what two neighbours are compared by."""
    size = aligned.crop.shape[0]
    half = cv2.resize(aligned.crop, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), BLUR * size / 2), dtype=np.float32)


def _similarity(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns (S/2, S/2) weights: 1 where two guides agree, 0 where something moved.

    The ghosting guard: beyond three times `DIFFERENCE_SIGMA` a neighbour has no weight at all. The
    difference is spread over its surroundings first, as far as the softening afterwards reaches, so
    that nothing leaks into what moved.
    """
    difference = np.abs(one - other).max(axis=2)
    reach = max(1, round(2 * BLUR * one.shape[0]))
    kernel = (2 * reach + 1, 2 * reach + 1)
    difference = cv2.dilate(difference, np.ones(kernel, np.uint8))
    weight = np.exp(-0.5 * (difference / DIFFERENCE_SIGMA) ** 2)
    weight[difference > 3 * DIFFERENCE_SIGMA] = 0
    return np.asarray(cv2.GaussianBlur(weight, kernel, reach / 2), dtype=np.float32)


def smooth_latents(
    window: Window[FrameFaces[EncodedFace]], *, radius: float, time_base: Fraction
) -> list[npt.NDArray[np.float32]]:
    """Averages the latents of the centre frame's faces over the window, before the look-up.

    Each cell of the code grid is a Gaussian mean over its track in time; a neighbour counts for a
    cell as far as the aligned inputs are alike there.

    Args:
        window: Encoded frames around the centre.
        radius: Seconds, three sigmas of the Gaussian; 0 returns the latents as they are.
        time_base: Seconds per unit of pts.

    Returns:
        One (C, h, w) array per face of the centre frame.
    """
    items, centre = window.items, window.centre
    if radius <= 0:
        return [face.latent for face in items[centre].faces]
    seconds = _seconds(items, centre, time_base)
    smoothed = []
    for index, own in enumerate(items[centre].faces):
        guide = _guide(own.aligned)
        rows, columns = own.latent.shape[1:]
        total = own.latent.astype(np.float64)
        weights = np.ones((rows, columns))
        for at, face in follow(window, index):
            if at == centre or abs(seconds[at]) > radius:
                continue
            other = items[at].faces[face]
            similarity = _similarity(guide, _guide(other.aligned))
            cells = cv2.resize(similarity, (columns, rows), interpolation=cv2.INTER_AREA)
            weight = _gauss(seconds[at], radius) * cells.astype(np.float64)
            total += weight * other.latent
            weights += weight
        smoothed.append((total / weights).astype(np.float32))
    return smoothed


def smooth_pixels(
    window: Window[FrameFaces[RestoredFace]], *, radius: float, time_base: Fraction
) -> list[npt.NDArray[np.float32]]:
    """Averages the restored images of the centre frame's faces where the input did not move.

    A joint bilateral mean over the track: the Gaussian in time, times how alike the *aligned
    inputs* are at each pixel. Where something moved, the neighbour's weight falls to nothing.

    Args:
        window: Restored frames around the centre.
        radius: Seconds, three sigmas of the Gaussian; 0 returns the images as they are.
        time_base: Seconds per unit of pts.

    Returns:
        One (S, S, 3) RGB array in 0 to 1 per face of the centre frame.
    """
    items, centre = window.items, window.centre
    if radius <= 0:
        return [face.image for face in items[centre].faces]
    seconds = _seconds(items, centre, time_base)
    smoothed = []
    for index, own in enumerate(items[centre].faces):
        size = own.image.shape[0]
        guide = _guide(own.aligned)
        total = own.image.copy()
        weights = np.ones((size, size), np.float32)
        for at, face in follow(window, index):
            if at == centre or abs(seconds[at]) > radius:
                continue
            other = items[at].faces[face]
            similarity = _similarity(guide, _guide(other.aligned))
            weight = cv2.resize(similarity, (size, size), interpolation=cv2.INTER_LINEAR)
            weight = weight * np.float32(_gauss(seconds[at], radius))
            total += weight[..., None] * other.image
            weights += weight
        smoothed.append(total / weights[..., None])
    return smoothed
