"""What eyes see of a face in time: change without motion, a mesh that trembles, another look.

The measures of `vqfr_training.evaluation` for films without a truth: the source's motion takes the
place of the truth's.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23, apply
from vqfr_media.faces.mesh import FaceMesh, find_mesh
from vqfr_media.faces.mesh_fit import mean_shape
from vqfr_media.faces.persons import Descriptor, FaceDescriber
from vqfr_media.frames import Frame

Luma = npt.NDArray[np.float32]
type Flow = npt.NDArray[np.float32]
"""(H, W, 2): where a pixel of one picture lies in the other, x before y, as a shift."""

# Below this presence a mesh is a guess.
_CERTAIN = 0.5
# Levels per pixel of a picture in which there is nothing to see.
_LEAST_GRADIENT = 1e-3


@dataclass(frozen=True, eq=False)
class Look:
    """What two networks see of a face in one frame."""

    mesh: npt.NDArray[np.float64] | None
    """(307, 2) points of the face mesh that do not follow the mouth, display pixels of the source;
    None where there is none, or where the mesh is not looked for."""
    descriptor: Descriptor
    """(128,): whose face it is, by dlib's network."""


@dataclass(frozen=True, eq=False)
class FaceJudge:
    """Looks at faces, one at a time."""

    describer: FaceDescriber
    """Says whose face it is."""
    mesh: FaceMesh | None
    """Finds the mesh; None where OpenVINO, which runs it, is not installed."""

    def look(self, frame: Frame, landmarks: npt.NDArray[np.float64], back: Matrix23) -> Look:
        """Looks at the face at `landmarks`.

        Args:
            frame: of the source or of the result.
            landmarks: (5, 2) in display coordinates of that frame.
            back: (2, 3) from those to the source's.

        Raises:
            ValueError: the landmarks do not span a face.
        """
        points = None
        if self.mesh is not None:
            found = find_mesh(frame, landmarks, self.mesh)
            if found.presence >= _CERTAIN:
                points = apply(back, found.points[mean_shape()[1]])
        return Look(points, self.describer.describe(frame, landmarks))


def motion(
    now: npt.NDArray[np.uint8], then: npt.NDArray[np.uint8]
) -> tuple[Flow, npt.NDArray[np.bool_]]:
    """Returns the flow from `now` to `then`, and where it holds: forth and back agree, (H, W).

    OpenCV's dense inverse search (Kroeger et al., 2016) on luma.
    """
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forth = np.asarray(finder.calc(now, then, np.zeros((*now.shape, 2), np.float32)), np.float32)
    back = np.asarray(finder.calc(then, now, np.zeros((*now.shape, 2), np.float32)), np.float32)
    x, y = targets(forth)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    off = np.square(forth + returned).sum(axis=2)
    # Sundaram, Brox, Keutzer, 2010, Eq. 5: the tolerance grows with the motion.
    length = np.square(forth).sum(axis=2) + np.square(returned).sum(axis=2)
    rows, columns = now.shape
    inside = (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
    return forth, inside & (off < 0.01 * length + 0.5)


def targets(flow: Flow) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns where each pixel lies in the other picture, (H, W) x and y."""
    rows, columns = flow.shape[:2]
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return x + flow[..., 0], y + flow[..., 1]


def gradient(luma: npt.NDArray[np.uint8] | Luma, where: npt.NDArray[np.bool_]) -> float:
    """Returns the mean length of the gradient in `where`, in levels per pixel."""
    across, down = (cv2.Sobel(luma, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    return float(np.hypot(across, down)[where].mean())


def unsteadiness(
    source: tuple[Luma, Luma], result: tuple[Luma, Luma], inner: slice
) -> tuple[float, float] | None:
    """Returns the change between two frames that the source's motion does not explain, in pixels.

    The earlier frame is moved along the source's motion; the mean difference that is left, over the
    mean gradient of the source: a shift by so many pixels to and fro would change the source as
    much.

    Args:
        source: (S, S) 8-bit levels of the aligned face in the source: then, now.
        result: the same of the result.
        inner: rows and columns that count.

    Returns:
        Of the source and of the result, in pixels of the aligned face; None where no pixel's motion
        is known.
    """
    then, now = (np.rint(luma.clip(0, 255)).astype(np.uint8) for luma in source)
    flow, known = motion(now, then)
    where = np.zeros_like(known)
    where[inner, inner] = known[inner, inner]
    if not where.any():
        return None
    x, y = targets(flow)
    unit = max(gradient(source[1], where), _LEAST_GRADIENT)

    def left(earlier: Luma, later: Luma) -> float:
        moved = cv2.remap(earlier, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return float(np.abs(later - moved)[where].mean()) / unit

    return left(*source), left(*result)
