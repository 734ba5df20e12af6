"""What lenses, cameras and old video do, against what the operations mean."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import correlate1d
from vqfr_training.data.augmentation import Augmentation, flips_only, recolour
from vqfr_training.data.degradation import Degradation, degrade, mild_damage, softened
from vqfr_training.data.footage import bleed, defocus, grain, halo, one_field
from vqfr_training.lite_recipes import footage_degradation, video_degradation


def edge(size: int = 32) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    image = np.full((size, size, 3), 0.25, np.float32)
    image[:, size // 2 :] = 0.75
    return image


def test_defocus_is_the_mean_over_a_disk() -> None:
    point = np.zeros((21, 21, 3), np.float32)
    point[10, 10] = 1
    blurred = defocus(point, 3.0)[..., 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    y, x = np.mgrid[-10:11, -10:11]
    distance = np.hypot(x, y)
    inside, outside = blurred[distance <= 2.5], blurred[distance >= 3.6]
    np.testing.assert_allclose(inside, inside[0], atol=1e-6)
    # One over the disk's area, within what its soft rim takes.
    assert inside[0] == pytest.approx(1 / (np.pi * 9), rel=0.08)
    np.testing.assert_allclose(outside, 0, atol=1e-7)


def test_halos_overshoot_edges_and_leave_planes() -> None:
    image = edge()
    sharp = halo(image, sigma=1.0, amount=1.0)
    assert sharp[:, 16].min() > 0.85
    assert sharp[:, 15].max() < 0.15
    np.testing.assert_allclose(sharp[:, :8], image[:, :8], atol=1e-3)


def test_colours_run_and_light_stays() -> None:
    image = np.zeros((32, 32, 3), np.float32) + 0.4
    image[:, 16:, 0] = 0.6  # red begins here
    run = bleed(image, width=2.0, shift=0.0)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(run @ weights, image @ weights, atol=2e-3)
    red = (run - (run @ weights)[..., None])[16, :, 0]
    before = (image - (image @ weights)[..., None])[16, :, 0]
    axis = np.arange(-8, 9)
    kernel = np.exp(-(axis**2) / 8)
    expected = correlate1d(before, kernel / kernel.sum(), mode="mirror")
    np.testing.assert_allclose(red[8:24], expected[8:24], atol=2e-3)


@pytest.mark.parametrize("first", [0, 1])
def test_one_field_keeps_its_lines_and_puts_means_between(first: int) -> None:
    image = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    full = one_field(image, first=first)
    np.testing.assert_allclose(full[first::2], image[first::2], atol=1e-6)
    between = (image[first:-2:2] + image[first + 2 :: 2]) / 2
    np.testing.assert_allclose(full[first + 1 : -1 : 2][: len(between)], between, atol=1e-5)


def test_grain_is_grey_and_as_strong_as_told() -> None:
    image = np.full((128, 128, 3), 0.5, np.float32)
    noisy = grain(image, np.random.default_rng(0), deviation=0.05, size=1.0)
    difference = noisy - image
    np.testing.assert_allclose(difference[..., 0], difference[..., 2], atol=1e-6)
    assert difference.std() == pytest.approx(0.05, rel=0.02)  # 4 · 0.5 · 0.5 = 1
    assert not (grain(np.zeros_like(image), np.random.default_rng(0), deviation=1, size=1)).any()


def test_what_never_happens_draws_nothing() -> None:
    """Shares of 0 leave the samples of older recipes as they were, whatever their ranges."""
    image = edge(64)
    config = video_degradation()
    other = replace(config, soft_sigma=(0.0, 1.0), defocus_radius=(2.0, 3.0))
    for seed in range(5):
        one, two = (degrade(image, np.random.default_rng(seed), c) for c in (config, other))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["defocused", "halos", "one_field", "chroma_bleed", "grain"])
def test_each_share_changes_the_image(name: str) -> None:
    full: dict[str, Any] = {name: 1.0}
    too_much: dict[str, Any] = {name: 1.5}
    image = np.random.default_rng(1).random((256, 256, 3), dtype=np.float32)
    plain = Degradation(blur_sigma=(0, 0), reduction=(1, 1), noise=(0, 0), jpeg_quality=(100, 100))
    without = degrade(image, np.random.default_rng(2), plain)
    changed = degrade(image, np.random.default_rng(2), replace(plain, **full))
    assert np.abs(changed - without).mean() > 0.005
    with pytest.raises(ValueError, match=name):
        replace(plain, **too_much)


def test_soft_images_are_blurred_and_little_else() -> None:
    flat = np.full((64, 64, 3), 0.5, np.float32)
    config = replace(footage_degradation(), h264=0.0, soft=1.0)
    for seed in range(10):
        lq = degrade(flat, np.random.default_rng(seed), config)
        assert np.abs(lq - flat).max() < 0.05  # next to no noise, no blocks
    mild = softened(config)
    assert mild.soft == 0
    assert mild.blur_sigma == config.soft_sigma
    # Softer than the truth, but details of a tenth of the face are there.
    x = np.arange(64)
    bars = np.repeat(np.repeat((0.5 + 0.4 * np.sign(np.sin(x)))[None], 64, 0)[..., None], 3, 2)
    fine = np.asarray(bars, np.float32)
    kept = [degrade(fine, np.random.default_rng(s), config).std() / fine.std() for s in range(10)]
    assert 0.2 < np.mean(kept) < 1.05


def test_mild_images_have_the_damage_of_good_footage() -> None:
    image = np.random.default_rng(4).random((64, 64, 3), dtype=np.float32)
    config = replace(footage_degradation(), h264=0.0, soft=0.0, nearly_clean=0.0)
    always = replace(config, mild=1.0)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        generator.random()  # whether it is mild
        expected = degrade(image, generator, mild_damage(config))
        lq = degrade(image, np.random.default_rng(seed), always)
        np.testing.assert_array_equal(lq, expected)
    flat = np.full((64, 64, 3), 0.5, np.float32)

    def error(config: Degradation) -> float:
        damaged = [degrade(flat, np.random.default_rng(s), config) - flat for s in range(30)]
        return float(np.mean(np.abs(damaged)))

    assert error(always) < 0.75 * error(config)  # noise and grain are rarer and weaker
    assert mild_damage(always).mild == 0
    assert mild_damage(always).h264 == 0  # these machines need no PyAV
    assert mild_damage(footage_degradation()).h264 == 0.3
    assert softened(always).mild == 0
    with pytest.raises(ValueError, match="mild"):
        replace(config, mild=1.5)


def test_soft_is_drawn_before_mild() -> None:
    image = np.random.default_rng(5).random((64, 64, 3), dtype=np.float32)
    both = replace(footage_degradation(), h264=0.0, soft=1.0, mild=1.0)
    lq = degrade(image, np.random.default_rng(6), both)
    soft = degrade(image, np.random.default_rng(6), replace(both, mild=0.0))
    np.testing.assert_array_equal(lq, soft)


def test_grey_copies_are_grey_and_older_recipes_keep_their_samples() -> None:
    image = np.random.default_rng(3).random((8, 8, 3), dtype=np.float32)
    grey = recolour(image, np.random.default_rng(0), replace(flips_only(), grey=1.0))
    np.testing.assert_allclose(grey, np.repeat(grey[..., :1], 3, axis=2), atol=1e-6)
    np.testing.assert_allclose(grey[..., 0], image.mean(axis=2), atol=1e-6)
    with pytest.raises(ValueError, match="grey"):
        Augmentation(grey=2.0)
