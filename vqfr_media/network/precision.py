"""Half precision where it is harmless, float32 where it is not.

Measured on the lite network, 48 degraded faces, codes taken that differ from float32's:
distances computed in bfloat16 13.5 %, the image alone rounded to bfloat16 1.3 %, all convolutions
in bfloat16 1.2 %, with the layers below in float32 0.7 %; float16 0.2 and 0.1 %. So these stay in
float32:

- convolutions that see the image: 8 bits of significand do not hold an 8-bit picture;
- the encoder's last convolutions, latents, codebook, distances (v1, lite) and logits (v2): they
  decide which code is taken, and a code flips whole or not at all;
- statistics and arithmetic of the group normalisation;
- offsets and mask of the deformable convolution, whose operators compute coordinates in float32;
- attention, which exists on the code grid alone, where it costs next to nothing;
- the layers that make the output image, so that 10 bits survive, and the gains of its bands.
"""

from functools import partial

import torch
from torch import Tensor, nn

from vqfr_media.manifest import Precision
from vqfr_media.network.blocks import Attention
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2


def to_mixed_precision[N: VqfrV1 | VqfrV2](network: N, precision: Precision) -> N:
    """Converts a float32 network, in place, to `precision`, the layers named above kept in float32.

    It then runs eagerly and exports without autocast regions: every change of type is an explicit
    cast in front of or behind a layer. Images and latents go in as float32 and come out as float32.

    Args:
        network: its parameters are float32, on any device.
        precision: "float32" leaves the network as it is.

    Returns:
        `network` itself.

    Raises:
        ValueError: no such precision, or the network is converted already.
    """
    if precision == "float32":
        return network
    if precision not in ("float16", "bfloat16"):
        raise ValueError(f"precision must be float32, float16 or bfloat16, not {precision!r}")
    types = {parameter.dtype for parameter in network.parameters()}
    if types != {torch.float32}:
        raise ValueError(f"only a float32 network can be converted; this one has {types}")
    _to_half_precision(network, torch.float16 if precision == "float16" else torch.bfloat16)
    return network


def _to_half_precision(network: VqfrV1 | VqfrV2, dtype: torch.dtype) -> None:
    features, results = _kept_in_float32(network)
    kept = {layer for top in (*features, *results) for layer in top.modules()}
    if isinstance(network, VqfrV1) and network.config.gain_channels:
        kept |= set(network.band_gains.modules())  # it gets float32 and gives float32
    for module in network.modules():
        if module in kept:
            continue
        match module:
            case ModulatedDeformConv():
                kept.add(module.conv_offset)  # it is visited after its parent
                _convert(module, dtype)
            case nn.Conv2d():
                _convert(module, dtype)
                module.register_forward_pre_hook(partial(_cast_input, dtype=dtype))
            case nn.GroupNorm():
                _wrap(module, result=dtype)
    for module in features:
        _wrap(module, result=dtype)
    for module in results:
        _wrap(module, result=torch.float32)


def _kept_in_float32(network: VqfrV1 | VqfrV2) -> tuple[list[nn.Module], list[nn.Module]]:
    """Lists the layers kept in float32: results are features, then results that stay float32."""
    if isinstance(network, VqfrV2):
        attention = [module for module in network.modules() if isinstance(module, Attention)]
        return (
            [network.encoder.conv_in, network.inpfeat_extraction, *attention],
            [network.encoder.conv_out, network.decoder.conv_out],
        )
    pyramid = network.config.input_pyramid
    return (
        [
            network.encoder.conv_in,
            network.input_pyramid.conv_in if pyramid else network.inpfeat_extraction,
        ],
        [
            *network.encoder.enc_convout_dict.values(),
            network.quantizer.layers.quant_conv,
            network.decoder.conv_out,
            network.main_decoder.conv_out_1,
            network.main_decoder.conv_out,
        ],
    )


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Converts the module's own parameters, not those of its children."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)


def _wrap(module: nn.Module, *, result: torch.dtype) -> None:
    module.register_forward_pre_hook(partial(_cast_input, dtype=torch.float32))
    module.register_forward_hook(partial(_cast_result, dtype=result))


def _cast_input(module: nn.Module, args: tuple[Tensor], *, dtype: torch.dtype) -> tuple[Tensor]:
    del module
    return (args[0].to(dtype),)


def _cast_result(
    module: nn.Module, args: tuple[Tensor], result: Tensor, *, dtype: torch.dtype
) -> Tensor:
    del module, args
    return result.to(dtype)
