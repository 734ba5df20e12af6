"""Bands of frequencies, and luma and chroma, of which images are made."""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

type Matrix = tuple[tuple[float, ...], ...]

DILATIONS = (1, 1, 2, 4, 8)
"""Of the smoothing from one band to the next, in pixels: standard deviations of 0.7, 1, 1.7, 3.3
and 6.6 px."""
_GRADIENT_FLOOR = 1e-4
"""Of a gradient's squared length, for images in [-1, 1]: rounding to 8 bits has no direction."""

# Luma and two differences of colour (Rec. 601) as JPEG has them, and back.
TO_LUMA = ((0.299, 0.587, 0.114),)
TO_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))

# Filters of 3 x 3 pixels, whose rows lie along x.
_SMOOTH: Matrix = ((0.0625, 0.125, 0.0625), (0.125, 0.25, 0.125), (0.0625, 0.125, 0.0625))
_DETAIL_X: Matrix = ((-0.0625, 0.125, -0.0625), (-0.125, 0.25, -0.125), (-0.0625, 0.125, -0.0625))
_DETAIL_Y: Matrix = ((-0.0625, -0.125, -0.0625), (0.125, 0.25, 0.125), (-0.0625, -0.125, -0.0625))
_DETAIL_MIXED: Matrix = ((0.25, 0.0, -0.25), (0.0, 0.0, 0.0), (-0.25, 0.0, 0.25))
_GRADIENT_X: Matrix = ((0.0, 0.0, 0.0), (-1.0, 0.0, 1.0), (0.0, 0.0, 0.0))
_GRADIENT_Y: Matrix = ((0.0, -1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def smooth(images: Tensor) -> list[Tensor]:
    """Smooths images step by step: the à trous transform (Holschneider et al. 1989).

    Its filter is the binomial one, (1, 2, 1) / 4 along both axes, its holes ever wider.

    Args:
        images: `(N, C, H, W)`.

    Returns:
        The images themselves, and what each of the five steps makes of what is before it.
    """
    steps = [images]
    kernel = images.new_tensor(_SMOOTH)
    for dilation in DILATIONS:
        steps.append(_filter(_extend(steps[-1], dilation), kernel, dilation))
    return steps


def split_bands(steps: list[Tensor]) -> list[Tensor]:
    """Takes images apart into bands of frequencies that add up to them, the finest first.

    Args:
        steps: six, each `(N, C, H, W)`, of `smooth`.

    Returns:
        Six, each `(N, C, H, W)`: five differences of ever smoother images, and the smoothest.
    """
    return [*(fine - coarse for fine, coarse in pairwise(steps)), steps[-1]]


def split_directions(steps: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Takes the detail of every band apart by direction.

    Second differences along x, along y and mixed, each times a factor of its own. A weighed sum of
    the three is about a second difference along any direction (steerable filters, Freeman and
    Adelson 1991).

    Args:
        steps: six, each `(N, C, H, W)`, of `smooth`.

    Yields:
        Three of `(N, C, H, W)` for each of the five bands: detail along x (smooth along y), detail
        along y (smooth along x), and the mixed difference, which is positive where a bright line
        falls to the right.
    """
    x, y, mixed = map(steps[0].new_tensor, (_DETAIL_X, _DETAIL_Y, _DETAIL_MIXED))
    for dilation, fine in zip(DILATIONS, steps[:-1], strict=True):
        wide = _extend(fine, dilation)
        yield _filter(wide, x, dilation), _filter(wide, y, dilation), _filter(wide, mixed, dilation)


def measure_directions(steps: list[Tensor], *, cell: int) -> Tensor:
    """Measures where edges run, and how straight, from structure tensors (Bigün and Granlund 1987).

    Args:
        steps: six, each `(N, C, H, W)` in about [-1, 1], of `smooth`.
        cell: side of the squares in which gradients are averaged, in pixels; divides H and W.

    Returns:
        `(N, C, 10, H / cell, W / cell)` in [-1, 1]: for each of the five bands the cosine and the
        sine of twice the angle between gradient and x axis, times how much the gradients agree. Of
        waves of four times the distance over which a band's differences go the angle is off by 6
        degrees at most, of shorter ones by more.
    """
    angles = []
    kernels = [steps[0].new_tensor(kernel) for kernel in (_GRADIENT_X, _GRADIENT_Y)]
    # Over as far as the step before has smoothed: waves shorter than four times that are weak, and
    # would show other angles.
    for distance, fine in zip((1, *DILATIONS[:-1]), steps[:-1], strict=True):
        wide = _extend(fine, distance)
        x, y = (_filter(wide, kernel, distance) for kernel in kernels)
        xx, yy, xy = (F.avg_pool2d(product, cell) for product in (x * x, y * y, x * y))
        energy = xx + yy + _GRADIENT_FLOOR
        angles += [(xx - yy) / energy, 2 * xy / energy]
    count, channels, rows, columns = angles[0].shape
    return torch.cat([one.reshape(count, channels, 1, rows, columns) for one in angles], dim=2)


def luma(images: Tensor) -> Tensor:
    """Maps RGB `(N, 3, H, W)` to Rec. 601 luma `(N, 1, H, W)`."""
    return mix_channels(images, TO_LUMA)


def mix_channels(images: Tensor, matrix: Matrix) -> Tensor:
    """Multiplies the channels of every pixel of `(N, C, H, W)` by a matrix of C columns."""
    return F.conv2d(images, images.new_tensor(matrix)[:, :, None, None])


def _filter(extended: Tensor, kernel: Tensor, dilation: int) -> Tensor:
    """Filters every channel of `(N, C, H + 2 dilation, W + 2 dilation)`: `(N, C, H, W)`."""
    channels = extended.shape[1]
    weight = kernel.expand(channels, 1, 3, 3)
    return F.conv2d(extended, weight, dilation=dilation, groups=channels)


def _extend(images: Tensor, width: int) -> Tensor:
    """Repeats the rim of `(N, C, H, W)` by `width` pixels on all sides.

    What `F.pad` does with "replicate", which torch_tensorrt converts with shapes that are computed.
    """
    for axis in (2, 3):
        size = list(images.shape)
        size[axis] = width
        first, last = images.narrow(axis, 0, 1), images.narrow(axis, images.shape[axis] - 1, 1)
        images = torch.cat((first.expand(size), images, last.expand(size)), dim=axis)
    return images
