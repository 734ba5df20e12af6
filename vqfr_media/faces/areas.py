"""Which parts of a picture to look at for faces that are known to be about there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqfr_media.values import Face

# Pixels around a face's box. A detector sees a face by its surroundings, too: with 48 px landmarks
# move by up to 1 % of the face's size against those seen in the whole picture, with 80 by 0.1 %,
# a sixth of what they tremble from frame to frame (three clips of people who move).
_MARGIN = 80
# Areas begin and end on a grid of so many pixels: the largest step of the network's feature maps,
# so that a face has the same cells and anchors as in the whole picture.
_GRID = 32
# Share of the picture from which on areas cost as much as all of it.
_MOST = 0.7


@dataclass(frozen=True)
class Area:
    """A part of a picture in which faces are looked for."""

    left: int
    """First column."""
    top: int
    """First row."""
    right: int
    """Column after the last one."""
    bottom: int
    """Row after the last one."""
    smallest: float
    """Size of the smallest face that is known to be there, in pixels."""

    @classmethod
    def around(cls, face: Face, rows: int, columns: int) -> Self | None:
        """Returns the area for a face; None where the face is not in the picture."""
        x0, y0, x1, y1 = face.box
        if x1 < 0 or y1 < 0 or x0 > columns - 1 or y0 > rows - 1:
            return None
        return cls(
            max(0, int(x0 - _MARGIN) // _GRID * _GRID),
            max(0, int(y0 - _MARGIN) // _GRID * _GRID),
            min(columns, -(-int(x1 + _MARGIN) // _GRID) * _GRID),
            min(rows, -(-int(y1 + _MARGIN) // _GRID) * _GRID),
            face.size,
        )

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return (self.right - self.left) * (self.bottom - self.top)

    def meets(self, other: "Area") -> bool:
        """Whether the two have pixels in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def joined(self, other: "Area") -> "Area":
        """Returns the smallest area that holds both."""
        return Area(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            min(self.smallest, other.smallest),
        )

    def of(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns its pixels of an (h, w, 3) picture, which may be the picture itself."""
        return np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])

    def cuts(self, face: Face, rows: int, columns: int) -> bool:
        """Whether a face seen in it reaches its edge where the picture goes on.

        Args:
            face: In coordinates of the picture.
            rows: Of the picture.
            columns: Of the picture.
        """
        x0, y0, x1, y1 = face.box
        return bool(
            (self.left > 0 and x0 <= self.left)
            or (self.top > 0 and y0 <= self.top)
            or (self.right < columns and x1 >= self.right - 1)
            or (self.bottom < rows and y1 >= self.bottom - 1)
        )


def areas_around(known: Sequence[Face], rows: int, columns: int) -> list[Area]:
    """Returns areas without a pixel in common that hold known faces and their surroundings.

    All of the picture, where that is not much more.

    Args:
        known: Faces in the picture's coordinates.
        rows: Of the picture.
        columns: Of the picture.
    """
    areas: list[Area] = []
    for face in known:
        new = Area.around(face, rows, columns)
        if new is None:
            continue
        while met := [area for area in areas if area.meets(new)]:
            areas = [area for area in areas if not area.meets(new)]
            for area in met:
                new = new.joined(area)
        areas.append(new)
    if sum(area.pixels for area in areas) > _MOST * rows * columns:
        return [Area(0, 0, columns, rows, min(area.smallest for area in areas))]
    return areas
