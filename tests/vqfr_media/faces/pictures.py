"""Frames and faces made by formula, for the tests beside this file."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.align import template
from vqfr_media.frames import Display, Frame, PixelFormat, Plane
from vqfr_media.values import Face, TrackedFace

Function = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def waves(period: float, *, turn: float = 0.0) -> Function:
    """A smooth function of luma coordinates with values in 0.2 to 0.8."""

    def value(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        angle = 2 * np.pi / period
        return (
            0.5 + 0.15 * np.sin(angle * x + turn) + 0.15 * np.cos(angle * 0.8 * y + 0.3 * x * angle)
        )

    return value


def as_plane(codes: npt.NDArray[np.generic], pixel_format: PixelFormat) -> Plane:
    """Code values in the format's own type."""
    return codes.astype(np.uint8) if pixel_format.bits == 8 else codes.astype(np.uint16)


def painted(
    pixel_format: PixelFormat,
    *,
    width: int,
    height: int,
    functions: tuple[Function, ...],
    display: Display | None = None,
) -> Frame:
    """A frame whose plane k is function k, at the luma coordinates of its own samples."""
    planes: list[Plane] = []
    for number in range(pixel_format.num_planes):
        rows, columns = pixel_format.plane_shape(number, width, height)
        to_plane = pixel_format.luma_to_plane(number)
        x = (np.arange(columns) - to_plane[0, 2]) / to_plane[0, 0]
        y = (np.arange(rows) - to_plane[1, 2]) / to_plane[1, 1]
        values = functions[number](*np.meshgrid(x, y))
        codes = np.rint(values * pixel_format.peak)
        planes.append(as_plane(codes, pixel_format))
    return Frame(0, 0, tuple(planes), pixel_format, display or Display())


def landmarks_at(x: float, y: float, *, side: float, turn: float = 0.0) -> npt.NDArray[np.float64]:
    """(5, 2) landmarks of a face whose crop is centred at x, y, of this side, turned by radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, -sin], [sin, cos]]) * side / 512
    return np.asarray((template(512) - 255.5) @ rotation.T + (x, y))


def tracked_at(landmarks: npt.NDArray[np.float64]) -> TrackedFace:
    """A face with these landmarks."""
    box = np.concatenate([landmarks.min(0), landmarks.max(0)])
    return TrackedFace(Face(box, landmarks, 1.0), None)
