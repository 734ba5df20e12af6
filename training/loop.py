"""The loop that runs a recipe: one for VQFR's stages and for the face detector.

A run folder holds `run.json` (recipe, versions, commit), `log.jsonl` (one object a line),
`samples_*.png`, `checkpoint.pt` (everything to go on exactly) and, at the end,
`network.safetensors` (the averaged weights as the package loads them).
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

from training.detector import DetectorStage
from training.recipes import Course, DetectorRecipe, Recipe
from training.records import append_log, describe_run, save_whole
from training.stage import Stage
from training.vq_stage import VqStage

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe | DetectorRecipe,
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
        init: run folder or checkpoint whose averaged weights are the first; stage 2 needs it.
        resume: go on from `out`/checkpoint.pt; the rest is what an uninterrupted run would do.
        workers: threads that prepare samples.
        stop_after: leave after this many steps of the whole run, with a checkpoint.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stage = _build(recipe, data=data, device=device, init=init)
    parameters = [p for p in stage.network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=recipe.betas)
    first_step = _open(out, stage, adam, resume=resume, data=data, init=init)
    stream = stage.batches(first_step=first_step, workers=workers)
    measured: dict[str, float] = {}
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    saved = began = time.monotonic()
    for number in tqdm(
        range(first_step, last), initial=first_step, total=recipe.steps, mininterval=10
    ):
        if prepared := stage.prepare(number):
            append_log(out, {"step": number, **prepared})
        batch = next(stream)
        for group in adam.param_groups:
            group["lr"] = learning_rate(recipe, number)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            losses = stage.step(batch, number)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["total"])
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm, error_if_nonfinite=True)
        adam.step()
        decay = min(recipe.ema, (1 + number) / (10 + number))
        average(stage.averaged, stage.network, decay=decay)

        done = number + 1
        if done % recipe.log_every == 0 or done == last:
            seconds = (time.monotonic() - began) / (done - first_step)
            values = {name: float(value.detach()) for name, value in losses.items()}
            values |= {"norm": float(norm), "seconds_a_step": seconds}
            append_log(out, {"step": done, **values})
        if done % recipe.validate_every == 0 or done == recipe.steps:
            measured = stage.validate(out / f"samples_{done:06d}.png")
            append_log(out, {"step": done, **measured})
            logger.info("step %d: %s", done, json.dumps(measured))
        if done == last or time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
            save_whole(_state(stage, adam, done), out / "checkpoint.pt")
            saved = time.monotonic()
    stream.close()
    if last == recipe.steps:
        stage.export(out / "network.safetensors")
    return measured


def learning_rate(recipe: Course, number: int) -> float:
    """Of step `number`: a linear warm-up, then a half cosine that ends at 0 after the last step."""
    if number < recipe.warmup_steps:
        return recipe.learning_rate * (number + 1) / recipe.warmup_steps
    part = (number - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, *, decay: float) -> None:
    """averaged ← decay · averaged + (1 − decay) · network: parameters and batch statistics."""
    for mean, current in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)
    for kept, latest in zip(averaged.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(latest, 1 - decay)
        else:  # how many batches a norm has seen
            kept.copy_(latest)


def load_averaged(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a run folder or of its checkpoint."""
    path = path / "checkpoint.pt" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    averaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
        "averaged"
    ]
    return averaged


def _build(
    recipe: Recipe | DetectorRecipe, *, data: Path, device: torch.device, init: Path | None
) -> Stage[Any]:
    weights = None if init is None else load_averaged(init)
    match recipe:
        case Recipe():
            return VqStage(recipe, data=data, device=device, init=weights)
        case DetectorRecipe():
            return DetectorStage(recipe, data=data, device=device, init=weights)


def _open(
    out: Path,
    stage: Stage[Any],
    adam: torch.optim.Adam,
    *,
    resume: bool,
    data: Path,
    init: Path | None,
) -> int:
    """Make a new run folder, or load an old one's checkpoint; returns the first step to do."""
    recipe = stage.recipe
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
    stage.network.load_state_dict(state["network"])
    stage.averaged.load_state_dict(state["averaged"])
    adam.load_state_dict(state["adam"])
    stage.load_extra_state(state)
    return int(state["step"])


def _state(stage: Stage[Any], adam: torch.optim.Adam, done: int) -> dict[str, Any]:
    return {
        "step": done,
        "network": stage.network.state_dict(),
        "averaged": stage.averaged.state_dict(),
        "adam": adam.state_dict(),
        **stage.extra_state(),
    }
