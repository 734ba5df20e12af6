"""Bands of frequencies, and luma and chroma, of which images are made."""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 1, 2, 4, 8)
"""Of the smoothing from one band to the next, in pixels: standard deviations of 0.7, 1, 1.7, 3.3
and 6.6 px."""
_BINOMIAL = (0.25, 0.5, 0.25)
_GRADIENT_FLOOR = 1e-4
"""Of a gradient's squared length, for images in [-1, 1]: rounding to 8 bits has no direction."""

# Luma and two differences of colour (Rec. 601) as JPEG has them, and back.
TO_LUMA_CHROMA = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def smooth(images: Tensor) -> list[Tensor]:
    """Smooths images step by step: the à trous transform (Holschneider et al. 1989).

    Its filter is the binomial one, (1, 2, 1) / 4 along both axes, its holes ever wider.

    Args:
        images: `(N, C, H, W)`.

    Returns:
        The images themselves, and what each of the five steps makes of what is before it.
    """
    channels = images.shape[1]
    binomial = images.new_tensor(_BINOMIAL)
    kernel = torch.outer(binomial, binomial).expand(channels, 1, 3, 3)
    steps = [images]
    for dilation in DILATIONS:
        extended = _extend(steps[-1], dilation)
        steps.append(F.conv2d(extended, kernel, dilation=dilation, groups=channels))
    return steps


def split_bands(steps: list[Tensor]) -> Tensor:
    """Takes images apart into bands of frequencies that add up to them, the finest first.

    Args:
        steps: six, each `(N, C, H, W)`, of `smooth`.

    Returns:
        `(N, 6, C, H, W)`: five differences of ever smoother images, and the smoothest.
    """
    return torch.stack((*(fine - coarse for fine, coarse in pairwise(steps)), steps[-1]), dim=1)


def split_directions(steps: list[Tensor]) -> Iterator[Tensor]:
    """Takes the detail of every band apart by direction.

    Second differences along x, along y and mixed, each times a factor of its own. A weighed sum of
    the three is about a second difference along any direction (steerable filters, Freeman and
    Adelson 1991).

    Args:
        steps: six, each `(N, 1, H, W)`, of `smooth`.

    Yields:
        `(N, 3, H, W)` for each of the five bands: detail along x (smooth along y), detail along y
        (smooth along x), and the mixed difference, which is positive where a bright line falls to
        the right.
    """
    kernel = steps[0].new_tensor(_BINOMIAL)
    for dilation, fine, coarse in zip(DILATIONS, steps, steps[1:], strict=False):
        wide = _extend(fine, dilation)
        height, width = fine.shape[2:]
        rows, columns = (wide.narrow(axis, dilation, fine.shape[axis]) for axis in (2, 3))
        smooth_x = F.conv2d(rows, kernel.view(1, 1, 1, 3), dilation=dilation)
        smooth_y = F.conv2d(columns, kernel.view(1, 1, 3, 1), dilation=dilation)
        first, last = wide.narrow(2, 0, height), wide.narrow(2, 2 * dilation, height)
        falling = first.narrow(3, 0, width) + last.narrow(3, 2 * dilation, width)
        rising = first.narrow(3, 2 * dilation, width) + last.narrow(3, 0, width)
        mixed = (falling - rising) / 4
        yield torch.cat((smooth_y - coarse, smooth_x - coarse, mixed), dim=1)


def measure_directions(steps: list[Tensor], *, cell: int) -> Tensor:
    """Measures where edges run, and how straight, from structure tensors (Bigün and Granlund 1987).

    Args:
        steps: six, each `(N, 1, H, W)` in about [-1, 1], of `smooth`.
        cell: side of the squares in which gradients are averaged, in pixels; divides H and W.

    Returns:
        `(N, 10, H / cell, W / cell)` in [-1, 1]: for each of the five bands the cosine and the sine
        of twice the angle between gradient and x axis, times how much the gradients agree. So it is
        for waves of four dilations and longer; shorter ones of a coarse band may show another
        angle.
    """
    angles = []
    for dilation, fine in zip(DILATIONS, steps, strict=False):
        wide = _extend(fine, dilation)
        rows, columns = (wide.narrow(axis, dilation, fine.shape[axis]) for axis in (2, 3))
        height, width = fine.shape[2:]
        x = rows.narrow(3, 2 * dilation, width) - rows.narrow(3, 0, width)
        y = columns.narrow(2, 2 * dilation, height) - columns.narrow(2, 0, height)
        products = torch.cat((x * x, y * y, x * y), dim=1)
        xx, yy, xy = F.avg_pool2d(products, cell).chunk(3, dim=1)
        energy = xx + yy + _GRADIENT_FLOOR
        angles += [(xx - yy) / energy, 2 * xy / energy]
    return torch.cat(angles, dim=1)


def luma(images: Tensor) -> Tensor:
    """Maps RGB `(N, 3, H, W)` to Rec. 601 luma `(N, 1, H, W)`."""
    return mix_channels(images, TO_LUMA_CHROMA[:1])


def mix_channels(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Multiplies the three channels of every pixel of `(N, 3, H, W)` by a matrix."""
    return F.conv2d(images, images.new_tensor(matrix)[:, :, None, None])


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
