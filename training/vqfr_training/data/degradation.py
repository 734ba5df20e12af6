"""How a high-quality face becomes a low-quality one.

X = [(y * k_sigma) down r + n_delta] JPEG_q, back up.

Paper, section 4.1; before it goes back up, the picture may pass through H.264, as faces from films
have. Every length is given in pixels of a 512 px face and scaled to the working
size, so one configuration describes the same damage at 256 and at 512 px. `degrade` is a pure
function of (image, generator, configuration).
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.footage import Image as Image
from vqfr_training.data.footage import bleed, defocus, grain, halo, one_field

type Kernel = Literal["area", "linear", "cubic"]

REFERENCE_SIZE = 512
"""The face size, in pixels, in whose pixels `Degradation` is given."""


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Ranges of the damage. The defaults are the paper's, for 512 px faces."""

    blur_sigma: tuple[float, float] = (0.2, 10.0)
    """Standard deviation of the Gaussian blur in pixels of a 512 px face."""
    blur_power: float = 1.0
    """sigma = low + (high - low) * u**power: 1 is uniform, above 1 favours little blur."""
    anisotropic: float = 0.5
    """Share of blurs with two different standard deviations and a random direction."""
    kernel_size: int = 41
    """Side of the blur kernel in pixels of a 512 px face (odd)."""
    reduction: tuple[float, float] = (1.0, 8.0)
    """Down-sampling factor of a 512 px face; never enlarges at a smaller working size."""
    reduction_log_uniform: bool = False
    """Draw the factor log-uniformly (as many 1 to 2 as 4 to 8) instead of uniformly."""
    down_kernels: tuple[Kernel, ...] = ("linear",)
    """One is drawn for each reduction."""
    up_kernels: tuple[Kernel, ...] = ("linear",)
    """One is drawn for each enlargement."""
    noise: tuple[float, float] = (0.0, 15.0)
    """Standard deviation of the noise in 8-bit levels, at the reduced size."""
    noise_power: float = 1.0
    """delta = low + (high - low) * u**power, as for the blur."""
    grey_noise: float = 0.0
    """Share of noise that is the same in R, G and B, as luma noise in video is."""
    jpeg_quality: tuple[int, int] = (60, 100)
    """libjpeg quality, inclusive; 4:2:0 chroma."""
    block_shift: float = 0.0
    """Share of images whose 8 px block grid does not begin at the corner: a face in a frame."""
    recompressed: float = 0.0
    """Share of images compressed a second time, at another size, as video from the web is."""
    h264: float = 0.0
    """Share of images that are encoded as the last frame of a short H.264 clip; needs PyAV."""
    h264_crf: tuple[float, float] = (18.0, 35.0)
    """x264's constant rate factor; 23 is its default."""
    h264_frames: tuple[int, int] = (1, 4)
    """Frames of the clip, inclusive: the last is predicted from those before it, as in a film."""
    h264_motion: float = 1.5
    """Standard deviation of the motion from frame to frame, in pixels of the reduced face."""
    nearly_clean: float = 0.0
    """Share of images with at most a tenth of every range: good input must not be harmed."""
    soft: float = 0.0
    """Share of images that are mildly blurred and little else: what a soft lens or a clean but
    small picture gives. The ranges are those of `softened`."""
    soft_sigma: tuple[float, float] = (1.0, 6.0)
    """Blur of those, in pixels of a 512 px face."""
    mild: float = 0.0
    """Share of images, of those that are not soft, with what good footage has: a little of
    everything. The ranges are those of `mild_damage`."""
    single: float = 0.0
    """Share of images with one kind of damage alone (a quarter blurred by 1 to 6 px, a quarter with
    noise of 2 to 14 levels, a quarter JPEG of quality 30 to 95), or with none; where noise is not
    the damage there is up to 1.5 levels of it. What needs little must be told from what is bad."""
    defocused: float = 0.0
    """Share of images that a disk blurs beside the Gaussian: out of focus."""
    defocus_radius: tuple[float, float] = (1.0, 7.0)
    """Of the disk, in pixels of a 512 px face."""
    halos: float = 0.0
    """Share of images that a camera has sharpened at the reduced size."""
    one_field: float = 0.0
    """Share of images made from every other line of the reduced one."""
    chroma_bleed: float = 0.0
    """Share of images whose colours run along the lines."""
    grain: float = 0.0
    """Share of images with film grain."""

    def __post_init__(self) -> None:
        for name in (
            "blur_sigma",
            "reduction",
            "noise",
            "jpeg_quality",
            "h264_crf",
            "soft_sigma",
            "defocus_radius",
        ):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be an ascending range from 0 up, got {low}..{high}")
        if self.reduction[0] < 1:
            raise ValueError(f"reduction must be at least 1, got {self.reduction[0]}")
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ValueError(f"jpeg_quality must be within 1..100, got {self.jpeg_quality}")
        if self.h264_crf[1] > 51:
            raise ValueError(f"h264_crf must be within 0..51, got {self.h264_crf}")
        if not 1 <= self.h264_frames[0] <= self.h264_frames[1]:
            raise ValueError(
                f"h264_frames must be an ascending range from 1, got {self.h264_frames}"
            )
        if self.h264_motion < 0:
            raise ValueError(f"h264_motion must not be negative, got {self.h264_motion}")
        for name in ("blur_power", "noise_power"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {self.kernel_size}")
        if not self.down_kernels or not self.up_kernels:
            raise ValueError("down_kernels and up_kernels need at least one kernel each")
        shares = (
            "anisotropic",
            "grey_noise",
            "block_shift",
            "recompressed",
            "h264",
            "nearly_clean",
            "soft",
            "mild",
            "single",
            "defocused",
            "halos",
            "one_field",
            "chroma_bleed",
            "grain",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share within 0..1, got {getattr(self, name)}")


def degrade(image: Image, generator: np.random.Generator, config: Degradation) -> Image:
    """Returns a low-quality version of `image` (H = W, RGB in [0, 1]) of the same size.

    Quantised to 8 bits.
    """
    height, width = image.shape[:2]
    if image.ndim != 3 or height != width or image.shape[2] != 3:
        raise ValueError(f"image must be square RGB (S, S, 3), got {image.shape}")
    scale = height / REFERENCE_SIZE
    # Nothing is drawn where a share is 0, so that older recipes keep their samples.
    if _happens(config.single, generator):
        return _to_8_bits(_damage_once(image, generator, scale=scale))
    if _happens(config.soft, generator):
        return degrade(image, generator, softened(config))
    if _happens(config.mild, generator):
        return degrade(image, generator, mild_damage(config))
    strength = 0.1 if generator.random() < config.nearly_clean else 1.0

    lq = _blur(image, generator, config, scale=scale, strength=strength)
    if _happens(config.defocused, generator):
        low, high = config.defocus_radius
        lq = defocus(lq, (low + (high - low) * generator.random() * strength) * scale)
    factor = _reduction(generator, config, strength=strength)
    reduced = max(1, round(height / max(1.0, factor * scale)))
    lq = _resize(lq, reduced, _pick(config.down_kernels, generator))
    lq = _filmed(lq, generator, config, strength=strength)
    lq = _noise(lq, generator, config, strength=strength)
    lq = _jpeg(lq, generator, config, strength=strength)
    if generator.random() < config.recompressed:
        between = round(reduced + (height - reduced) * generator.random())
        lq = _resize(lq, between, _pick(config.up_kernels, generator))
        lq = _jpeg(lq, generator, config, strength=strength)
    if _happens(config.h264, generator):
        lq = _h264(lq, generator, config, strength=strength)
    lq = _resize(lq, height, _pick(config.up_kernels, generator))
    return _to_8_bits(lq)


def softened(config: Degradation) -> Degradation:
    """Describes the damage of a mildly blurred image: hardly reduced or noisy, well compressed."""
    return replace(
        config,
        blur_sigma=config.soft_sigma,
        blur_power=1.0,
        reduction=(1.0, 2.5),
        noise=(0.0, 2.0),
        jpeg_quality=(80, 100),
        recompressed=0.0,
        h264=0.0,
        nearly_clean=0.0,
        soft=0.0,
        mild=0.0,
        single=0.0,
        defocused=config.defocused / 2,
        one_field=0.0,
        chroma_bleed=config.chroma_bleed / 2,
        grain=0.0,
    )


def mild_damage(config: Degradation) -> Degradation:
    """Describes the damage of good footage: a little blur, noise and compression, seldom more.

    H.264 only where `config` has it, for it needs PyAV.
    """
    return replace(
        config,
        blur_sigma=(0.0, 5.0),
        blur_power=1.5,
        reduction=(1.0, 4.0),
        noise=(0.0, 12.0),
        noise_power=2.0,
        jpeg_quality=(50, 100),
        recompressed=0.1,
        h264=0.3 if config.h264 > 0 else 0.0,
        h264_crf=(12.0, 30.0),
        nearly_clean=0.25,
        soft=0.0,
        mild=0.0,
        single=0.0,
        defocused=0.1,
        halos=0.1,
        one_field=0.03,
        chroma_bleed=0.1,
        grain=0.15,
    )


def _damage_once(image: Image, generator: np.random.Generator, *, scale: float) -> Image:
    """Blurs, adds noise or compresses, or none of it; noise that is not the damage is faint.

    Of the configuration nothing holds here: noise is of three colours, JPEG's grid begins at the
    corner.
    """
    light = Degradation(
        blur_sigma=(1.0, 6.0), anisotropic=0.2, noise=(2.0, 14.0), jpeg_quality=(30, 95)
    )
    kind = _pick(("none", "blur", "noise", "jpeg"), generator)
    if kind == "blur":
        image = _blur(image, generator, light, scale=scale, strength=1.0)
    noise = light if kind == "noise" else replace(light, noise=(0.0, 1.5))
    image = _noise(image, generator, noise, strength=1.0)
    return _jpeg(image, generator, light, strength=1.0) if kind == "jpeg" else image


def _to_8_bits(image: Image) -> Image:
    # What a decoder hands over has 8 bits; the network must not see more.
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255) / np.float32(255), np.float32)


