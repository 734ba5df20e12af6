"""The two stages: what is built, and what one step computes.

Shapes: images (N, 3, S, S) RGB in [-1, 1]; latents and code vectors (N, C, h, w).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.network.vqgan import Vqgan
from vqfr_training.configs import Stage1, Stage2, VqRecipe
from vqfr_training.distributed import DistributedContext
from vqfr_training.vqfr.ablations import SingleBranch
from vqfr_training.vqfr.adversarial import Discriminators
from vqfr_training.vqfr.identity import load_identity
from vqfr_training.vqfr.initialisation import initialise_as_texture_decoder, initialise_linear
from vqfr_training.vqfr.losses import (
    code_alignment_loss,
    code_cross_entropy,
    codebook_loss,
    face_weight,
    straight_through,
)
from vqfr_training.vqfr.networks import (
    CodebookNetwork,
    RestorationNetwork,
    codebook_network,
    decode,
    frozen_copy,
    last_layers,
    place_network,
    recompute_blocks,
    restoration_network,
)
from vqfr_training.vqfr.perceptual import Features, encoder_features, load_vgg16
from vqfr_training.vqfr.reconstruction import ReconstructionLoss, Seen
from vqfr_training.vqfr.reservoir import Reservoir
from vqfr_training.vqfr.warp import use_sampled_warps


@dataclass
class CodebookTraining:
    """Stage 1: what it trains, and what it needs beside that."""

    recipe: VqRecipe
    """The run's configuration."""
    stage: Stage1
    """The recipe's."""
    network: CodebookNetwork
    """What the optimiser changes."""
    averaged: CodebookNetwork
    """The exponential moving average of `network`'s weights: what a run is for."""
    reconstruction_loss: ReconstructionLoss
    """What drawn images are compared by."""
    discriminators: Discriminators
    """Of the texture branch."""
    reservoir: Reservoir
    """Latent vectors since the codes were last estimated, on rank 0; checkpointed."""
    context: DistributedContext | None = None
    """Whose latents fill the reservoir; None is this process alone."""
    _drawing: tuple[int, np.random.Generator] | None = None

    def generator(self, number: int) -> np.random.Generator:
        """Returns what draws for the reservoir in step `number`, for all parts of its batch."""
        if self._drawing is None or self._drawing[0] != number:
            self._drawing = number, np.random.default_rng([self.recipe.seed, number])
        return self._drawing[1]


@dataclass
class RestorationTraining:
    """Stage 2: what it trains, and what it needs beside that."""

    recipe: VqRecipe
    """The run's configuration."""
    stage: Stage2
    """The recipe's."""
    network: RestorationNetwork
    """What the optimiser changes."""
    averaged: RestorationNetwork
    """The exponential moving average of `network`'s weights: what a run is for."""
    reconstruction_loss: ReconstructionLoss
    """What drawn images are compared by."""
    discriminators: Discriminators
    """Of either branch."""
    teacher: CodebookNetwork
    """The frozen stage-1 network, whose codes of the high-quality face are the target."""


type Training = CodebookTraining | RestorationTraining


@dataclass(frozen=True)
class StepResult:
    """What one step of a stage gives."""

    losses: dict[str, Tensor]
    """By name; "total" is the one to go down."""
    images: dict[str, Tensor]
    """What was drawn, by branch, without gradients."""


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """The weights that a run is given."""

    stage1: Mapping[str, Tensor] | None = None
    """State dict of a stage-1 network with the same configuration: stage 2 needs it, stage 1 may go
    on from it."""
    network: Mapping[str, Tensor] | None = None
    """State dict of the whole network, to go on from another run of the same stage; of stage 2, the
    main branch alone will do."""
    vgg: Path | None = None
    """File of VGG-16's weights, for recipes that compare its features."""
    identity: Path | None = None
    """File of dlib's face network, for recipes that compare identities."""


def build(
    recipe: VqRecipe, device: torch.device, initial_weights: InitialWeights | None = None
) -> Training:
    """Returns the stage of `recipe` on `device`; what `initial_weights` lacks is drawn from the
    recipe's seed."""
    given = InitialWeights() if initial_weights is None else initial_weights
    torch.manual_seed(recipe.seed)
    match recipe.stage:
        case Stage1() as stage:
            return _build_codebook(recipe, stage, device, given)
        case Stage2() as stage:
            return _build_restoration(recipe, stage, device, given)


def _build_codebook(
    recipe: VqRecipe, stage: Stage1, device: torch.device, given: InitialWeights
) -> CodebookTraining:
    network = codebook_network(recipe.network)
    initialise_linear(network)
    weights = given.stage1 if given.network is None else given.network
    if weights is not None:
        network.load_state_dict({**network.state_dict(), **weights})
    averaged = _place_and_copy(network, recipe, device)
    return CodebookTraining(
        recipe=recipe,
        stage=stage,
        network=network,
        averaged=averaged,
        reconstruction_loss=_reconstruction_loss(recipe, stage, None, given, device),
        discriminators=_discriminators(recipe, device),
        reservoir=Reservoir(stage.reservoir, recipe.network.code_channels),
    )


