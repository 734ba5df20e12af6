"""Finds the faces of a single picture, for which there is more time than for a frame of a film.

Large pictures are searched in overlapping tiles at several sizes, so that a small head in a
panorama is found too; and each is searched lying on its side and standing on its head, for faces
that are surer there, or where none is upright.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.detect import WEAK, Detector, detected_in, thumbnail_of
from vqfr_media.faces.turned import (
    SAME_FACE,
    FindFaces,
    faces_of_turned,
    look_again,
    moved,
    overlap,
    placed,
    pose,
)
from vqfr_media.frames import Frame
from vqfr_media.media.colour import proxy_to_display, rgb_proxy
from vqfr_media.values import Detected, Face

# Share of a tile's side by which it lies over the next one. A face that is larger than this in a
# tile is seen whole in the picture of half the size.
_OVERLAP = 0.25
# By so much the score has to be higher where the picture is turned. Of eight people who stood on
# their heads three were taken for upright ones, at 0.87 to 0.98; turned they are seen at 1.00.
_SURER = 0.01
# Pixels from the edge of a tile from which a box is cut off there.
_EDGE = 2


def detect_still(frame: Frame, detector: Detector, *, proxy: int, score: float) -> Detected:
    """Finds the faces of a picture that is no frame of a film, in any size and turned.

    Args:
        frame: The picture.
        detector: Called four times for the whole, and for each tile of at most `proxy` × `proxy`.
        proxy: Side of what the detector sees at a time.
        score: Score of a face that counts by itself; faces from `WEAK` of it are kept.

    Returns:
        As `detect` does.
    """
    picture = rgb_proxy(frame, _largest(max(frame.display_size), proxy))
    found = _search(picture, detector, proxy=proxy)
    small = _reduced(picture, proxy)
    scale = picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]
    turned = [
        [_scaled(face, *scale) for face in faces_of_turned(small, turns, detector)]
        for turns in (1, 2, 3)
    ]
    if any(face.score >= score and not pose(face.landmarks).is_doubtful for face in found):
        found = _surest(found, turned)
    else:
        ways = [found, *turned]
        found = max(ways, key=lambda way: sum(face.score for face in way if face.score >= score))
    return detected_in(
        frame, thumbnail_of(picture), [face for face in found if face.score >= WEAK * score],
        proxy_to_display(frame, picture.shape),
    )  # fmt: skip


def _surest(found: Sequence[Face], turned: Sequence[Sequence[Face]]) -> list[Face]:
    """Returns each face as it is seen in the turned picture in which the detector is surest of it.

    One that stands on its head may have a mouth for eyes, shaped like an upright face's.
    """
    surest: list[Face] = []
    for face in found:
        same = [
            other
            for way in turned
            for other in way
            if overlap(other.box, face.box) >= SAME_FACE
            and other.score > face.score + _SURER
            and all(other is not taken for taken in surest)
        ]
        surest.append(max([face, *same], key=lambda one: one.score))
    return surest


def _largest(side: float, proxy: int) -> int:
    """Returns the longest side that is searched: `proxy` doubled up to half of the picture's."""
    size = proxy
    while 2 * size <= side / 2:
        size *= 2
    return size


def _search(picture: npt.NDArray[np.uint8], find: FindFaces, *, proxy: int) -> list[Face]:
    """Returns the faces of a picture, seen in all sizes from its own down to `proxy`."""
    found: list[Face] = []
    size = _largest(2 * max(picture.shape[:2]), proxy)
    while True:
        level = _reduced(picture, size)
        scale = picture.shape[1] / level.shape[1], picture.shape[0] / level.shape[0]
        here = [_scaled(face, *scale) for face in _in_tiles(level, find, side=proxy)]
        # What a larger picture shows as well is placed better there, unless it showed a part.
        found = [one for one in found if not any(_is_part(one, other) for other in here)]
        found += [one for one in here if all(overlap(one.box, o.box) < SAME_FACE for o in found)]
        if size <= proxy:
            return sorted(found, key=lambda face: -face.score)
        size //= 2


def _in_tiles(picture: npt.NDArray[np.uint8], find: FindFaces, *, side: int) -> list[Face]:
    rows, columns = picture.shape[:2]
    found: list[Face] = []
    for top in _starts(rows, side):
        for left in _starts(columns, side):
            tile = np.ascontiguousarray(picture[top : top + side, left : left + side])
            height, width = tile.shape[:2]
            for face in (look_again(tile, one, find) for one in find(tile)):
                x0, y0, x1, y1 = face.box
                cut = (
                    (left > 0 and x0 < _EDGE)
                    or (top > 0 and y0 < _EDGE)
                    or (left + width < columns and x1 > width - _EDGE)
                    or (top + height < rows and y1 > height - _EDGE)
                )
                here = moved(face, left, top)
                twin = next((o for o in found if overlap(o.box, here.box) >= SAME_FACE), None)
                if cut or (twin is not None and twin.score >= here.score):
                    continue
                found = [o for o in found if o is not twin] + [here]
    return found


def _starts(length: int, side: int) -> Iterator[int]:
    """Yields where tiles begin, so that they cover `length` evenly and lie over each other."""
    if length <= side:
        yield 0
        return
    count = -(-(length - side) // round(side * (1 - _OVERLAP))) + 1
    for number in range(count):
        yield round(number * (length - side) / (count - 1))


def _is_part(one: Face, other: Face) -> bool:
    """Whether `one` lies in the middle of a face more than twice as large: a part of it."""
    x, y = one.box.reshape(2, 2).mean(axis=0)
    x0, y0, x1, y1 = other.box
    return bool(x0 < x < x1 and y0 < y < y1 and other.size > 2 * one.size)


def _reduced(picture: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    rows, columns = picture.shape[:2]
    if max(rows, columns) <= size:
        return picture
    factor = size / max(rows, columns)
    shape = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    return cv2.resize(picture, shape, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _scaled(face: Face, x: float, y: float) -> Face:
    # As `cv2.resize` places pixels: the corners of the pictures agree, not their first centres.
    return placed(face, np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]]))
