"""The two VQFR stages as the loop wants them: their data, their validation, their export."""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_training.configs import Stage1, VqRecipe
from vqfr_training.data.layout import Data, parts
from vqfr_training.data.photographs import Photographs, batches, validation_pairs
from vqfr_training.distributed import DistributedContext
from vqfr_training.records import save_samples
from vqfr_training.stage import ParameterGroup, equal_parts, place
from vqfr_training.vqfr.adversarial import Discriminators
from vqfr_training.vqfr.networks import (
    CodebookNetwork,
    RestorationNetwork,
    parameter_groups,
    restore,
)
from vqfr_training.vqfr.reservoir import reestimate_codebook
from vqfr_training.vqfr.stages import (
    CodebookTraining,
    InitialWeights,
    RestorationTraining,
    Training,
    build,
    step,
)


class VqStage:
    """Stage 1 or stage 2 on the photographs in a folder."""

    def __init__(
        self,
        recipe: VqRecipe,
        *,
        data: Data,
        device: torch.device,
        initial_weights: InitialWeights,
        context: DistributedContext | None = None,
    ) -> None:
        self.recipe = recipe
        self._data, self._device = data, device
        self._training: Training = build(recipe, device, initial_weights)
        if context is not None:
            self._training.discriminators = context.synchronise_norms(self._training.discriminators)
        if isinstance(self._training, CodebookTraining):
            self._training.context = context
        self._drawn: dict[str, Tensor] = {}
        self._good: Tensor | None = None
        self._initial_network = initial_weights.network
        if recipe.blend < 1 and initial_weights.network is None:
            raise ValueError(f"{recipe.name} goes on from another run's weights: give --start-from")
        wanted = self._training.averaged.state_dict().keys()
        if recipe.blend < 1 and wanted - (initial_weights.network or {}).keys():
            raise ValueError(f"{recipe.name} blends with a network of the same codebook only")
        self._degradation = None if isinstance(recipe.stage, Stage1) else recipe.degradation
        # Read at once, so that what is wrong with it is reported before the first step; by rank 0
        # alone, which validates.
        self._validation: tuple[Tensor, Tensor] | None = None
        if context is None or context.is_main:
            self._validation = validation_pairs(
                Photographs(parts(data, "val"), size=recipe.network.image_size),
                seed=7,
                degradation=self._degradation,
                most=recipe.validation_faces,
            )

    @property
    def network(self) -> CodebookNetwork | RestorationNetwork:
        """What the optimiser changes."""
        return self._training.network

    @property
    def averaged(self) -> CodebookNetwork | RestorationNetwork:
        """The exponential moving average of `network`."""
        return self._training.averaged

    def batches(
        self, *, first_step: int, workers: int, rank: int = 0, world_size: int = 1
    ) -> Generator[tuple[Tensor, Tensor]]:
        """Yields (lq, hq) of every step."""
        recipe = self.recipe
        return batches(
            Photographs(
                parts(self._data, "train"),
                size=recipe.network.image_size,
                weights=recipe.name_weights,
            ),
            first_step=first_step,
            steps=recipe.steps,
            batch=recipe.batch,
            seed=recipe.seed,
            augmentation=recipe.augmentation,
            degradation=self._degradation,
            workers=workers,
            rank=rank,
            world_size=world_size,
        )

    def parameter_groups(self) -> list[ParameterGroup]:
        """Stage 2 may train its main branch at a pace of its own."""
        training, betas = self._training, self.recipe.betas
        if isinstance(training, RestorationTraining):
            return parameter_groups(training.network, training.stage, betas)
        return [ParameterGroup(list(training.network.parameters()), 1.0, betas)]

    def parts(self, batch: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns as many as the recipe accumulates."""
        return equal_parts(batch, self.recipe.accumulate)

    def prepare(self, number: int) -> dict[str, float]:
        """Stage 1 estimates its codes again at stated steps."""
        training = self._training
        if not isinstance(training, CodebookTraining):
            return {}
        if number not in training.stage.reestimate_at:
            return {}
        codebook, distance = training.network.quantizer.codebook, 0.0
        with torch.no_grad():
            if training.context is None or training.context.is_main:
                centres, distance = reestimate_codebook(
                    training.reservoir.vectors(),
                    size=len(codebook),
                    seed=self.recipe.seed + number,
                )
                codebook.copy_(centres)
            if training.context is not None:
                training.context.broadcast([codebook])
            training.averaged.quantizer.codebook.copy_(codebook)
        training.reservoir.empty()
        return {"kmeans_distance": distance}

    def step(self, batch: tuple[Tensor, Tensor], number: int) -> dict[str, Tensor]:
        """Returns the losses of step `number`."""
        lq, hq = (place(images, self._device) for images in batch)
        result = step(self._training, lq, hq, number)
        self._drawn, self._good = result.images, hq
        return result.losses

    @property
    def discriminators(self) -> Discriminators | None:
        """The networks that score the drawn images."""
        discriminators = self._training.discriminators
        return discriminators if discriminators.configs else None

    def discriminator_groups(self) -> list[ParameterGroup]:
        """Returns each discriminator at its own pace."""
        return self._training.discriminators.parameter_groups(self.recipe.discriminator_betas)

    def discriminator_losses(self, batch: tuple[Tensor, Tensor], number: int) -> dict[str, Tensor]:
        """Returns the discriminators' losses on what `step` drew of the same batch; empty while
        none learns."""
        hq = place(batch[1], self._device) if self._good is None else self._good
        return self._training.discriminators.losses(self._drawn, hq, number)

    def validate(self, picture: Path) -> dict[str, float]:
        """Returns mean PSNR (dB, 8-bit peak) of input and branches, and codes in use, on `val`."""
        if self._validation is None:
            raise RuntimeError("rank 0 validates")
        figures, images = validate(self.averaged, *self._validation, device=self._device)
        save_samples(picture, images)
        return figures

    def export(self, path: Path) -> None:
        """Writes the averaged weights as a self-describing fp16 file, if they are VQFR's."""
        averaged = self._training.averaged
        if not isinstance(averaged, VqfrV1 | VqfrV2):
            return  # stage 1, or a network that only serves comparison
        # Without the twins that train faster.
        plain = VqfrV1(averaged.config) if isinstance(averaged, VqfrV1) else VqfrV2(averaged.config)
        weights = {name: value.cpu() for name, value in averaged.state_dict().items()}
        if self.recipe.blend < 1 and self._initial_network is not None:
            weights = {
                name: torch.lerp(self._initial_network[name], value, self.recipe.blend)
                for name, value in weights.items()
            }
        plain.load_state_dict(weights)
        save_network(path, plain)

    def extra_state(self) -> Mapping[str, Any]:
        """Stage 1's reservoir of latents."""
        training = self._training
        if isinstance(training, CodebookTraining):
            return {"reservoir": training.reservoir.state()}
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes the reservoir back."""
        if isinstance(self._training, CodebookTraining):
            self._training.reservoir.load_state(state["reservoir"])


@torch.no_grad()
def validate(
    network: CodebookNetwork | RestorationNetwork,
    lq: Tensor,
    hq: Tensor,
    *,
    device: torch.device,
) -> tuple[dict[str, float], list[Tensor]]:
    """Returns mean PSNR (dB, 8-bit peak) of input and branches, codes in use.

    And images for the grid.

    Returns the figures and [lq, texture, main, hq] of the first, evenly spaced four faces.
    """
    outputs, codes = [], []
    for image in torch.split(lq, 4):
        placed = place(image, device)
        outputs.append([branch.float().cpu() for branch in restore(network, placed)])
        codes.append(network.codes(network.encode(placed)).flatten())
    texture, main = (torch.cat([pair[branch] for pair in outputs]) for branch in (0, 1))
    figures = {
        "psnr_input": psnr(lq, hq),
        "psnr_texture": psnr(texture, hq),
        "psnr_main": psnr(main, hq),
        "codes_used": float(torch.unique(torch.cat(codes)).numel()),
    }
    shown = torch.linspace(0, len(lq) - 1, min(4, len(lq))).round().long()
    return figures, [images[shown] for images in (lq, texture, main, hq)]


def psnr(images: Tensor, truth: Tensor) -> float:
    """Returns mean over images (N, 3, H, W) in [-1, 1] of the peak signal-to-noise ratio in dB."""
    squared = ((images.clamp(-1, 1) - truth) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * squared.clamp_min(1e-10).log10()).mean())
