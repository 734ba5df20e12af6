"""Before, after and truth, drawn side by side with their names."""

from collections.abc import Sequence

import cv2
import numpy as np

from vqfr_media.media.clip import Picture

TILE = 240
_BAR = 24


def titled(picture: Picture, title: str) -> Picture:
    """The picture under a bar with its name."""
    bar = np.full((_BAR, picture.shape[1], 3), 24, np.uint8)
    (width, height), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    place = ((bar.shape[1] - width) // 2, (_BAR + height) // 2)
    cv2.putText(bar, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230,) * 3, 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def side_by_side(before: Picture, after: Picture) -> Picture:
    """Both pictures at twice their size, named."""
    size = (2 * before.shape[1], 2 * before.shape[0])
    parts = (
        titled(_enlarged(picture, size), title)
        for picture, title in ((before, "before"), (after, "after"))
    )
    return np.hstack(list(parts))


def face_tile(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """(240, 240, 3): the square around a face, enlarged the same way whatever it shows."""
    x0, y0, x1, y1 = box
    side = min(round(1.35 * max(x1 - x0, y1 - y0)), *picture.shape[:2])
    left = min(max((x0 + x1 - side) // 2, 0), picture.shape[1] - side)
    top = min(max((y0 + y1 - side) // 2, 0), picture.shape[0] - side)
    return _enlarged(picture[top : top + side, left : left + side], (TILE, TILE))


def contact_sheet(rows: Sequence[Sequence[Picture]], titles: Sequence[str]) -> Picture:
    """Tiles in rows, the first row under the titles.

    Raises:
        ValueError: a row does not have a tile for each title.
    """
    first, *rest = rows
    named = [titled(tile, title) for tile, title in zip(first, titles, strict=True)]
    if any(len(row) != len(titles) for row in rest):
        raise ValueError(f"every row needs {len(titles)} tiles, got {[len(row) for row in rows]}")
    return np.vstack([np.hstack(row) for row in (named, *map(list, rest))])


def _enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
