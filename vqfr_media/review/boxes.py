"""Faces drawn on their picture: box, landmarks, number of the track and score."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Matrix23, apply, invert
from vqfr_media.faces.tracks import Appearance, FaceTrack
from vqfr_media.frames import Frame
from vqfr_media.media.colour import proxy_to_display
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.review.picture import draw_text, resized, text_size, upright

# Okabe and Ito's colours (2008), which people with any colour vision tell apart, without black.
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
DISABLED = (150, 150, 150)
_BLACK = (0, 0, 0)
# A picture is enlarged by a whole factor until its longer side has so many pixels: smaller ones
# have no room for numbers.
READABLE = 640


@dataclass(frozen=True, eq=False)
class Mark:
    """A face as it is drawn."""

    track: FaceTrack
    """Which face it is, and what is to be done with it."""
    appearance: Appearance
    """Where it is, in display coordinates."""

    @property
    def colour(self) -> tuple[int, int, int]:
        """Of the track; grey where it is not to be restored."""
        return COLOURS[self.track.id % len(COLOURS)] if self.track.enabled else DISABLED

    @property
    def label(self) -> str:
        """Number and score, and what else is worth knowing."""
        words = [f"#{self.track.id}", f"{self.appearance.face.score:.2f}"]
        words += track_settings(self.track)
        if self.appearance.filled:
            words.append("filled")
        return " ".join(words)


def track_settings(track: FaceTrack) -> list[str]:
    """Returns what the tracks file asks for, for this track alone, in words."""
    words = [] if track.person is None else [f"person {track.person}"]
    words += [] if track.enabled else ["off"]
    if track.fidelity is not None:
        words.append(f"fidelity {track.fidelity:g}")
    if track.strength is not None:
        words.append(f"strength {track.strength:g}")
    return words


def draw_frame(frame: Frame, faces: Iterable[tuple[FaceTrack, Appearance]]) -> Picture:
    """Returns (h, w, 3) RGB: the upright picture of a frame with its faces drawn on it.

    A dashed box is that of a face that the detector had lost; one that is crossed out is not to be
    restored. Pictures whose longer side is below `READABLE` are enlarged by a whole factor.
    """
    picture = upright(frame)
    factor = math.ceil(READABLE / max(picture.shape[:2]))
    if factor > 1:
        picture = resized(picture, (picture.shape[1] * factor, picture.shape[0] * factor))
    return draw_marks(
        picture,
        [Mark(track, appearance) for track, appearance in faces],
        invert(proxy_to_display(frame, picture.shape)),
    )


def draw_marks(picture: Picture, marks: Iterable[Mark], matrix: Matrix23) -> Picture:
    """Returns a copy with faces drawn on it; `matrix` takes display coordinates to its own."""
    drawn = picture.copy()
    thickness = max(1, round(max(picture.shape[:2]) / 640))
    for mark in marks:
        face = mark.appearance.face
        corners = _whole(apply(matrix, face.box.reshape(2, 2)))
        (x0, y0), (x1, y1) = corners
        edges = [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)),
                 ((x0, y1), (x1, y1)), ((x0, y0), (x0, y1))]  # fmt: skip
        if not mark.track.enabled:
            edges += [((x0, y0), (x1, y1)), ((x0, y1), (x1, y0))]
        for start, end in edges:
            _line(drawn, start, end, mark.colour, thickness, dashed=mark.appearance.filled)
        for x, y in _whole(apply(matrix, face.landmarks)):
            cv2.circle(drawn, (x, y), 2 * thickness, _BLACK, -1, cv2.LINE_AA)
            cv2.circle(drawn, (x, y), max(1, round(1.4 * thickness)), mark.colour, -1, cv2.LINE_AA)
        _label(drawn, mark, (x0, y0), 11.0 * thickness)
    return drawn


def _whole(points: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in np.rint(points)]


def _line(
    picture: Picture,
    start: tuple[int, int],
    end: tuple[int, int],
    colour: tuple[int, int, int],
    thickness: int,
    *,
    dashed: bool,
) -> None:
    if not dashed:
        cv2.line(picture, start, end, colour, thickness)
        return
    length = math.dist(start, end)
    dash = 6.0 * thickness
    for number in range(0, max(1, math.ceil(length / dash)), 2):
        shares = [min(1.0, (number + step) * dash / length) if length else 0.0 for step in (0, 1)]
        points = [
            (
                round(start[0] + share * (end[0] - start[0])),
                round(start[1] + share * (end[1] - start[1])),
            )
            for share in shares
        ]
        cv2.line(picture, points[0], points[1], colour, thickness)


def _label(picture: Picture, mark: Mark, corner: tuple[int, int], height: float) -> None:
    """Draws the label on its colour, above the box where there is room, always in the picture."""
    rows, columns = picture.shape[:2]
    width, tall = text_size(mark.label, height)
    margin = max(2, round(height / 5))
    wide, high = width + 2 * margin, tall + 2 * margin
    left = min(max(corner[0], 0), max(0, columns - wide))
    top = corner[1] - high if corner[1] >= high else min(max(corner[1], 0), max(0, rows - high))
    picture[top : top + high, left : left + wide] = mark.colour
    draw_text(picture, mark.label, (left + margin, top + margin), height=height, colour=_BLACK)
