"""The detail of a large face that the network's picture is too small for: it stays.

A face of 600 pixels goes through a network of 256, and what that draws is enlarged again. What was
finer in the film is not in it, so that a sharp close-up would come back blurred. That detail is
laid over the restored face, less where it is lost in noise: the local Wiener filter (J.-S. Lee,
"Digital image enhancement and noise filtering by use of local statistics", 1980), with the noise
taken from the calmest places of the face.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.frames import Plane

Picture = npt.NDArray[np.float32]

# Size of the neighbourhood in pixels of the network's picture; a standard deviation.
_NEAR = 1.5
# Noise is as strong as the detail in the calmest tenth of the face, and a fifth more: there the
# measured strength varies around the true one, and a low part of all lies below it.
_CALM = 10
_NOISE_FACTOR = 1.2
# Every so many samples along both axes are looked at for it.
_STEP = 3
# Faces up to so many samples a pixel of the network lose nothing that shows; from 1 on the detail
# fades in, so that it does not appear at once in a face that comes nearer.
_FULL_FROM = 1.25


def fine_detail(
    samples: Sequence[Plane], seen: Sequence[Picture], *, mask: Picture, scale: float
) -> tuple[list[Picture], Picture] | None:
    """Finds what of a face is finer than the network's picture, and how much of it is no noise.

    Args:
        samples: planes of one grid where the face is, (rows, columns) each, on any scale.
        seen: what the network saw there, at the same places and on the same scale.
        mask: (rows, columns), 0 to 1: how much of the restored face shows.
        scale: samples a pixel of the network's picture.

    Returns:
        The detail of each plane, weakened where it is noise, and the share that is left, 0 to 1,
        both (rows, columns); None for faces that are not larger than the network's picture.
    """
    present = min(1.0, (scale - 1) / (_FULL_FROM - 1))
    if present <= 0 or not (mask > 0.5).any():
        return None
    details = [
        np.asarray(np.subtract(plane, smooth, dtype=np.float32), np.float32)
        for plane, smooth in zip(samples, seen, strict=True)
    ]
    power = np.zeros(mask.shape, np.float32)
    for detail in details:
        power += detail * detail
    power = np.asarray(cv2.GaussianBlur(power, (0, 0), _NEAR * scale), np.float32)
    few = power[::_STEP, ::_STEP][mask[::_STEP, ::_STEP] > 0.5]
    noise = _NOISE_FACTOR * float(np.percentile(few if few.size else power[mask > 0.5], _CALM))
    gain = np.clip(1 - noise / np.maximum(power, 1e-12), 0, 1) * present
    share = np.asarray(gain, np.float32)
    return [np.asarray(detail * share, np.float32) for detail in details], share
