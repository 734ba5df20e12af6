"""Figures in time on made clips: each rises with its cause, and none with blur."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from vqfr_training.data.photographs import Photographs
from vqfr_training.data.picture_files import Picture
from vqfr_training.evaluation.face_networks import load_dlib
from vqfr_training.evaluation.flow import WarpingError
from vqfr_training.evaluation.report import MetricValue
from vqfr_training.evaluation.steadiness import mesh_pair, mesh_tremble

from vqfr_media.media.image import read_image
from vqfr_media.media.rgb_clip import picture_of

ASTRONAUT = Path(__file__).parents[2] / "vqfr_media" / "demo" / "astronaut.jpg"
# Her landmarks as the bundled detector finds them, and what is shown of the photograph.
FIVE = np.array([[203.6, 99.8], [247.3, 102.8], [223.7, 124.8], [203.5, 142.6], [241.2, 145.2]])
LEFT, TOP, SIDE = 130, 24, 190
FACE = np.array([46.0, 28, 144, 152])
FRAMES = 5

Change = Callable[[int, Picture], Picture]


@pytest.fixture(scope="module")
def photograph() -> Picture:
    return picture_of(read_image(ASTRONAUT)[0])


@pytest.fixture(scope="module")
def truth(photograph: Picture) -> list[Picture]:
    """She goes to the left by two pixels a frame."""
    return [
        np.ascontiguousarray(photograph[TOP : TOP + SIDE, LEFT + 2 * at : LEFT + 2 * at + SIDE])
        for at in range(FRAMES)
    ]


def unsteadiness(truth: Sequence[Picture], change: Change) -> tuple[float, float]:
    """Of the changed clip and of the truth."""
    error = WarpingError()
    for at, true in enumerate(truth):
        error.add(change(at, true), true, [FACE], cut=False)
    results = error.results()
    values = [results[name] for name in ("unsteadiness", "unsteadiness_truth")]
    assert all(isinstance(value, MetricValue) for value in values)
    made, own = (value.value for value in values if isinstance(value, MetricValue))
    return made, own


def tremble(truth: Sequence[Picture], change: Change) -> float:
    pairs = []
    for at, true in list(enumerate(truth))[:3]:
        five = FIVE - np.array([LEFT + 2 * at, TOP])
        pair = mesh_pair(change(at, true), true, five)
        assert pair is not None
        pairs.append(pair)
    made, own = mesh_tremble(pairs)
    assert own < 0.5
    return made


def same(_: int, picture: Picture) -> Picture:
    return picture


def jitter(pixels: int) -> Change:
    return lambda at, picture: np.roll(picture, pixels * (at % 2), axis=1)


def noise(sigma: float) -> Change:
    def noisy(at: int, picture: Picture) -> Picture:
        added = np.random.default_rng(at).normal(0, sigma, picture.shape)
        return np.clip(np.rint(picture + added), 0, 255).astype(np.uint8)

    return noisy


def flipped(cells: int) -> Change:
    """So many cells of 12 × 12 pixels show another part of the face in every second frame."""

    def codes(at: int, picture: Picture) -> Picture:
        changed = picture.copy()
        for cell in range(cells if at % 2 else 0):
            row, column = 40 + 12 * (cell // 6), 60 + 12 * (cell % 6)
            changed[row : row + 12, column : column + 12] = picture[
                row + 24 : row + 36, column : column + 12
            ]
        return changed

    return codes


def blur(sigma: float) -> Change:
    return lambda _, picture: np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def test_unsteadiness_rises_with_jitter_noise_and_flipped_codes(truth: list[Picture]) -> None:
    still, own = unsteadiness(truth, same)
    assert still == own
    for cause in (jitter, noise, flipped):
        weak, strong = (unsteadiness(truth, cause(by))[0] for by in (2, 6))
        assert still < weak < strong, cause
    # A jitter of a pixel is a change of about a pixel's worth of the truth's own detail.
    assert unsteadiness(truth, jitter(1))[0] == pytest.approx(1, abs=0.45)


def test_unsteadiness_does_not_rise_with_blur(truth: list[Picture]) -> None:
    still = unsteadiness(truth, same)[0]
    soft, softer = (unsteadiness(truth, blur(by))[0] for by in (1.0, 3.0))
    assert softer <= soft <= still
    # And a soft picture that jitters is found out.
    shaken = unsteadiness(truth, lambda at, p: jitter(2)(at, blur(1.0)(at, p)))[0]
    assert shaken > 3 * soft


def test_mesh_tremble_is_twice_a_jitter_and_blind_to_blur(truth: list[Picture]) -> None:
    assert tremble(truth, same) == 0
    for pixels in (1, 3):
        assert tremble(truth, jitter(pixels)) == pytest.approx(2 * pixels, rel=0.15)
    assert tremble(truth, blur(1.5)) < 0.4
    assert tremble(truth, noise(12)) > 0.2


def test_a_covered_truth_has_no_mesh(truth: list[Picture]) -> None:
    grey = np.full_like(truth[0], 128)
    assert mesh_pair(truth[0], grey, FIVE - np.array([LEFT, TOP])) is None


def test_dlibs_drift_rises_with_another_face_and_not_with_blur(shared: Path) -> None:
    describe = load_dlib(shared / "weights" / "dlib_face_resnet.safetensors", torch.device("cpu"))
    people = Photographs(shared / "data" / "faces" / "val", size=256)
    one, other = (np.asarray(np.rint(people.plain(at) * 255), np.uint8) for at in (0, 5))

    def drift(first: Picture, second: Picture) -> float:
        return float(np.linalg.norm(describe(first) - describe(second)))

    mixed = np.asarray(np.rint(0.7 * one + 0.3 * other.astype(float)), np.uint8)
    assert drift(blur(2)(0, one), blur(2)(1, one)) == 0
    assert 0.05 < drift(one, mixed) < drift(one, other)
    assert drift(one, other) > 0.6
