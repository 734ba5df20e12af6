"""NIQE against a plain implementation of the paper's equations, block by block."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import correlate
from scipy.special import gamma
from skimage import data
from vqfr_training.evaluation.niqe import Pristine, features, load_pristine, luma, niqe

Plane = NDArray[np.float64]


def plain_shape(values: Plane) -> tuple[float, float, float]:
    """Shape and both scales of an asymmetric generalised Gaussian, by moments."""
    left = np.sqrt(np.mean(values[values < 0] ** 2))
    right = np.sqrt(np.mean(values[values > 0] ** 2))
    ratio = left / right
    moment = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    wanted = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    grid = np.arange(0.2, 10.001, 0.001)
    known = gamma(2 / grid) ** 2 / gamma(1 / grid) / gamma(3 / grid)
    shape = grid[np.argmin((known - wanted) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return float(shape), float(left * scale), float(right * scale)


def plain_half(plane: Plane) -> Plane:
    """Bicubic at one half with antialiasing, as one matrix for each axis."""

    def matrix(size: int) -> Plane:
        weights = np.zeros((size // 2, size))
        for row in range(size // 2):
            for at in range(2 * row - 3, 2 * row + 5):
                x = abs(at - (2 * row + 0.5)) / 2
                near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
                mirrored = -1 - at if at < 0 else min(at, 2 * size - 1 - at)
                weights[row, mirrored] += (near if x <= 1 else far) / 2
        return weights

    return np.asarray(matrix(plane.shape[0]) @ plane @ matrix(plane.shape[1]).T)


def plain_features(plane: Plane) -> Plane:
    axis = np.exp(-(np.arange(-3, 4) ** 2) / 2 / (7 / 6) ** 2)
    window = np.outer(axis, axis) / axis.sum() ** 2
    rows, columns = plane.shape[0] // 96, plane.shape[1] // 96
    plane = plane[: rows * 96, : columns * 96]
    scales = []
    for side in (96, 48):
        mean = correlate(plane, window, mode="nearest")
        square = correlate(plane**2, window, mode="nearest")
        away = np.where(np.abs(plane - mean) < 1e-9, 0, plane - mean)
        normal = away / (np.sqrt(np.abs(square - mean**2)) + 1)
        found = []
        for row in range(rows):
            for column in range(columns):
                block = normal[row * side :, column * side :][:side, :side]
                shape, left, right = plain_shape(block.ravel())
                values = [shape, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    product = block * np.roll(block, shift, axis=(0, 1))
                    shape, left, right = plain_shape(product.ravel())
                    mean_of = (right - left) * gamma(2 / shape) / gamma(1 / shape)
                    values += [shape, mean_of, left, right]
                found.append(values)
        scales.append(np.array(found))
        plane = plain_half(plane)
    return np.concatenate(scales, axis=1)


def plain_niqe(picture: NDArray[np.uint8], pristine: Pristine) -> float:
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    y = np.round(16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255)
    found = plain_features(y)
    away = found.mean(0) - pristine.mean
    covariance = np.cov(found.T)
    return float(np.sqrt(away @ np.linalg.pinv((covariance + pristine.covariance) / 2) @ away))


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = data.astronaut()[40:350, 80:490]  # type: ignore[no-untyped-call]
    return picture


def test_as_a_plain_implementation_has_it(photograph: NDArray[np.uint8]) -> None:
    pristine = load_pristine()
    plane = luma(photograph)
    np.testing.assert_allclose(features(plane), plain_features(plane), rtol=1e-9, atol=1e-9)
    assert niqe(photograph, pristine) == pytest.approx(plain_niqe(photograph, pristine), rel=1e-5)


def test_damage_is_farther_from_nature(photograph: NDArray[np.uint8]) -> None:
    pristine = load_pristine()
    noise = np.random.default_rng(0).normal(0, 40, photograph.shape)
    noisy = np.clip(photograph + noise, 0, 255).astype(np.uint8)
    soft = correlate(photograph, np.full((9, 9, 1), 1 / 81), output=np.float64)
    clear = niqe(photograph, pristine)
    assert 2 < clear < 5
    assert niqe(noisy, pristine) > 1.5 * clear
    assert niqe(soft.astype(np.uint8), pristine) > 1.5 * clear


def test_blocks_of_one_colour_are_left_out(photograph: NDArray[np.uint8]) -> None:
    # A block without values to both sides of its mean has no shape.
    partly = photograph.copy()
    partly[:110, :110] = 90
    found = features(luma(partly))
    assert np.isnan(found[0]).any()
    assert np.isfinite(niqe(partly, load_pristine()))


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    pristine = load_pristine()
    with pytest.raises(ValueError, match="two blocks of 96 px, got 191x100"):
        niqe(np.zeros((100, 191, 3), np.uint8), pristine)
    with pytest.raises(ValueError, match="flat"):
        niqe(np.full((192, 192, 3), 7, np.uint8), pristine)
    with pytest.raises(ValueError, match="36 features"):
        Pristine(np.zeros(35), np.zeros((36, 36)))
    (tmp_path / "params.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="mu_pris_param"):
        load_pristine(tmp_path / "params.npz")


def test_another_gaussian_can_be_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", mu_pris_param=np.ones((1, 36)), cov_pris_param=np.eye(36))
    own = load_pristine(tmp_path / "own.npz")
    assert own.mean.tolist() == [1] * 36
