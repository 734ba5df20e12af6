"""Before, after and truth, drawn side by side with their names."""

from collections.abc import Sequence

import numpy as np

from vqfr_media.media.rgb_clip import Picture
from vqfr_media.review import picture as look
from vqfr_media.review.picture import resized, titled

__all__ = ["contact_sheet", "face_tile", "side_by_side", "titled"]

TILE = 240


def side_by_side(before: Picture, after: Picture) -> Picture:
    """Draws both pictures at twice their size, named."""
    size = (2 * before.shape[1], 2 * before.shape[0])
    return look.side_by_side(resized(before, size), resized(after, size), ("before", "after"))


def face_tile(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """Draws the square around a face, (240, 240, 3), enlarged the same way whatever it shows."""
    x0, y0, x1, y1 = box
    side = min(round(1.35 * max(x1 - x0, y1 - y0)), *picture.shape[:2])
    left = min(max((x0 + x1 - side) // 2, 0), picture.shape[1] - side)
    top = min(max((y0 + y1 - side) // 2, 0), picture.shape[0] - side)
    return resized(picture[top : top + side, left : left + side], (TILE, TILE))


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
