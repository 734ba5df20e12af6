"""Figures of a restored face in time that rise with what trembles, and not with what is soft.

Both are measured against the truth frame by frame: what the truth's own motion explains counts for
nothing, and a picture without detail gains nothing from the truth's detail.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_media.review.steadiness import gradient
from vqfr_training.data.picture_files import Picture

# Below this presence the truth's own mesh is a guess.
_CERTAIN = 0.5

type MeshPair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The rigid points, (N, 2), of a face in the restored picture and in the truth."""


def sharpness(true: Picture, where: NDArray[np.bool_]) -> float:
    """Returns the mean length of the gradient of `true` in `where`, in levels per pixel."""
    return gradient(np.asarray(cv2.cvtColor(true, cv2.COLOR_RGB2GRAY), np.uint8), where)


def unsteadiness(error: NDArray[np.float32], true: Picture, where: NDArray[np.bool_]) -> float:
    """Returns the change that the truth's motion does not explain, over the truth's sharpness.

    A shift by that many pixels to and fro would change the truth as much.

    Args:
        error: (H, W) difference, in levels, to the frame before, moved along the truth's flow.
        true: (H, W, 3) the truth.
        where: (H, W) pixels that count, one at least.
    """
    return float(error[where].mean()) / max(sharpness(true, where), 1e-3)


def mesh_pair(shown: Picture, true: Picture, five: NDArray[np.float64]) -> MeshPair | None:
    """Finds the face mesh in both pictures at the truth's landmarks; None where there is none.

    The detector has no say in it: both networks look at one and the same square.

    Raises:
        MachineError: OpenVINO is missing here.
    """
    from vqfr_media.faces.mesh_fit import mean_shape
    from vqfr_training.evaluation.mesh import mesh_of_picture

    of_truth = mesh_of_picture(true, five)
    if of_truth.presence < _CERTAIN:
        return None
    _, rigid = mean_shape()
    return mesh_of_picture(shown, five).points[rigid], of_truth.points[rigid]


def mesh_tremble(pairs: Sequence[MeshPair]) -> tuple[float, float]:
    """Returns the tremble of the restored face and of the truth in three frames, in pixels.

    That of the restored face is the second difference in time of how far its points lie from the
    truth's: a face that is always drawn too low trembles no more for it.
    """
    offsets = [made - true for made, true in pairs]
    return _second_difference(offsets), _second_difference([true for _, true in pairs])


def _second_difference(values: Sequence[NDArray[np.float64]]) -> float:
    first, second, third = values
    return float(np.linalg.norm(third - 2 * second + first, axis=1).mean())
