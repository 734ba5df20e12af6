"""Deformable convolution and the texture warping module (paper, equation 5 and table 4)."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.blocks import BilinearDown, double, full_precision, group_norm

type Operator = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int, int, int], Tensor]
"""A deformable convolution: `(x, offset, mask, weight, bias, stride, padding, dilation,
offset_groups)`, tensors shaped as for torchvision; the result has the type of `x`."""


def torchvision_operator(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    offset_groups: int,
) -> Tensor:
    """Runs torchvision's operator, in float32 whatever the types of the data.

    It takes coordinates in the data's type, where half precision is wrong by up to 13.5 % at
    512 px, and on the CPU it knows no bfloat16. On a GPU it runs `image_by_image`.

    Args:
        x: `(N, C, H, W)`.
        offset: `(N, 2 * K * K * offset_groups, h, w)` pixels: per group, per tap, (dy, dx).
        mask: `(N, K * K * offset_groups, h, w)`.
        weight: `(O, C, K, K)`.
        bias: `(O,)`.
        stride, padding, dilation: of both directions.
        offset_groups: groups of channels that are sampled together.

    Returns:
        `(N, O, h, w)` in the type of `x`.
    """
    from torchvision.ops import deform_conv2d

    del offset_groups  # torchvision reads it off the shapes
    weight, bias = weight.float(), bias.float()

    def convolved(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = deform_conv2d(
            x.float(),
            offset.float(),
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            mask=mask.float(),
        )
        return result.to(x.dtype)

    if x.is_cuda:
        return image_by_image(convolved, x, offset, mask)
    return convolved(x, offset, mask)


def image_by_image(
    convolved: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, offset: Tensor, mask: Tensor
) -> Tensor:
    """Applies `convolved` to one image after the other.

    torchvision lays out nine float32 values for each value of up to 32 images at once: 4.5 GiB for
    eight faces with v2, of which one image needs 0.56.

    Args:
        convolved: takes the three tensors with N = 1, gives `(1, O, h, w)`.
        x, offset, mask: as for `torchvision_operator`, N at least 1.

    Returns:
        `(N, O, h, w)`.
    """
    images = zip(*(torch.tensor_split(tensor, len(x)) for tensor in (x, offset, mask)), strict=True)
    return torch.cat([convolved(*image) for image in images])


def use_operator(network: nn.Module, operator: Operator) -> None:
    """Lets every deformable convolution of `network` compute by `operator`.

    The operator gets data, weight and bias in the types they have, offset and mask in float32.
    """
    for module in network.modules():
        if isinstance(module, ModulatedDeformConv):
            module.operator = operator


class ModulatedDeformConv(nn.Module):
    """A 3x3 convolution that samples where another feature says, weighted by a mask.

    Offsets (pixels) and mask are computed in float32 whatever the data's type: in bfloat16 an
    offset of 1 px is good to 1/128 px only, one of 4 px to 1/32 px.
    """

    operator: Operator
    """Computes the convolution; see `use_operator`."""

    def __init__(self, channels: int, *, guide_channels: int, offset_groups: int) -> None:
        super().__init__()
        # Here, not above: it takes two seconds, and who runs an engine builds no network. Not when
        # it is first needed: what importing computes would be part of a trace.
        import torchvision.ops  # noqa: F401

        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.conv_offset = nn.Conv2d(guide_channels, 3 * 9 * offset_groups, 3, padding=1)
        self.operator = torchvision_operator
        self._offset_groups = offset_groups
        # An untrained warp is then a plain 3x3 convolution with mask 1/2.
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Samples `x` `(N, C, h, w)` as `guide` `(N, G, h, w)` says; the result has `x`'s shape."""
        bias = cast(Tensor, self.conv_offset.bias)
        with full_precision(x):
            sampling = F.conv2d(
                guide.float(), self.conv_offset.weight.float(), bias.float(), padding=1
            )
            first, second, mask = sampling.chunk(3, dim=1)
            # torchvision's layout: for each group, for each tap, (dy, dx).
            offset, mask = torch.cat((first, second), dim=1), torch.sigmoid(mask)
            return self.operator(
                x, offset, mask, self.weight, self.bias, 1, 1, 1, self._offset_groups
            )


class TextureWarp(nn.Module):
    """Warps one level's texture feature to the input's geometry (equation 5).

    Offsets come from the texture feature and the input's feature of the same level, helped by the
    coarser level's offset feature.
    """

    def __init__(
        self,
        channels: int,
        *,
        input_channels: int,
        offset_channels: int,
        coarser_channels: int,
        offset_groups: int,
        norm_groups: int,
        input_scale: int = 1,
    ) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if input_scale > 1:
            self.downsample = BilinearDown(input_channels, input_channels, factor=input_scale)
        self.offset_conv1 = nn.Sequential(
            nn.Conv2d(input_channels + channels, offset_channels, 1),
            group_norm(offset_channels, groups=norm_groups),
            nn.SiLU(),
            nn.Conv2d(offset_channels, offset_channels, 7, padding=3, groups=offset_channels),
            group_norm(offset_channels, groups=norm_groups),
            nn.SiLU(),
            nn.Conv2d(offset_channels, offset_channels, 1),
        )
        self.offset_conv2 = nn.Sequential(
            nn.Conv2d(offset_channels + coarser_channels, offset_channels, 3, padding=1),
            group_norm(offset_channels, groups=norm_groups),
            nn.SiLU(),
        )
        self.dcn = ModulatedDeformConv(
            channels,
            guide_channels=offset_channels,
            offset_groups=offset_groups,
        )

    def forward(
        self, texture: Tensor, given: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Warps `texture` by what `given` shows.

        Args:
            texture: `(N, channels, h, w)`, the texture decoder's feature.
            given: `(N, input_channels, h * input_scale, w * input_scale)`, the degraded input's
                feature.
            coarser: `(N, coarser_channels, h/2, w/2)`, the offset feature of the level below, or
                None at the coarsest.

        Returns:
            The warped texture feature `(N, channels, h, w)` and this level's offset feature
            `(N, offset_channels, h, w)`.
        """
        seen = self.downsample(given)
        guide: Tensor = self.offset_conv1(torch.cat((seen, texture), dim=1))
        if coarser is not None:
            # Twice the size, so offsets in pixels are twice as long.
            guide = torch.cat((guide, double(coarser) * 2.0), dim=1)
        guide = self.offset_conv2(guide)
        return self.dcn(texture, guide), guide
