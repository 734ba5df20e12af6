"""The figures, on constructions whose figures are known exactly."""

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.review.figures import (
    FigureSeries,
    Sum,
    detail,
    figures_of,
    flicker,
    jitter,
    line_deviation,
    luma_of,
    no_sums,
)

EVENLY = (0.0, 0.04, 0.08)
INNER = slice(28, 228)
ROOT = np.sqrt(1.5)
# Of normal noise: 1 over the 0.75 quantile.
NORMAL = 1 / 0.674489750196082

Luma = npt.NDArray[np.float32]


def face() -> Luma:
    """(256, 256) a picture with soft structure, such as a face has, from 40 to 215."""
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    waves = np.sin(x / 11 + np.cos(y / 17)) + np.cos(y / 9 - np.sin(x / 23))
    return np.asarray(127 + 43 * waves, np.float32)


def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("seconds", [EVENLY, (0.0, 0.01, 0.09), (1.0, 1.5, 1.6)])
def test_what_goes_on_evenly_is_no_unrest(seconds: tuple[float, float, float]) -> None:
    start, speed = random().normal(size=(2, 5, 2))
    points = tuple(start + speed * time for time in seconds)
    assert jitter((points[0], points[1], points[2]), seconds) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seconds", [EVENLY, (0.0, 0.01, 0.09)])
def test_noise_gives_its_own_standard_deviation(seconds: tuple[float, float, float]) -> None:
    noise = random().normal(0, 0.7, (3, 200_000))
    rest = line_deviation((noise[0], noise[1], noise[2]), seconds)
    assert float(rest.std()) == pytest.approx(0.7, rel=0.01)
    triples = random().normal(0, 0.7, (3000, 3, 5, 2))
    found = [jitter((a, b, c), seconds) for a, b, c in triples]
    # A root of a mean of ten squares is a little below the root of their expectation.
    assert float(np.mean(found)) == pytest.approx(0.7, rel=0.04)


def test_a_point_that_goes_to_and_fro() -> None:
    here, there = np.zeros((5, 2)), np.zeros((5, 2))
    there[:, 0] = 3.0  # every point, sideways only
    # 3 pixels off the line, over √1.5, in one of two coordinates.
    assert jitter((here, there, here), EVENLY) == pytest.approx(3 / ROOT / np.sqrt(2))


def test_times_must_increase() -> None:
    for seconds in ((0.0, 0.0, 1.0), (0.0, 2.0, 1.0)):
        with pytest.raises(ValueError, match="increase"):
            line_deviation((face(), face(), face()), seconds)


def test_a_still_picture_does_not_flicker() -> None:
    assert flicker((face(), face(), face()), EVENLY, INNER) == 0


def test_brightness_that_goes_to_and_fro() -> None:
    dark, bright = face(), face() + np.float32(6)
    found = flicker((dark, bright, dark), EVENLY, INNER)
    assert found == pytest.approx(6 / ROOT * NORMAL, rel=0.005)


def test_a_fade_does_not_flicker() -> None:
    seconds = (0.0, 0.04, 0.20)
    fade = tuple(face() + np.float32(50 * time) for time in seconds)
    assert flicker((fade[0], fade[1], fade[2]), seconds, INNER) < 0.05


@pytest.mark.parametrize("sigma", [1.0, 3.0, 6.0])
def test_noise_flickers_by_its_standard_deviation(sigma: float) -> None:
    noisy = [face() + random_noise for random_noise in random().normal(0, sigma, (3, 256, 256))]
    lumas = tuple(np.asarray(luma, np.float32) for luma in noisy)
    assert flicker((lumas[0], lumas[1], lumas[2]), EVENLY, INNER) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("pixels", [0.5, 1.5, 3.0])
def test_motion_is_no_flicker_however_sharp_the_picture(pixels: float) -> None:
    def moved(shift: float) -> Luma:
        matrix = np.array([[1, 0, shift], [0, 1, 0.3 * shift]])
        return cv2.warpAffine(
            face(), matrix, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)

    lumas = (moved(0), moved(pixels), moved(0.4 * pixels))
    uncompensated = NORMAL * float(np.median(np.abs(line_deviation(lumas, EVENLY)[INNER, INNER])))
    assert flicker(lumas, EVENLY, INNER) < 0.35
    assert uncompensated > 3 * flicker(lumas, EVENLY, INNER)


def test_what_passes_in_front_is_hardly_any_flicker() -> None:
    hidden = face()
    hidden[:, 100:160] = 10
    rest = line_deviation((face(), hidden, face()), EVENLY)[INNER, INNER]
    assert float(np.sqrt(np.mean(rest**2))) > 20
    assert flicker((face(), hidden, face()), EVENLY, INNER) < 1


def test_detail() -> None:
    half = 127 + (face() - 127) / 2
    assert detail(half) == pytest.approx(detail(face()) / 2, rel=1e-5)
    y, x = np.mgrid[0:64, 0:64].astype(np.float32)
    # Sobel's ∂²/∂x∂y is 4 times the second difference over two steps: of xy that is 4 · 1.
    saddle = (x - 31.5) * (y - 31.5)
    inner = np.abs(cv2.Sobel(saddle, cv2.CV_32F, 1, 1))[1:-1, 1:-1]
    assert (inner == 4).all()
    assert detail(saddle) == pytest.approx(4 * 62 * 62 / (64 * 64), rel=1e-6)


def test_luma() -> None:
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]], np.float32)
    np.testing.assert_allclose(luma_of(colours)[0], np.array([0.299, 0.587, 0.114, 1]) * 255)


def sums(position: int) -> npt.NDArray[np.float64]:
    values = no_sums()
    values[Sum.FACES] = 1
    values[Sum.SECONDS] = position / 25
    values[Sum.JITTERS] = position % 2
    values[Sum.JITTER_BEFORE] = (position % 2) * position
    values[Sum.DETAIL_BEFORE], values[Sum.DETAIL_AFTER] = 2, 3
    values[Sum.CHANGE] = position
    values[Sum.SKIPPED], values[Sum.LOST] = position < 10, position % 5 == 0
    return values


def test_a_series_loses_nothing_and_does_not_grow() -> None:
    series = FigureSeries(8)
    for position in range(100):
        series.add(position, sums(position))
    parts = series.figures()
    assert len(parts) == 7  # 16 frames each
    assert [part.faces for part in parts] == [16] * 6 + [4]
    assert [part.seconds for part in parts][:2] == pytest.approx([7.5 / 25, 23.5 / 25])
    assert [part.change for part in parts[:2]] == pytest.approx([7.5, 23.5])
    whole = figures_of(series.total)
    assert whole.faces == 100
    assert whole.change == pytest.approx(49.5)
    assert whole.jitter_before == pytest.approx(50)  # mean of 1, 3 ... 99
    assert [whole.skipped, whole.lost] == pytest.approx([0.1, 0.2])
    assert whole.sharpness == pytest.approx(1.5)
    assert whole.flicker_before is None
    for one, other in pairwise(parts):
        assert one.seconds < other.seconds


def test_a_series_may_have_gaps() -> None:
    series = FigureSeries(4)
    for position in (0, 1, 13):
        series.add(position, sums(position))
    assert [part.faces for part in series.figures()] == [2, 1]


def test_what_cannot_be() -> None:
    for capacity in (0, 1, 7):
        with pytest.raises(ValueError, match="capacity"):
            FigureSeries(capacity)
    with pytest.raises(ValueError, match="at least one face"):
        figures_of(no_sums())
