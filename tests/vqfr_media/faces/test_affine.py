import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from vqfr_media.faces.affine import apply, bounds, compose, invert, warp

Floats = npt.NDArray[np.float64]


def similarity(scale: float, turn: float, shift: tuple[float, float]) -> Floats:
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def coordinates(matrix: Floats, rows: int, columns: int) -> tuple[Floats, Floats]:
    """Source x and y of every destination pixel."""
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    points = apply(invert(matrix), grid)
    return points[..., 0], points[..., 1]


def test_compose_and_invert() -> None:
    one, other = similarity(1.3, 0.4, (5, -3)), similarity(0.2, -2, (1, 8))
    points = np.array([[1.0, 2.0], [-7, 0.5]])
    np.testing.assert_allclose(apply(compose(one, other), points), apply(one, apply(other, points)))
    np.testing.assert_allclose(apply(invert(one), apply(one, points)), points)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.full((2, 3), np.nan)])
def test_invert_names_a_singular_matrix(matrix: Floats) -> None:
    with pytest.raises(ValueError, match="must be invertible"):
        invert(matrix)


def test_bounds_hold_the_mapped_box() -> None:
    assert bounds(similarity(2, 0, (0.25, -1)), (0, 0, 3, 2)) == (0, -1, 8, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [0.31, 0.6, 1.0, 2.7])
def test_a_smooth_picture_is_read_at_the_mapped_coordinates(
    dtype: type[np.generic], interpolation: str, scale: float
) -> None:
    y, x = np.mgrid[0:500, 0:600].astype(np.float64)
    peak = 255.0 if dtype == np.uint8 else 4095.0

    def value(x: Floats, y: Floats) -> Floats:
        return peak * (0.5 + 0.2 * np.sin(x / 25) + 0.2 * np.cos(y / 30 + x / 90))

    source = value(x, y)
    if dtype != np.float32:
        source = np.rint(source)
    matrix = compose(similarity(scale, 0.2, (50, 50)), np.array([[1, 0, -301.37], [0, 1, -247.11]]))
    result = warp(source.astype(dtype), matrix, shape=(100, 100), interpolation=interpolation)  # type: ignore[arg-type]
    assert result.dtype == np.float32
    expected = value(*coordinates(matrix, 100, 100))
    # A Gaussian or box of a step's width lowers waves of this length by less than 0.8 %; cubic
    # coordinates are rounded to 1/32 pixel.
    assert np.abs(result - expected).max() < 0.008 * peak
    assert abs(float((result - expected).mean())) < 0.0005 * peak


def test_outside_is_mirrored_without_end() -> None:
    source = np.random.default_rng(0).random((9, 7)).astype(np.float32)
    matrix = np.array([[1.0, 0, 30], [0, 1, 25]])
    result = warp(source, matrix, shape=(60, 70), interpolation="linear")
    padded = np.pad(source, ((25, 60 - 34), (30, 70 - 37)), mode="symmetric")
    np.testing.assert_allclose(result, padded, atol=1e-6)


def test_outside_is_nothing_where_that_is_asked_for() -> None:
    source = np.ones((9, 7), np.float32)
    matrix = np.array([[1.0, 0, 30], [0, 1, 25]])
    result = warp(source, matrix, shape=(60, 70), interpolation="linear", outside="zero")
    expected = np.zeros((60, 70))
    expected[25:34, 30:37] = 1
    np.testing.assert_array_equal(result, expected)
    assert not warp(source, matrix, shape=(20, 20), outside="zero").any()


def test_shrinking_a_mirrored_part_equals_shrinking_a_padded_picture() -> None:
    source = np.random.default_rng(0).random((200, 300)).astype(np.float32)
    padded = np.pad(source, 240, mode="symmetric")
    matrix = similarity(0.23, 0.1, (20, 20))
    there = compose(matrix, np.array([[1.0, 0, -240], [0, 1, -240]]))
    np.testing.assert_allclose(
        warp(source, matrix, shape=(80, 90)), warp(padded, there, shape=(80, 90)), atol=1e-5
    )


@pytest.mark.parametrize("scale", [0.5, 0.17])
def test_what_the_destination_cannot_show_is_averaged_and_not_aliased(scale: float) -> None:
    y, x = np.mgrid[0:800, 0:800]
    stripes = np.where((x + y) % 3 == 0, 255, 0).astype(np.uint8)
    result = warp(stripes, similarity(scale, 0.05, (3, 3)), shape=(100, 100))
    # Stripes of 1.06 pixels or less; all but their mean would be an alias, of up to 170 codes. The
    # filter's flank is not infinitely steep: just beyond the limit a fifth is left.
    assert np.abs(result[5:-5, 5:-5] - 85).max() < (35 if scale == 0.5 else 4)


def test_it_is_close_to_an_ideal_filter_on_noise() -> None:
    """Against SciPy: white noise, ideal low-pass by a wide Gaussian-windowed spline."""
    noise = np.random.default_rng(1).normal(128, 40, (400, 400)).astype(np.float32)
    scale = 0.6
    smooth = ndimage.gaussian_filter(noise.astype(np.float64), 0.5 * math.sqrt(1 / scale**2 - 1))
    matrix = similarity(scale, 0.3, (60, -20))
    x, y = coordinates(matrix, 120, 120)
    expected = ndimage.map_coordinates(smooth, [y, x], order=5, mode="reflect")
    result = warp(noise, matrix, shape=(120, 120))
    error = (result - expected)[10:-10, 10:-10]
    assert error.std() < 0.25 * expected[10:-10, 10:-10].std()


def test_the_result_does_not_depend_on_where_in_the_picture_the_part_lies() -> None:
    """The prefilter's grid is fixed to the picture: a crop shifted by a pixel is the same crop."""
    source = np.random.default_rng(2).integers(0, 256, (600, 600)).astype(np.uint8)
    matrix = similarity(0.3, 0.0, (-20, -20))
    one = warp(source, matrix, shape=(100, 100))
    moved = compose(np.array([[1.0, 0, -7], [0, 1, -4]]), matrix)
    other = warp(source, moved, shape=(90, 90))
    np.testing.assert_allclose(one[4:94, 7:97], other, atol=0.5)
