"""What a face detector is to those who train and measure one."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DetectedFace(Protocol):
    """A face that a detector found; the package's `Face` is one."""

    @property
    def box(self) -> NDArray[np.float64]:
        """(4,) left, top, right, bottom, pixel centres."""

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """(5, 2) eyes, nose, corners of the mouth, from the picture's left."""

    @property
    def score(self) -> float:
        """Within 0..1."""


type FaceDetector = Callable[[NDArray[np.uint8]], Sequence[DetectedFace]]
"""From an (h, w, 3) RGB picture to its faces, best first."""
