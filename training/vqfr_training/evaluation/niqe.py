"""NIQE: how far a picture's local statistics are from those of undamaged photographs.

Mittal, Soundararajan, Bovik: Making a "Completely Blind" Image Quality Analyzer, IEEE Signal
Processing Letters 20(3), 2013. No reference is needed; lower is better. The settings are those of
the authors' release, which the VQFR paper's tables use as well: blocks of 96 px without overlap, a
7 × 7 Gaussian of 7/6 px, two scales, 36 features.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

type Plane = NDArray[np.float64]
"""(H, W) luma, 0..255."""

BLOCK = 96
"""Side of a block in pixels; a picture needs two of them."""

_WINDOW, _SIGMA = 7, 7 / 6
# Neighbours whose products are looked at, as shifts of rows and columns (paper, Eq. 7).
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Bicubic with antialiasing at one half, as MATLAB's imresize has it: the kernel with a = -1/2 at
# +-1/4, 3/4, 5/4 and 7/4, halved.
_HALF = np.array([-1.5, -4.5, 14.5, 55.5, 55.5, 14.5, -4.5, -1.5]) / 128


@dataclass(frozen=True)
class Pristine:
    """The Gaussian that undamaged photographs follow."""

    mean: NDArray[np.float64]
    """(36,)."""
    covariance: NDArray[np.float64]
    """(36, 36)."""

    def __post_init__(self) -> None:
        if self.mean.shape != (36,) or self.covariance.shape != (36, 36):
            raise ValueError(
                f"NIQE has 36 features, got {self.mean.shape = }, {self.covariance.shape = }"
            )


def load_pristine(path: Path | None = None) -> Pristine:
    """Returns the Gaussian of the authors' release, or the one in `path`.

    Args:
        path: an .npz with `mu_pris_param` and `cov_pris_param`, as it goes about.

    Raises:
        ValueError: the file holds something else.
    """
    path = path or Path(__file__).with_name("niqe_pristine.npz")
    try:
        with np.load(path) as arrays:
            mean, covariance = arrays["mu_pris_param"], arrays["cov_pris_param"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no .npz with mu_pris_param and cov_pris_param: {error}"
        ) from error
    return Pristine(np.asarray(mean, np.float64).reshape(-1), np.asarray(covariance, np.float64))


def niqe(picture: NDArray[np.uint8], pristine: Pristine) -> float:
    """Returns distance of an (H, W, 3) RGB picture from `pristine`; 3 to 4 for a good photograph.

    Raises:
        ValueError: the picture has fewer than two blocks of 96 px.
    """
    found = features(luma(picture))
    whole = found[~np.isnan(found).any(axis=1)]
    if len(whole) < 2:
        raise ValueError("the picture is flat: NIQE needs two blocks with some structure")
    mean = np.nanmean(found, axis=0)
    covariance = np.cov(whole, rowvar=False)
    away = mean - pristine.mean
    spread = np.linalg.pinv((pristine.covariance + covariance) / 2)
    return float(np.sqrt(away @ spread @ away))


def luma(picture: NDArray[np.uint8]) -> Plane:
    """Returns Y of BT.601 in limited range, rounded, of an (H, W, 3) RGB picture."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(np.rint(picture @ weights + 16), np.float64)


def features(plane: Plane) -> NDArray[np.float64]:
    """Returns (blocks, 36) features, row by row; NaN where a block has values of one sign only.

    Raises:
        ValueError: the plane has fewer than two blocks.
    """
    rows, columns = (side // BLOCK for side in plane.shape)
    if rows * columns < 2:
        raise ValueError(
            f"NIQE needs two blocks of {BLOCK} px, got {plane.shape[1]}x{plane.shape[0]}"
        )
    plane = np.asarray(plane[: rows * BLOCK, : columns * BLOCK], np.float64)
    scales = []
    for side in (BLOCK, BLOCK // 2):
        contrast = _normalised(plane)
        blocks = contrast.reshape(rows, side, columns, side).swapaxes(1, 2)
        scales.append(_block_features(blocks.reshape(-1, side, side)))
        plane = _halved(plane)
    return np.concatenate(scales, axis=1)


def _normalised(plane: Plane) -> Plane:
    """Returns mean subtracted and contrast divided out locally (paper, Eq. 1)."""
    size, border = (_WINDOW, _WINDOW), cv2.BORDER_REPLICATE
    mean = cv2.GaussianBlur(plane, size, _SIGMA, borderType=border)
    square = cv2.GaussianBlur(plane * plane, size, _SIGMA, borderType=border)
    deviation = np.sqrt(np.abs(square - mean * mean))
    away = plane - mean
    # In areas of one level rounding decides the sign, and so the moments of either side.
    away[np.abs(away) < 1e-9] = 0
    return np.asarray(away / (deviation + 1), np.float64)


def _halved(plane: Plane) -> Plane:
    """Returns half the size, antialiased; the border is mirrored with its outermost samples."""
    for axis in (0, 1):
        padded = np.pad(plane, [(3, 3) if a == axis else (0, 0) for a in (0, 1)], "symmetric")
        count = plane.shape[axis] // 2
        taps = [np.take(padded, np.arange(count) * 2 + offset, axis=axis) for offset in range(8)]
        plane = np.asarray(np.tensordot(_HALF, np.stack(taps), axes=1), np.float64)
    return plane


def _block_features(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (N, 18) features of (N, side, side) blocks."""
    from scipy.special import gamma

    shape, left, right = _fit(blocks)
    columns = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        columns += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(columns, axis=1)


def _fit(blocks: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Returns shape, left and right scale, (N,) each, of asymmetric generalised Gaussians.

    By moments (Lasmar, Stitou, Berthoumieu, 2009) with the shape on a grid of 0.001.
    """
    from scipy.special import gamma

    values = blocks.reshape(len(blocks), -1)
    negative, positive = values < 0, values > 0
    squares = values * values
    with np.errstate(invalid="ignore", divide="ignore"):  # a block of one sign: NaN, as documented
        left = np.sqrt(np.where(negative, squares, 0).sum(1) / negative.sum(1))
        right = np.sqrt(np.where(positive, squares, 0).sum(1) / positive.sum(1))
        ratio = left / right
        moment = np.abs(values).mean(1) ** 2 / squares.mean(1)
        wanted = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes = np.arange(0.2, 10.001, 0.001)
    known = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    after = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    nearer = wanted - known[after - 1] <= known[after] - wanted
    shape = np.where(np.isnan(wanted), np.nan, shapes[np.where(nearer, after - 1, after)])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
