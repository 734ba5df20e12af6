"""The degradation: seeded, within range, and mild where it says so."""

from __future__ import annotations

import numpy as np
import pytest

from training.degradation import Degradation, Image, degrade, gaussian_kernel
from training.recipes import video_degradation


def picture(size: int = 64) -> Image:
    """A smooth field with a few sharp edges, RGB in [0, 1]."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x + 4 * y)], axis=-1)
    image[size // 4 : size // 2, size // 4 : size // 3] = (0.9, 0.1, 0.2)
    return np.asarray(image, np.float32)


def none() -> Degradation:
    """Every range shut to no damage at all."""
    return Degradation(blur_sigma=(0, 0), reduction=(1, 1), noise=(0, 0), jpeg_quality=(100, 100))


@pytest.mark.parametrize("config", [Degradation(), video_degradation()], ids=["paper", "video"])
def test_seeded_and_within_range(config: Degradation) -> None:
    image = picture()
    before = image.copy()
    for seed in range(20):
        poor = degrade(image, np.random.default_rng(seed), config)
        again = degrade(image, np.random.default_rng(seed), config)
        np.testing.assert_array_equal(poor, again)
        assert poor.shape == image.shape
        assert poor.dtype == np.float32
        assert poor.min() >= 0
        assert poor.max() <= 1
        # Eight bits, as from a decoder.
        np.testing.assert_allclose(poor * 255, np.rint(poor * 255), atol=1e-4)
    np.testing.assert_array_equal(image, before)


def test_different_seeds_differ() -> None:
    first, second = (degrade(picture(), np.random.default_rng(s), Degradation()) for s in (1, 2))
    assert np.abs(first - second).mean() > 0.005


def test_no_damage_is_nearly_the_identity() -> None:
    # JPEG at quality 100 still halves the chroma, so the smooth channels are compared closely.
    y, x = np.mgrid[0:64, 0:64] / 64
    smooth = np.repeat((0.3 + 0.3 * x + 0.2 * y)[..., None], 3, axis=2).astype(np.float32)
    poor = degrade(smooth, np.random.default_rng(0), none())
    assert np.abs(poor - smooth).max() < 2.5 / 255


def test_nearly_clean_is_much_milder() -> None:
    def error(share: float) -> float:
        config = Degradation(nearly_clean=share)
        return float(
            np.mean(
                [
                    np.abs(degrade(picture(), np.random.default_rng(s), config) - picture()).mean()
                    for s in range(20)
                ]
            )
        )

    assert error(1.0) < 0.5 * error(0.0)


def test_damage_grows_with_the_blur() -> None:
    image = picture()
    blurs = [
        Degradation(
            blur_sigma=(s, s),
            anisotropic=0,
            reduction=(1, 1),
            noise=(0, 0),
            jpeg_quality=(100, 100),
        )
        for s in (0.5, 8, 40)
    ]
    errors = [np.abs(degrade(image, np.random.default_rng(0), b) - image).mean() for b in blurs]
    assert errors == sorted(errors)
    assert errors[2] > 1.5 * errors[0]


def test_gaussian_kernel_by_hand() -> None:
    kernel = gaussian_kernel(7, 1.5, 1.5, 0.3)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel[3, 4] / kernel[3, 3] == pytest.approx(np.exp(-0.5 / 1.5**2), rel=1e-5)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-8)
    # Turned by a right angle, the long axis lies along y.
    turned = gaussian_kernel(7, 2.0, 0.5, np.pi / 2)
    assert turned[0, 3] > turned[3, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blur_sigma": (3.0, 1.0)}, "blur_sigma"),
        ({"noise": (-1.0, 1.0)}, "noise"),
        ({"reduction": (0.5, 2.0)}, "reduction"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"blur_power": 0.0}, "blur_power"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"down_kernels": ()}, "kernels"),
        ({"recompressed": 1.5}, "recompressed"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Degradation(**changes)  # type: ignore[arg-type]


def test_only_square_rgb() -> None:
    with pytest.raises(ValueError, match="square"):
        degrade(np.zeros((8, 9, 3), np.float32), np.random.default_rng(0), Degradation())
