"""Cuts a face out of a frame's own planes, upright and at the network's size."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23, Samples, compose, invert, warp
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour import to_rgb
from vqfr_media.values import AlignedFace, TrackedFace

# facexlib/utils/face_restoration_helper.py: the five FFHQ landmarks in a picture of 512 × 512.
TEMPLATE_512 = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)


def template(size: int) -> npt.NDArray[np.float64]:
    """Returns (5, 2): where the landmarks lie in an aligned crop of `size` × `size`, pixel centres.

    At 512 these are facexlib's numbers. Elsewhere facexlib multiplies them by size/512, which
    shifts the picture by half a pixel's difference; here crops of all sizes show the same square.
    """
    return (np.array(TEMPLATE_512) + 0.5) * (size / 512) - 0.5


def similarity(landmarks: npt.ArrayLike, size: int) -> Matrix23:
    """Returns the (2, 3) turn, scale and shift that bring five landmarks closest to the template.

    Plain least squares over all five: a robust estimate drops a different landmark from frame to
    frame, and the crop jitters.

    Args:
        landmarks: (5, 2), display coordinates.
        size: side of the crop.

    Raises:
        ValueError: the landmarks are not (5, 2), not finite, or (nearly) one point.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks must be (5, 2) and finite, got {points.tolist()}")
    # As complex numbers a similarity is target = a · point + b: one linear regression.
    source = points @ np.array([1, 1j])
    target = template(size) @ np.array([1, 1j])
    source_centred = source - source.mean()
    spread = float(np.sum(np.abs(source_centred) ** 2))
    target_centred = target - target.mean()
    factor = complex(np.sum(source_centred.conj() * target_centred))
    # A profile still correlates at 0.6 with the template; below 0.05 it is no face at all, or one
    # that is smaller than a few hundredths of a pixel.
    correlation = abs(factor) / np.sqrt(max(spread, 1e-3) * np.sum(np.abs(target_centred) ** 2))
    if correlation < 0.05:
        raise ValueError(f"landmarks do not span a face: {points.tolist()}")
    a = factor / spread
    b = target.mean() - a * source.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(
    frame: Frame, tracked: TrackedFace, *, landmarks: npt.ArrayLike, size: int
) -> AlignedFace:
    """Warps the face at `landmarks` straight out of the frame's planes.

    Args:
        frame: The picture, in any format; only the part around the face is read.
        tracked: Kept in the result.
        landmarks: (5, 2) in display coordinates, smoothed or the detector's own.
        size: side of the crop.

    Raises:
        ValueError: the landmarks do not span a face.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    matrix = compose(similarity(points, size), frame.to_display())
    planes = crop_planes(frame.planes, frame.format, matrix=matrix, size=size)
    return AlignedFace(
        tracked=tracked,
        landmarks=points,
        matrix=matrix,
        crop=to_rgb(planes, frame.format),
    )


def crop_planes(
    planes: Sequence[Samples],
    pixel_format: PixelFormat,
    *,
    matrix: Matrix23,
    size: int,
) -> tuple[npt.NDArray[np.float32], ...]:
    """Returns one (size, size) float32 picture in code values for each plane but alpha.

    Args:
        planes: a frame's planes, alpha allowed.
        pixel_format: their format.
        matrix: (2, 3) from luma to crop coordinates.
        size: side of the crop.
    """
    return tuple(
        warp(
            planes[number],
            compose(matrix, invert(pixel_format.luma_to_plane(number))),
            shape=(size, size),
            # Subsampled chroma has no detail that would reward the slower kernel.
            interpolation="linear" if number and pixel_format.subsampling != (0, 0) else "cubic",
        )
        for number in range(pixel_format.num_planes)
    )
