"""What StyleGAN2's and SWAGAN's discriminators are made of. Features are (N, C, H, W)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def haar(image: Tensor) -> Tensor:
    """Returns the orthonormal Haar transform: (N, C, H, W) -> (N, 4 C, H/2, W/2), means first.

    The bands are the mean, the differences across, down and along the diagonal, each C channels.
    """
    top, bottom = image[..., 0::2, :], image[..., 1::2, :]
    total, fall = top + bottom, bottom - top
    bands = (
        total[..., 0::2] + total[..., 1::2],
        total[..., 1::2] - total[..., 0::2],
        fall[..., 0::2] + fall[..., 1::2],
        fall[..., 1::2] - fall[..., 0::2],
    )
    return torch.cat(bands, dim=1) / 2


def strengthen(image: Tensor, *, contrast: float, size: int = 8) -> Tensor:
    """Returns the image (N, C, H, W) with details below `size` pixels `contrast` times as strong.

    H and W are multiples of `size`.
    """
    coarse = F.interpolate(
        F.avg_pool2d(image, size), scale_factor=size, mode="bilinear", align_corners=False
    )
    return coarse + contrast * (image - coarse)


def minibatch_deviation(feature: Tensor, *, group: int = 4) -> Tensor:
    """Adds to `feature` (N, C, H, W) one more channel: how much a group's images differ.

    The mean over all elements of the standard deviation within groups of the largest size up to
    `group` that divides N (StyleGAN2; images that are all alike give themselves away).
    """
    count, _, height, width = feature.shape
    size = next(s for s in range(min(group, count), 0, -1) if count % s == 0)
    grouped = feature.reshape(size, -1, *feature.shape[1:])
    variance = grouped.var(dim=0, unbiased=False)
    mean = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat(
        (feature, mean.repeat(size)[:, None, None, None].expand(-1, 1, height, width)), 1
    )


def blur_down(image: Tensor) -> Tensor:
    """Halves (N, C, H, W) through the kernel (1, 3, 3, 1)/8 in both directions."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], device=image.device, dtype=image.dtype) / 8
    kernel = (row[:, None] * row).expand(image.shape[1], 1, 4, 4)
    return F.conv2d(image, kernel, stride=2, padding=1, groups=image.shape[1])


class GlobalConv(nn.Module):
    """A convolution of a global discriminator, leaky ReLU behind it unless it is `linear`.

    Its weights have PyTorch's initial values and spectral normalisation, as VQFR's discriminators
    have; `equalised`, they are normal and scaled at run time, with a gain of √2 behind (StyleGAN2),
    which asks for learning rates a hundred times as high. With `down`, the kernel (1, 3, 3, 1) is
    applied and the stride is 2."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        equalised: bool,
        down: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        usual = nn.Conv2d(inputs, outputs, size, bias=not linear)
        self.weight, self.bias = usual.weight, usual.bias
        self._scale, self._gain = 1.0, 1.0
        if equalised:
            self._scale, self._gain = 1 / math.sqrt(inputs * size * size), math.sqrt(2)
            nn.init.normal_(self.weight)
            if self.bias is not None:
                nn.init.zeros_(self.bias)
        else:
            nn.utils.parametrizations.spectral_norm(self)
        self._down, self._padding = down, size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, inputs, H, W) -> (N, outputs, H, W), half as large with `down`."""
        weight = self.weight * self._scale
        if self._down and weight.shape[-1] == 1:
            x = F.conv2d(blur_down(x), weight)
        elif self._down:
            x = F.conv2d(_blur(x), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=self._padding)
        if self.bias is None:
            return x
        return F.leaky_relu(x + self.bias[:, None, None], 0.2) * self._gain


def _blur(x: Tensor) -> Tensor:
    """Applies the kernel (1, 3, 3, 1)/8 with a rim, so that a 3×3 of stride 2 halves x."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=2, groups=x.shape[1])


class ScaledLinear(nn.Module):
    """A linear layer with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, inputs) -> (N, outputs)."""
        return F.linear(x, self.weight * self._scale, self.bias)
