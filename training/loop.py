"""The loop that runs a recipe: one for both stages.

A run folder holds `run.json` (recipe, versions, commit), `log.jsonl` (one object a line),
`samples_*.png` (poor, texture, main, good), `checkpoint.pt` (everything to go on exactly) and, at
the end, `network.safetensors` (the averaged weights as `save_network` writes them).
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from training.data import Photographs, batches, validation_pairs
from training.recipes import Recipe, Stage1
from training.records import append_log, describe_run, save_samples, save_whole
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

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    init: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    stop_after: int | None = None,
) -> dict[str, float]:
    """Train `recipe` on `data`/train into the run folder `out`; returns the last validation.

    Args:
        data: folder with `train` and `val`, each of aligned 768 px photographs.
        out: run folder; must not hold a run unless `resume`.
        init: stage-1 run folder or checkpoint whose averaged weights stage 2 begins from.
        resume: go on from `out`/checkpoint.pt; the rest is what an uninterrupted run would do.
        workers: threads that prepare samples.
        stop_after: leave after this many steps of the whole run, with a checkpoint.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = build(recipe, device, None if init is None else load_averaged(init))
    parameters = [p for p in training.network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=recipe.betas)
    first_step = _open(out, training, adam, resume=resume, data=data, init=init)

    size = recipe.network.image_size
    degradation = None if isinstance(recipe.stage, Stage1) else recipe.degradation
    validation = validation_pairs(
        Photographs(data / "val", size=size), seed=7, degradation=degradation
    )
    stream = batches(
        Photographs(data / "train", size=size),
        first_step=first_step,
        steps=recipe.steps,
        batch=recipe.batch,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        degradation=degradation,
        workers=workers,
    )
    measured: dict[str, float] = {}
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    saved = began = time.monotonic()
    for number in tqdm(
        range(first_step, last), initial=first_step, total=recipe.steps, mininterval=10
    ):
        if isinstance(training, CodebookTraining) and number in training.stage.reestimate_at:
            distance = reestimate_codebook(training, number)
            append_log(out, {"step": number, "kmeans_distance": distance})
        poor, good = (_place(images, device) for images in next(stream))
        for group in adam.param_groups:
            group["lr"] = learning_rate(recipe, number)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            losses = step(training, poor, good, number)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["total"])
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm, error_if_nonfinite=True)
        adam.step()
        decay = min(recipe.ema, (1 + number) / (10 + number))
        average(training.averaged, training.network, decay=decay)

        done = number + 1
        if done % recipe.log_every == 0 or done == last:
            seconds = (time.monotonic() - began) / (done - first_step)
            values = {name: float(value.detach()) for name, value in losses.items()}
            values |= {"norm": float(norm), "seconds_a_step": seconds}
            append_log(out, {"step": done, **values})
        if done % recipe.validate_every == 0 or done == recipe.steps:
            measured, images = validate(training.averaged, *validation, device=device)
            append_log(out, {"step": done, **measured})
            save_samples(out / f"samples_{done:06d}.png", images)
            logger.info("step %d: %s", done, json.dumps(measured))
        if done == last or time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
            save_whole(_state(training, adam, done), out / "checkpoint.pt")
            saved = time.monotonic()
    stream.close()
    if last == recipe.steps and isinstance(training, RestorationTraining):
        export(training.averaged, out / "network.safetensors")
    return measured


def learning_rate(recipe: Recipe, number: int) -> float:
    """Of step `number`: a linear warm-up, then a half cosine that ends at 0 after the last step."""
    if number < recipe.warmup_steps:
        return recipe.learning_rate * (number + 1) / recipe.warmup_steps
    part = (number - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, *, decay: float) -> None:
    """averaged ← decay · averaged + (1 − decay) · network, parameter by parameter."""
    pairs = zip(averaged.parameters(), network.parameters(), strict=True)
    for mean, current in pairs:
        mean.lerp_(current, 1 - decay)


@torch.no_grad()
def validate(
    network: Vqgan | VqfrV1, poor: Tensor, good: Tensor, *, device: torch.device
) -> tuple[dict[str, float], list[Tensor]]:
    """Mean PSNR (dB, 8-bit peak) of input and branches, codes in use, and images for the grid.

    Returns the figures and [poor, texture, main, good] of the first, evenly spaced four faces.
    """
    outputs, codes = [], []
    for image in torch.split(poor, 4):
        placed = _place(image, device)
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


def export(averaged: VqfrV1, path: Path) -> None:
    """Write the averaged weights as a self-describing fp16 file."""
    plain = VqfrV1(averaged.config)  # without the twins that train faster
    plain.load_state_dict({name: value.cpu() for name, value in averaged.state_dict().items()})
    save_network(path, plain)


def load_averaged(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a run folder or of its checkpoint."""
    path = path / "checkpoint.pt" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    averaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
        "averaged"
    ]
    return averaged


def _open(
    out: Path,
    training: Training,
    adam: torch.optim.Adam,
    *,
    resume: bool,
    data: Path,
    init: Path | None,
) -> int:
    """Make a new run folder, or load an old one's checkpoint; returns the first step to do."""
    recipe = training.recipe
    described = describe_run(recipe, data=data, init=init)
    record = out / "run.json"
    if not resume:
        if record.exists():
            raise ValueError(f"{out} holds a run already: give --resume or another folder")
        out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(described, indent=1) + "\n")
        return 0
    if not (out / "checkpoint.pt").is_file():
        raise ValueError(f"{out} has no checkpoint.pt to resume from")
    recorded = json.loads(record.read_text())["recipe"]
    if recorded != json.loads(json.dumps(asdict(recipe))):
        raise ValueError(f"{out} was begun with another configuration of {recipe.name}")
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    training.network.load_state_dict(state["network"])
    training.averaged.load_state_dict(state["averaged"])
    adam.load_state_dict(state["adam"])
    if isinstance(training, CodebookTraining):
        training.reservoir = state["reservoir"]
    return int(state["step"])


def _state(training: Training, adam: torch.optim.Adam, done: int) -> dict[str, Any]:
    return {
        "step": done,
        "network": training.network.state_dict(),
        "averaged": training.averaged.state_dict(),
        "adam": adam.state_dict(),
        "reservoir": training.reservoir if isinstance(training, CodebookTraining) else None,
    }


def _place(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device=device, memory_format=torch.channels_last, non_blocking=True)
