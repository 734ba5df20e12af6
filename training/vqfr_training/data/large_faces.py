"""Faces larger than the network's picture, cut out as `restore` cuts them out of frames."""

import numpy as np

from vqfr_media.faces.affine import warp
from vqfr_training.data.degradation import Image

CLOSER = 1.25
"""Faces are shown up to so many times larger than the template would have them, so that they are
shrunk by more or less. They must be larger than the result by as much."""


def cut_out(
    images: tuple[Image, Image], generator: np.random.Generator, *, size: int
) -> tuple[Image, Image]:
    """Shrinks a damaged face and its truth alike, by `restore`'s own filter.

    Args:
        images: two of (S, S, 3) RGB in [0, 1], S at least `CLOSER` times `size`.
        generator: draws by how much, and where the pixels of the result lie.
        size: side of the result.

    Returns:
        Both, (size, size, 3), clipped to [0, 1].
    """
    side = images[0].shape[0]
    scale = size / side * CLOSER ** generator.random()
    # The middle stays the middle, but for a part of a pixel.
    moves = (size - 1) / 2 - scale * (side - 1) / 2 + generator.uniform(-0.5, 0.5, 2)
    matrix = np.array([[scale, 0, moves[0]], [0, scale, moves[1]]])
    first, second = (np.clip(warp(image, matrix, shape=(size, size)), 0, 1) for image in images)
    return first, second
