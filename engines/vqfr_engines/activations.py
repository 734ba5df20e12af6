"""How large the values inside a network become: float16 ends at 65,504."""

from functools import partial

import torch
from torch import Tensor, nn

from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

FLOAT16_MAX = float(torch.finfo(torch.float16).max)
"""The largest number that float16 holds."""


def largest_activations(
    network: VqfrV1 | VqfrV2, crops: Tensor, *, fidelity: float
) -> dict[str, float]:
    """Returns the largest absolute value that each layer gives, in the network's own arithmetic.

    Args:
        network: in eval mode; not changed.
        crops: (N, 3, S, S) RGB in [0, 1], where the network is.
        fidelity: of v2, in [0, 1].

    Returns:
        By the layer's name, largest first; infinity and NaN count as infinity.
    """
    largest: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(partial(_keep, largest, name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    inputs = [torch.tensor([fidelity], device=crops.device)] if isinstance(network, VqfrV2) else []
    try:
        with torch.inference_mode():
            for crop in torch.split(crops, 1):
                latents = EncoderModule(network)(crop)
                DecoderModule(network)(crop, latents, *inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = {name: float(value) for name, value in largest.items()}
    finite = {name: value if value == value else float("inf") for name, value in found.items()}
    return dict(sorted(finite.items(), key=lambda pair: -pair[1]))


def _keep(
    largest: dict[str, Tensor], name: str, module: nn.Module, given: object, result: object
) -> None:
    del module, given
    if isinstance(result, Tensor) and result.is_floating_point() and result.numel():
        value = result.detach().abs().amax().float()
        # `maximum` keeps NaN, which `max` of Python would not.
        largest[name] = torch.maximum(largest[name], value) if name in largest else value
