"""The two stages: what is built, and what one step computes.

Shapes: images (N, 3, S, S) RGB in [-1, 1]; latents and code vectors (N, C, h, w).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from training.losses import (
    code_alignment_loss,
    codebook_loss,
    face_weight,
    gradient_l1,
    straight_through,
    weighted_l1,
)
from training.recipes import Recipe, Stage1, Stage2
from training.warp import use_sampled_warps
from vqfr_media.network.blocks import Branches, ResidualBlock
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqgan import Vqgan


@dataclass
class CodebookTraining:
    """Stage 1: what it trains, and what it needs beside that."""

    recipe: Recipe
    stage: Stage1
    network: Vqgan
    averaged: Vqgan
    """The exponential moving average of `network`'s weights: what a run is for."""
    weight: Tensor
    """(S, S), mean 1: where errors count more."""
    reservoir: Tensor
    """The latest latent vectors (R, C), NaN where not yet filled; checkpointed."""


@dataclass
class RestorationTraining:
    """Stage 2: what it trains, and what it needs beside that."""

    recipe: Recipe
    stage: Stage2
    network: VqfrV1
    averaged: VqfrV1
    """The exponential moving average of `network`'s weights: what a run is for."""
    weight: Tensor
    """(S, S), mean 1: where errors count more."""
    teacher: Vqgan
    """The frozen stage-1 network, whose codes of the good face are the target."""


type Training = CodebookTraining | RestorationTraining


def build(
    recipe: Recipe, device: torch.device, stage1: Mapping[str, Tensor] | None = None
) -> Training:
    """The stage of `recipe` on `device`, its weights drawn from the recipe's seed.

    `stage1` is the state dict of a trained `Vqgan` with the same configuration: needed by stage 2,
    optional in stage 1 (to go on from it).
    """
    torch.manual_seed(recipe.seed)
    weight = face_weight(recipe.network.image_size, peak=recipe.stage.face_peak).to(device)
    match recipe.stage:
        case Stage1() as stage:
            return _build_codebook(recipe, stage, device, weight, stage1)
        case Stage2() as stage:
            if stage1 is None:
                raise ValueError(f"{recipe.name} begins from a trained stage 1: give --init")
            return _build_restoration(recipe, stage, device, weight, stage1)


def _build_codebook(
    recipe: Recipe,
    stage: Stage1,
    device: torch.device,
    weight: Tensor,
    stage1: Mapping[str, Tensor] | None,
) -> CodebookTraining:
    network = Vqgan(recipe.network)
    start_linear(network)
    if stage1 is not None:
        network.load_state_dict(dict(stage1))
    _place(network, device)
    reservoir = torch.full((stage.reservoir, recipe.network.code_channels), torch.nan)
    return CodebookTraining(recipe, stage, network, _copy(network), weight, reservoir)


def _build_restoration(
    recipe: Recipe,
    stage: Stage2,
    device: torch.device,
    weight: Tensor,
    stage1: Mapping[str, Tensor],
) -> RestorationTraining:
    teacher = Vqgan(recipe.network)
    teacher.load_state_dict(dict(stage1))
    network = VqfrV1(recipe.network)
    start_linear(network)
    # Encoder, quantizer and texture decoder go on from stage 1 (paper, 3.2); the rest is new.
    network.load_state_dict({**network.state_dict(), **stage1})
    network.quantizer.codebook.requires_grad_(False)
    if device.type == "cpu":
        use_sampled_warps(network)
    _place(network, device)
    _place(teacher, device)
    return RestorationTraining(recipe, stage, network, _copy(network), weight, _copy(teacher))


def step(training: Training, poor: Tensor, good: Tensor, number: int) -> dict[str, Tensor]:
    """The losses of step `number` by name; "total" is the one to go down."""
    if isinstance(training, CodebookTraining):
        return step_codebook(training, good, number)
    return step_restoration(training, poor, good)


def step_codebook(training: CodebookTraining, good: Tensor, number: int) -> dict[str, Tensor]:
    """Stage 1 (paper, Eq. 3, with the gradient L1 in place of the perceptual loss)."""
    network, stage = training.network, training.stage
    latent = network.encode(good)
    _remember(training, latent)
    if number < stage.unquantised_steps:
        image, code = network.decode_quantized(latent), latent.new_zeros(())
    else:
        quantized = network.quantize(latent).to(latent.dtype)
        image = network.decode_quantized(straight_through(latent, quantized))
        code = codebook_loss(latent.float(), quantized.float(), beta=stage.commitment)
    pixel = weighted_l1(image.float(), good, training.weight)
    gradient = gradient_l1(image.float(), good, training.weight)
    total = pixel + stage.gradient * gradient + code
    return {"total": total, "pixel": pixel, "gradient": gradient, "code": code}


