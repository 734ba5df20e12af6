"""The detail of a large face that the network's picture is too small for: it stays.

A face of 600 pixels goes through a network of 256, and what that draws is enlarged again. What was
finer in the film is not in it, so that a sharp close-up would come back blurred. That detail is
laid over the restored face, less where it is lost in noise: the local Wiener filter (J.-S. Lee,
"Digital image enhancement and noise filtering by use of local statistics", 1980), with the noise
taken from the calmest places of the face.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23
from vqfr_media.frames import Plane

Picture = npt.NDArray[np.float32]

# Size of the neighbourhood in pixels of the network's picture; a standard deviation.
_NEAR = 1.5
# Noise is as strong as the detail in the calmest fifth of the face, and a tenth more. What is
# measured varies around the true strength; the lowest fifth of a normal distribution lies so many
# deviations below its mean.
_CALM, _CALM_DEVIATIONS = 20, 0.84
_NOISE_FACTOR = 1.1
# But noise is alike everywhere, and skin is not: where half of the face varies by so much more than
# the calmest fifth, that fifth is pores, and noise no stronger than in the calmest fiftieth.
_CALMEST, _CALMEST_DEVIATIONS = 2, 2.05
_ALIKE, _TEXTURED = 1.2, 1.5
# What varies by less than this, in levels of 8 bits, is dead: a black bar, a burnt-out forehead,
# blocks that a codec left empty. Such places do not tell how strong the noise is elsewhere.
_DEAD = 0.3
# Faces up to one sample a pixel of the network lose nothing that shows; from there on the detail
# fades in, so that it does not appear at once in a face that comes nearer.
_FULL_FROM = 1.25


def samples_a_pixel(matrix: Matrix23) -> float:
    """Returns how many samples of a plane a pixel of the crop is wide, along its wider axis.

    `matrix` goes from crop coordinates to the plane's; the axes differ in fields and where samples
    are no squares.
    """
    return float(np.linalg.norm(matrix[:, :2], 2))


def fine_detail(
    samples: Sequence[Plane],
    seen: Sequence[Picture],
    *,
    mask: Picture,
    matrix: Matrix23,
    level: float,
    enlarged: int = 1,
    noise: float = 0.0,
) -> tuple[list[Picture], Picture] | None:
    """Finds what of a face is finer than the network's picture, and how much of it is no noise.

    Args:
        samples: planes of one grid where the face is, (rows, columns) each, on any scale; what is
            not finite has no detail.
        seen: what the network saw there, at the same places and on the same scale.
        mask: (rows, columns), 0 to 1: how much of the restored face shows.
        matrix: from coordinates of the network's picture to those of the samples.
        level: what a level of 8 bits is on the samples' scale.
        enlarged: by how much the planes have been enlarged: that gave them no detail.
        noise: variance that the detail has from noise at least, the planes' sum, where it is known.

    Returns:
        The detail of each plane, weakened where it is noise, and the share that is left, 0 to 1,
        both (rows, columns); None for faces that are not larger than the network's picture.
    """
    present = min(1.0, (samples_a_pixel(matrix) / enlarged - 1) / (_FULL_FROM - 1))
    if present <= 0:
        return None
    details: list[Picture] = []
    power = np.zeros(mask.shape, np.float32)
    for plane, smooth in zip(samples, seen, strict=True):
        detail = np.asarray(np.subtract(plane, smooth, dtype=np.float32), np.float32)
        if plane.dtype == np.float32:
            detail[~np.isfinite(detail)] = 0
        details.append(detail)
        power += detail * detail
    # Neighbourhoods are looked at pixel by pixel of the network, however many samples those have.
    rows, columns = mask.shape
    steps = np.maximum(1, np.hypot(matrix[:, 0], matrix[:, 1]))
    size = (max(1, round(columns / steps[0])), max(1, round(rows / steps[1])))
    near = np.asarray(cv2.GaussianBlur(_shrink(power, size), (0, 0), _NEAR), np.float32)
    alive = near > len(details) * (_DEAD * level) ** 2
    measured = near[alive & (_shrink(mask, size) > 0.5)]
    if not measured.size:
        return None
    independent = 4 * math.pi * _NEAR**2 * max(1.0, float(np.prod(steps)) / enlarged**2)
    noise = max(noise, _NOISE_FACTOR * _noise_power(measured, samples=independent))
    gain = np.clip(1 - noise / np.maximum(near, 1e-12), 0, 1) * present
    share = cv2.resize(
        np.asarray(gain, np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
    ).astype(np.float32, copy=False)
    return [np.asarray(detail * share, np.float32) for detail in details], share


def _noise_power(measured: npt.NDArray[np.float32], *, samples: float) -> float:
    """Returns how strong the noise is, of the mean power in many neighbourhoods.

    Args:
        measured: (N,), above 0.
        samples: so many independent ones are in a neighbourhood.
    """
    calmest, calm, middle = np.percentile(measured, (_CALMEST, _CALM, 50)).tolist()
    # A mean of n squares of normal values varies by sqrt(2 / n) of itself.
    deviation = math.sqrt(2 / samples)
    calm /= 1 - _CALM_DEVIATIONS * deviation
    calmest /= 1 - _CALMEST_DEVIATIONS * deviation
    textured = min(max((middle / calm - _ALIKE) / (_TEXTURED - _ALIKE), 0.0), 1.0)
    return float(calm ** (1 - textured) * calmest**textured)


def _shrink(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
