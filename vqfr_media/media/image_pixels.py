"""The samples of a still picture, as Pillow decodes them, or OpenCV where Pillow would round."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vqfr_media.errors import MediaError
from vqfr_media.frames import Plane


def pixels_of(image: Image.Image, path: Path) -> Plane:
    """(rows, columns, channels): grey, grey and alpha, RGB or RGBA; `path` is named in errors.

    Raises:
        MediaError: more than 16 bits, CMYK, Lab or float.
    """
    transparent = "transparency" in image.info
    match image.mode:
        case "1":
            image = image.convert("L")
        case "P" | "PA":
            image = image.convert("RGBA" if transparent or image.mode == "PA" else "RGB")
        case "L" if transparent:
            image = image.convert("LA")
        case "RGB" if transparent:
            image = image.convert("RGBA")
        case "L" | "LA" | "RGB" | "RGBA":
            image.load()
        case "I;16" | "I;16B" | "I;16L" | "I":
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise MediaError(f"{path}: has more than 16 bits per sample; convert it first")
            return values.astype(np.uint16)[:, :, None]
        case mode:
            raise MediaError(f"{path}: {mode} pictures are not supported; convert it to RGB first")
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def deep_pixels(path: Path, *, is_gray: bool, has_alpha: bool) -> npt.NDArray[np.uint16]:
    """(rows, columns, channels) of 16-bit samples, of which Pillow would keep the upper half.

    Raises:
        MediaError: damaged.
        OSError: not readable.
    """
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise MediaError(f"{path}: damaged or not readable as a 16-bit image")
    pixels = np.asarray(decoded, np.uint16)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    # OpenCV spreads grey with alpha over four channels, and has blue first.
    order = ([0] if is_gray else [2, 1, 0]) + [3] * has_alpha
    return pixels[:, :, order]