def step_restoration(
    training: RestorationTraining, poor: Tensor, good: Tensor
) -> dict[str, Tensor]:
    """Stage 2 (paper, 3.3) on both branches, towards the codes of the good face."""
    network, teacher, stage = training.network, training.teacher, training.stage
    with torch.no_grad():
        target = teacher.quantize(teacher.encode(good)).float()
    latent = network.encode(poor)
    quantized = network.quantize(latent).to(latent.dtype)
    branches = network.decode_quantized(poor, straight_through(latent, quantized))
    code = code_alignment_loss(latent.float(), target)
    losses = {"code": code}
    total = stage.code * code
    for name, image, part in (
        ("texture", branches.texture.float(), stage.texture),
        ("main", branches.main.float(), stage.main),
    ):
        pixel = weighted_l1(image, good, training.weight)
        gradient = gradient_l1(image, good, training.weight)
        losses |= {f"{name}_pixel": pixel, f"{name}_gradient": gradient}
        total = total + part * (pixel + stage.gradient * gradient)
    return {"total": total, **losses}


def restore(network: Vqgan | VqfrV1, poor: Tensor) -> Branches:
    """Both branches' images; stage 1 has one branch, given twice."""
    if isinstance(network, VqfrV1):
        branches: Branches = network(poor)
        return branches
    image: Tensor = network(poor)
    return Branches(image, image)


def reestimate_codebook(training: CodebookTraining, number: int) -> float:
    """Before step `number`: set the codebook to the k-means centres of the reservoir.

    Codes that are never nearest never learn, so all are drawn
    anew from what the encoder now produces. Returns the mean squared distance per element.
    """
    latents = training.reservoir[~training.reservoir.isnan().any(dim=1)].numpy()
    size = len(training.network.quantizer.codebook)
    if len(latents) < size:
        raise ValueError(f"{len(latents)} latents are too few for {size} codes at step {number}")
    seed = training.recipe.seed + number
    means = MiniBatchKMeans(size, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    means.fit(latents)
    centres = torch.from_numpy(means.cluster_centers_.astype(np.float32))
    with torch.no_grad():
        training.network.quantizer.codebook.copy_(centres)
        training.averaged.quantizer.codebook.copy_(centres)
    return float(means.inertia_) / latents.size


def start_linear(network: nn.Module) -> None:
    """Begin as a linear network that keeps the signal's variance, with warps that do nothing.

    With PyTorch's own initial weights every convolution outside a residual block divides the
    variance by three, and what reaches the code grid comes from the blocks' noise: stage 1 then
    needs more steps for the same loss. Here each block begins as the identity (its last
    convolution is zero) and the convolutions between blocks keep the variance. Convolutions that
    are zero on purpose (offsets, the predicted residual) stay so.
    """
    inside = set[nn.Module]()
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            inside |= {module.conv1, module.conv2}
            _set_weights(module.conv2, deviation=0.0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in inside and module.groups == 1:
            if module.weight.any():
                _set_weights(module, deviation=module.weight[0].numel() ** -0.5)
        elif isinstance(module, ModulatedDeformConv):
            nn.init.dirac_(module.weight)
            module.weight.data *= 2  # the mask begins at one half


def _set_weights(conv: nn.Conv2d, *, deviation: float) -> None:
    nn.init.normal_(conv.weight, std=deviation)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _remember(training: CodebookTraining, latent: Tensor) -> None:
    """Put a step's latent vectors in front of the reservoir; the oldest fall out."""
    vectors = latent.detach().float().permute(0, 2, 3, 1).flatten(0, 2).cpu()
    training.reservoir = torch.cat((vectors, training.reservoir))[: len(training.reservoir)]


def _place(network: nn.Module, device: torch.device) -> None:
    # Channels last is what the convolutions of both CPU and GPU libraries like best.
    network.to(device)
    network.to(memory_format=torch.channels_last)


def _copy[Network: nn.Module](network: Network) -> Network:
    """A copy that is never trained."""
    return copy.deepcopy(network).requires_grad_(False).eval()
