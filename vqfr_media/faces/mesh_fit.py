"""How a face lies in a picture, by the points of its mesh that do not move with its mouth."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23
from vqfr_media.faces.mesh import Mesh, bundled_mesh, find_mesh
from vqfr_media.frames import Frame
from vqfr_media.values import Face
from vqfr_media.weak_memo import WeakMemo

# Between the two values of each pair, trust grows from none to full.
_SIZE = (26.0, 34.0)  # pixels of the face's box
_PRESENCE = (0.5, 0.9)
# The nearer ear's share of the way from ear to ear, by the tip of the nose: 0.5 is a frontal face.
_TURN = (0.12, 0.22)
# Distance of the mesh's eyes, nose and mouth corners from the detector's, root mean square, in
# distances of the eyes (or from eyes to mouth, where that is more).
_APART = (0.45, 0.35)

# Lowest points that count, in the template of 512 pixels: below are lips, jaw and chin.
_LOWEST = 335.0

# MediaPipe's numbers.
_NOSE_TIP, _EARS = 1, (234, 454)
_FIVE = ((33, 133, 159, 145), (263, 362, 386, 374), (1, 4), (61,), (291,))


@dataclass(frozen=True, eq=False)
class MeshFit:
    """Where the mesh says that a face lies."""

    matrix: Matrix23
    """(2, 3) turn, scale and shift from display coordinates to the template of 512 pixels."""
    trust: float
    """0 to 1: how far the mesh is to be believed. 0 for faces that are small, covered or in
    profile, and where mesh and detector see different faces."""


NO_FIT = MeshFit(np.array([[1.0, 0, 0], [0, 1, 0]]), 0.0)
"""Of a face whose mesh was not looked for."""


class MeshFits:
    """Finds the mesh of faces, of each once, for as long as the face is in use."""

    def __init__(self) -> None:
        self._kept: WeakMemo[Face, MeshFit] = WeakMemo()

    def of(self, frame: Frame, face: Face) -> MeshFit:
        """Returns where the face of this frame lies; a face that is too small is not looked at.

        Raises:
            BackendError: OpenVINO is not here.
            WeightsError: the mesh's file is damaged.
        """
        return self._kept.get(face, lambda: _found(frame, face))


def _found(frame: Frame, face: Face) -> MeshFit:
    if face.size <= _SIZE[0] or not np.ptp(face.landmarks, axis=0).any():
        return NO_FIT
    return fit_of(find_mesh(frame, face.landmarks, bundled_mesh()), face)


def fit_of(mesh: Mesh, face: Face) -> MeshFit:
    """Fits the mean shape's rigid points to those of `mesh`, which was found for `face`."""
    shape, rigid = mean_shape()
    target = shape[rigid] @ np.array([1, 1j])
    source = mesh.points[rigid] @ np.array([1, 1j])
    # As complex numbers a similarity is target = a · point + b: one linear regression.
    centred = source - source.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    a = complex(np.sum(centred.conj() * (target - target.mean()))) / max(spread, 1e-9)
    if abs(a) < 1e-6 or not np.isfinite(a):
        return NO_FIT
    b = complex(target.mean() - a * source.mean())
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return MeshFit(matrix, trust(mesh, face))


def trust(mesh: Mesh, face: Face) -> float:
    """Returns how far the mesh of a face is to be believed, 0 to 1, without steps."""
    own = face.landmarks
    unit = max(
        float(np.linalg.norm(own[1] - own[0])),
        float(np.linalg.norm(own[3:].mean(axis=0) - own[:2].mean(axis=0))),
    )
    five = mesh_landmarks(mesh.points)
    apart = float(np.sqrt(np.mean(np.sum((five - own) ** 2, axis=1)))) / unit
    to_ears = np.linalg.norm(mesh.points[list(_EARS)] - mesh.points[_NOSE_TIP], axis=1)
    turn = float(to_ears.min() / max(float(to_ears.sum()), 1e-9))
    return (
        _ramp(face.size, _SIZE)
        * _ramp(mesh.presence, _PRESENCE)
        * _ramp(turn, _TURN)
        * _ramp(-apart, (-_APART[0], -_APART[1]))
    )


def mesh_landmarks(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns (5, 2) eyes, nose and mouth corners of a mesh, the viewer's left first."""
    return np.stack([points[list(numbers)].mean(axis=0) for numbers in _FIVE])


@lru_cache(maxsize=1)  # a function of a file that never changes
def mean_shape() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Returns the mean mesh, (468, 2) in the template of 512 pixels, and which points are rigid.

    The median over 847 photographs that were aligned by five landmarks
    (`models/face_mesh.md` says how it was made). Both are read-only.
    """
    path = Path(__file__).parent.parent / "models" / "face_mesh_shape.npy"
    shape = np.load(path).astype(np.float64)
    rigid = shape[:, 1] <= _LOWEST
    shape.flags.writeable = rigid.flags.writeable = False
    return shape, rigid


def _ramp(value: float, ends: tuple[float, float]) -> float:
    return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))
