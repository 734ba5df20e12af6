"""The ways in which two clips are shown in one picture: side by side, a wipe, zoomed faces."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from vqfr_media.faces.affine import compose, invert
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.review.pairs import Pair
from vqfr_media.review.picture import (
    BACKGROUND,
    bar_height,
    crop_square,
    draw_text,
    fit_within,
    pad_to_even,
    resized,
    side_by_side,
    text_size,
    titled,
    upright,
)
from vqfr_media.review.zoom import ZoomPlan

# Draws one moment; every picture that it gives has the same size.
Draw = Callable[[Pair], Picture]

LONGEST = 4096
"""Longer side of a drawn picture: what H.264 players take."""


def draw_side_by_side(size: tuple[int, int], labels: tuple[str, str]) -> Draw:
    """Returns what draws both pictures at `size` (columns, rows), beside each other."""

    def draw(pair: Pair) -> Picture:
        before, after = (resized(upright(f), size) for f in (pair.before, pair.after))
        return pad_to_even(fit_within(side_by_side(before, after, labels), LONGEST))

    return draw


def draw_wipe(
    size: tuple[int, int],
    labels: tuple[str, str],
    *,
    divider: float | None,
    sweep_seconds: float,
) -> Draw:
    """Returns what draws one picture: the first clip left of a divider, the second right of it.

    Args:
        size: columns and rows.
        labels: the clips' names, in the upper corners.
        divider: place of the divider, 0 (left) to 1 (right); None moves it.
        sweep_seconds: time in which a moving divider goes to both sides and comes back.
    """

    def draw(pair: Pair) -> Picture:
        before, after = (
            fit_within(resized(upright(f), size), LONGEST) for f in (pair.before, pair.after)
        )
        share = wipe_share(pair.seconds, sweep_seconds) if divider is None else divider
        return pad_to_even(wipe(before, after, share, labels))

    return draw


def draw_faces(plan: ZoomPlan, labels: tuple[str, str]) -> Draw:
    """Returns what draws each face in a row, before and after, cut out at the same place."""
    tile = plan.tile
    width = 2 * tile

    def draw(pair: Pair) -> Picture:
        sheet = np.full((plan.slots * tile, width, 3), BACKGROUND, np.uint8)
        for view in plan.views.get(pair.before.index, ()):
            matrix = view.matrix(tile)
            row = sheet[view.slot * tile : (view.slot + 1) * tile]
            row[:, :tile] = crop_square(pair.before, matrix, tile)
            row[:, tile:] = crop_square(pair.after, compose(matrix, invert(pair.to_after())), tile)
            _draw_label(row, f"#{view.track}", left=True, height=tile / 22)
        bar = np.hstack(
            [titled(np.zeros((tile, tile, 3), np.uint8), label)[: bar_height(tile)]
             for label in labels]
        )  # fmt: skip
        return pad_to_even(fit_within(np.vstack([bar, sheet]), LONGEST))

    return draw


def wipe_share(seconds: float, period: float) -> float:
    """Returns where a moving divider is: from the middle to the right, the left and back."""
    return 1 - abs(2 * ((seconds / period + 0.25) % 1) - 1)


def wipe(before: Picture, after: Picture, share: float, labels: tuple[str, str]) -> Picture:
    """Returns `before` left of the divider at `share` of the width, `after` right of it.

    Raises:
        ValueError: their sizes differ, or `share` is not between 0 and 1.
    """
    if before.shape != after.shape:
        raise ValueError(f"two pictures of one size are needed, got {before.shape}, {after.shape}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    columns = before.shape[1]
    column = round(share * columns)
    picture = np.hstack([before[:, :column], after[:, column:]])
    height = max(11.0, before.shape[0] / 45)
    for label, part, left in (
        (labels[0], picture[:, :column], True),
        (labels[1], picture[:, column:], False),
    ):
        if text_size(label, height)[0] + 2 * height < part.shape[1]:
            _draw_label(part, label, left=left, height=height)
    if 0 < column < columns:
        half = max(1, math.ceil(columns / 1000))
        picture[:, max(0, column - 2 * half) : column + 2 * half] = BACKGROUND
        picture[:, max(0, column - half) : column + half] = 255
    return np.ascontiguousarray(picture)


def _draw_label(picture: Picture, text: str, *, left: bool, height: float) -> None:
    """Writes a name into an upper corner, on a dark ground."""
    width, rows = text_size(text, height)
    margin = max(2, round(height / 3))
    wide, high = width + 2 * margin, rows + 2 * margin
    start = 0 if left else max(0, picture.shape[1] - wide)
    ground = picture[:high, start : start + wide]
    ground[:] = cv2.addWeighted(ground, 0.25, np.full_like(ground, BACKGROUND), 0.75, 0)
    patch = np.ascontiguousarray(ground)
    draw_text(patch, text, (margin, margin), height=height)
    ground[:] = patch
