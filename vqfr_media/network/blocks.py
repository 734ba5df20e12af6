"""Layers that both published networks are made of, and the value they both return."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branches(NamedTuple):
    """The two outputs of the parallel decoder (paper, figure 3)."""

    texture: Tensor
    """`(N, 3, S, S)`, about [-1, 1]: the code vectors alone, decoded."""
    main: Tensor
    """`(N, 3, S, S)`, about [-1, 1]: textures warped and fused with the input."""


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Returns a context in which autocast leaves float32 arithmetic on `tensor`'s device alone."""
    device = tensor.device.type
    # Entering autocast only where it is on keeps exported graphs free of autocast regions; the meta
    # device, used to count without computing, has none.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def group_norm(channels: int, *, groups: int) -> nn.GroupNorm:
    """Makes a group normalisation with the published epsilon (1e-6, not PyTorch's 1e-5)."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def double(feature: Tensor) -> Tensor:
    """Doubles `(N, C, h, w)` to `(N, C, 2h, 2w)`, bilinear, pixel centres kept (not corners)."""
    return F.interpolate(feature, scale_factor=2.0, mode="bilinear", align_corners=False)


def shrink(feature: Tensor, *, factor: int) -> Tensor:
    """Shrinks `(N, C, h, w)` to `(N, C, h/factor, w/factor)`, bilinear without antialiasing.

    For an even factor that is the mean of the four pixels around each new centre.
    """
    if factor == 1:
        return feature
    scale = 1.0 / factor
    return F.interpolate(feature, scale_factor=scale, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """GN - SiLU - 3x3 conv, twice, around a skip (1x1 conv where the channels change)."""

    def __init__(self, in_channels: int, out_channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, groups=groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, groups=groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut_conv: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut_conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, h, w)` to `(N, out_channels, h, w)`."""
        inner = self.conv1(F.silu(self.norm1(x)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        summed: Tensor = self.shortcut_conv(x) + inner
        return summed


class BilinearUp(nn.Module):
    """A 3x3 conv, then bilinear x2: in this order, as published (and at a quarter of the cost)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, h, w)` to `(N, out_channels, 2h, 2w)`."""
        return double(self.conv(x))


class BilinearDown(nn.Module):
    """Bilinear reduction and a 3x3 conv."""

    def __init__(self, in_channels: int, out_channels: int, *, factor: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self._factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, h, w)` to `(N, out_channels, h/factor, w/factor)`."""
        smaller: Tensor = self.conv(shrink(x, factor=self._factor))
        return smaller


class Attention(nn.Module):
    """Self-attention with one head over all places of a feature, around a skip."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups=groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, channels, h, w)` to the same shape."""
        normed = self.norm(x)
        # (N, heads, places, channels): exporters know no attention without the heads.
        query, key, value = (
            conv(normed).flatten(2).transpose(1, 2).unsqueeze(1)
            for conv in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        out: Tensor = self.proj_out(mixed.transpose(1, 2).reshape(x.shape))
        return x + out


class StridedDown(nn.Module):
    """3x3 conv of stride 2, padded at the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, channels, h, w)` to `(N, channels, h/2, w/2)`."""
        smaller: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return smaller


class NearestUp(nn.Module):
    """Nearest x2, then a 3x3 conv."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, h, w)` to `(N, out_channels, 2h, 2w)`."""
        larger: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return larger
