"""Deformable convolutions to compute, what they should give, and how far off that may be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
from vqfr_deform_conv.operator import deform_conv2d
from vqfr_deform_conv.tiling import Convolution

UNIT_ROUNDOFF = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments of `deform_conv2d`."""

    x: Tensor
    offset: Tensor
    mask: Tensor
    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    offset_groups: int = 2

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.offset, self.mask, self.weight, self.bias

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        return self.stride, self.padding, self.dilation, self.offset_groups

    @property
    def convolution(self) -> Convolution:
        x, offset, mask, weight, bias = (tuple(tensor.shape) for tensor in self.tensors)
        return Convolution.of(
            x=x,
            offset=offset,
            mask=mask,
            weight=weight,
            bias=bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            offset_groups=self.offset_groups,
        )

    def changed(self, **values: Any) -> "Case":
        return replace(self, **values)

    def to(self, device: str) -> "Case":
        x, offset, mask, weight, bias = (tensor.to(device) for tensor in self.tensors)
        return self.changed(x=x, offset=offset, mask=mask, weight=weight, bias=bias)


def computed(case: Case, tensors: Sequence[Tensor] | None = None) -> Tensor:
    """What the operator makes of `case`, or of other tensors with its numbers."""
    x, offset, mask, weight, bias = tensors or case.tensors
    return deform_conv2d(x, offset, mask, weight, bias, *case.numbers)


def draw(
    *,
    images: int = 2,
    channels: int = 8,
    size: tuple[int, int] = (7, 9),
    outputs: int = 6,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 2,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    reach: float = 2.0,
) -> Case:
    """A case drawn at random; `reach` is the standard deviation of the offsets, in pixels."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    (height, width), taps = size, kernel[0] * kernel[1]
    out = [
        (length + 2 * padding - dilation * (of - 1) - 1) // stride + 1
        for length, of in zip((height, width), kernel, strict=True)
    ]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return Case(
        x=normal(images, channels, height, width).to(dtype).contiguous(memory_format=layout),
        offset=reach * normal(images, 2 * taps * groups, *out),
        mask=torch.rand((images, taps * groups, *out), generator=generator),
        weight=normal(outputs, channels, *kernel).to(dtype),
        bias=normal(outputs).to(dtype),
        stride=stride,
        padding=padding,
        dilation=dilation,
        offset_groups=groups,
    )


def expected(case: Case) -> tuple[Tensor, Tensor]:
    """torchvision's result in float64, and how far from it each value may be.

    The bound is that of rounding to the data's type once where a sample is made and once at the
    end, plus float32's own errors: in coordinates (`1e-6` of a pixel moves a sample by that share
    of its neighbours' difference) and in the sums.
    """
    results = []
    for part in (lambda t: t, torch.abs):
        x, weight, bias = (part(t.double()) for t in (case.x, case.weight, case.bias))
        numbers = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
        # float32 coordinates are part of what is promised: in float64 others would come out.
        offset, mask = case.offset.double(), case.mask.double()
        results.append(torchvision_deform_conv2d(x, offset, weight, bias, mask=mask, **numbers))
    exact, magnitude = results
    roundoff = UNIT_ROUNDOFF[case.x.dtype]
    return exact, roundoff * (magnitude + exact.abs()) + 2e-6 * magnitude.amax()


def assert_as_expected(actual: Tensor, case: Case, *, slack: float = 1) -> None:
    """`actual` has the type of `case.x` and lies within `slack` times the bound everywhere."""
    exact, bound = expected(case.to("cpu"))
    assert actual.dtype == case.x.dtype
    assert actual.shape == exact.shape
    error = (actual.cpu().double() - exact).abs()
    worst = float((error / bound).max())
    assert worst <= slack, f"{worst:.2f} times the bound; error up to {float(error.max()):.2e}"
