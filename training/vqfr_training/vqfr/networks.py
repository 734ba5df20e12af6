"""The networks that recipes name, and what training must know of each.

Images are (N, 3, S, S) RGB in [-1, 1]; latents and code vectors (N, C, h, w).
"""

import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqfr_media.network.blocks import Branches, ResidualBlock
from vqfr_media.network.config import VqfrV1Config, VqfrV2Config
from vqfr_media.network.deform import TextureWarp
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.network.vqgan import Vqgan
from vqfr_media.network.vqgan_v2 import VqganV2
from vqfr_training.configs import Stage2
from vqfr_training.stage import ParameterGroup
from vqfr_training.vqfr.ablations import SimVqfr, SingleBranch
from vqfr_training.vqfr.losses import straight_through

type CodebookNetwork = Vqgan | VqganV2
type RestorationNetwork = VqfrV1 | VqfrV2 | SimVqfr | SingleBranch

_MAIN_PARTS = ("main_decoder", "main_branch", "inpfeat_extraction", "input_pyramid", "band_gains")
"""Modules that only the main branch needs."""


def codebook_network(config: VqfrV1Config | VqfrV2Config) -> CodebookNetwork:
    """Returns stage 1's network, with PyTorch's weights."""
    return Vqgan(config) if isinstance(config, VqfrV1Config) else VqganV2(config)


def gains_network(config: VqfrV1Config) -> VqfrV1:
    """Returns a whole network, with PyTorch's weights, of which the band gains alone learn."""
    network = VqfrV1(config).requires_grad_(False)
    network.band_gains.requires_grad_(True)
    return network


def restoration_network(config: VqfrV1Config | VqfrV2Config, stage: Stage2) -> RestorationNetwork:
    """Stage 2's network, with PyTorch's weights; its codebook, and its texture decoder if the stage
    says so, do not learn."""
    network: RestorationNetwork
    if isinstance(config, VqfrV2Config):
        if stage.variant != "parallel":
            raise ValueError(f"variant {stage.variant!r} is one of v1's")
        network = VqfrV2(config)
    else:
        match stage.variant:
            case "parallel":
                network = VqfrV1(config)
            case "simple":
                network = SimVqfr(config)
            case "single":
                network = SingleBranch(config)
    network.quantizer.codebook.requires_grad_(False)
    if stage.freeze_texture:
        network.decoder.requires_grad_(False)
        # It does not learn either (`parameter_groups`), but adaptive discriminators are weighed by
        # its gradient.
        cast(nn.Conv2d, network.decoder.conv_out[-1]).weight.requires_grad_(True)
    return network


def decode(network: RestorationNetwork, lq: Tensor, latent: Tensor) -> Branches:
    """Returns both branches from a latent, differentiable.

    The gradient goes straight through the nearest codes (paper, 3.1); predicted codes pass none.
    """
    quantized = network.quantize(latent).to(latent.dtype)
    if isinstance(network, VqfrV2):
        if network.config.look_up == "nearest":
            quantized = straight_through(latent, quantized)
        return network.decode_quantized(lq, quantized, fidelity=1.0)
    return network.decode_quantized(lq, straight_through(latent, quantized))


def restore(network: CodebookNetwork | RestorationNetwork, lq: Tensor) -> Branches:
    """Returns both branches' images; stage 1 has one branch, given twice."""
    if isinstance(network, Vqgan | VqganV2):
        image: Tensor = network(lq)
        return Branches(image, image)
    return decode(network, lq, network.encode(lq))


def last_layers(network: CodebookNetwork | RestorationNetwork) -> dict[str, Tensor]:
    """Returns the weights that draw each branch's image, for the adaptive weight."""
    texture = cast(nn.Conv2d, network.decoder.conv_out[-1]).weight
    match network:
        case VqfrV1():
            main = cast(nn.Conv2d, network.main_decoder.conv_out[0])
            return {"texture": texture, "main": main.weight}
        case VqfrV2():  # the texture decoder draws both images
            return {"texture": texture, "main": texture}
        case _:
            return {"texture": texture}


def parameter_groups(
    network: nn.Module, stage: Stage2, betas: tuple[float, float]
) -> list[ParameterGroup]:
    """Returns the trained parameters of a stage-2 network.

    Encoder and texture, then the main branch.
    """
    main: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        frozen = stage.freeze_texture and name.startswith("decoder.")
        if parameter.requires_grad and not frozen:
            (main if name.split(".")[0] in _MAIN_PARTS else rest).append(parameter)
    main_betas = betas if stage.main_betas is None else stage.main_betas
    groups = [ParameterGroup(rest, 1.0, betas), ParameterGroup(main, stage.main_rate, main_betas)]
    return [group for group in groups if group.parameters]


def place_network(network: nn.Module, device: torch.device) -> None:
    """Moves it to `device`, channels last: what the convolutions of CPUs and GPUs like best."""
    network.to(device)
    network.to(memory_format=torch.channels_last)


def frozen_copy[Network: nn.Module](network: Network) -> Network:
    """Returns a copy that is never trained."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def recompute_blocks(network: nn.Module) -> None:
    """Keeps only what goes into each residual block and each warp; compute the rest going back.

    The numbers stay the same. v1 at 512 px then keeps a fifth of its activations, for a third more
    arithmetic: without it no batch of 16 fits one GPU.
    """
    # Nothing in them is drawn at random.
    kept = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    for module in network.modules():
        if isinstance(module, ResidualBlock | TextureWarp):
            forward = partial(kept, module.forward)
            module.forward = forward  # type: ignore[method-assign]
