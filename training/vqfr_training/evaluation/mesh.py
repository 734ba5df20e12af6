"""468 landmarks of a face by MediaPipe's face mesh, for figures: run by OpenVINO."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_media.backends.openvino_library import openvino
from vqfr_training.data.picture_files import Picture

SIDE = 192
"""Side of the network's input, pixels."""
POINTS = 468
"""How many landmarks it finds."""
_WIDER = 2.9
"""Side of the square it looks at, in distances of the eyes, or from eyes to mouth."""


class FaceMesh:
    """The network in a tflite file, on the CPU, one face at a time."""

    def __init__(self, path: Path) -> None:
        """Loads the network.

        Raises:
            ValueError: there is no such file.
            MachineError: OpenVINO is missing here.
        """
        if not path.is_file():
            raise ValueError(f"no face mesh at {path}")
        self._infer: Any = openvino().Core().compile_model(str(path), "CPU")

    def __call__(self, picture: Picture, five: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (468, 2) landmarks (x, y), pixels of `picture` (H, W, 3) RGB.

        `five` (5, 2): eyes, nose, mouth corners, the viewer's left first; they say where to look.
        """
        matrix = square(five)
        seen = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        outputs = self._infer((seen[None] / np.float32(255)).astype(np.float32)).values()
        points = next(np.ravel(value) for value in outputs if np.size(value) == 3 * POINTS)
        inside = points.reshape(POINTS, 3)[:, :2].astype(np.float64)
        back = cv2.invertAffineTransform(matrix)
        return np.asarray(inside @ back[:, :2].T + back[:, 2], np.float64)


def square(five: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the matrix (2, 3) from a picture's pixels to the input, where the eyes are level.

    Raises:
        ValueError: all five are in one place.
    """
    eyes, mouth = five[:2].mean(axis=0), five[3:].mean(axis=0)
    between = five[1] - five[0]
    side = _WIDER * max(float(np.linalg.norm(between)), float(np.linalg.norm(mouth - eyes)))
    if side <= 0:
        raise ValueError("five landmarks in one place show no face")
    angle, scale = np.arctan2(between[1], between[0]), SIDE / side
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    centre = (eyes + mouth) / 2
    middle = np.full(2, (SIDE - 1) / 2)
    return np.asarray(np.column_stack([turn, middle - turn @ centre]), np.float64)