def _happens(share: float, generator: np.random.Generator) -> bool:
    """Tells whether something with this share happens; draws nothing where it never does."""
    return share > 0 and generator.random() < share


def _filmed(
    image: Image, generator: np.random.Generator, config: Degradation, *, strength: float
) -> Image:
    """Adds sharpening, one field, running colours and grain, at the reduced size."""
    if _happens(config.halos, generator):
        sigma, amount = generator.uniform(0.6, 1.8), generator.uniform(0.2, 1.2) * strength
        image = halo(image, sigma=sigma, amount=amount)
    if _happens(config.one_field, generator) and image.shape[0] >= 4:
        image = one_field(image, first=int(generator.integers(2)))
    if _happens(config.chroma_bleed, generator):
        width, shift = generator.uniform(0.5, 4.0) * strength, generator.uniform(-1, 2) * strength
        image = bleed(image, width=width, shift=shift)
    if _happens(config.grain, generator):
        deviation, size = generator.uniform(2, 14) / 255 * strength, generator.uniform(0, 1.2)
        image = grain(image, generator, deviation=deviation, size=size)
    return image


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float, angle: float) -> Image:
    """Returns (size, size) Gaussian of sum 1 with its first axis turned by `angle` radians."""
    axis = np.arange(size, dtype=np.float64) - (size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    along = (x * np.cos(angle) + y * np.sin(angle)) / sigma_x
    across = (y * np.cos(angle) - x * np.sin(angle)) / sigma_y
    kernel = np.exp(-0.5 * (along**2 + across**2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _blur(
    image: Image,
    generator: np.random.Generator,
    config: Degradation,
    *,
    scale: float,
    strength: float,
) -> Image:
    low, high = config.blur_sigma
    draws = generator.random(2) ** config.blur_power
    # Below a fifth of a pixel a sampled Gaussian is the identity; the floor avoids 0 / 0.
    sigma_x, sigma_y = np.maximum(0.05, (low + (high - low) * draws * strength) * scale)
    angle = generator.uniform(0, np.pi)
    if generator.random() >= config.anisotropic:
        sigma_y = sigma_x
    size = max(1, round((config.kernel_size - 1) / 2 * scale)) * 2 + 1
    border = cv2.BORDER_REFLECT_101
    if sigma_x == sigma_y:  # the same kernel as a product of two, four times as fast
        axis = cv2.getGaussianKernel(size, float(sigma_x), cv2.CV_32F)
        return np.asarray(cv2.sepFilter2D(image, -1, axis, axis, borderType=border), np.float32)
    kernel = gaussian_kernel(size, float(sigma_x), float(sigma_y), angle)
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=border), np.float32)


def _reduction(generator: np.random.Generator, config: Degradation, *, strength: float) -> float:
    low, high = config.reduction
    draw = generator.random() * strength
    if config.reduction_log_uniform:
        return float(low * (high / low) ** draw)
    return float(low + (high - low) * draw)


def _noise(
    image: Image, generator: np.random.Generator, config: Degradation, *, strength: float
) -> Image:
    low, high = config.noise
    draw = generator.random() ** config.noise_power
    delta = (low + (high - low) * draw * strength) / 255
    channels = 1 if generator.random() < config.grey_noise else 3
    noise = generator.standard_normal((*image.shape[:2], channels), dtype=np.float32)
    return np.clip(image + np.float32(delta) * noise, 0, 1)


def _jpeg(
    image: Image, generator: np.random.Generator, config: Degradation, *, strength: float
) -> Image:
    low, high = config.jpeg_quality
    quality = round(high - (high - low) * generator.random() * strength)
    shifted = generator.random() < config.block_shift
    top, left = generator.integers(0, 16, 2) if shifted else (0, 0)
    padded = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REPLICATE)
    levels = np.rint(padded[..., ::-1] * 255).astype(np.uint8)
    _, buffer = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR))
    whole = np.asarray(decoded[top:, left:, ::-1], np.float32)
    return np.asarray(whole / np.float32(255), np.float32)


