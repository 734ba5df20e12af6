"""The people of the scenes: photographs with a matte, and everything that changes them.

A portrait lives in *face coordinates*: the origin is the centre of its box and the box is 2 high,
x to the right, y down. A scene places it with a homography from there to its own pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.layout import Data
from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.labels import (
    LABELLED_SIDE,
    Label,
    load_labels,
    read_portraits,
    usual_label,
)

type Points = NDArray[np.float64]
"""(N, 2) x, y."""

LEVELS = (512, 256, 128, 64)
"""Sides of the reduced photographs; a face takes the smallest that has its detail."""
_MATTE = 192


@dataclass(frozen=True)
class Portrait:
    """One person, or a blend of two, at one level."""

    image: Picture
    """(S, S, 4) RGB and opacity."""
    landmarks: Points
    """(5, 2) in the level's pixels (centres)."""
    box: NDArray[np.float64]
    """(4,) left, top, right, bottom in the level's pixels."""

    @property
    def centre(self) -> NDArray[np.float64]:
        """Of the box."""
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def unit(self) -> float:
        """Half the box's height: the length 1 of face coordinates, in pixels."""
        return float(self.box[3] - self.box[1]) / 2

    def outline(self) -> Points:
        """Returns (N, 2) points of the ellipse within the box, in face coordinates."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        aspect = (self.box[2] - self.box[0]) / (self.box[3] - self.box[1])
        return np.stack([aspect * np.cos(angle), np.sin(angle)], axis=1)

    def face_landmarks(self) -> Points:
        """Returns the landmarks in face coordinates."""
        return np.asarray((self.landmarks - self.centre) / self.unit)


class Portraits:
    """The photographs of some folders with their labels and mattes, decoded once, at all levels."""

    def __init__(self, folders: Data, *, labels: Mapping[str, Label] | None = None) -> None:
        """See `read_portraits` for the folders; a photograph without a label has the usual one.

        Raises:
            ValueError: what `read_portraits` raises.
        """
        labels = load_labels() if labels is None else labels
        self.names: list[str] = []
        self.levels: list[list[Picture]] = []
        for name, photograph in read_portraits(folders):
            self.names.append(name)
            self.levels.append(_levels(photograph))
        self.labels = [labels.get(name, usual_label()) for name in self.names]

    def __len__(self) -> int:
        return len(self.levels)

    def at(self, number: int, level: int) -> Portrait:
        """Returns person `number` as photographed; the image is not a copy."""
        label, scale = self.labels[number], LEVELS[level] / LABELLED_SIDE
        return Portrait(
            self.levels[number][level],
            (label.landmarks + 0.5) * scale - 0.5,
            (label.box + 0.5) * scale - 0.5,
        )

    def blend(self, generator: np.random.Generator, first: int, level: int) -> Portrait:
        """Returns a person between `first` and another.

        All over, or the upper half of one of them.
        """
        one, two = self.at(first, level), self.at(int(generator.integers(len(self))), level)
        side = one.image.shape[0]
        # Both photographs are aligned, so that a plain mixture of pixels mixes the faces.
        part = float(generator.uniform(0.25, 0.75))
        if generator.random() < 0.5:
            image = cv2.addWeighted(one.image, part, two.image, 1 - part, 0)
            weight = np.full(5, part)
        else:
            height = generator.uniform(0.5, 0.68) * side
            width = side * 0.03
            rows = 1 / (1 + np.exp((np.arange(side) - height) / width))
            ramp = rows.astype(np.float32)[:, None, None]
            image = (one.image * ramp + two.image * (1 - ramp)).astype(np.uint8)
            weight = np.interp(one.landmarks[:, 1], np.arange(side), rows)
            part = 0.5
        landmarks = one.landmarks * weight[:, None] + two.landmarks * (1 - weight[:, None])
        return Portrait(
            np.asarray(image, np.uint8), landmarks, one.box * part + two.box * (1 - part)
        )


def level_for(size: float) -> int:
    """Returns the smallest level whose faces are at least `size` pixels high."""
    usual = usual_label().box
    share = (usual[3] - usual[1]) / LABELLED_SIDE
    fitting = [i for i, side in enumerate(LEVELS) if side * share >= size]
    return fitting[-1] if fitting else 0


def _levels(photograph: Picture) -> list[Picture]:
    """Returns RGB and opacity of a photograph at every level."""
    top = cv2.resize(photograph, (LEVELS[0],) * 2, interpolation=cv2.INTER_AREA)
    whole = np.dstack([top, cv2.resize(person_matte(photograph), (LEVELS[0],) * 2)])
    return [
        np.asarray(cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        for side in LEVELS
    ]


def person_matte(photograph: Picture) -> Picture:
    """Finds the person's opacity (192, 192) in an aligned RGB photograph, by graph cuts."""
    small = cv2.resize(photograph, (_MATTE, _MATTE), interpolation=cv2.INTER_AREA)
    guess = np.full((_MATTE, _MATTE), cv2.GC_PR_BGD, np.uint8)
    cv2.ellipse(guess, (96, 104), (58, 80), 0, 0, 360, cv2.GC_PR_FGD, -1)
    guess[150:, 40:152] = cv2.GC_PR_FGD
    cv2.ellipse(guess, (96, 104), (36, 54), 0, 0, 360, cv2.GC_FGD, -1)
    guess[:8] = guess[:110, :12] = guess[:110, -12:] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(1)
    whole = (0, 0, _MATTE, _MATTE)  # not looked at: the mask says where to begin
    cut, _, _ = cv2.grabCut(
        np.ascontiguousarray(small[..., ::-1]), guess, whole, *models, 3, cv2.GC_INIT_WITH_MASK
    )
    opaque = ((np.asarray(cut, np.uint8) & 1) * 255).astype(np.uint8)
    _, parts = cv2.connectedComponents(opaque)
    opaque[parts != parts[104, 96]] = 0
    return np.asarray(cv2.GaussianBlur(opaque, (0, 0), 0.9), np.uint8)