def _build_restoration(
    recipe: VqRecipe, stage: Stage2, device: torch.device, given: InitialWeights
) -> RestorationTraining:
    if given.stage1 is None:
        raise ValueError(f"{recipe.name} needs a trained stage 1: give --init")
    teacher = codebook_network(recipe.network)
    teacher.load_state_dict(dict(given.stage1))
    network = restoration_network(recipe.network, stage)
    initialise_linear(network)
    if isinstance(network, SingleBranch):
        initialise_as_texture_decoder(network)
    # Encoder, quantizer and texture decoder go on from stage 1 (paper, 3.2); the rest is new.
    weights = {**given.stage1, **({} if given.network is None else given.network)}
    network.load_state_dict({**network.state_dict(), **weights})
    if device.type == "cpu":
        use_sampled_warps(network)
    averaged = _place_and_copy(network, recipe, device)
    place_network(teacher, device)
    teacher = frozen_copy(teacher)
    return RestorationTraining(
        recipe=recipe,
        stage=stage,
        network=network,
        averaged=averaged,
        reconstruction_loss=_reconstruction_loss(recipe, stage, teacher, given, device),
        discriminators=_discriminators(recipe, device),
        teacher=teacher,
    )


def _place_and_copy[Network: nn.Module](
    network: Network, recipe: VqRecipe, device: torch.device
) -> Network:
    """Puts a network that has its weights where it learns; the copy that is to be its average."""
    place_network(network, device)
    averaged = frozen_copy(network)
    if recipe.recompute:
        recompute_blocks(network)
    return averaged


def _discriminators(recipe: VqRecipe, device: torch.device) -> Discriminators:
    discriminators = Discriminators(
        recipe.stage.discriminators, image_size=recipe.network.image_size
    )
    place_network(discriminators, device)
    return discriminators


def _reconstruction_loss(
    recipe: VqRecipe,
    stage: Stage1 | Stage2,
    teacher: CodebookNetwork | None,
    given: InitialWeights,
    device: torch.device,
) -> ReconstructionLoss:
    weight = face_weight(recipe.network.image_size, peak=stage.face_peak).to(device)
    features: Features | None = None
    if stage.perceptual is not None:
        if stage.perceptual.network == "vgg16":
            features = load_vgg16(
                given.vgg,
                recompute=recipe.recompute,
                channels=stage.perceptual.channels,
                levels=stage.perceptual.levels,
            ).to(device)
        elif isinstance(teacher, Vqgan):
            features = encoder_features(teacher.encoder)
        else:
            raise ValueError("features of stage 1 are those of v1's encoder, in stage 2: use vgg16")
    wanted = isinstance(stage, Stage2) and stage.identity > 0
    identity = load_identity(given.identity, device) if wanted else None
    return ReconstructionLoss(stage, weight, features, identity)


def step(training: Training, lq: Tensor, hq: Tensor, number: int) -> StepResult:
    """Step `number` of the stage."""
    if isinstance(training, CodebookTraining):
        return step_codebook(training, hq, number)
    return step_restoration(training, lq, hq, number)


def step_codebook(training: CodebookTraining, hq: Tensor, number: int) -> StepResult:
    """Stage 1 (paper, Eq. 3)."""
    network, stage = training.network, training.stage
    latent = network.encode(hq)
    if number < max(stage.reestimate_at, default=0):
        context = training.context
        every = latent if context is None else context.gather(latent)
        if context is None or context.is_main:
            training.reservoir.add(every, training.generator(number))
    if number < stage.unquantised_steps:
        image, code = network.decode_quantized(latent), latent.new_zeros(())
    else:
        quantized = network.quantize(latent).to(latent.dtype)
        image = network.decode_quantized(straight_through(latent, quantized))
        code = codebook_loss(latent.float(), quantized.float(), beta=stage.commitment)
    image = image.float()
    reconstruction_loss = training.reconstruction_loss
    terms = reconstruction_loss.compare(image, hq, reconstruction_loss.features_of(hq), pixel=1.0)
    adversarial = training.discriminators.generator_terms(
        {"texture": image}, {"texture": terms.total}, last_layers(network), number
    )
    total = terms.total + code + sum(adversarial.terms.values())
    losses = {"total": total, **terms.parts, "code": code, **adversarial.log()}
    return StepResult(losses, {"texture": image.detach()})


def step_restoration(
    training: RestorationTraining, lq: Tensor, hq: Tensor, number: int
) -> StepResult:
    """Stage 2 (paper, 3.3), towards the codes of the high-quality face."""
    network, teacher, stage = training.network, training.teacher, training.stage
    with torch.no_grad():
        codes = teacher.codes(teacher.encode(hq))
        target = torch.nn.functional.embedding(codes, teacher.quantizer.codebook)
    seen = training.reconstruction_loss.features_of(hq)
    latent = network.encode(lq)
    branches = decode(network, lq, latent)
    losses = {"code": code_alignment_loss(latent.float(), target.permute(0, 3, 1, 2).float())}
    total = stage.code * losses["code"]
    if stage.cross_entropy > 0:
        if not isinstance(network, VqfrV2):
            raise ValueError(f"{training.recipe.name}: only v2 predicts codes: cross_entropy is 0")
        losses["cross_entropy"] = code_cross_entropy(network.logits(latent), codes)
        total = total + stage.cross_entropy * losses["cross_entropy"]
    images: dict[str, Tensor] = {}
    rebuilt: dict[str, Tensor] = {}
    for name, image, part in (
        ("texture", branches.texture, stage.texture),
        ("main", branches.main, stage.main),
    ):
        if part is not None:
            images[name] = image.float()
            terms = training.reconstruction_loss.compare(
                images[name],
                hq,
                seen if name in stage.compared else Seen(None, None),
                pixel=part,
                identity=stage.identity,
            )
            losses |= {f"{name}_{kind}": value for kind, value in terms.parts.items()}
            total = total + terms.total
            by_all = stage.balance == "all"
            rebuilt[name] = terms.total if by_all else terms.perceptual
    adversarial = training.discriminators.generator_terms(
        images, rebuilt, last_layers(network), number
    )
    total = total + sum(adversarial.terms.values())
    drawn = {name: image.detach() for name, image in images.items()}
    return StepResult({"total": total, **losses, **adversarial.log()}, drawn)
