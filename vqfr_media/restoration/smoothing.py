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
from vqfr_media.restoration.likeness import Likeness
from vqfr_media.values import EncodedFace, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import Window


def seconds_from[F: (TrackedFace, EncodedFace, RestoredFace)](
    items: Sequence[FrameFaces[F]], centre: int, time_base: Fraction
) -> list[float]:
    """Returns the seconds from the centre frame to each frame of the window."""
    return [
        float((frame_faces.frame.pts - items[centre].frame.pts) * time_base)
        for frame_faces in items
    ]


def gauss(seconds: float, radius: float) -> float:
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
    seconds = seconds_from(items, centre, time_base)
    smoothed = []
    for index in range(len(items[centre].faces)):
        chain = [
            (seconds[at], items[at].faces[face].face.landmarks)
            for at, face in follow(window, index)
            if abs(seconds[at]) <= radius
        ]
        times = np.array([t for t, _ in chain])
        points = np.stack([p for _, p in chain])
        smoothed.append(line_now(times, points, np.array([gauss(t, radius) for t in times])))
    return smoothed


def line_now(
    times: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Returns what a straight line through `points` over time has at time 0.

    Args:
        times: (N,) seconds.
        points: (N, ...) one value for each time.
        weights: (N,) of the least squares, not negative, not all 0.
    """
    weights = weights / weights.sum()
    mean_time = weights @ times
    mean_point: npt.NDArray[np.float64] = np.tensordot(weights, points, 1)
    spread = weights @ (times - mean_time) ** 2
    if spread > 0:
        slope = np.tensordot(weights * (times - mean_time), points, 1) / spread
        mean_point = mean_point - slope * mean_time
    return mean_point


def parabola_now(
    times: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Returns what a parabola through `points` over time has at time 0; see `line_now`.

    A line, where fewer than three points count.
    """
    counting = weights > 0
    if np.count_nonzero(counting) < 3:
        return line_now(times, points, weights)
    scaled = times[counting] / np.abs(times[counting]).max()
    roots = np.sqrt(weights[counting])
    powers = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)
    values = points[counting].reshape(len(scaled), -1)
    fitted = np.linalg.lstsq(powers * roots[:, None], values * roots[:, None], rcond=None)[0]
    return np.asarray(fitted[0].reshape(points.shape[1:]), np.float64)


def smooth_latents(
    window: Window[FrameFaces[EncodedFace]],
    *,
    radius: float,
    time_base: Fraction,
    likeness: Likeness | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Averages the latents of the centre frame's faces over the window, before the look-up.

    Each cell of the code grid is a Gaussian mean over its track in time; a neighbour counts for a
    cell as far as the aligned inputs are alike there.

    Args:
        window: Encoded frames around the centre.
        radius: Seconds, three sigmas of the Gaussian; 0 returns the latents as they are.
        time_base: Seconds per unit of pts.
        likeness: What compares the inputs; by default nothing is kept for other windows.

    Returns:
        One (C, h, w) array per face of the centre frame.
    """
    items, centre = window.items, window.centre
    if radius <= 0:
        return [face.latent for face in items[centre].faces]
    seconds = seconds_from(items, centre, time_base)
    likeness = Likeness() if likeness is None else likeness
    smoothed = []
    for index, own in enumerate(items[centre].faces):
        rows, columns = own.latent.shape[1:]
        total = own.latent.astype(np.float64)
        weights = np.ones((rows, columns))
        for at, face in follow(window, index):
            if at == centre or abs(seconds[at]) > radius:
                continue
            other = items[at].faces[face]
            similarity = likeness.between(own.aligned, other.aligned)
            cells = cv2.resize(similarity, (columns, rows), interpolation=cv2.INTER_AREA)
            weight = gauss(seconds[at], radius) * cells.astype(np.float64)
            total += weight * other.latent
            weights += weight
        smoothed.append((total / weights).astype(np.float32))
    return smoothed


def smooth_pixels(
    window: Window[FrameFaces[RestoredFace]],
    *,
    radius: float,
    time_base: Fraction,
    likeness: Likeness | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Averages the restored images of the centre frame's faces where the input did not move.

    A joint bilateral mean over the track: the Gaussian in time, times how alike the *aligned
    inputs* are at each pixel. Where something moved, the neighbour's weight falls to nothing.

    Args:
        window: Restored frames around the centre.
        radius: Seconds, three sigmas of the Gaussian; 0 returns the images as they are.
        time_base: Seconds per unit of pts.
        likeness: What compares the inputs; by default nothing is kept for other windows.

    Returns:
        One (S, S, 3) RGB array in 0 to 1 per face of the centre frame.
    """
    items, centre = window.items, window.centre
    if radius <= 0:
        return [face.image for face in items[centre].faces]
    seconds = seconds_from(items, centre, time_base)
    likeness = Likeness() if likeness is None else likeness
    smoothed = []
    for index, own in enumerate(items[centre].faces):
        size = own.image.shape[0]
        total = own.image.copy()
        scratch = np.empty_like(total)
        weights = np.ones((size, size), np.float32)
        for at, face in follow(window, index):
            if at == centre or abs(seconds[at]) > radius:
                continue
            other = items[at].faces[face]
            similarity = likeness.between(own.aligned, other.aligned)
            resized = cv2.resize(similarity, (size, size), interpolation=cv2.INTER_LINEAR)
            weight = np.asarray(resized * np.float32(gauss(seconds[at], radius)), np.float32)
            # On all channels in memory: broadcasting, NumPy's loops are three values long.
            cv2.merge((weight, weight, weight), dst=scratch)
            total += np.multiply(scratch, other.image, out=scratch)
            weights += weight
        total /= cv2.merge((weights, weights, weights), dst=scratch)
        smoothed.append(total)
    return smoothed
