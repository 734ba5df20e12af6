"""What critics say: the generator's adversarial terms, and the losses the critics learn from.

Images are (N, 3, S, S) RGB in [-1, 1], named after their branch, "texture" or "main".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqfr_training.stage import ParameterGroup
from vqfr_training.vqfr.adversarial import (
    adaptive_weight,
    hinge_critic_loss,
    hinge_generator_loss,
    r1_penalty,
    softplus_critic_loss,
    softplus_generator_loss,
)
from vqfr_training.vqfr.discriminators import Critic, build_critic


@dataclass(frozen=True)
class Judgement:
    """What the critics add to the generator's loss, by critic."""

    terms: dict[str, Tensor]
    """Weighted; to be summed."""
    weights: dict[str, Tensor]
    """The adaptive ones, without gradient."""

    def log(self) -> dict[str, Tensor]:
        """All of it, by name."""
        return {**self.terms, **{f"{name}_weight": value for name, value in self.weights.items()}}


class Critics(nn.Module):
    """A run's critics by name; an empty set stays silent."""

    def __init__(self, configs: tuple[Critic, ...], *, image_size: int) -> None:
        super().__init__()
        self.configs = configs
        self.networks = nn.ModuleDict(
            {critic.name: build_critic(critic, image_size=image_size) for critic in configs}
        )
        if len(self.networks) != len(configs):
            raise ValueError("two critics of one kind on one branch")

    def parameter_groups(self, betas: tuple[float, float]) -> list[ParameterGroup]:
        """Each critic's parameters, with its pace."""
        return [
            ParameterGroup(list(self.networks[critic.name].parameters()), critic.rate, betas)
            for critic in self.configs
        ]

    def generator_terms(
        self,
        images: Mapping[str, Tensor],
        reconstruction: Mapping[str, Tensor],
        last_layers: Mapping[str, Tensor],
        number: int,
    ) -> Judgement:
        """Weighted losses of the generator in step `number`, by critic; their weights stay fixed.

        `reconstruction` and `last_layers` (weights) of each branch serve the adaptive weight.
        """
        self.requires_grad_(False)
        terms, weights = {}, {}
        for critic in self.configs:
            if number < critic.start:
                continue
            scores = self.networks[critic.name](images[critic.branch]).float()
            judge = hinge_generator_loss if critic.kind == "patch" else softplus_generator_loss
            term = judge(scores)
            terms[critic.name] = critic.weight * term
            if critic.adaptive:
                branch = critic.branch
                ratio = adaptive_weight(reconstruction[branch], term, last_layers[branch])
                terms[critic.name] = ratio * terms[critic.name]
                weights[critic.name] = ratio
        return Judgement(terms, weights)

    def losses(self, drawn: Mapping[str, Tensor], good: Tensor, number: int) -> dict[str, Tensor]:
        """What the critics minimise in step `number`, by name; "total" is the sum.

        Empty while none learns. `drawn` and `good` carry no gradients.
        """
        self.requires_grad_(True)
        losses = {}
        for critic in self.configs:
            if number < critic.learn_from:
                continue
            network = self.networks[critic.name]
            scores = network(good).float()
            judged = network(drawn[critic.branch]).float()
            judge = hinge_critic_loss if critic.kind == "patch" else softplus_critic_loss
            losses[f"{critic.name}_critic"] = judge(scores, judged)
            if critic.kind != "patch" and critic.r1 > 0 and number % critic.r1_every == 0:
                watched = good.detach().clone().requires_grad_(True)
                penalty = r1_penalty(network(watched).float(), watched)
                lazily = critic.r1 / 2 * critic.r1_every
                losses[f"{critic.name}_r1"] = lazily * penalty
        return {"total": torch.stack(list(losses.values())).sum(), **losses} if losses else {}
