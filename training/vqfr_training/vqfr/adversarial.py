"""Adversarial training: its losses, and a run's discriminators with the scores they give to images.

Scores are of any shape, losses means over all of them. Images are (N, 3, S, S) RGB in [-1, 1],
named after their branch, "texture" or "main".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqfr_training.stage import ParameterGroup
from vqfr_training.vqfr.discriminators import DiscriminatorConfig, build_discriminator


def softplus_generator_loss(drawn: Tensor) -> Tensor:
    """Returns mean of softplus(−D(x̂)): the non-saturating loss (paper, 3.3, global)."""
    return F.softplus(-drawn).mean()


def softplus_discriminator_loss(hq: Tensor, drawn: Tensor) -> Tensor:
    """Returns mean of softplus(−D(x)) plus mean of softplus(D(x̂)): the logistic loss."""
    return F.softplus(-hq).mean() + F.softplus(drawn).mean()


def hinge_generator_loss(drawn: Tensor) -> Tensor:
    """Returns minus the mean of D(x̂)."""
    return -drawn.mean()


def hinge_discriminator_loss(hq: Tensor, drawn: Tensor) -> Tensor:
    """Returns half of the means of max(0, 1 − D(x)) and max(0, 1 + D(x̂)) together, as in VQGAN."""
    return 0.5 * (F.relu(1 - hq).mean() + F.relu(1 + drawn).mean())


def r1_penalty(scores: Tensor, hq: Tensor) -> Tensor:
    """Returns mean over images of ‖∂D/∂x‖² (Mescheder et al. 2018); differentiable once more.

    `scores` are the discriminator's of `hq` (N, 3, S, S), which requires gradients. The published
    weight is weight/2 · every, in every so many steps ("lazy", StyleGAN2)."""
    (gradient,) = torch.autograd.grad(scores.sum(), hq, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, *, most: float = 1e4
) -> Tensor:
    """Returns ‖∂L_rec/∂w‖ / (‖∂L_adv/∂w‖ + 1e-4) at the last layer's weights w (VQGAN, equation 7).

    At most `most`; without gradient. Both graphs are kept.
    """
    (wanted,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio: Tensor = wanted.norm() / (given.norm() + 1e-4)
    return ratio.clamp(0, most).detach()


@dataclass(frozen=True)
class AdversarialTerms:
    """What the discriminators add to the generator's loss, by discriminator."""

    terms: dict[str, Tensor]
    """Weighted; to be summed."""
    weights: dict[str, Tensor]
    """The adaptive ones, without gradient."""

    def log(self) -> dict[str, Tensor]:
        """All of it, by name."""
        return {**self.terms, **{f"{name}_weight": value for name, value in self.weights.items()}}


class Discriminators(nn.Module):
    """A run's discriminators by name; an empty set adds nothing."""

    def __init__(self, configs: tuple[DiscriminatorConfig, ...], *, image_size: int) -> None:
        super().__init__()
        self.configs = configs
        self.networks = nn.ModuleDict(
            {config.name: build_discriminator(config, image_size=image_size) for config in configs}
        )
        if len(self.networks) != len(configs):
            raise ValueError("two discriminators of one kind on one branch")

    def parameter_groups(self, betas: tuple[float, float]) -> list[ParameterGroup]:
        """Returns each discriminator's parameters, with its pace."""
        return [
            ParameterGroup(list(self.networks[config.name].parameters()), config.rate, betas)
            for config in self.configs
        ]

    def generator_terms(
        self,
        images: Mapping[str, Tensor],
        reconstruction: Mapping[str, Tensor],
        last_layers: Mapping[str, Tensor],
        number: int,
    ) -> AdversarialTerms:
        """Returns the generator's weighted losses in step `number`, by discriminator.

        The discriminators' parameters get no gradient. `reconstruction` and `last_layers` (weights)
        of each branch serve the adaptive weight.
        """
        self.requires_grad_(False)
        terms, weights = {}, {}
        for config in self.configs:
            if number < config.start:
                continue
            scores = self.networks[config.name](images[config.branch]).float()
            loss = hinge_generator_loss if config.kind == "patch" else softplus_generator_loss
            term = loss(scores)
            terms[config.name] = config.weight * term
            if config.adaptive:
                branch = config.branch
                ratio = adaptive_weight(reconstruction[branch], term, last_layers[branch])
                terms[config.name] = ratio * terms[config.name]
                weights[config.name] = ratio
        return AdversarialTerms(terms, weights)

    def losses(self, drawn: Mapping[str, Tensor], hq: Tensor, number: int) -> dict[str, Tensor]:
        """Returns what the discriminators minimise in step `number`, by name; "total" is the sum.

        Empty while none learns. `drawn` and `hq` carry no gradients.
        """
        self.requires_grad_(True)
        losses = {}
        for config in self.configs:
            if number < config.learn_from:
                continue
            network = self.networks[config.name]
            hq_scores = network(hq).float()
            drawn_scores = network(drawn[config.branch]).float()
            loss = (
                hinge_discriminator_loss if config.kind == "patch" else softplus_discriminator_loss
            )
            losses[f"{config.name}_discriminator"] = loss(hq_scores, drawn_scores)
            if config.kind != "patch" and config.r1 > 0 and number % config.r1_every == 0:
                penalised = hq.detach().clone().requires_grad_(True)
                penalty = r1_penalty(network(penalised).float(), penalised)
                weight = config.r1 / 2 * config.r1_every
                losses[f"{config.name}_r1"] = weight * penalty
        return {"total": torch.stack(list(losses.values())).sum(), **losses} if losses else {}
