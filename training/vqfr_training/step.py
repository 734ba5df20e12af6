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

    The stage's parts of the batch are computed one after the other, and their gradients averaged:
    those of the whole batch, for losses that are means over its samples.

    Returns the losses by name, and "norm", that of the network's gradient: means over the parts,
    and over all ranks of a `context`, which shares out the batch.

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
    stage.network.zero_grad()  # also of what does not learn, but is asked for its gradient
    if optimisers.discriminators is not None:
        optimisers.discriminators.zero_grad()
    found: list[dict[str, Tensor]] = []
    parts = stage.parts(batch)
    for part in parts:
        with autocast:
            losses = dict(stage.step(part, number))
        torch.autograd.backward(losses["total"] / len(parts))
        if optimisers.discriminators is not None:
            with autocast:
                adversarial = stage.discriminator_losses(part, number)
            if adversarial:
                torch.autograd.backward(adversarial["total"] / len(parts))
            losses |= {name: value for name, value in adversarial.items() if name != "total"}
        found.append({name: value.detach() for name, value in losses.items()})
        del losses
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    if context is not None:
        context.average_gradients(parameters)
    limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit, error_if_nonfinite=True)
    adam.step()
    average(stage.averaged, stage.network, decay=min(recipe.ema, (1 + number) / (10 + number)))
    if optimisers.discriminators is not None:
        _step_discriminators(optimisers.discriminators, recipe, number, context)
    means = {
        name: torch.stack([each[name].reshape(()) for each in found]).mean() for name in found[0]
    }
    return {**(means if context is None else context.mean(means)), "norm": norm}


def _step_discriminators(
    adam: torch.optim.Adam, recipe: RunConfig, number: int, context: DistributedContext | None
) -> None:
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    if all(parameter.grad is None for parameter in parameters):  # none learns yet
        return
    pace = recipe.discriminator_learning_rate / recipe.learning_rate
    _set_rate(adam, learning_rate(recipe, number) * pace)
    if context is not None:
        context.average_gradients(parameters)
    adam.step()


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
