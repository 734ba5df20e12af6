"""The two VQFR stages as the loop wants them: their data, their validation, their export."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data import Photographs, batches, validation_pairs
from training.recipes import Recipe, Stage1
from training.records import save_samples
from training.stage import place
from training.stages import (
    CodebookTraining,
    RestorationTraining,
    Training,
    build,
    reestimate_codebook,
    restore,
    step,
)
from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqgan import Vqgan


class VqStage:
    """Stage 1 or stage 2 on the photographs in a folder."""

    def __init__(
        self, recipe: Recipe, *, data: Path, device: torch.device, init: Mapping[str, Tensor] | None
    ) -> None:
        self.recipe = recipe
        self._data, self._device = data, device
        self._training: Training = build(recipe, device, init)
        self._degradation = None if isinstance(recipe.stage, Stage1) else recipe.degradation
        self._validation = validation_pairs(
            Photographs(data / "val", size=recipe.network.image_size),
            seed=7,
            degradation=self._degradation,
        )

    @property
    def network(self) -> Vqgan | VqfrV1:
        """What the optimiser changes."""
        return self._training.network

    @property
    def averaged(self) -> Vqgan | VqfrV1:
        """The exponential moving average of `network`."""
        return self._training.averaged

    def batches(self, *, first_step: int, workers: int) -> Generator[tuple[Tensor, Tensor]]:
        """(poor, good) of every step."""
        recipe = self.recipe
        return batches(
            Photographs(self._data / "train", size=recipe.network.image_size),
            first_step=first_step,
            steps=recipe.steps,
            batch=recipe.batch,
            seed=recipe.seed,
            augmentation=recipe.augmentation,
            degradation=self._degradation,
            workers=workers,
        )

    def prepare(self, number: int) -> dict[str, float]:
        """Stage 1 draws its codes anew at stated steps."""
        training = self._training
        if isinstance(training, CodebookTraining) and number in training.stage.reestimate_at:
            return {"kmeans_distance": reestimate_codebook(training, number)}
        return {}

    def step(self, batch: tuple[Tensor, Tensor], number: int) -> dict[str, Tensor]:
        """The losses of step `number`."""
        poor, good = (place(images, self._device) for images in batch)
        return step(self._training, poor, good, number)

    def validate(self, picture: Path) -> dict[str, float]:
        """Mean PSNR (dB, 8-bit peak) of input and branches, and codes in use, on `val`."""
        figures, images = validate(self.averaged, *self._validation, device=self._device)
        save_samples(picture, images)
        return figures

    def export(self, path: Path) -> None:
        """Write the averaged weights as a self-describing fp16 file; stage 1 has none."""
        if isinstance(self._training, RestorationTraining):
            averaged = self._training.averaged
            plain = VqfrV1(averaged.config)  # without the twins that train faster
            plain.load_state_dict(
                {name: value.cpu() for name, value in averaged.state_dict().items()}
            )
            save_network(path, plain)

    def extra_state(self) -> Mapping[str, Any]:
        """Stage 1's reservoir of latents."""
        training = self._training
        reservoir = training.reservoir if isinstance(training, CodebookTraining) else None
        return {"reservoir": reservoir}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the reservoir back."""
        if isinstance(self._training, CodebookTraining):
            self._training.reservoir = state["reservoir"]


@torch.no_grad()
def validate(
    network: Vqgan | VqfrV1, poor: Tensor, good: Tensor, *, device: torch.device
) -> tuple[dict[str, float], list[Tensor]]:
    """Mean PSNR (dB, 8-bit peak) of input and branches, codes in use, and images for the grid.

    Returns the figures and [poor, texture, main, good] of the first, evenly spaced four faces.
    """
    outputs, codes = [], []
    for image in torch.split(poor, 4):
        placed = place(image, device)
        outputs.append([branch.float().cpu() for branch in restore(network, placed)])
        codes.append(network.codes(network.encode(placed)).flatten())
    texture, main = (torch.cat([pair[branch] for pair in outputs]) for branch in (0, 1))
    figures = {
        "psnr_input": psnr(poor, good),
        "psnr_texture": psnr(texture, good),
        "psnr_main": psnr(main, good),
        "codes_used": float(torch.unique(torch.cat(codes)).numel()),
    }
    shown = torch.linspace(0, len(poor) - 1, min(4, len(poor))).round().long()
    return figures, [images[shown] for images in (poor, texture, main, good)]


def psnr(images: Tensor, truth: Tensor) -> float:
    """Mean over images (N, 3, H, W) in [-1, 1] of the peak signal-to-noise ratio in dB."""
    squared = ((images.clamp(-1, 1) - truth) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * squared.clamp_min(1e-10).log10()).mean())
