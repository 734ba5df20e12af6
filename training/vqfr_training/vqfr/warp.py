"""The deformable convolution, again, for training on a CPU.

torchvision's CPU kernel spends four fifths of a stage-2 step in its scalar backward. Here what the
taps see is gathered by `warp_kernels.py`, and one matrix product makes the output of it. Parameters
and their names are those of the network's own module, so state dicts fit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vqfr_media.network.deform import ModulatedDeformConv, TextureWarp
from vqfr_training.vqfr.warp_kernels import compiled


def sampled_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    mask: Tensor,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Returns what torchvision.ops.deform_conv2d computes, for 3×3 kernels, stride 1, padding 1.

    It samples in the type of its arguments, and sums in `precision`, by default in that type too.

    `x` (N, C, H, W), `offset` (N, 2·9·G, H, W) as (dy, dx) pixels, `mask` (N, 9·G, H, W), `weight`
    (O, C, 3, 3), `bias` (O,). Returns (N, O, H, W).
    """
    precision = x.dtype if precision is None else precision
    count, channels, height, width = x.shape
    groups = mask.shape[1] // 9
    last = x.permute(0, 2, 3, 1)
    moves = offset.reshape(count, groups, 9, 2, height, width).permute(0, 4, 5, 1, 2, 3)
    masks = mask.reshape(count, groups, 9, height, width).permute(0, 3, 4, 1, 2)
    seen: Tensor = _Columns.apply(last.contiguous(), moves.contiguous(), masks.contiguous())
    kernel = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], 9 * channels)
    summed = torch.addmm(
        bias.to(precision), seen.reshape(-1, 9 * channels).to(precision), kernel.t().to(precision)
    )
    return summed.reshape(count, height, width, -1).permute(0, 3, 1, 2)


class _Columns(torch.autograd.Function):
    """Feature (N, H, W, C), offsets and masks to columns (N, H, W, 9, C): see warp_kernels.py."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, mask)
        columns = x.new_empty((*x.shape[:3], 9, x.shape[3]))
        sample, _ = compiled()
        sample(x.numpy(), offset.numpy(), mask.numpy(), columns.numpy())
        return columns

    @staticmethod
    def backward(ctx: Any, *of_columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, offset, mask = ctx.saved_tensors
        found = torch.zeros_like(x), torch.empty_like(offset), torch.empty_like(mask)
        given = of_columns[0].contiguous()
        _, gradients = compiled()
        gradients(*(value.detach().numpy() for value in (x, offset, mask, given, *found)))
        return found


class SampledDeformConv(nn.Module):
    """`ModulatedDeformConv` computed by `sampled_deform_conv2d`, on the same parameters."""

    def __init__(self, original: ModulatedDeformConv) -> None:
        super().__init__()
        self.weight = original.weight
        self.bias = original.bias
        self.conv_offset = original.conv_offset

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """As `ModulatedDeformConv.forward`: samples in float32, and sums in the type of `x`."""
        with torch.autocast(x.device.type, enabled=False):
            first, second, mask = self.conv_offset(guide.float()).chunk(3, dim=1)
            offset = torch.cat((first, second), dim=1)
            weight, bias, mask = self.weight.float(), self.bias.float(), torch.sigmoid(mask)
            return sampled_deform_conv2d(
                x.float(), offset, weight, bias, mask=mask, precision=x.dtype
            )


def use_sampled_warps(network: nn.Module) -> None:
    """Replaces every warp's deformable convolution by its twin that trains faster on a CPU."""
    for module in list(network.modules()):
        if isinstance(module, TextureWarp):
            module.register_module("dcn", SampledDeformConv(module.dcn))
