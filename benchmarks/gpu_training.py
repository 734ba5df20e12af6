"""One training recipe on random faces: images a second and memory, without any photograph."""

import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from vqfr_training.configs import Stage2, VqRecipe
from vqfr_training.recipes import find_recipe
from vqfr_training.stage import ParameterGroup, equal_parts, place
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.networks import codebook_network, parameter_groups
from vqfr_training.vqfr.stages import InitialWeights, RestorationTraining, build, step


class RandomFacesStage:
    """Stage 2 of a recipe as `train_step` wants it; every batch is the same noise."""

    def __init__(self, recipe: VqRecipe, device: torch.device) -> None:
        self.recipe = recipe
        self._device = device
        stage1 = codebook_network(recipe.network).state_dict()
        with tempfile.TemporaryDirectory() as folder:
            vgg = None
            if recipe.stage.perceptual is not None and recipe.stage.perceptual.network == "vgg16":
                vgg = Path(folder) / "vgg16.pth"
                features = torchvision.models.vgg16(weights=None, num_classes=1).features
                torch.save(features.state_dict(prefix="features."), vgg)
            training = build(recipe, device, InitialWeights(stage1=stage1, vgg=vgg))
        assert isinstance(training, RestorationTraining), recipe.name
        self.training = training
        self.network: nn.Module = training.network
        self.averaged: nn.Module = training.averaged
        self.discriminators: nn.Module | None = training.discriminators
        self._drawn: Mapping[str, Tensor] = {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns what learns."""
        assert isinstance(self.recipe.stage, Stage2)
        return parameter_groups(self.training.network, self.recipe.stage, self.recipe.betas)

    def discriminator_groups(self) -> list[ParameterGroup]:
        """Returns what of the discriminators learns."""
        return self.training.discriminators.parameter_groups(self.recipe.discriminator_betas)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Returns noise in place of faces: (lq, hq)."""
        side = self.recipe.network.image_size
        torch.manual_seed(0)
        lq, hq = (torch.rand(self.recipe.batch, 3, side, side) * 2 - 1 for _ in range(2))
        return place(lq, self._device), place(hq, self._device)

    def step(self, batch: tuple[Tensor, Tensor], number: int) -> dict[str, Tensor]:
        """Returns the network's losses."""
        result = step(self.training, *batch, number)
        self._drawn = result.images
        return result.losses

    def discriminator_losses(self, batch: tuple[Tensor, Tensor], number: int) -> dict[str, Tensor]:
        """Returns the discriminators' losses on what was just drawn."""
        return self.training.discriminators.losses(self._drawn, batch[1], number)

    def batches(
        self, *, first_step: int, workers: int, rank: int = 0, world_size: int = 1
    ) -> Generator[tuple[Tensor, Tensor]]:
        """Yields the same noise for ever."""
        del first_step, workers, rank, world_size
        while True:
            yield self.batch()

    def parts(self, batch: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns as many as the recipe accumulates."""
        return equal_parts(batch, self.recipe.accumulate)

    def prepare(self, number: int) -> dict[str, float]:
        """Does nothing: nothing comes before a step."""
        del number
        return {}

    def validate(self, picture: Path) -> dict[str, float]:
        """Returns nothing: noise has no truth."""
        del picture
        return {}

    def export(self, path: Path) -> None:
        """Writes nothing: it is not worth a file."""
        del path

    def extra_state(self) -> Mapping[str, Any]:
        """Returns nothing: no checkpoint is written."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Reads nothing: none is written."""
        del state


def recipe_for(name: str, *, batch: int, accumulate: int, precision: str | None) -> VqRecipe:
    """Returns A recipe that needs no file: VGG-16's channels weigh one each, nothing is blended."""
    recipe: Any = find_recipe(name)
    perceptual = recipe.stage.perceptual
    if perceptual is not None:
        perceptual = replace(perceptual, channels="equal")
    stage = replace(recipe.stage, perceptual=perceptual)
    changed: VqRecipe = replace(
        recipe,
        batch=batch,
        accumulate=accumulate,
        stage=stage,
        blend=1.0,
        precision=precision or recipe.precision,
    )
    return changed


def late_step(recipe: VqRecipe) -> int:
    """Returns a step in which every discriminator counts, and the gradient's penalty."""
    starts = [discriminator.start for discriminator in recipe.stage.discriminators]
    return -(-max(starts, default=0) // 16) * 16


def time_training(
    name: str,
    *,
    device: torch.device,
    batch: int,
    accumulate: int = 1,
    precision: str | None,
    steps: int,
) -> dict[str, Any]:
    """Measures images a second of late steps, with every loss, and memory on a GPU.

    Raises:
        torch.OutOfMemoryError: the batch does not fit.
    """
    recipe = recipe_for(name, batch=batch, accumulate=accumulate, precision=precision)
    stage = RandomFacesStage(recipe, device)
    optimisers = make_optimisers(stage)
    number = late_step(recipe)
    given = stage.batch()
    taken = []
    for index in range(1 + steps):  # the first warms up
        began = time.perf_counter()
        train_step(stage, optimisers, given, number + index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    seconds = sum(taken[1:]) / steps
    figures: dict[str, Any] = {
        "recipe": name,
        "batch": batch,
        "accumulate": accumulate,
        "precision": recipe.precision,
        "steps": steps,
        "seconds_a_step": seconds,
        "images_a_second": batch / seconds,
    }
    if device.type == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        figures["reserved_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
    return figures
