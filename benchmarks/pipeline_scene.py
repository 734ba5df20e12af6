"""What `benchmarks.pipeline` restores: photographs of faces that drift over a soft background."""

from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour import from_rgb
from vqfr_media.media.image import read_image
from vqfr_media.values import EngineSpec

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}
FORMAT = PixelFormat(family="yuv", subsampling=(1, 1))
# Rows and columns of a photograph; the face in it is nearly as high.
SIDE = 512


class IdleEngine:
    """Takes no time but for the copies around OpenVINO: gives back what it is given, in planes."""

    def __init__(self, size: int) -> None:
        self.spec = EngineSpec(
            model="none",
            size=size,
            latent_shape=(256, size // 32, size // 32),
            batch_size=1,
            precision="float32",
            device="cpu",
            has_fidelity=False,
        )
        self._latents = torch.zeros(1, *self.spec.latent_shape)

    def encode(self, crops: Tensor) -> Tensor:
        """See `vqfr_media.engine.Engine`."""
        crops.contiguous()
        return self._latents.expand(len(crops), -1, -1, -1)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:  # noqa: ARG002
        """See `vqfr_media.engine.Engine`."""
        return crops.contiguous()


def scene(
    photographs: Sequence[Path], *, size: str, faces: int, frames: int, noise: float
) -> Iterator[Frame]:
    """Yields frames with `faces` faces (a square number) on a grid, in 4:2:0.

    One face is 400 pixels high at 1080p, and as much of the height at the other sizes.

    Args:
        photographs: Pictures with one face, taken in turn.
        size: One of `SIZES`.
        faces: 1, 4, 9 or 16.
        frames: How many.
        noise: Standard deviation of the film's grain, in 8-bit codes of each colour.
    """
    width, height = SIZES[size]
    grid = isqrt(faces)
    if grid * grid != faces:
        raise ValueError(f"faces must be a square number, got {faces}")
    pictures = [_photograph(photographs[n % len(photographs)]) for n in range(faces)]
    rng = np.random.default_rng(0)
    coarse = rng.uniform(60, 160, (9, 16, 3)).astype(np.float32)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    background = np.asarray(enlarged, np.float32)
    unit = height / 1080
    scale = min(0.85 * unit, 0.85 * height / grid / SIDE)
    for index in range(frames):
        picture = background.copy()
        for number, face in enumerate(pictures):
            row, column = divmod(number, grid)
            x = (column + 0.5) * width / grid - SIDE * scale / 2 + (1.7 * index - 20) * unit / grid
            y = (row + 0.5) * height / grid - SIDE * scale / 2 + (0.6 * index - 10) * unit / grid
            cv2.warpAffine(
                face,
                np.array([[scale, 0, x], [0, scale, y]]),
                (width, height),
                dst=picture,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
        if noise:
            picture += rng.normal(0, noise, picture.shape).astype(np.float32)
        y_plane, u, v = from_rgb(picture / np.float32(255), FORMAT)
        half = (width // 2, height // 2)
        halves = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (u, v)]
        planes = tuple(np.rint(p).clip(0, 255).astype(np.uint8) for p in (y_plane, *halves))
        yield Frame(index, index, planes, FORMAT)


def _photograph(path: Path) -> npt.NDArray[np.float32]:
    frame, _ = read_image(path)
    green, blue, red = frame.planes
    picture = np.stack([red, green, blue], axis=2).astype(np.float32)
    resized = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.float32)
