"""Pictures for people: upright, with square pixels, of one size, with a name, in rows."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from vqfr_media.faces.affine import Matrix23, compose
from vqfr_media.faces.align import crop_planes
from vqfr_media.frames import Frame
from vqfr_media.media.colour import to_rgb
from vqfr_media.media.rgb_clip import Picture, picture_of

BACKGROUND = 24
_INK = (230, 230, 230)
_BAR = 24
# OpenCV's plain letters are about 22 pixels high at scale 1.
_LETTER = 22.0


def upright(frame: Frame) -> Picture:
    """Returns (h, w, 3) RGB as a viewer sees it: turned, with square pixels, rows as stored.

    Samples beyond 8 bits are rounded, transfer and primaries are left as they are.
    """
    picture = picture_of(frame)
    columns = max(1, round(frame.width * float(frame.display.sample_aspect_ratio)))
    turned = np.rot90(resized(picture, (columns, frame.height)), frame.display.quarter_turns)
    return np.ascontiguousarray(turned)


def upright_size(frame_size: tuple[float, float]) -> tuple[int, int]:
    """Returns columns and rows of `upright`, of a frame whose `display_size` this is."""
    width, height = frame_size
    return max(1, round(width)), max(1, round(height))


def crop_square(frame: Frame, matrix: Matrix23, size: int) -> Picture:
    """Cuts (size, size, 3) RGB out of a frame's own planes; reads only what it needs of them.

    Args:
        frame: the picture.
        matrix: (2, 3) from display coordinates to those of the result.
        size: side of the result.
    """
    planes = crop_planes(
        frame.planes, frame.format, matrix=compose(matrix, frame.to_display()), size=size
    )
    return to_8_bits(to_rgb(planes, frame.format))


def to_8_bits(rgb: np.typing.NDArray[np.float32]) -> Picture:
    """Returns RGB of 0 to 1 as 8-bit codes, rounded and clipped."""
    return np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Resizes to `size` (columns, rows): a cubic where it grows, means where it shrinks."""
    columns, rows = size
    if (rows, columns) == picture.shape[:2]:
        return picture
    shrinks = columns <= picture.shape[1] and rows <= picture.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8, copy=False)


def fit_within(picture: Picture, longest: int) -> Picture:
    """Returns the picture, made smaller where its longer side exceeds `longest`."""
    rows, columns = picture.shape[:2]
    scale = longest / max(rows, columns)
    if scale >= 1:
        return picture
    return resized(picture, (max(1, round(columns * scale)), max(1, round(rows * scale))))


def pad_to_even(picture: Picture) -> Picture:
    """Repeats the last column and row where their number is odd (for 4:2:0)."""
    rows, columns = picture.shape[:2]
    if rows % 2 or columns % 2:
        return np.pad(picture, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    return picture


def text_size(text: str, height: float) -> tuple[int, int]:
    """Returns columns and rows that `draw_text` covers, with capitals `height` pixels high."""
    (width, rows), below = cv2.getTextSize(
        text, cv2.FONT_HERSHEY_SIMPLEX, height / _LETTER, _thickness(height)
    )
    return width, rows + below


def draw_text(
    picture: Picture,
    text: str,
    place: tuple[int, int],
    *,
    height: float,
    colour: tuple[int, int, int] = _INK,
) -> None:
    """Writes into `picture`; `place` is the left and the upper edge of the text."""
    (_, rows), below = cv2.getTextSize(
        text, cv2.FONT_HERSHEY_SIMPLEX, height / _LETTER, _thickness(height)
    )
    cv2.putText(
        picture,
        text,
        (place[0], place[1] + rows + below // 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        height / _LETTER,
        colour,
        _thickness(height),
        cv2.LINE_AA,
    )


def bar_height(rows: int) -> int:
    """Returns rows of the bar above a picture of so many."""
    return max(_BAR, 2 * round(rows / 40))


def titled(picture: Picture, title: str) -> Picture:
    """Puts a bar with its name above a picture, in smaller letters where it would not fit."""
    rows, columns = picture.shape[:2]
    bar = np.full((bar_height(rows), columns, 3), BACKGROUND, np.uint8)
    height = 11.0 * len(bar) / _BAR
    width, _ = text_size(title, height)
    if width > columns - 4:
        height *= max(columns - 4, 1) / width
    width, tall = text_size(title, height)
    draw_text(bar, title, (max(0, (columns - width) // 2), (len(bar) - tall) // 2), height=height)
    return np.vstack([bar, picture])


def side_by_side(before: Picture, after: Picture, labels: tuple[str, str]) -> Picture:
    """Returns both pictures, of one size, under their names.

    Raises:
        ValueError: their sizes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"two pictures of one size are needed, got {before.shape}, {after.shape}")
    return np.hstack([titled(before, labels[0]), titled(after, labels[1])])


def grid(tiles: Sequence[Picture], *, shape: float = 4 / 3) -> Picture:
    """Returns tiles of one size in rows; the sheet is about `shape` times as wide as high.

    Raises:
        ValueError: there are no tiles, or their sizes differ.
    """
    sizes = {tile.shape for tile in tiles}
    if len(sizes) != 1:
        raise ValueError(f"tiles of one size are needed, got {sorted(sizes) or 'none'}")
    rows, width, _ = tiles[0].shape
    columns = min(len(tiles), max(1, round(math.sqrt(len(tiles) * shape * rows / width))))
    blank = np.full_like(tiles[0], BACKGROUND)
    lines = [
        [*tiles[start : start + columns], *[blank] * (start + columns - len(tiles))]
        for start in range(0, len(tiles), columns)
    ]
    return np.vstack([np.hstack(line) for line in lines])


def _thickness(height: float) -> int:
    return max(1, round(height / 14))
