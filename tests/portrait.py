"""A photographed face that goes through the picture, perhaps behind a bar, and what finds it."""

from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tests.stand_ins import IdentityEngine
from vqfr_media.errors import EngineError
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.image import read_image
from vqfr_media.media.rgb_clip import picture_of
from vqfr_media.values import Face

ASTRONAUT = Path(__file__).parents[1] / "vqfr_media" / "demo" / "astronaut.jpg"
# Her landmarks as the bundled detector finds them, and what is shown of the photograph.
FIVE = np.array([[203.6, 99.8], [247.3, 102.8], [223.7, 124.8], [203.5, 142.6], [241.2, 145.2]])
LEFT, TOP, SIDE = 130, 24, 190
BAR = (10, 20, 240)
# Side of the square whose level is the frame's number, and how many levels lie between two.
_CORNER, _STEP = 8, 12


@cache
def _photograph() -> npt.NDArray[np.uint8]:
    return picture_of(read_image(ASTRONAUT)[0])


def bar_at(number: int) -> slice:
    """Columns of the bar, which goes to the right as the face goes to the left."""
    return slice(50 + 3 * number, 70 + 3 * number)


def portrait(number: int, *, bar: bool = False) -> npt.NDArray[np.uint8]:
    """Draws (190, 190, 3) uint8 RGB: she goes to the left by two pixels a frame."""
    left = LEFT + 2 * number
    shown = _photograph()[TOP : TOP + SIDE, left : left + SIDE].copy()
    if bar:
        shown[:, bar_at(number)] = BAR
    shown[:_CORNER, :_CORNER] = 20 + _STEP * number
    return shown


def portrait_frame(number: int, *, bar: bool = False) -> Frame:
    """Returns the picture as a frame at one unit of time each."""
    shown = portrait(number, bar=bar)
    planes = tuple(np.ascontiguousarray(shown[..., channel]) for channel in (1, 2, 0))
    form = PixelFormat(family="rgb", matrix="bt709", full_range=True)
    return Frame(number, number, planes, form)


class TremblingDetector:
    """Finds her face where it is, but for a tremble that the frame's number decides."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        level = float(image[1 : _CORNER - 1, 1 : _CORNER - 1].mean())
        number = round((level - 20) / _STEP)
        noise = np.random.default_rng(number).normal(0, 1.5, (5, 2))
        five = FIVE - np.array([LEFT + 2 * number, TOP]) + noise
        middle = five.mean(axis=0)
        return [Face(np.concatenate([middle - 52, middle + 52]), five, 0.99)]


class PaintingEngine(IdentityEngine):
    """Paints grey over all that is blue, as a network does that knows nothing but faces."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        super().__init__(size=64, batch_size=1)
        self.stop_after = stop_after

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self.decoded == self.stop_after:
            raise EngineError("stopped by the test")
        blue = (crops[:, 2:] - crops[:, :1] > 0.4).float()
        given = super().decode(crops, latents, fidelity=fidelity)
        return torch.lerp(given, torch.full_like(given, 0.6), blue)


RATE = Fraction(10)
"""Frames per second of her film."""
