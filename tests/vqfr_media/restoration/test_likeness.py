"""What overlapping windows share: fewer comparisons, nothing kept for longer, the same bits."""

import gc
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.faces.track import follow
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.restoration.likeness import BLUR, DIFFERENCE_SIGMA, Likeness
from vqfr_media.restoration.smoothing import smooth_latents, smooth_pixels
from vqfr_media.values import AlignedFace, EncodedFace, Face, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import Window, sliding, window_at

Image = npt.NDArray[np.float32]
TIME_BASE = Fraction(1, 1000)
RULE: dict[str, Any] = {"radius": 0.12, "time_base": TIME_BASE}
REACH = 3  # frames of 40 ms within the radius
COUNT, CUT, SIZE = 12, 8, 64
POINTS = np.array([[30, 40], [60, 40], [45, 55], [35, 70], [55, 70]], float)


def crop_of(index: int) -> Image:
    """A picture that drifts and trembles, in which something comes and goes."""
    rng = np.random.default_rng(5)
    base = cv2.GaussianBlur(rng.random((SIZE, SIZE, 3), np.float32), (0, 0), 3)
    noise = np.asarray(np.random.default_rng(index).normal(0, 0.01, base.shape), np.float32)
    crop = np.roll(base, index // 3, 1) + noise
    if index % 4 == 1:
        crop[:20, :20] += np.float32(0.3)
    return np.asarray(crop, np.float32)


def restored_at(index: int) -> FrameFaces[RestoredFace]:
    new_shot = index in (0, CUT)
    frame = Frame(index, 40 * index, (np.zeros((8, 8), np.uint8),), PixelFormat(family="gray"))
    tracked = TrackedFace(Face(np.array([20.0, 20, 70, 80]), POINTS, 0.9), None if new_shot else 0)
    crop = crop_of(index)
    image = np.random.default_rng(100 + index).random(crop.shape, np.float32)
    face = RestoredFace(AlignedFace(tracked, POINTS, np.eye(2, 3), crop), image)
    return FrameFaces(frame, (face,), new_shot)


def encoded(faces: FrameFaces[RestoredFace]) -> FrameFaces[EncodedFace]:
    (face,) = faces.faces
    latent = face.image[:16, :16].transpose(2, 0, 1)
    return FrameFaces(faces.frame, (EncodedFace(face.aligned, latent),), faces.new_shot)


def guide(crop: Image) -> Image:
    half = cv2.resize(crop, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), BLUR * SIZE / 2), np.float32)


def plain(window: Window[FrameFaces[RestoredFace]]) -> Image:
    """What `smooth_pixels` says in words, written down for one window, with nothing kept."""
    items, centre = window.items, window.centre
    own = items[centre].faces[0]
    total, weights = own.image.copy(), np.ones((SIZE, SIZE), np.float32)
    for at, _ in follow(window, 0):
        if at == centre:
            continue
        other = items[at].faces[0]
        difference = np.abs(guide(own.aligned.crop) - guide(other.aligned.crop)).max(axis=2)
        reach = max(1, round(BLUR * SIZE))
        kernel = (2 * reach + 1, 2 * reach + 1)
        difference = cv2.dilate(difference, np.ones(kernel, np.uint8))
        alike = np.exp(-0.5 * (difference / DIFFERENCE_SIGMA) ** 2)
        alike[difference > 3 * DIFFERENCE_SIGMA] = 0
        alike = cv2.GaussianBlur(alike, kernel, reach / 2)
        seconds = 0.04 * (at - centre)
        gauss = np.float32(float(np.exp(-0.5 * (3 * seconds / 0.12) ** 2)))
        weight = cv2.resize(alike, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) * gauss
        total += weight[..., None] * other.image
        weights += weight
    return total / weights[..., None]


class CountingLikeness(Likeness):
    """Counts what is really compared."""

    def __init__(self) -> None:
        super().__init__()
        self.comparisons = 0

    def compare(self, one: Image, other: Image) -> Image:
        self.comparisons += 1
        return super().compare(one, other)


@pytest.fixture(scope="module")
def clip() -> list[FrameFaces[RestoredFace]]:
    return [restored_at(index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def expected(clip: list[FrameFaces[RestoredFace]]) -> list[Image]:
    images = [plain(window) for window in sliding(clip, REACH)]
    # The test's picture does what it is for: something is averaged, and something is not.
    shares = [
        (image == faces.faces[0].image).mean() for image, faces in zip(images, clip, strict=True)
    ]
    assert 0.02 < np.mean(shares) < 0.9
    return images


# Neighbours within reach of each other, in two shots of 8 and 4 frames.
PAIRS = sum(length - step for length in (CUT, COUNT - CUT) for step in range(1, REACH + 1))


def test_each_pair_is_compared_once_in_whatever_order_and_no_bit_changes(
    clip: list[FrameFaces[RestoredFace]], expected: list[Image]
) -> None:
    order = list(range(COUNT))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        likeness = CountingLikeness()
        for index in order:
            window = window_at(clip.__getitem__, index, REACH, COUNT)
            (image,) = smooth_pixels(window, **RULE, likeness=likeness)
            np.testing.assert_array_equal(image, expected[index])
            (alone,) = smooth_pixels(window, **RULE)
            np.testing.assert_array_equal(alone, expected[index])
        assert likeness.comparisons == PAIRS


def test_latents_and_pixels_share_the_comparisons(clip: list[FrameFaces[RestoredFace]]) -> None:
    likeness = CountingLikeness()
    latents = [encoded(faces) for faces in clip]
    for window in sliding(latents, REACH):
        (shared,) = smooth_latents(window, **RULE, likeness=likeness)
        (alone,) = smooth_latents(window, **RULE)
        np.testing.assert_array_equal(shared, alone)
    for pixels in sliding(clip, REACH):
        smooth_pixels(pixels, **RULE, likeness=likeness)
    assert likeness.comparisons == PAIRS


@pytest.fixture
def little_to_collect() -> Iterator[None]:
    """The garbage collector passes over what was there before the test: libraries, other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_to_collect")
def test_streaming_keeps_nothing_of_frames_that_the_window_has_left() -> None:
    likeness = Likeness()

    def frames() -> Iterator[FrameFaces[RestoredFace]]:
        for index in range(40):
            yield restored_at(index)

    for window in sliding(frames(), REACH):
        smooth_pixels(window, **RULE, likeness=likeness)
        gc.collect()
        # Those of the window, and the one that has just left it.
        assert len(likeness) <= 2 * REACH + 2
    del window
    gc.collect()
    assert len(likeness) == 0


def test_any_number_of_threads_gives_the_same_bits(
    clip: list[FrameFaces[RestoredFace]], expected: list[Image]
) -> None:
    likeness = Likeness()

    def work(index: int) -> Image:
        window = window_at(clip.__getitem__, index, REACH, COUNT)
        (image,) = smooth_pixels(window, **RULE, likeness=likeness)
        return image

    with ThreadPoolExecutor(4) as pool:
        for image, wanted in zip(pool.map(work, range(COUNT)), expected, strict=True):
            np.testing.assert_array_equal(image, wanted)


def test_likeness_is_the_same_from_both_sides_and_nobody_can_change_it() -> None:
    one, other = (restored_at(index).faces[0].aligned for index in (0, 1))
    likeness = Likeness()
    found = likeness.between(one, other)
    assert likeness.between(other, one) is found
    np.testing.assert_array_equal(found, Likeness().between(other, one))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
