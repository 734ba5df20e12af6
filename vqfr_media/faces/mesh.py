"""MediaPipe's face mesh: 468 points of a face, and how well they can be believed.

The network of the paper "Real-time facial surface geometry from monocular video on mobile GPUs"
(Kartynnik et al., 2019), in the file that its authors published. OpenVINO runs it on the CPU of
every machine: 3 ms a face, one face at a time, so that nothing depends on a batch.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from vqfr_media import weights
from vqfr_media.backends.openvino_library import compile_settings, failures, openvino, reason_of
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.faces.affine import Matrix23, apply, compose, invert
from vqfr_media.faces.align import crop_planes
from vqfr_media.frames import Frame
from vqfr_media.media.colour import to_rgb

SIDE = 192
"""Side of the network's input, pixels."""
POINTS = 468
"""How many landmarks it finds."""
# Side of the square that it looks at, in distances of the eyes, or from eyes to mouth.
_WIDER = 2.9


@dataclass(frozen=True, eq=False)
class Mesh:
    """The points of one face."""

    points: npt.NDArray[np.float64]
    """(468, 2) x and y, in the coordinates of the landmarks that said where to look."""
    presence: float
    """Probability that there is a face, 0 to 1; low where something covers it."""


class FaceMesh:
    """The network, for any number of threads: one at a time runs it."""

    def __init__(self, path: Path) -> None:
        """Loads it from a tflite file.

        Raises:
            BackendError: OpenVINO is not here.
            EngineError: the file is not this network's.
        """
        try:
            library = openvino()
        except BackendError as error:
            raise BackendError(
                "the face mesh runs in OpenVINO, which does not load here: pip install openvino, "
                "or use --landmarks five"
            ) from error
        try:
            settings = compile_settings("float32")
            compiled = library.Core().compile_model(str(path), "CPU", settings)
            self._request: Any = compiled.create_infer_request()
            sizes = [int(np.prod(output.shape)) for output in compiled.outputs]
        except failures() as error:
            raise EngineError(
                f"{path} holds no face mesh ({reason_of(error)}); install vqfr-media again"
            ) from error
        if 3 * POINTS not in sizes or 1 not in sizes:
            raise EngineError(f"{path} holds another network than the face mesh; install again")
        self._points, self._presence = sizes.index(3 * POINTS), sizes.index(1)
        self._lock = Lock()

    def __call__(self, picture: npt.NDArray[np.float32]) -> Mesh:
        """Finds the points in a (192, 192, 3) RGB picture, 0 to 1, of one upright face."""
        with self._lock:
            try:
                self._request.infer({0: np.ascontiguousarray(picture[None])})
            except failures() as error:
                raise EngineError(
                    f"OpenVINO failed to run the face mesh: {reason_of(error)}"
                ) from error
            outputs = self._request.output_tensors
            points = outputs[self._points].data.reshape(POINTS, 3)[:, :2].astype(np.float64)
            logit = float(outputs[self._presence].data.reshape(()))
        # Its coordinates count from the corner of the picture, ours from the first pixel's centre.
        return Mesh(points - 0.5, float(1 / (1 + np.exp(-logit))))


@lru_cache(maxsize=1)  # a function of a file that never changes; loading takes 0.4 s
def bundled_mesh() -> FaceMesh:
    """Returns the network that comes with this package.

    Raises:
        BackendError: OpenVINO is not here.
        WeightsError: the file is damaged.
    """
    return FaceMesh(weights.find("mesh", offline=True))


def mesh_square(landmarks: npt.NDArray[np.float64]) -> Matrix23:
    """Returns (2, 3) from the landmarks' coordinates to the network's input, the eyes level.

    Args:
        landmarks: (5, 2) eyes, nose and mouth corners, the viewer's left first.

    Raises:
        ValueError: all five are in one place.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    between = landmarks[1] - landmarks[0]
    side = _WIDER * max(float(np.linalg.norm(between)), float(np.linalg.norm(mouth - eyes)))
    if side <= 0:
        raise ValueError("five landmarks in one place show no face")
    angle, scale = np.arctan2(between[1], between[0]), SIDE / side
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    middle = np.full(2, (SIDE - 1) / 2)
    return np.asarray(np.column_stack([turn, middle - turn @ (eyes + mouth) / 2]), np.float64)


def find_mesh(frame: Frame, landmarks: npt.NDArray[np.float64], network: FaceMesh) -> Mesh:
    """Finds the mesh of the face at `landmarks`, (5, 2), in display coordinates.

    Raises:
        ValueError: all five landmarks are in one place.
    """
    matrix = mesh_square(landmarks)
    planes = crop_planes(
        frame.planes, frame.format, matrix=compose(matrix, frame.to_display()), size=SIDE
    )
    found = network(to_rgb(planes, frame.format).clip(0, 1))
    return Mesh(apply(invert(matrix), found.points), found.presence)
