"""The kernel as an ahead-of-time TensorRT plugin: its PTX lies in the engine, and nothing else.

One plugin per set of hyper-parameters and data type, named after them, since attributes of plugins
are broken in TensorRT 11.1 with NumPy 2. Each offers plain and channels-last data and several
tiles; TensorRT times them on the GPU that the engine is built on and keeps the best.

TensorRT reads the annotations of the functions below, so they must not become strings: no
`from __future__ import annotations` here.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vqfr_deform_conv.ptx import compile_kernel
from vqfr_deform_conv.tiling import TACTICS, Convolution, tile_of_tactic

NAMESPACE = "vqfr"
LOG = __name__
"""Name of the logger that has every failure inside the plugin."""
PLUGIN_FAULT = "the plugin "
"""How such a message begins."""

logger = logging.getLogger(LOG)

_DATA = {torch.float16: "FP16", torch.bfloat16: "BF16", torch.float32: "FP32"}


@dataclass(frozen=True)
class PluginKey:
    """What makes one plugin differ from another.

    Raises:
        ValueError: there is no kernel for `dtype`.
    """

    stride: int
    padding: int
    dilation: int
    offset_groups: int
    dtype: torch.dtype

    def __post_init__(self) -> None:
        if self.dtype not in _DATA:
            raise ValueError(f"no deformable convolution for {self.dtype}; use {list(_DATA)}")

    @property
    def name(self) -> str:
        """For example `deform_conv2d_s1p1d1g4_fp16`."""
        numbers = f"s{self.stride}p{self.padding}d{self.dilation}g{self.offset_groups}"
        return f"deform_conv2d_{numbers}_{_DATA[self.dtype].lower()}"


def plugin(key: PluginKey) -> Any:
    """Returns the plugin for `key`, registered with TensorRT if it is not yet.

    Its inputs are x (N, C, H, W), offset and mask (float32), weight (KH, KW, C, CO) and bias; all
    sizes but N must be known when the engine is built.

    Returns:
        A callable that takes the inputs as ITensors, for `INetworkDefinition.add_plugin`.
    """
    import tensorrt.plugin as trtp

    known = getattr(trtp.op, NAMESPACE, None)
    if not hasattr(known, key.name):
        _register(key)
    return getattr(getattr(trtp.op, NAMESPACE), key.name)


def _register(key: PluginKey) -> None:
    import tensorrt as trt
    import tensorrt.plugin as trtp

    identifier = f"{NAMESPACE}::{key.name}"

    @trtp.register(identifier)  # type: ignore[untyped-decorator]
    def describe(
        x: trtp.TensorDesc,
        offset: trtp.TensorDesc,
        mask: trtp.TensorDesc,
        weight: trtp.TensorDesc,
        bias: trtp.TensorDesc,
    ) -> trtp.TensorDesc:
        del mask, bias
        y = x.like()
        y.shape_expr[1] = weight.shape_expr[3]
        y.shape_expr[2] = offset.shape_expr[2]
        y.shape_expr[3] = offset.shape_expr[3]
        return y

    @trtp.autotune(identifier)  # type: ignore[untyped-decorator]
    @logged_faults(key)
    def offer(
        x: trtp.TensorDesc,
        offset: trtp.TensorDesc,
        mask: trtp.TensorDesc,
        weight: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        del offset, mask, bias, outputs
        data, tactics = _DATA[key.dtype], list(range(1, TACTICS + 1))
        types = f"{data}, FP32, FP32, {data}, {data}, {data}"
        layouts = ["LINEAR", *_channels_last(key.dtype, x.shape[1], weight.shape[3])]
        return [
            trtp.AutoTuneCombination(
                types, f"{layout}, LINEAR, LINEAR, LINEAR, LINEAR, {layout}", tactics
            )
            for layout in layouts
        ]

    @trtp.aot_impl(identifier)  # type: ignore[untyped-decorator]
    @logged_faults(key)
    def implement(
        x: trtp.TensorDesc,
        offset: trtp.TensorDesc,
        mask: trtp.TensorDesc,
        weight: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        del outputs
        kernel_height, kernel_width, channels, out_channels = weight.shape
        convolution = Convolution.of(
            # The batch is open: any number may stand for it.
            x=(1, *tuple(x.shape)[1:]),
            offset=(1, *tuple(offset.shape)[1:]),
            mask=(1, *tuple(mask.shape)[1:]),
            weight=(out_channels, channels, kernel_height, kernel_width),
            bias=tuple(bias.shape),
            stride=key.stride,
            padding=key.padding,
            dilation=key.dilation,
            offset_groups=key.offset_groups,
        )
        tile = tile_of_tactic(convolution, tactic, element_bytes=key.dtype.itemsize)
        kernel = compile_kernel(
            convolution, tile, dtype=key.dtype, channels_last=x.format != trt.TensorFormat.LINEAR
        )
        # An expression times a number, not the reverse, which TensorRT's class does not know.
        pixels = x.shape_expr[0] * (convolution.out_height * convolution.out_width)
        launch = trtp.KernelLaunchParams()
        launch.grid_x = trtp.cdiv(pixels, tile.pixels) * tile.output_tiles(convolution)
        launch.block_x = kernel.threads
        launch.shared_mem = kernel.shared_bytes
        extra = trtp.SymIntExprs(1)
        extra[0] = trtp.SymInt32(pixels)
        return kernel.name, kernel.ptx, launch, extra


def logged_faults[**P, R](key: PluginKey) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Logs what a function of the plugin raises, and lets it go on.

    TensorRT calls these functions from C++, prints what they raise to the standard error, and says
    only that no implementation was found.
    """

    def logged(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                logger.error(  # the traceback is that of the error that goes on
                    "%s%s failed in %s: %s", PLUGIN_FAULT, key.name, function.__name__, reason
                )
                raise

        return call

    return logged


def _channels_last(dtype: torch.dtype, *channels: int) -> list[str]:
    """Returns TensorRT's layout that is NHWC for these numbers of channels, if it has one."""
    if dtype == torch.float32:
        return ["HWC"]
    return ["HWC8"] if all(count % 8 == 0 for count in channels) else []
