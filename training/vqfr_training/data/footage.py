"""What lenses, cameras and old video do to a picture, beside blur, noise and compression.

Functions of an image (H, W, 3) RGB in [0, 1] as float32; lengths are in its own pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

type Image = NDArray[np.float32]
"""(H, W, 3) RGB in [0, 1]."""


def defocus(image: Image, radius: float) -> Image:
    """Puts out of focus: the mean over a disk of `radius`, its rim soft."""
    half = max(1, int(np.ceil(radius + 0.5)))
    axis = np.arange(-half, half + 1, dtype=np.float32)
    distance = np.hypot(axis[:, None], axis[None])
    disk = np.clip(radius + 0.5 - distance, 0, 1)
    kernel = np.asarray(disk / disk.sum(), np.float32)
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def halo(image: Image, *, sigma: float, amount: float) -> Image:
    """Sharpens as cameras do it: bright and dark lines along every edge."""
    soft = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(np.clip(image + np.float32(amount) * (image - soft), 0, 1), np.float32)


def bleed(image: Image, *, width: float, shift: float) -> Image:
    """Colours that run along the lines, `width` (standard deviation) wide, and come late."""
    luma = _luma(image)
    chroma = cv2.GaussianBlur(image - luma, (0, 0), sigmaX=width, sigmaY=max(0.1, width / 4))
    matrix = np.array([[1, 0, shift], [0, 1, 0]], np.float64)
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(chroma, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(luma + moved, 0, 1), np.float32)


def one_field(image: Image, *, first: int) -> Image:
    """Enlarges every other line, from `first` (0 or 1) on, to all: deinterlaces softly."""
    rows, columns = image.shape[:2]
    half = image[first::2]
    # Line i of the field is line 2 i + first of the picture.
    matrix = np.array([[1, 0, 0], [0, 2, first]], np.float64)
    flags = cv2.INTER_LINEAR
    full = cv2.warpAffine(
        half, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(full, np.float32)


def grain(image: Image, generator: np.random.Generator, *, deviation: float, size: float) -> Image:
    """Adds film grain: grey noise of `deviation`, `size` wide, strongest in the middle tones."""
    noise = generator.standard_normal(image.shape[:2], dtype=np.float32)
    if size > 0.1:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), size), np.float32)
        noise /= np.float32(max(float(noise.std()), 1e-6))
    luma = _luma(image)
    strength = np.float32(deviation * 4) * luma * (1 - luma)
    return np.asarray(np.clip(image + strength * noise[..., None], 0, 1), np.float32)


def _luma(image: Image) -> Image:
    """Computes luma, (H, W, 1), by Rec. 601."""
    return np.asarray(image @ np.array([[0.299], [0.587], [0.114]], np.float32), np.float32)
