"""A film of a photograph, known in every frame: a moving camera, and then a degraded recording."""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.media.image import read_image
from vqfr_media.media.rgb_clip import Picture, picture_of

WIDTH, HEIGHT = 320, 240
FRAME_RATE = Fraction(25)

# Left, top, right and bottom of the face in the photograph, in pixels: seen by eye.
FACE = (177.0, 58.0, 274.0, 180.0)

# The recording: what a small old camera and a low bit rate (about 65 kbit/s) leave of a picture.
BLUR_SIGMA = 1.3  # pixels
NOISE_SIGMA = 6.0  # 8-bit levels
CRF = 28.0

# Seconds in which the camera goes from the whole figure to the face; then it goes back.
_PUSH_SECONDS = 4.8


@cache
def photograph() -> Picture:
    """Returns (512, 512, 3) RGB, read-only: see `astronaut.md`."""
    frame, _ = read_image(Path(__file__).with_name("astronaut.jpg"))
    picture = picture_of(frame)
    picture.flags.writeable = False
    return picture


def camera(seconds: float) -> npt.NDArray[np.float64]:
    """Returns the (2, 3) matrix from the photograph's pixel centres to those of a frame."""
    near = 0.5 - 0.5 * np.cos(np.pi * seconds / _PUSH_SECONDS)
    scale = 0.72 + 0.28 * near
    # The point of the photograph in the middle of the frame: a pan, and a hand that is not still.
    x = 252 - 25 * near + 3.0 * np.sin(2 * np.pi * seconds / 1.7)
    y = 190 - 52 * near + 2.0 * np.sin(2 * np.pi * seconds / 1.1)
    angle = np.radians(3.0 * np.sin(2 * np.pi * seconds / 3.1))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    return np.column_stack([turn, middle - turn @ np.array([x, y])])


def truth(index: int) -> Picture:
    """Returns (240, 320, 3) RGB: what a perfect camera sees in frame `index`."""
    # Averaged from twice the size: plain interpolation would alias where the scale is below 1.
    double = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    seen = cv2.warpAffine(
        photograph(),
        (double @ np.vstack([camera(float(index / FRAME_RATE)), [0, 0, 1]]))[:2],
        (2 * WIDTH, 2 * HEIGHT),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    small = cv2.resize(seen, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def face_box(index: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the upright box around the face in frame `index`."""
    left, top, right, bottom = FACE
    corners = np.array([[left, top, 1], [right, top, 1], [left, bottom, 1], [right, bottom, 1]])
    seen = corners @ camera(float(index / FRAME_RATE)).T
    x0, y0 = (int(value) for value in np.floor(seen.min(axis=0)))
    x1, y1 = (int(value) for value in np.ceil(seen.max(axis=0)))
    return max(x0, 0), max(y0, 0), min(x1, WIDTH), min(y1, HEIGHT)


def recorded(count: int) -> Iterator[Picture]:
    """Yields the first `count` frames as a bad camera encodes them: blurred and noisy."""
    for index in range(count):
        blurred = cv2.GaussianBlur(truth(index), (0, 0), BLUR_SIGMA).astype(np.float64)
        noise = np.random.default_rng(index).normal(0, NOISE_SIGMA, blurred.shape)
        yield np.rint(blurred + noise).clip(0, 255).astype(np.uint8)
