"""Training faces that are damaged at a larger size and cut out by `restore`'s own filter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vqfr_training.configs import Gains
from vqfr_training.data.degradation import Image
from vqfr_training.data.large_faces import cut_out
from vqfr_training.data.photographs import Photographs, pair
from vqfr_training.recipes import smoke_gains
from vqfr_training.vqfr.gain_stage import Samples

from vqfr_media.faces.align import crop_planes
from vqfr_media.frames import PixelFormat


def wave(side: int, *, period: float) -> Image:
    row = 0.5 + 0.4 * np.sin(2 * np.pi * np.arange(side) / period)
    return np.repeat(np.tile(row, (side, 1))[..., None], 3, axis=2).astype(np.float32)


def amplitude(image: Image) -> float:
    """Of a wave along the lines, from its deviation, at some distance from the rim."""
    return float(image[20:-20, 20:-20, 0].std() * np.sqrt(2))


def test_both_are_cut_out_alike() -> None:
    image = wave(100, period=9)
    first, second = cut_out((image, image), np.random.default_rng(1), size=64)
    assert first.shape == (64, 64, 3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_the_middle_stays_and_the_face_is_shown_up_to_a_quarter_larger(seed: int) -> None:
    # Ramps name the place that each pixel was taken from, through any symmetric filter.
    ramp = np.linspace(0.1, 0.9, 100, dtype=np.float32)
    x, y = np.meshgrid(ramp, ramp)
    image = np.dstack([x, y, x]).astype(np.float32)
    cut, _ = cut_out((image, image), np.random.default_rng(seed), size=64)
    inside = cut[10:54, 10:54]
    steps = np.diff(inside[..., 0], axis=1) / (0.8 / 99)  # pixels of the large face
    assert 100 / 64 / 1.25 - 1e-3 <= steps.mean() <= 100 / 64 + 1e-3
    for channel in (0, 1):
        middle = cut[31:33, 31:33, channel].mean()
        assert abs(middle - 0.5) <= 0.51 * steps.mean() * 0.8 / 99


def test_short_waves_are_as_weak_as_in_a_crop_of_restore() -> None:
    levels = (wave(100, period=5)[..., 0] * 255).astype(np.uint8)
    rgb = PixelFormat(family="rgb", full_range=True)

    def in_a_crop(scale: float) -> float:
        matrix = np.array([[scale, 0, 0.1], [0, scale, 0.2]])
        planes = crop_planes((levels,) * 3, rgb, matrix=matrix, size=64)
        return amplitude(np.stack(planes, axis=-1) / np.float32(255))

    image = wave(100, period=5)
    cuts = [cut_out((image, image), np.random.default_rng(seed), size=64) for seed in range(12)]
    found = [amplitude(first) for first, _ in cuts]
    weakest, strongest = in_a_crop(0.64), in_a_crop(0.8)
    assert weakest < strongest - 0.02
    assert weakest - 0.01 <= min(found) < min(found) + 0.01 < max(found) <= strongest + 0.01


def test_a_share_of_the_faces_is_large_and_the_others_are_as_without(drawn_faces: Path) -> None:
    recipe = smoke_gains()
    plain = Samples(recipe, drawn_faces / "train")
    stage = replace(recipe.stage, large=0.4, large_size=100)
    mixed = Samples(replace(recipe, stage=stage), drawn_faces / "train")
    changed = [
        any(not np.array_equal(*two) for two in zip(plain.pair(i), mixed.pair(i), strict=True))
        for i in range(40)
    ]
    # Of 40 draws 16 are expected, with a deviation of 3.1.
    assert 7 <= sum(changed) <= 25
    for lq, hq in (mixed.pair(number) for number in range(40)):
        assert lq.shape == hq.shape == (3, 64, 64)
        assert lq.dtype == hq.dtype == np.uint8


def test_a_large_face_is_the_sample_of_its_size_cut_out(drawn_faces: Path) -> None:
    recipe = smoke_gains()
    stage = replace(recipe.stage, large=1.0, large_size=100)
    lq, hq = Samples(replace(recipe, stage=stage), drawn_faces / "train").pair(5)
    large = pair(
        Photographs(drawn_faces / "train", size=100),
        5,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        degradation=recipe.degradation,
    )
    generator = np.random.default_rng([recipe.seed, 5, 2])
    generator.random()
    for found, expected in zip((lq, hq), cut_out(large, generator, size=64), strict=True):
        np.testing.assert_array_equal(found.transpose(1, 2, 0), np.rint(expected * 255))


def test_photographs_too_small_for_large_faces_are_refused(drawn_faces: Path) -> None:
    stage = replace(smoke_gains().stage, large=0.5, large_size=700)
    with pytest.raises(ValueError, match="768x768: too small for faces of 700 px"):
        Samples(replace(smoke_gains(), stage=stage), drawn_faces / "train")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"large is a share within 0\.\.1, got 1\.5"):
        Gains(faces=4, crop=8, large=1.5)
    small = replace(smoke_gains().stage, large=0.5, large_size=79)
    with pytest.raises(
        ValueError, match=r"large_size must be at least 1\.25 times the 64 px of a face, got 79"
    ):
        replace(smoke_gains(), stage=small)
