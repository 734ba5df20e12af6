"""Affine maps of pictures: small matrix algebra, and one resampler for crops, pastes and masks.

A matrix is (2, 3) float64 and takes pixel-centre coordinates (x, y) of the source to those of the
destination, as everywhere in this package.
"""

import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

Matrix23 = npt.NDArray[np.float64]
Interpolation = Literal["linear", "cubic"]
Outside = Literal["mirror", "zero"]
Samples = npt.NDArray[np.generic]

# A Gaussian of 0.45 output steps before a cubic kernel is closest (49 to 50 dB, for scales of 0.3
# to 0.8) to a Lanczos-3 kernel stretched to the output's pitch; without it a cubic has 40 to 45 dB.
# An area filter at the exact ratio has 46 dB, and its phase jumps when the face moves by a pixel.
_PREFILTER = 0.45

# Whole-number shrinking stops here (in output pixels per shrunk pixel), and the Gaussian
# does the rest: a box filter alone has 47 dB, and lets a sixth of the shortest waves through.
_COARSEST = 0.6


def compose(outer: Matrix23, inner: Matrix23) -> Matrix23:
    """Returns the (2, 3) matrix of `inner` followed by `outer`."""
    composed = np.empty((2, 3))
    composed[:, :2] = outer[:, :2] @ inner[:, :2]
    composed[:, 2] = outer[:, :2] @ inner[:, 2] + outer[:, 2]
    return composed


def invert(matrix: Matrix23) -> Matrix23:
    """Returns the (2, 3) inverse of `matrix`.

    Raises:
        ValueError: the matrix is singular or not finite.
    """
    inverse = np.empty((2, 3))
    try:
        inverse[:, :2] = np.linalg.inv(matrix[:, :2])
    except np.linalg.LinAlgError:
        inverse[:] = np.nan
    # Plain numbers: for six, NumPy's own check takes as long as the inverse.
    if not all(map(math.isfinite, (*matrix.ravel().tolist(), inverse[0, 0].item()))):
        raise ValueError(f"an affine matrix must be invertible, got {matrix.tolist()}")
    inverse[:, 2] = -inverse[:, :2] @ matrix[:, 2]
    return inverse


def apply(matrix: Matrix23, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Takes `points` (..., 2) through `matrix`; float64."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def bounds(matrix: Matrix23, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom (exclusive) of the pixels that the mapped `box` touches.

    `box` is x0, y0, x1, y1 in pixel-centre coordinates of the source of `matrix`.
    """
    x0, y0, x1, y1 = box
    corners = apply(matrix, [(x0, y0), (x1, y0), (x0, y1), (x1, y1)])
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(left), int(top), int(right) + 1, int(bottom) + 1


def warp(
    source: Samples,
    matrix: Matrix23,
    *,
    shape: tuple[int, int],
    interpolation: Interpolation = "cubic",
    outside: Outside = "mirror",
) -> npt.NDArray[np.float32]:
    """Resamples a picture through an affine map, without aliasing where it shrinks.

    Only the part that is needed is read.

    Args:
        source: (rows, columns) or (rows, columns, channels) of any of uint8, uint16, float32.
        matrix: (2, 3) from source to destination coordinates.
        shape: rows and columns of the destination.
        interpolation: `linear` has exact coordinates; `cubic` is sharper and 2.3 times slower
            (OpenCV rounds its coordinates to 1/32 pixel).
        outside: what lies around the picture: itself, mirrored at its edge, or nothing (0).

    Returns:
        float32 of `shape` (and channels), values on the source's scale, overshoot not clipped.

    Raises:
        ValueError: the matrix is singular or not finite.
    """
    inverse = invert(matrix)
    rows, columns = shape
    # Source pixels that one destination pixel steps over, along each source axis.
    steps = np.hypot(inverse[:, 0], inverse[:, 1])
    shrink_x, shrink_y = (max(1, int(_COARSEST * step)) for step in steps)
    sigmas = [
        _PREFILTER * math.sqrt(max((step / shrink) ** 2 - 1, 0.0))
        for step, shrink in zip(steps, (shrink_x, shrink_y), strict=True)
    ]
    reach_x, reach_y = (math.ceil(3 * sigma) for sigma in sigmas)
    left, top, right, bottom = bounds(inverse, (0, 0, columns - 1, rows - 1))
    # Whole blocks, on a grid fixed to the source, so that the shrunk picture does not depend on
    # where the face is; two more for the cubic kernel and one for its rounded coordinates.
    left = (left // shrink_x - reach_x - 3) * shrink_x
    right = (-(-right // shrink_x) + reach_x + 3) * shrink_x
    top = (top // shrink_y - reach_y - 3) * shrink_y
    bottom = (-(-bottom // shrink_y) + reach_y + 3) * shrink_y

    part: MatLike = _span(
        _span(source, top, bottom, axis=0, outside=outside), left, right, axis=1, outside=outside
    ).astype(np.float32, copy=False)
    if shrink_x > 1 or shrink_y > 1:
        size = ((right - left) // shrink_x, (bottom - top) // shrink_y)
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    if max(sigmas) > 0:
        kernel = (2 * reach_x + 1, 2 * reach_y + 1)
        # OpenCV takes sigma 0 as 'choose one'; a kernel of one tap is the identity all the same.
        sigma_x, sigma_y = (max(sigma, 1e-3) for sigma in sigmas)
        part = cv2.GaussianBlur(part, kernel, sigma_x, sigmaY=sigma_y)
    to_source = np.array(
        [
            [shrink_x, 0, left + (shrink_x - 1) / 2],
            [0, shrink_y, top + (shrink_y - 1) / 2],
        ]
    )
    return cv2.warpAffine(
        part,
        compose(matrix, to_source),
        (columns, rows),
        flags=cv2.INTER_CUBIC if interpolation == "cubic" else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.float32, copy=False)


def _span(source: Samples, start: int, stop: int, *, axis: int, outside: Outside) -> Samples:
    """Takes start..stop along `axis` of `source`, continued at both ends without end."""
    length = source.shape[axis]
    if start >= 0 and stop <= length:
        return source[(slice(None),) * axis + (slice(start, stop),)]
    first = min(max(start, 0), stop)
    last = max(min(stop, length), first)
    middle = source[(slice(None),) * axis + (slice(first, last),)]
    if outside == "zero":
        widths = [(0, 0)] * source.ndim
        widths[axis] = (first - start, stop - last)
        return np.pad(middle, widths)
    # Copying the middle as one block is ten times faster than gathering all of it.
    before = source.take(_mirror(start, first, length), axis)
    after = source.take(_mirror(last, stop, length), axis)
    return np.concatenate([before, middle, after], axis)


def _mirror(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of start..stop in a signal of `length` that is mirrored at both ends, without end."""
    phase = np.arange(start, stop) % (2 * length)
    return np.minimum(phase, 2 * length - 1 - phase)