def _h264(
    image: Image, generator: np.random.Generator, config: Degradation, *, strength: float
) -> Image:
    """Returns the last frame of a clip in which the picture arrives where it is by small shifts."""
    try:
        from vqfr_media.media.h264 import round_trip
    except ModuleNotFoundError as error:
        raise ValueError(
            f"h264 = {config.h264:g} needs PyAV: pip install av, or set h264 to 0"
        ) from error
    low, high = config.h264_crf
    crf = low + (high - low) * generator.random() * strength
    count = int(generator.integers(config.h264_frames[0], config.h264_frames[1] + 1))
    steps = generator.standard_normal((count, 2)) * config.h264_motion
    steps[-1] = 0
    # Where each frame is, seen from the last.
    places = np.cumsum(steps[::-1], axis=0)[::-1]
    levels = np.rint(image * 255).astype(np.uint8)
    frames = [_shifted(levels, x, y) for x, y in places[:-1]]
    return np.asarray(round_trip([*frames, levels], crf=crf)[-1] / np.float32(255), np.float32)


def _shifted(levels: NDArray[np.uint8], x: float, y: float) -> NDArray[np.uint8]:
    matrix = np.array([[1, 0, x], [0, 1, y]])
    size = (levels.shape[1], levels.shape[0])
    moved = cv2.warpAffine(levels, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def _resize(image: Image, size: int, kernel: Kernel) -> Image:
    if size == image.shape[0]:
        return image
    flag = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[kernel]
    if kernel == "area" and size > image.shape[0]:
        flag = cv2.INTER_LINEAR  # enlarging by areas would be a mosaic
    resized = cv2.resize(image, (size, size), interpolation=flag)
    return np.asarray(np.clip(resized, 0, 1), np.float32)


def _pick[T](choices: tuple[T, ...], generator: np.random.Generator) -> T:
    return choices[int(generator.integers(len(choices)))]
