"""The published networks with random weights: as slow and as large as with trained ones."""

import torch
from torch import nn

from vqfr_media.network.config import VqfrV1Config, VqfrV2Config
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1, lite_config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config

# Of the weights that make offsets: untrained they are 0, and memory is read in order, too easily.
_OFFSET_SCALE = 0.02


def random_network(config: VqfrV1Config | VqfrV2Config) -> VqfrV1 | VqfrV2:
    """Makes a network in eval mode, float32, the same at every call, with warps that move.

    Args:
        config: of v1, v2 or lite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VqfrV1(config) if isinstance(config, VqfrV1Config) else VqfrV2(config)
        for module in network.modules():
            if isinstance(module, ModulatedDeformConv):
                nn.init.normal_(module.conv_offset.weight, std=_OFFSET_SCALE)
        if isinstance(network, VqfrV1) and network.config.gain_channels:
            # Untrained they are 0, and nothing that the gains compute would show.
            for layer in network.band_gains.layers_of_zeros():
                nn.init.normal_(layer.weight, std=_OFFSET_SCALE)
    return network.eval()


def published_config(model: str) -> VqfrV1Config | VqfrV2Config:
    """Returns the configuration of v1, v2 or lite.

    Raises:
        ValueError: there is no such model.
    """
    match model:
        case "v1":
            return vqfr_v1_config()
        case "v2":
            return vqfr_v2_config()
        case "lite":
            return lite_config()
    raise ValueError(f"no network {model!r}; there are v1, v2 and lite")
