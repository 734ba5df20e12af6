"""The degradation: seeded, within range, and mild where it says so."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.ndimage import correlate
from vqfr_training.data.degradation import (
    Degradation,
    Image,
    degrade,
    gaussian_kernel,
    mild_damage,
    softened,
)
from vqfr_training.lite_recipes import footage_degradation, video_degradation


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
        lq = degrade(image, np.random.default_rng(seed), config)
        again = degrade(image, np.random.default_rng(seed), config)
        np.testing.assert_array_equal(lq, again)
        assert lq.shape == image.shape
        assert lq.dtype == np.float32
        assert lq.min() >= 0
        assert lq.max() <= 1
        # Eight bits, as from a decoder.
        np.testing.assert_allclose(lq * 255, np.rint(lq * 255), atol=1e-4)
    np.testing.assert_array_equal(image, before)


def test_different_seeds_differ() -> None:
    first, second = (degrade(picture(), np.random.default_rng(s), Degradation()) for s in (1, 2))
    assert np.abs(first - second).mean() > 0.005


def test_no_damage_is_nearly_the_identity() -> None:
    # JPEG at quality 100 still halves the chroma, so the smooth channels are compared closely.
    y, x = np.mgrid[0:64, 0:64] / 64
    smooth = np.repeat((0.3 + 0.3 * x + 0.2 * y)[..., None], 3, axis=2).astype(np.float32)
    lq = degrade(smooth, np.random.default_rng(0), none())
    assert np.abs(lq - smooth).max() < 2.5 / 255


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


def test_one_kind_of_damage_alone() -> None:
    """Of the kinds "none" and "noise" no pixel changes but for noise; JPEG alone makes blocks."""
    config = replace(Degradation(), single=1.0)
    image = 0.2 + 0.6 * picture(512)  # noise is not to be cut off at black and white
    seen = set()
    for seed in range(24):
        lq = degrade(image, np.random.default_rng(seed), config)
        generator = np.random.default_rng(seed)
        generator.random()
        kind = ("none", "blur", "noise", "jpeg")[int(generator.integers(4))]
        seen.add(kind)
        change = (lq - image) * 255
        edge = np.abs(change[150:240, 127:129]).mean()
        steps = np.abs(np.diff(change.mean(axis=2), axis=1)).mean(axis=0)
        blocks = steps[7::8].mean() / steps[3::8].mean()
        if kind == "none":
            assert max(np.abs(change).mean(), edge) < 1.6
        elif kind == "noise":
            assert 1.9 < change.std() < 14.5
            assert edge < 14.5
        elif kind == "blur":
            assert edge > 15
        elif kind == "jpeg":
            assert blocks > 1.2
        if kind in ("none", "noise"):  # what is blurred changes at edges, wherever those are
            assert blocks == pytest.approx(1, abs=0.1)
    assert seen == {"none", "blur", "noise", "jpeg"}


def test_one_kind_of_damage_is_drawn_first_and_once() -> None:
    image = picture()
    every = replace(footage_degradation(), h264=0.0, single=1.0, soft=1.0, mild=1.0)
    lq = degrade(image, np.random.default_rng(6), every)
    alone = degrade(image, np.random.default_rng(6), replace(Degradation(), single=1.0))
    np.testing.assert_array_equal(lq, alone)
    assert softened(every).single == mild_damage(every).single == 0


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
        ({"h264": -0.1}, "h264"),
        ({"h264_crf": (20.0, 60.0)}, "h264_crf"),
        ({"h264_frames": (0, 2)}, "h264_frames"),
        ({"h264_motion": -1.0}, "h264_motion"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Degradation(**changes)  # type: ignore[arg-type]


def test_only_square_rgb() -> None:
    with pytest.raises(ValueError, match="square"):
        degrade(np.zeros((8, 9, 3), np.float32), np.random.default_rng(0), Degradation())


def plain_resize(image: np.ndarray, size: int) -> np.ndarray:
    """Bilinear between pixel centres, as one matrix for each axis."""
    old = len(image)
    at = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
    low = np.floor(at).astype(int).clip(0, max(old - 2, 0))
    weights = np.zeros((size, old))
    weights[np.arange(size), low] += 1 - (at - low)
    weights[np.arange(size), np.minimum(low + 1, old - 1)] += at - low
    result: np.ndarray = np.einsum("ij,jlc->ilc", weights, np.einsum("jkc,lk->jlc", image, weights))
    return result


def plain_degradation(image: Image, seed: int) -> np.ndarray:
    """The paper's equation at 512 px with SciPy and Pillow, from the same draws."""
    generator = np.random.default_rng(seed)
    generator.random()  # nearly clean: never
    draws = generator.random(2)
    sigmas = 0.2 + 9.8 * draws
    angle = generator.uniform(0, np.pi)
    if generator.random() >= 0.5:
        sigmas[1] = sigmas[0]
    y, x = np.mgrid[-20:21, -20:21]
    turned = np.stack(
        [x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)]
    )
    kernel = np.exp(-0.5 * ((turned / sigmas[:, None, None]) ** 2).sum(axis=0))
    lq = correlate(image.astype(float), (kernel / kernel.sum())[..., None], mode="mirror")
    reduction = 1 + 7 * generator.random()
    generator.integers(1)
    size = round(512 / reduction)
    lq = plain_resize(lq, size)
    delta = 15 * generator.random()
    generator.random()  # grey noise: never
    noise = generator.standard_normal((size, size, 3), dtype=np.float32)
    lq = np.clip(lq + delta / 255 * noise, 0, 1)
    quality = round(100 - 40 * generator.random())
    file = io.BytesIO()
    levels = np.rint(lq * 255).astype(np.uint8)
    Pillow.fromarray(levels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    lq = np.asarray(Pillow.open(file)) / 255
    return np.rint(plain_resize(lq, 512) * 255) / 255


@pytest.mark.parametrize("seed", [2, 3])  # one blur of each kind
def test_the_papers_degradation_is_its_equation(seed: int) -> None:
    image = picture(512)
    lq = degrade(image, np.random.default_rng(seed), Degradation())
    difference = np.abs(lq - plain_degradation(image, seed)) * 255
    # A level that is rounded the other way before JPEG moves a few pixels of its block.
    assert difference.mean() < 0.1
    assert np.quantile(difference, 0.999) <= 3


def test_the_defaults_are_the_papers() -> None:
    paper = Degradation()
    assert paper.kernel_size == 41
    assert paper.anisotropic == 0.5
    assert (paper.blur_sigma, paper.reduction) == ((0.2, 10.0), (1.0, 8.0))
    assert (paper.noise, paper.jpeg_quality) == ((0.0, 15.0), (60, 100))
    assert paper.h264 == 0


def test_h264_is_seeded_and_worse_with_a_higher_rate_factor() -> None:
    image = picture(128)

    def through(crf: float, seed: int = 4) -> Image:
        config = replace(none(), h264=1.0, h264_crf=(crf, crf), h264_frames=(3, 3))
        return degrade(image, np.random.default_rng(seed), config)

    assert np.array_equal(through(30), through(30))
    assert not np.array_equal(through(30), through(30, seed=5))  # another motion, other residuals
    errors = [np.abs(through(crf) - image).mean() for crf in (10.0, 28.0, 45.0)]
    assert errors == sorted(errors)
    assert errors[2] > 2 * errors[0]


def test_h264_draws_nothing_where_it_is_off() -> None:
    image, config = picture(), Degradation()
    rare = replace(config, h264=1e-12)
    plain = [degrade(image, np.random.default_rng(s), config) for s in range(3)]
    for seed, expected in enumerate(plain):
        generator, other = (np.random.default_rng(seed) for _ in range(2))
        np.testing.assert_array_equal(degrade(image, generator, config), expected)
        degrade(image, other, rare)
        assert generator.bit_generator.state != other.bit_generator.state


def test_h264_without_pyav_says_what_to_do() -> None:
    code = (
        "import sys\n"
        "sys.modules['av'] = None\n"
        "import numpy as np\n"
        "from vqfr_training.data.degradation import Degradation, degrade\n"
        "image = np.zeros((64, 64, 3), np.float32)\n"
        "degrade(image, np.random.default_rng(0), Degradation())\n"
        "try: degrade(image, np.random.default_rng(0), Degradation(h264=1.0))\n"
        "except ValueError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "h264 = 1 needs PyAV: pip install av, or set h264 to 0"
