"""One step of any stage: forward, backward, both optimisers, the averaged weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqfr_training.configs import Course
from vqfr_training.scale import Team
from vqfr_training.stage import ParameterGroup, Stage


@dataclass(frozen=True)
class Optimisers:
    """Adam for the network, and for what judges it."""

    network: torch.optim.Adam
    critics: torch.optim.Adam | None


def make_optimisers(stage: Stage[Any]) -> Optimisers:
    """Those of a run's beginning."""
    judges = stage.critic_groups()
    return Optimisers(_adam(stage.parameter_groups()), _adam(judges) if judges else None)


def train_step(
    stage: Stage[Any], optimisers: Optimisers, batch: Any, number: int, *, team: Team | None = None
) -> dict[str, Tensor]:
    """Do step `number` on `batch`: the network, its average, then the critics.

    Returns the losses by name, and "norm", that of the network's gradient; of a `team`, which
    shares out the batch, their means over all ranks.

    Raises:
        RuntimeError: the gradient is not finite.
    """
    recipe, adam = stage.recipe, optimisers.network
    autocast = torch.autocast(
        next(stage.network.parameters()).device.type,
        torch.bfloat16,
        enabled=recipe.precision == "bfloat16",
    )
    _set_rate(adam, learning_rate(recipe, number))
    with autocast:
        losses = dict(stage.step(batch, number))
    stage.network.zero_grad()  # also of what does not learn, but is asked for its gradient
    torch.autograd.backward(losses["total"])
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    if team is not None:
        team.average_gradients(parameters)
    limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit, error_if_nonfinite=True)
    adam.step()
    average(stage.averaged, stage.network, decay=min(recipe.ema, (1 + number) / (10 + number)))
    if optimisers.critics is not None:
        with autocast:
            judged = stage.criticise(batch, number)
        losses |= _teach_critics(optimisers.critics, judged, recipe, number, team)
    return {**(losses if team is None else team.mean(losses)), "norm": norm}


def _teach_critics(
    adam: torch.optim.Adam,
    losses: dict[str, Tensor],
    recipe: Course,
    number: int,
    team: Team | None,
) -> dict[str, Tensor]:
    if not losses:  # none learns yet
        return {}
    pace = recipe.critic_learning_rate / recipe.learning_rate
    _set_rate(adam, learning_rate(recipe, number) * pace)
    adam.zero_grad(set_to_none=True)
    torch.autograd.backward(losses["total"])
    if team is not None:
        team.average_gradients(p for group in adam.param_groups for p in group["params"])
    adam.step()
    return {name: value for name, value in losses.items() if name != "total"}


def _adam(groups: list[ParameterGroup]) -> torch.optim.Adam:
    """Groups keep their own pace in "rate"; the learning rate itself comes with each step."""
    return torch.optim.Adam(
        [{"params": g.parameters, "betas": g.betas, "rate": g.rate} for g in groups]
    )


def _set_rate(adam: torch.optim.Adam, rate: float) -> None:
    for group in adam.param_groups:
        group["lr"] = rate * group["rate"]


def learning_rate(recipe: Course, number: int) -> float:
    """Of step `number`: a linear warm-up, then a half cosine that ends at 0 after the last step, or
    halved at the steps that the recipe names."""
    if number < recipe.warmup_steps:
        return recipe.learning_rate * (number + 1) / recipe.warmup_steps
    if recipe.halve_at is not None:
        return float(recipe.learning_rate * 0.5 ** sum(number >= step for step in recipe.halve_at))
    part = (number - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, *, decay: float) -> None:
    """averaged ← decay · averaged + (1 − decay) · network: parameters and batch statistics."""
    torch._foreach_lerp_(  # hundreds of small tensors: a launch for each would take longer
        list(averaged.parameters()), list(network.parameters()), 1 - decay
    )
    for kept, latest in zip(averaged.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(latest, 1 - decay)
        else:  # how many batches a norm has seen
            kept.copy_(latest)
