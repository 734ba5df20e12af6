"""Noise that is made: its strength, size and colour against what was asked for, and its bits."""

import numpy as np
import pytest

from vqfr_media.faces.grain import added_share, grain_noise, grids
from vqfr_media.frames import PixelFormat
from vqfr_media.values import Grain, PlaneGrain

AREA = (slice(-30, 482), slice(100, 740))
# What these four samples were when this was written: a film continued tomorrow has the same grain.
FOUR_SAMPLES = (0.55807495, 0.08949120, 0.85887468, -0.96926636)


def grain(
    covariance: list[list[float]], correlation: tuple[float, float] = (0.0, 0.0), *, times: int = 1
) -> Grain:
    planes = tuple(range(len(covariance)))
    return Grain((PlaneGrain(planes, np.array(covariance), correlation),), times)


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.5, 0.2), (0.8, 0.8)])
def test_strength_and_size_are_those_asked_for(correlation: tuple[float, float]) -> None:
    noise = grain_noise(grain([[49.0]], correlation), 0, area=AREA, frame_index=3)
    assert noise.shape == (512, 640)
    assert noise.std() == pytest.approx(7, rel=0.03)
    assert abs(noise.mean()) < 0.2
    along_rows = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    along_columns = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert (along_rows, along_columns) == pytest.approx(correlation, abs=0.02)


def test_the_colour_is_that_asked_for() -> None:
    wanted = [[9.0, 4.0, -2.0], [4.0, 16.0, 1.0], [-2.0, 1.0, 4.0]]
    planes = [
        grain_noise(grain(wanted), plane, area=AREA, frame_index=0).ravel() for plane in range(3)
    ]
    np.testing.assert_allclose(np.cov(planes), wanted, atol=0.15)


def test_places_have_their_own_noise_in_every_frame() -> None:
    film = grain([[4.0]], (0.4, 0.6))
    whole = grain_noise(film, 0, area=AREA, frame_index=7)
    part = grain_noise(film, 0, area=(slice(61, 130), slice(127, 300)), frame_index=7)
    np.testing.assert_array_equal(part, whole[91:160, 27:200])
    other = grain_noise(film, 0, area=AREA, frame_index=8)
    assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.02
    both = grain([[4.0, 0.0], [0.0, 4.0]], (0.4, 0.6))
    one, two = (grain_noise(both, plane, area=AREA, frame_index=7) for plane in (0, 1))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02


def test_no_part_of_the_noise_is_seen_again_nearby() -> None:
    noise = grain_noise(grain([[1.0]]), 0, area=(slice(0, 512), slice(0, 512)), frame_index=2)
    # At every shift at once: the correlation of the noise with itself.
    power = np.abs(np.fft.rfft2(noise - noise.mean())) ** 2
    correlation = np.fft.irfft2(power, noise.shape) / (noise.size * noise.var())
    assert correlation[0, 0] == pytest.approx(1)
    assert np.sort(np.abs(correlation.ravel()))[-2] < 0.03


def test_the_noise_is_that_of_every_process() -> None:
    noise = grain_noise(grain([[1.0]]), 0, area=(slice(64, 65), slice(64, 68)), frame_index=5)
    again = grain_noise(grain([[1.0]]), 0, area=(slice(0, 300), slice(0, 300)), frame_index=5)
    np.testing.assert_array_equal(noise[0], again[64, 64:68])
    np.testing.assert_allclose(noise[0], FOUR_SAMPLES, atol=1e-6)


@pytest.mark.parametrize("times", [2, 3])
def test_an_enlarged_frame_has_larger_grain(times: int) -> None:
    area = (slice(101, 431), slice(50, 521))
    noise = grain_noise(grain([[25.0]], (0.6, 0.6), times=times), 0, area=area, frame_index=1)
    assert noise.shape == (330, 471)
    # Enlarged white noise loses some of its strength, coarse noise hardly any.
    assert noise.std() == pytest.approx(5, rel=0.1)
    apart = (noise[:, times:] * noise[:, :-times]).mean() / noise.var()
    assert apart == pytest.approx(0.6, abs=0.06)


def test_what_is_added_keeps_the_noise_as_strong_under_any_mask() -> None:
    mask = np.linspace(0, 1, 11, dtype=np.float32)
    kept, added = 1 - mask, added_share(mask)
    np.testing.assert_allclose(kept**2 + added**2, 1, atol=1e-6)
    assert (added[0], added[-1]) == (0, 1)


def test_planes_are_told_apart_by_their_grids() -> None:
    assert grids(PixelFormat(family="gray")) == ((0,),)
    assert grids(PixelFormat(family="rgb")) == ((0, 1, 2),)
    assert grids(PixelFormat(family="yuv")) == ((0, 1, 2),)
    assert grids(PixelFormat(family="yuv", subsampling=(1, 0))) == ((0,), (1, 2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no grain for plane 1"):
        grain_noise(grain([[1.0]]), 1, area=AREA, frame_index=0)
    with pytest.raises(ValueError, match="does not fit"):
        PlaneGrain((0, 1), np.eye(3), (0.0, 0.0))
    with pytest.raises(ValueError, match="to below 1"):
        PlaneGrain((0,), np.eye(1), (1.0, 0.0))
