"""One step of any stage: forward, backward, both optimisers, the averaged weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqfr_training.configs import RunConfig
from vqfr_training.distributed import DistributedContext
from vqfr_training.stage import ParameterGroup, TrainingStage


@dataclass(frozen=True)
class Optimisers:
    """Adam for the network, and for its discriminators."""

    network: torch.optim.Adam
    """Adam of the trained network."""
    discriminators: torch.optim.Adam | None
    """Adam of the discriminators; None: there are none."""


def make_optimisers(stage: TrainingStage[Any]) -> Optimisers:
    """Returns those of a run's beginning."""
    discriminators = stage.discriminator_groups()
    return Optimisers(
        _adam(stage.parameter_groups()), _adam(discriminators) if discriminators else None
    )


def train_step(
    stage: TrainingStage[Any],
    optimisers: Optimisers,
    batch: Any,
    number: int,
    *,
    context: DistributedContext | None = None,
) -> dict[str, Tensor]:
    """Does step `number` on `batch`: the network, its average, then the discriminators.

    Returns the losses by name, and "norm", that of the network's gradient; of a `context`, which
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
    if context is not None:
        context.average_gradients(parameters)
    limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit, error_if_nonfinite=True)
    adam.step()
    average(stage.averaged, stage.network, decay=min(recipe.ema, (1 + number) / (10 + number)))
    if optimisers.discriminators is not None:
        with autocast:
            adversarial = stage.discriminator_losses(batch, number)
        losses |= _step_discriminators(
            optimisers.discriminators, adversarial, recipe, number, context
        )
    return {**(losses if context is None else context.mean(losses)), "norm": norm}


def _step_discriminators(
    adam: torch.optim.Adam,
    losses: dict[str, Tensor],
    recipe: RunConfig,
    number: int,
    context: DistributedContext | None,
) -> dict[str, Tensor]:
    if not losses:  # none learns yet
        return {}
    pace = recipe.discriminator_learning_rate / recipe.learning_rate
    _set_rate(adam, learning_rate(recipe, number) * pace)
    adam.zero_grad(set_to_none=True)
    torch.autograd.backward(losses["total"])
    if context is not None:
        context.average_gradients(p for group in adam.param_groups for p in group["params"])
    adam.step()
    return {name: value for name, value in losses.items() if name != "total"}


def _adam(groups: list[ParameterGroup]) -> torch.optim.Adam:
    """Groups keep their own pace in "rate"; the learning rate itself comes with each step."""
    # One kernel for all parameters of a GPU, where the default takes a few for each list of them.
    on_gpu = all(p.is_cuda for group in groups for p in group.parameters)
    return torch.optim.Adam(
        [{"params": g.parameters, "betas": g.betas, "rate": g.rate} for g in groups],
        fused=True if on_gpu else None,
    )


def _set_rate(adam: torch.optim.Adam, rate: float) -> None:
    for group in adam.param_groups:
        group["lr"] = rate * group["rate"]


def learning_rate(recipe: RunConfig, number: int) -> float:
    """Gives the rate at step `number`: a linear warm-up, then a half cosine to 0 at the end, or
    halved at the steps that the recipe names."""
    if number < recipe.warmup_steps:
        return recipe.learning_rate * (number + 1) / recipe.warmup_steps
    if recipe.halve_at is not None:
        return float(recipe.learning_rate * 0.5 ** sum(number >= step for step in recipe.halve_at))
    part = (number - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, *, decay: float) -> None:
    """Sets averaged ← decay · averaged + (1 − decay) · network: parameters and statistics."""
    torch._foreach_lerp_(  # hundreds of small tensors: a launch for each would take longer
        list(averaged.parameters()), list(network.parameters()), 1 - decay
    )
    for kept, latest in zip(averaged.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(latest, 1 - decay)
        else:  # how many batches a norm has seen
            kept.copy_(latest)
