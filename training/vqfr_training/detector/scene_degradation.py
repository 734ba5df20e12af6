"""Light on a face, and what cameras and codecs do to a whole scene."""

import cv2
import numpy as np

from vqfr_training.data.picture_files import Picture


def relight(patch: Picture, generator: np.random.Generator) -> Picture:
    """Changes skin tone, tint, exposure, contrast and light from a side."""
    levels = np.arange(256, dtype=np.float32) / 255
    gamma = np.exp(np.clip(generator.standard_normal() * 0.35, -0.7, 0.9))
    gains = np.exp(generator.standard_normal(3) * generator.choice([0.04, 0.15]))
    contrast, shift = np.exp(generator.uniform(-0.5, 0.25)), generator.uniform(-0.12, 0.12)
    curve = levels**gamma
    curve = (curve - 0.5) * contrast + 0.5 + shift
    table = np.clip(curve[:, None] * gains * 255, 0, 255).astype(np.uint8)
    lit = cv2.LUT(patch, np.ascontiguousarray(table[None]))
    if generator.random() < 0.15:  # little or much colour
        grey = _grey(np.asarray(lit, np.uint8))
        part = generator.uniform(-0.3, 0.9)
        lit = cv2.addWeighted(lit, 1 - part, grey, part, 0)
    if generator.random() < 0.5:
        rows, columns = patch.shape[:2]
        coarse = np.linspace(-1, 1, 6, dtype=np.float32)
        angle = generator.uniform(0, 2 * np.pi)
        strength = generator.uniform(0.1, 2.2)
        slant = coarse[None] * np.cos(angle) + coarse[:, None] * np.sin(angle)
        light = np.exp(strength * slant - abs(strength) * 0.25).astype(np.float32)
        wide = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_LINEAR)
        lit = cv2.multiply(lit, cv2.merge([wide] * 3), dtype=cv2.CV_8U)
    return np.asarray(lit, np.uint8)


def degrade_scene(image: Picture, generator: np.random.Generator) -> tuple[Picture, float]:
    """Adds tint, darkness, grey, blur, low resolution, noise and compression to a picture.

    Returns the picture and how many of its pixels now make one that can be told from the next.
    """
    draw = generator.random
    if draw() < 0.6:
        image = _grade(image, generator)
    if draw() < 0.2:
        image = _grey(image)
    side = image.shape[0]
    reduction = blur = 1.0
    what = draw()
    if what < 0.25:
        sigma = np.exp(generator.uniform(-0.7, 0.9))
        blur = max(1.0, 1.5 * sigma)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    elif what < 0.35:
        image = _shake(image, generator)
    elif what < 0.6:  # enlarged from fewer pixels
        reduction = float(np.exp(generator.uniform(0.1, 1.6)))
        small = max(16, round(side / reduction))
        image = _resized(image, small, cv2.INTER_AREA)
    if draw() < 0.4:
        image = _noise(image, generator)
    if draw() < 0.5:
        image = _compress(image, generator)
    if reduction > 1:
        kernel = generator.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])
        image = _resized(image, side, int(kernel))
    if draw() < 0.15:
        image = _sharpen(image, generator)
    if draw() < 0.25:
        image = _compress(image, generator)
    return np.asarray(image, np.uint8), max(reduction, blur)


def _grey(image: Picture) -> Picture:
    return np.asarray(
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8
    )


def _resized(image: Picture, side: int, kernel: int) -> Picture:
    return np.asarray(cv2.resize(image, (side, side), interpolation=kernel), np.uint8)


def _grade(image: Picture, generator: np.random.Generator) -> Picture:
    levels = np.arange(256, dtype=np.float32) / 255
    curve = levels ** np.exp(generator.uniform(-0.5, 0.8))
    gains = np.exp(generator.standard_normal(3) * 0.12) * np.exp(generator.uniform(-0.9, 0.25))
    table = np.clip((curve[:, None] * gains + generator.uniform(-0.05, 0.1)) * 255, 0, 255)
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)[None].copy()), np.uint8)


def _shake(image: Picture, generator: np.random.Generator) -> Picture:
    """Returns a straight camera movement during the exposure."""
    length = int(generator.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    angle, middle = generator.uniform(0, np.pi), (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, tuple(int(v) for v in start), tuple(int(v) for v in end), (1.0,))
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _noise(image: Picture, generator: np.random.Generator) -> Picture:
    rows, columns = image.shape[:2]
    channels = 1 if generator.random() < 0.5 else 3
    noise = generator.standard_normal((rows, columns, channels), dtype=np.float32)
    noise *= np.float32(generator.uniform(2, 20))
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def _sharpen(image: Picture, generator: np.random.Generator) -> Picture:
    soft = cv2.GaussianBlur(image, (0, 0), 1.2)
    part = float(generator.uniform(0.3, 1.5))
    return np.asarray(cv2.addWeighted(image, 1 + part, soft, -part, 0), np.uint8)


def _compress(image: Picture, generator: np.random.Generator) -> Picture:
    """Compresses as JPEG; smooths the block edges of half of the hard ones, as H.264 does."""
    quality = int(100 - 85 * generator.random() ** 0.7)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)
    if quality < 50 and generator.random() < 0.6:
        sigma = float(generator.uniform(10, 40))
        return np.asarray(cv2.bilateralFilter(decoded, 5, sigma, 2.0), np.uint8)
    return decoded
