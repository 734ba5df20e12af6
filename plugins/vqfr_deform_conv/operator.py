"""`vqfr::deform_conv2d`, a torch operator: our kernel on CUDA, torchvision's operator elsewhere.

Coordinates, mask and sums are float32 whatever the data's type. Importing this module defines the
operator, which is how torch finds it by name. To torch it is a Triton operator: torch.compile and
AOTInductor take the kernel into their graphs, torch.export and TensorRT see one node.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from vqfr_deform_conv.kernel import deform_conv_kernel
from vqfr_deform_conv.tiling import INT32, Convolution, Tile, tile


def deform_conv2d(
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
    """Computes a modulated deformable convolution, differentiable once (torchvision's gradient).

    A place outside the image contributes nothing, as in torchvision; one that is NaN makes its
    output pixel NaN.

    Args:
        x: `(N, C, H, W)` float16, bfloat16 or float32 (float64 on the CPU).
        offset: `(N, 2 * KH * KW * offset_groups, h, w)` pixels: per group, per tap, (dy, dx);
            float32 to be exact, or the data's type.
        mask: `(N, KH * KW * offset_groups, h, w)`, likewise.
        weight: `(CO, C, KH, KW)`, converted to the data's type.
        bias: `(CO,)`, likewise.
        stride, padding, dilation: of both directions.
        offset_groups: groups of channels that are sampled together.

    Returns:
        `(N, CO, h, w)` in the type of `x`; channels last if `x` is.

    Raises:
        ValueError: shapes contradict each other or are too large, or the type is none of those.
    """
    result: Tensor = torch.ops.vqfr.deform_conv2d(
        x, offset, mask, weight, bias, stride, padding, dilation, offset_groups
    )
    return result


def by_kernel(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    convolution: Convolution,
    *,
    cut: Tile | None = None,
) -> Tensor:
    """Computes what `deform_conv2d` does on CUDA, with the tile `cut` if one is given."""
    images, channels_last = x.shape[0], _is_channels_last(x)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = (images, convolution.out_channels, convolution.out_height, convolution.out_width)
    chosen = cut or tile(convolution, images=images, element_bytes=x.element_size())
    pixels = images * convolution.out_height * convolution.out_width
    if pixels + chosen.pixels >= INT32:
        raise ValueError(f"deform_conv2d: {pixels} pixels in one batch, 2^31 is too many")
    y = torch.empty(out, dtype=x.dtype, device=x.device, memory_format=layout)
    if not pixels:
        return y
    wrap_triton(deform_conv_kernel)[(chosen.programs(convolution, images=images),)](
        x.contiguous(memory_format=layout),
        offset.contiguous(),
        mask.contiguous(),
        weight.to(x.dtype).permute(2, 3, 1, 0).contiguous(),
        bias.to(x.dtype).contiguous(),
        pixels,
        y,
        **constants(convolution, chosen, channels_last=channels_last),
        num_warps=chosen.warps,
        num_stages=chosen.stages,
    )
    return y


def constants(convolution: Convolution, cut: Tile, *, channels_last: bool) -> dict[str, Any]:
    """Names the kernel's compile-time parameters."""
    return {
        "C": convolution.channels,
        "H": convolution.height,
        "W": convolution.width,
        "CO": convolution.out_channels,
        "OH": convolution.out_height,
        "OW": convolution.out_width,
        "GROUPS": convolution.offset_groups,
        "KH": convolution.kernel_height,
        "KW": convolution.kernel_width,
        "STRIDE": convolution.stride,
        "PADDING": convolution.padding,
        "DILATION": convolution.dilation,
        "NHWC": channels_last,
        "TILE_PIXELS": cut.pixels,
        "TILE_OUTPUTS": cut.outputs,
        "TILE_CHANNELS": cut.channels,
    }


def _by_torchvision(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, shape: Convolution
) -> Tensor:
    """Computes in float32 (float64 for such data), laid out as `by_kernel` does."""
    exact = torch.promote_types(x.dtype, torch.float32)
    y: Tensor = torchvision_deform_conv2d(
        x.to(exact),
        offset.to(exact),
        weight.to(x.dtype).to(exact),
        bias.to(x.dtype).to(exact),
        stride=shape.stride,
        padding=shape.padding,
        dilation=shape.dilation,
        mask=mask.to(exact),
    )
    layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
    return y.to(x.dtype).contiguous(memory_format=layout)


def _is_channels_last(x: Tensor) -> bool:
    """Tells whether it is so and not plainly contiguous too, as one channel or one pixel is."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@triton_op("vqfr::deform_conv2d", mutates_args=())
def _deform_conv2d(
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
    convolution = Convolution.of(
        x=x.shape,
        offset=offset.shape,
        mask=mask.shape,
        weight=weight.shape,
        bias=bias.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        offset_groups=offset_groups,
    )
    known = [torch.float16, torch.bfloat16, torch.float32]
    if x.dtype not in (known if x.is_cuda else [*known, torch.float64]):
        raise ValueError(f"deform_conv2d: no kernel for {x.dtype}; use float16, bfloat16, float32")
    for name, tensor in (("offset", offset), ("mask", mask)):
        if tensor.dtype not in (torch.float32, x.dtype):
            raise ValueError(f"deform_conv2d: {name} is {tensor.dtype}; use float32 or {x.dtype}")
    if not x.is_cuda:
        return _by_torchvision(x, offset, mask, weight, bias, convolution)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        return by_kernel(x, offset, mask, weight, bias, convolution)


@_deform_conv2d.register_fake  # type: ignore[untyped-decorator]
def _shape(
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
    # Sizes come from tensors only: no arithmetic on symbols for an exporter to stumble over.
    del mask, bias, stride, padding, dilation, offset_groups
    layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
    out = (x.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])
    return torch.empty(out, dtype=x.dtype, device=x.device, memory_format=layout)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[:5])
    ctx.numbers = inputs[5:]


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    x, offset, mask, weight, bias = tensors
    stride, padding, dilation, offset_groups = ctx.numbers
    exact = torch.promote_types(x.dtype, torch.float32)
    of_x, of_weight, of_offset, of_mask, of_bias = torch.ops.torchvision._deform_conv2d_backward(
        *(t.to(exact).contiguous() for t in (gradient, x, weight, offset, mask, bias)),
        *(stride, stride, padding, padding, dilation, dilation),
        1,  # groups of the weights
        offset_groups,
        True,  # with a mask
    )
    found = (of_x, of_offset, of_mask, of_weight, of_bias)
    return (*(g.to(t.dtype) for g, t in zip(found, tensors, strict=True)), None, None, None, None)


_deform_conv2d.register_autograd(_gradients, setup_context=_save)
