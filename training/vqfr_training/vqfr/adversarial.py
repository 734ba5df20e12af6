"""Adversarial losses, each a function of tensors. Scores are of any shape; means over all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softplus_generator_loss(drawn: Tensor) -> Tensor:
    """Mean of softplus(−D(x̂)): the non-saturating loss (paper, 3.3, global)."""
    return F.softplus(-drawn).mean()


def softplus_critic_loss(good: Tensor, drawn: Tensor) -> Tensor:
    """Mean of softplus(−D(x)) plus mean of softplus(D(x̂)): the logistic loss."""
    return F.softplus(-good).mean() + F.softplus(drawn).mean()


def hinge_generator_loss(drawn: Tensor) -> Tensor:
    """Minus the mean of D(x̂)."""
    return -drawn.mean()


def hinge_critic_loss(good: Tensor, drawn: Tensor) -> Tensor:
    """Half of the means of max(0, 1 − D(x)) and max(0, 1 + D(x̂)) together, as in VQGAN."""
    return 0.5 * (F.relu(1 - good).mean() + F.relu(1 + drawn).mean())


def r1_penalty(scores: Tensor, good: Tensor) -> Tensor:
    """Mean over images of ‖∂D/∂x‖² (Mescheder et al. 2018); differentiable once more.

    `scores` are the critic's of `good` (N, 3, S, S), which requires gradients. The published weight
    is weight/2 · every, in every so-manieth step ("lazy", StyleGAN2).
    """
    (gradient,) = torch.autograd.grad(scores.sum(), good, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, *, most: float = 1e4
) -> Tensor:
    """‖∂L_rec/∂w‖ / (‖∂L_adv/∂w‖ + 1e-4) at the last layer's weights w (VQGAN, equation 7).

    At most `most`; without gradient. Both graphs are kept.
    """
    (wanted,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio: Tensor = wanted.norm() / (given.norm() + 1e-4)
    return ratio.clamp(0, most).detach()
