"""Colour by arithmetic alone (ITU-T H.273): code values to RGB and back, and the small RGB proxy.

Nothing here knows FFmpeg, so planes of any origin will do.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour_tags import KR_KB

Float32 = npt.NDArray[np.float32]


@lru_cache(maxsize=64)
def _matrices(pixel_format: PixelFormat) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the (3, 4) affine matrices from code values to RGB (nominal 0..1), and back."""
    unit = float(1 << (pixel_format.bits - 8))
    neutral = 0.0 if pixel_format.sample == "float" else 128 * unit
    luma, chroma = (
        (float(pixel_format.peak), float(pixel_format.peak))
        if pixel_format.full_range
        else (219 * unit, 224 * unit)
    )
    black = 0.0 if pixel_format.full_range else 16 * unit
    if pixel_format.family == "rgb":
        # Planes are G, B, R.
        forward = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) * pixel_format.peak
        offset = np.zeros(3)
    elif pixel_format.matrix == "ycgco":
        # Planes are Y, Cg, Co; H.273 forms them from quantised RGB, so chroma has luma's scale.
        rows = np.array([[1, 2, 1], [-1, 2, -1], [2, 0, -2]]) / 4
        forward = rows * luma
        offset = np.array([black, neutral, neutral])
    else:
        kr, kb = KR_KB[pixel_format.matrix]
        y = np.array([kr, 1 - kr - kb, kb])
        u = (np.array([0, 0, 1]) - y) / (2 * (1 - kb))
        v = (np.array([1, 0, 0]) - y) / (2 * (1 - kr))
        forward = np.stack([y * luma, u * chroma, v * chroma])
        offset = np.array([black, neutral, neutral])
    backward = np.linalg.inv(forward)
    return (
        np.column_stack([backward, -backward @ offset]),
        np.column_stack([forward, offset]),
    )


def to_rgb(planes: Sequence[Float32], pixel_format: PixelFormat) -> Float32:
    """Returns (H, W, 3) RGB, nominally 0 to 1 and not clipped.

    Args:
        planes: code values Y, U, V or G, B, R or grey; all of the same shape, alpha left out.
        pixel_format: what they mean; subsampling and siting are the caller's affair.

    Raises:
        ValueError: the number of planes does not fit the format.
    """
    if len(planes) != pixel_format.num_planes:
        raise ValueError(
            f"{pixel_format.family} needs {pixel_format.num_planes} planes, got {len(planes)}"
        )
    if pixel_format.family == "gray":
        _, forward = _matrices(pixel_format)
        scale = np.float32(1 / forward[0, :3].sum())
        grey = (planes[0] - np.float32(forward[0, 3])) * scale
        return np.repeat(grey[:, :, None], 3, axis=2)
    to, _ = _matrices(pixel_format)
    return np.asarray(cv2.transform(cv2.merge(list(planes)), to), np.float32)


def from_rgb(rgb: Float32, pixel_format: PixelFormat) -> tuple[Float32, ...]:
    """Returns the code values of `rgb`, neither rounded nor clipped: the inverse of `to_rgb`.

    Grey is the luma of the format's matrix.
    """
    _, forward = _matrices(pixel_format)
    if pixel_format.family == "gray":
        forward = forward[:1]
    values = cv2.split(cv2.transform(rgb, forward))
    return tuple(np.asarray(plane, np.float32) for plane in values)


def _proxy_size(frame: Frame, size: int) -> tuple[int, int]:
    """Columns and rows of the proxy before it is turned upright."""
    width = frame.width * float(frame.display.sample_aspect_ratio)
    height = frame.height * frame.display.row_step
    scale = min(1.0, size / max(width, height))
    return (
        min(size, max(1, round(width * scale))),
        min(size, max(1, round(height * scale))),
    )


def _shrink(plane: npt.NDArray[Any], columns: int, rows: int) -> npt.NDArray[Any]:
    """Averages `plane` down to `rows` × `columns` (or stretches it, where chroma is smaller)."""
    # OpenCV averages 2 × 2 samples ten times faster than areas of any other size, and bilinear
    # interpolation over less than two samples leaves hardly anything out.
    while (
        plane.shape[0] >= 2 * rows
        and plane.shape[1] >= 2 * columns
        and plane.shape[0] % 2 == plane.shape[1] % 2 == 0
    ):
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = cv2.resize(plane, half, interpolation=cv2.INTER_AREA)
    if plane.shape != (rows, columns):
        close = plane.shape[0] < 2 * rows and plane.shape[1] < 2 * columns
        method = cv2.INTER_LINEAR if close else cv2.INTER_AREA
        plane = cv2.resize(plane, (columns, rows), interpolation=method)
    return plane


def rgb_proxy(frame: Frame, size: int) -> npt.NDArray[np.uint8]:
    """Returns an (h, w, 3) upright RGB picture, square pixels, longer side at most `size`.

    Never enlarges. Each plane is averaged down on its own, so chroma siting is ignored: the error
    is at most half a luma sample, a fraction of a proxy pixel, and only the detector sees it.
    """
    columns, rows = _proxy_size(frame, size)
    small = [_shrink(plane, columns, rows) for plane in frame.planes[: frame.format.num_planes]]
    if frame.format.family == "gray":
        _, forward = _matrices(frame.format)
        gain = 255 / forward[0, :3].sum()
        grey = (small[0].astype(np.float32) - np.float32(forward[0, 3])) * np.float32(gain)
        picture = cv2.merge([np.clip(np.rint(grey), 0, 255).astype(np.uint8)] * 3)
    else:
        to, _ = _matrices(frame.format)
        mixed = cv2.transform(cv2.merge(small), to * 255)  # rounds, and saturates at the type
        if frame.format.sample == "float":
            mixed = np.rint(mixed).clip(0, 255)
        picture = mixed if mixed.dtype == np.uint8 else np.minimum(mixed, 255).astype(np.uint8)
    turned: npt.NDArray[np.uint8] = np.ascontiguousarray(
        np.rot90(picture, frame.display.quarter_turns)
    )
    return turned


def proxy_to_display(frame: Frame, proxy_shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns the (2, 3) affine matrix from pixel centres of the proxy to those of the display.

    Args:
        frame: the picture that the proxy was made of.
        proxy_shape: rows and columns of the proxy (more entries are ignored).
    """
    width, height = frame.display_size
    x, y = width / proxy_shape[1], height / proxy_shape[0]
    # cv2.resize aligns the corners of the pictures, not the centres of their first pixels.
    matrix = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])
    display = frame.display
    if display.row_step > 1:
        # A field's rows are where they are, not in the middle of the rows that they stand for.
        down = frame.to_display()[:, 1] / display.row_step
        matrix[:, 2] += down * (display.first_row - (display.row_step - 1) / 2)
    return matrix
