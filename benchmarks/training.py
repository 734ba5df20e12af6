"""What training costs: seconds a step of each recipe, and images a second with a GPU.

    python -m benchmarks.training FACES [--batch N] [--steps N] [RECIPE ...]

FACES holds train/ and val/ photographs as training wants them. A step is a real one, late enough
that every loss and discriminator takes part, on random weights (VGG-16's too: they cost the same).
With a GPU the batch is 16 unless given, without one it is the recipe's for the lite and smoke
recipes and 1 for the paper's. CPU seconds tell what a busy machine hides. Also times the
preparation of samples on one core. Writes results/training.json."""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
import torchvision
from vqfr_training.configs import Recipe, Stage1, Stage2
from vqfr_training.data.photographs import Photographs, pair
from vqfr_training.recipes import find_recipe
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.networks import codebook_network
from vqfr_training.vqfr.stages import InitialWeights
from vqfr_training.vqfr.vq_stage import VqStage

from benchmarks import record

RECIPES = ("lite_stage1", "lite_stage2", "lite_adversarial", "smoke_stage1", "smoke_stage2")


def late_step(recipe: Recipe[Any]) -> int:
    """Returns a step from which every discriminator counts; a multiple of 16: R1 comes once."""
    starts = [discriminator.start for discriminator in recipe.stage.discriminators]
    if isinstance(recipe.stage, Stage1):
        starts += recipe.stage.reestimate_at
    return -(-max(starts, default=0) // 16) * 16


def time_recipe(recipe: Recipe[Any], faces: Path, *, steps: int, vgg: Path) -> dict[str, Any]:
    """Times a step (seconds, the mean of `steps` after one that warms up), and says of what."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first = None
    if isinstance(recipe.stage, Stage2):
        first = codebook_network(recipe.network).state_dict()
    initial_weights = InitialWeights(stage1=first, vgg=vgg)
    stage = VqStage(recipe, data=faces, device=device, initial_weights=initial_weights)
    optimisers = make_optimisers(stage)
    number = late_step(recipe)
    stream = stage.batches(first_step=0, workers=1)
    drawn = [next(stream) for _ in range(min(steps, 4))]
    stream.close()
    train_step(stage, optimisers, drawn[0], number)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began, worked = time.perf_counter(), time.process_time()
    for step in range(steps):
        train_step(stage, optimisers, drawn[step % len(drawn)], number + 1 + step)
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / steps
    cpu_seconds = (time.process_time() - worked) / steps
    figures = {
        "batch": recipe.batch,
        "image_size": recipe.network.image_size,
        "precision": recipe.precision,
        "steps": steps,
        "seconds_a_step": round(seconds, 3),
        "cpu_seconds_a_step": round(cpu_seconds, 3),
        "images_a_second": round(recipe.batch / seconds, 3),
    }
    if device.type == "cuda":
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return figures


def time_samples(recipe: Recipe[Any], faces: Path, *, count: int) -> dict[str, Any]:
    """Samples a second of one core."""
    photographs = Photographs(faces / "train", size=recipe.network.image_size)
    degradation = None if isinstance(recipe.stage, Stage1) else recipe.degradation
    began = time.process_time()
    for index in range(count):
        pair(
            photographs,
            index,
            seed=recipe.seed,
            augmentation=recipe.augmentation,
            degradation=degradation,
        )
    return {"samples_a_second_a_core": round(count / (time.process_time() - began), 1)}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"[{' '.join(RECIPES)}]")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        vgg = Path(folder) / "vgg16.pth"
        features = torchvision.models.vgg16(weights=None).features
        torch.save(features.state_dict(prefix="features."), vgg)
        for name in options.recipes or RECIPES:
            recipe = find_recipe(name)
            if not isinstance(recipe, Recipe):
                parser.error(f"{name} is no recipe of one VQFR stage")
            batch = options.batch or (16 if torch.cuda.is_available() else recipe.batch)
            if options.batch is None and not torch.cuda.is_available() and batch > 4:
                batch = 1
            recipe = replace(recipe, batch=batch, blend=1.0)  # nothing to blend with here
            figures[name] = time_recipe(recipe, options.faces, steps=options.steps, vgg=vgg)
            figures[name] |= time_samples(recipe, options.faces, count=20)
            print(name, figures[name], flush=True)
    print(record.write("training", figures))


if __name__ == "__main__":
    main()
