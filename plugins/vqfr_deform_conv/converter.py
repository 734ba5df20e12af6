"""How torch_tensorrt turns `vqfr::deform_conv2d` into our plugin."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqfr_deform_conv.operator import deform_conv2d
from vqfr_deform_conv.tensorrt_plugin import PluginKey, plugin

__all__ = ["deform_conv2d", "register"]


def register() -> None:
    """Teaches torch_tensorrt the operator, for this process; again is as good as once.

    Needs torch_tensorrt and TensorRT. The batch of a network may be dynamic; its other sizes not.
    """
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS, dynamo_tensorrt_converter

    operator = torch.ops.vqfr.deform_conv2d.default
    if operator not in DYNAMO_CONVERTERS:
        dynamo_tensorrt_converter(operator, supports_dynamic_shapes=True)(_convert)


def _convert(
    context: Any, target: Any, arguments: Sequence[Any], _keywords: dict[str, Any], name: str
) -> Any:
    """Adds the plugin's layer to the network; torch_tensorrt fixes the parameters."""
    from torch_tensorrt.dynamo.conversion.converter_utils import cast_trt_tensor, get_trt_tensor

    x, offset, mask, weight, bias, *numbers = arguments
    data = get_trt_tensor(context, x, f"{name}_x")
    dtype = _torch_dtype(data.dtype)
    if isinstance(weight, Tensor):
        laid_out = get_trt_tensor(
            context, weight.permute(2, 3, 1, 0).contiguous(), f"{name}_weight"
        )
    else:
        shuffle = context.net.add_shuffle(weight)
        shuffle.second_transpose = (2, 3, 1, 0)
        laid_out = shuffle.get_output(0)
    inputs = [
        data,
        *(
            cast_trt_tensor(context, get_trt_tensor(context, t, f"{name}_{of}"), to, f"{name}_{of}")
            for of, t, to in (
                ("offset", offset, torch.float32),
                ("mask", mask, torch.float32),
                ("weight", laid_out, dtype),
                ("bias", bias, dtype),
            )
        ),
    ]
    stride, padding, dilation, offset_groups = (int(number) for number in numbers)
    key = PluginKey(stride, padding, dilation, offset_groups, dtype)
    layer = context.net.add_plugin(plugin(key)(*inputs), aot=True)
    layer.name = f"[{target}]-[{name}]"
    return layer.get_output(0)


def _torch_dtype(dtype: Any) -> torch.dtype:
    from torch_tensorrt import dtype as any_dtype

    found: torch.dtype = any_dtype._from(dtype).to(torch.dtype)
    return found
