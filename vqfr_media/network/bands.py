"""Bands of frequencies, and luma and chroma, of which images are made."""

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 1, 2, 4, 8)
"""Of the smoothing from one band to the next, in pixels: standard deviations of 0.7, 1, 1.7, 3.3
and 6.6 px."""

# Luma and two differences of colour (Rec. 601) as JPEG has them, and back.
TO_LUMA_CHROMA = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def split_bands(images: Tensor) -> Tensor:
    """Takes images apart into bands of frequencies that add up to them, the finest first.

    The à trous transform (Holschneider et al. 1989) with the binomial filter (1, 2, 1) / 4 along
    both axes.

    Args:
        images: `(N, C, H, W)`.

    Returns:
        `(N, 6, C, H, W)`: five differences of ever smoother images, and the smoothest.
    """
    channels = images.shape[1]
    binomial = images.new_tensor((0.25, 0.5, 0.25))
    kernel = torch.outer(binomial, binomial).expand(channels, 1, 3, 3)
    bands = []
    for dilation in DILATIONS:
        smooth = F.conv2d(_extend(images, dilation), kernel, dilation=dilation, groups=channels)
        bands.append(images - smooth)
        images = smooth
    return torch.stack((*bands, images), dim=1)


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
