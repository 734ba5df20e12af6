"""The face mesh of the package on pictures in memory, for figures."""

import numpy as np
from numpy.typing import NDArray

from vqfr_media.faces.affine import apply, invert, warp
from vqfr_media.faces.mesh import SIDE, Mesh, bundled_mesh, mesh_square
from vqfr_training.data.picture_files import Picture


def mesh_of_picture(picture: Picture, five: NDArray[np.float64]) -> Mesh:
    """Returns the mesh of a face in `picture`, (H, W, 3) RGB of 8 bits, in its pixels.

    Args:
        picture: what shows the face.
        five: (5, 2) eyes, nose, mouth corners, the viewer's left first; they say where to look.

    Raises:
        MachineError: OpenVINO is missing here.
        ValueError: all five are in one place.
    """
    matrix = mesh_square(five)
    seen = warp(picture, matrix, shape=(SIDE, SIDE)) / np.float32(255)
    found = bundled_mesh()(seen.clip(0, 1))
    return Mesh(apply(invert(matrix), found.points), found.presence)
