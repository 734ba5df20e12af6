"""The deformable convolution, again, for training on a CPU.

torchvision's CPU kernel spends four fifths of a stage-2 step in its scalar backward. The same sum
through `grid_sample` (vectorised both ways) and one 1×1 convolution gives the same numbers several
times faster. Parameters and their names are those of the network's own module, so state dicts fit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqfr_media.network.deform import ModulatedDeformConv, TextureWarp


def sampled_deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, *, mask: Tensor
) -> Tensor:
    """Returns what torchvision.ops.deform_conv2d computes, for 3×3 kernels, stride 1, padding 1.

    `x` (N, C, H, W), `offset` (N, 2·9·G, H, W) as (dy, dx) pixels, `mask` (N, 9·G, H, W), `weight`
    (O, C, 3, 3), `bias` (O,). Returns (N, O, H, W).
    """
    count, channels, height, width = x.shape
    groups = mask.shape[1] // 9
    moves = offset.reshape(count * groups, 9, 2, height, width)
    taps = torch.arange(-1, 2, device=x.device, dtype=x.dtype)
    tap_y, tap_x = taps.repeat_interleave(3), taps.repeat(3)
    rows = torch.arange(height, device=x.device, dtype=x.dtype)
    columns = torch.arange(width, device=x.device, dtype=x.dtype)
    y = moves[:, :, 0] + tap_y[:, None, None] + rows[:, None]
    x_at = moves[:, :, 1] + tap_x[:, None, None] + columns
    grid = torch.stack((x_at * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1), dim=-1).reshape(
        count * groups, 9 * height, width, 2
    )
    planes = x.reshape(count * groups, channels // groups, height, width)
    seen = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    seen = seen.reshape(count * groups, channels // groups, 9, height, width)
    seen = seen * mask.reshape(count * groups, 1, 9, height, width)
    columns_of_x = seen.reshape(count, channels * 9, height * width)
    summed = weight.reshape(weight.shape[0], channels * 9) @ columns_of_x
    return (summed + bias[:, None]).reshape(count, -1, height, width)


class SampledDeformConv(nn.Module):
    """`ModulatedDeformConv` computed by `sampled_deform_conv2d`, on the same parameters."""

    def __init__(self, original: ModulatedDeformConv) -> None:
        super().__init__()
        self.weight = original.weight
        self.bias = original.bias
        self.conv_offset = original.conv_offset

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """As `ModulatedDeformConv.forward`, float32 inside."""
        with torch.autocast(x.device.type, enabled=False):
            first, second, mask = self.conv_offset(guide.float()).chunk(3, dim=1)
            offset = torch.cat((first, second), dim=1)
            weight, bias, mask = self.weight.float(), self.bias.float(), torch.sigmoid(mask)
            warped = sampled_deform_conv2d(x.float(), offset, weight, bias, mask=mask)
        return warped.to(x.dtype)


def use_sampled_warps(network: nn.Module) -> None:
    """Replaces every warp's deformable convolution by its twin that trains faster on a CPU."""
    for module in list(network.modules()):
        if isinstance(module, TextureWarp):
            module.register_module("dcn", SampledDeformConv(module.dcn))
