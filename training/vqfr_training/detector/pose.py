"""How a head is turned: from face coordinates to the scene and back.

A head is taken for a soft hill with a nose on it; turning it moves what stands higher further.
That is no true view from the side, but the parallax, the narrowing and the exact places of the
landmarks are those of one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqfr_training.detector.portraits import Points


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where and how a face stands in a scene."""

    yaw: float
    """Radians, positive to the picture's right."""
    pitch: float
    """Radians, positive downwards."""
    jaw: float
    """How much wider the lower half of the face is than photographed, relative."""
    waves: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Heights and phases of two waves that bend the face across and along: other features."""
    matrix: NDArray[np.float64]
    """(3, 3) homography from the turned face to scene pixels."""
    size: float
    """Height of the face's box before it is turned, pixels."""
    turn: float
    """Rotation in the picture, radians, clockwise as seen."""

    @property
    def mirrored(self) -> bool:
        """Whether the photograph's left is on the picture's right."""
        return bool(np.linalg.det(self.matrix) < 0)

    def place(self, points: Points) -> Points:
        """Returns scene pixels of `points` in face coordinates."""
        return _project(self.matrix, self._bend(points))

    def unplace(self, pixels: Points) -> Points:
        """Returns face coordinates of scene `pixels`: the inverse of `place`, by iteration."""
        wanted = _project(np.linalg.inv(self.matrix), pixels)
        if not self._is_bent:
            return wanted
        points = wanted.copy()
        for _ in range(10):
            points += wanted - self._bend(points)
        return points

    @property
    def _is_bent(self) -> bool:
        return any((self.yaw, self.pitch, self.jaw, *self.waves[:2]))

    def _bend(self, points: Points) -> Points:
        if not self._is_bent:
            return points
        across, along, *phases = self.waves
        x = points[:, 0] + across * np.sin(3.5 * points[:, 1] + phases[0])
        y = points[:, 1] + along * np.sin(3.5 * points[:, 0] + phases[1])
        hill = 0.6 * np.exp(-((x / 0.95) ** 2) - (y / 1.2) ** 2)
        height = hill + 0.08 * np.exp(-(x**2 + (y - 0.15) ** 2) / 0.06)
        wide = x * (1 + self.jaw * np.tanh(y) * np.exp(-np.abs(x)))
        turned = wide * np.cos(self.yaw) + height * np.sin(self.yaw)
        tilted = y * np.cos(self.pitch) + height * np.sin(self.pitch)
        return np.stack([turned, tilted], axis=1)


def random_pose(
    generator: np.random.Generator,
    *,
    centre: NDArray[np.float64],
    size: float,
    rotation: float,
    yaw: float,
) -> Pose:
    """Returns a pose about `centre` (scene pixels) with angles up to those given in degrees."""
    turn = np.deg2rad(rotation) * generator.uniform(-1, 1) * generator.choice([1.0, 0.35])
    bent = generator.random() < 0.65
    turned = np.deg2rad(yaw) * generator.uniform(-1, 1) if bent else 0.0
    tilt = np.deg2rad(20) * generator.uniform(-1, 1) if bent else 0.0
    jaw = generator.uniform(-0.2, 0.2) if bent else 0.0
    heights = generator.uniform(-0.05, 0.05, 2) if bent else np.zeros(2)
    phases = generator.uniform(0, 2 * np.pi, 2)
    mirror = -1.0 if generator.random() < 0.5 else 1.0
    aspect = np.exp(generator.uniform(-0.2, 0.2))
    shear = generator.uniform(-0.1, 0.1)
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    scale = np.array([[mirror * aspect, shear, 0], [0, 1, 0], [0, 0, 1 / (size / 2)]])
    keystone = np.eye(3)
    keystone[2, :2] = generator.uniform(-1, 1, 2) * generator.uniform(0, 0.12) * 2 / size
    move = np.eye(3)
    move[:2, 2] = centre
    matrix = move @ keystone @ rotate @ scale
    return Pose(
        yaw=turned,
        pitch=tilt,
        jaw=jaw,
        waves=(float(heights[0]), float(heights[1]), float(phases[0]), float(phases[1])),
        matrix=matrix,
        size=size,
        turn=float(turn),
    )


def _project(matrix: NDArray[np.float64], points: Points) -> Points:
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:])
