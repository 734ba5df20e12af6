"""Enlarges a frame by a whole factor, so that restored faces have room for their detail."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.frames import Frame, Plane
from vqfr_media.values import RestoredFace

# Half the width of the Lanczos kernel, in source samples.
_LOBES = 3


def upscale(frame: Frame, factor: int) -> Frame:
    """Enlarges the frame `factor` times by Lanczos-3; depth and chroma siting stay.

    Pixel i of the source covers pixels factor·i to factor·i + factor - 1 of the result, in luma;
    chroma keeps its place relative to luma, so its phase depends on the chroma location.

    Raises:
        ValueError: factor is less than 1.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    if factor == 1:
        return frame
    width, height = frame.width * factor, frame.height * factor
    planes: list[Plane] = []
    for number, plane in enumerate(frame.planes):
        to_plane = frame.format.luma_to_plane(number)
        # A sample p of the enlarged plane lies at luma (p - c) / s there, for luma_to_plane's
        # scale s and shift c; in the source at luma ((p - c) / s + 0.5) / factor - 0.5, which is
        # sample p / factor + phase of the source's plane:
        scale, shift = to_plane.diagonal(), to_plane[:, 2]
        phase = (0.5 * scale - shift) / factor - 0.5 * scale + shift
        rows, columns = frame.format.plane_shape(number, width, height)
        # Odd sizes: chroma is rounded up once, not once per source sample.
        large = _enlarge(plane, factor, phase[0], phase[1], frame.format.peak)
        planes.append(large[:rows, :columns].copy())
    return replace(frame, planes=tuple(planes))


def enlarged_matrix(matrix: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """Makes the (2, 3) `matrix` from plane coordinates take those of the enlarged plane."""
    linear = matrix[:, :2] / factor
    return np.column_stack([linear, matrix[:, 2] + linear @ np.full(2, 0.5 - 0.5 * factor)])


def enlarged(faces: Sequence[RestoredFace], factor: int) -> tuple[RestoredFace, ...]:
    """Moves the faces of a frame to their places in `upscale(frame, factor)`.

    Matrix and smoothed landmarks change; `tracked`, which says where the detector saw the face,
    keeps the coordinates of the source.
    """
    return tuple(
        RestoredFace(
            replace(
                face.aligned,
                matrix=enlarged_matrix(face.aligned.matrix, factor),
                landmarks=(face.aligned.landmarks + 0.5) * factor - 0.5,
            ),
            face.image,
            None if face.grain is None else replace(face.grain, enlarged=factor),
            face.covered,
        )
        for face in faces
    )


def _enlarge(plane: Plane, factor: int, phase_x: float, phase_y: float, peak: int) -> Plane:
    """Enlarges a plane: sample (row, column) is the plane at row / factor + phase_y, and so on.

    Each of the factor² phases is one small separable filter over the source: exact positions, and
    the same cost as one filter over the result.
    """
    source = plane.astype(np.float32)
    rows, columns = plane.shape
    result = np.empty((rows * factor, columns * factor), plane.dtype)
    for y in range(factor):
        kernel_y = _lanczos(y / factor + phase_y)
        for x in range(factor):
            kernel_x = _lanczos(x / factor + phase_x)
            part = cv2.sepFilter2D(
                source, cv2.CV_32F, kernel_x, kernel_y, borderType=cv2.BORDER_REFLECT
            )
            if plane.dtype != np.float32:
                part = np.clip(np.rint(part), 0, peak)
            result[y::factor, x::factor] = part
    return result


def _lanczos(offset: float) -> npt.NDArray[np.float64]:
    """Taps of a filter that reads a signal `offset` samples to the right, -1 < offset < 1."""
    taps = np.arange(-_LOBES - 1, _LOBES + 2) - offset
    kernel = np.where(np.abs(taps) < _LOBES, np.sinc(taps) * np.sinc(taps / _LOBES), 0)
    return np.asarray(kernel / kernel.sum())
