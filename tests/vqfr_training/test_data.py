"""Samples: a pure function of seed and index, cut where the template says."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.degradation import Degradation
from vqfr_training.data.photographs import (
    Augmentation,
    Photographs,
    batches,
    pair,
    to_tensor,
    validation_pairs,
)

STILL = replace(flips_only(), flip=0)


def test_a_sample_depends_on_seed_and_index_alone(drawn_faces: Path) -> None:
    photographs = Photographs(drawn_faces / "train", size=64)

    def take(index: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return pair(
            photographs,
            index,
            seed=seed,
            augmentation=Augmentation(),
            degradation=Degradation(),
        )

    later = take(7, 1)
    for _ in range(3):
        take(3, 1)
    again = take(7, 1)
    np.testing.assert_array_equal(later[0], again[0])
    np.testing.assert_array_equal(later[1], again[1])
    assert not np.array_equal(later[1], take(7, 2)[1])
    assert not np.array_equal(later[1], take(8, 1)[1])


def test_samples_stay_within_range_however_they_are_drawn(drawn_faces: Path) -> None:
    photographs = Photographs(drawn_faces / "train", size=64)
    always = Augmentation(background=1, occluded=1, blended=1)
    for index in range(12):
        sample = photographs.sample(np.random.default_rng(index), always)
        assert sample.shape == (64, 64, 3)
        assert sample.dtype == np.float32
        assert np.isfinite(sample).all()
        assert sample.min() >= 0
        assert sample.max() <= 1


def test_plain_cut_puts_the_eyes_where_the_template_has_them(drawn_faces: Path) -> None:
    # (305, 364) of 768 with the template at 640 px around the centre: (241, 300) / 640.
    for size in (64, 256, 512):
        image = Photographs(drawn_faces / "val", size=size).plain(0)
        dark = (image.max(axis=2) < 0.3).astype(np.uint8)
        _, _, _, centres = cv2.connectedComponentsWithStats(dark)
        eyes = np.sort(centres[1:3, 0])
        expected = np.array([305 - 64, 462 - 64]) * size / 640
        np.testing.assert_allclose(eyes, expected, atol=0.6)


def test_without_augmentation_a_sample_is_the_plain_cut(drawn_faces: Path) -> None:
    photographs = Photographs(drawn_faces / "train", size=64)
    plain = [photographs.plain(number) for number in range(len(photographs))]
    for seed in range(5):
        sample = photographs.sample(np.random.default_rng(seed), STILL)
        assert min(float(np.abs(sample - p).max()) for p in plain) < 1e-5


def test_batches_begin_anywhere_and_agree(drawn_faces: Path) -> None:
    photographs = Photographs(drawn_faces / "train", size=32)

    def take(first_step: int, workers: int) -> list[torch.Tensor]:
        stream = batches(
            photographs,
            first_step=first_step,
            steps=5,
            batch=2,
            seed=3,
            augmentation=Augmentation(),
            degradation=Degradation(),
            workers=workers,
        )
        return [torch.stack(one) for one in stream]

    whole, rest = take(0, 1), take(3, 2)
    assert len(whole) == 5
    assert len(rest) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert whole[0].shape == (2, 2, 3, 32, 32)


def test_validation_is_always_the_same(drawn_faces: Path) -> None:
    photographs = Photographs(drawn_faces / "val", size=32)
    first = validation_pairs(photographs, seed=7, degradation=Degradation())
    second = validation_pairs(photographs, seed=7, degradation=Degradation())
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], to_tensor([photographs.plain(n) for n in range(3)]))
    clean = validation_pairs(photographs, seed=7, degradation=None)
    assert torch.equal(clean[0], clean[1])
    ends = validation_pairs(photographs, seed=7, degradation=Degradation(), most=2)
    assert torch.equal(ends[0], first[0][[0, 2]])
    assert torch.equal(ends[1], first[1][[0, 2]])


def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.jpg"):
        Photographs(tmp_path, size=64)
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="20x10"):
        Photographs(tmp_path, size=64)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="readable"):
        Photographs(tmp_path, size=64)


@pytest.mark.parametrize("changes", [{"flip": 2.0}, {"zoom": (1.2, 0.8)}])
def test_wrong_augmentations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Augmentation(**changes)  # type: ignore[arg-type]
