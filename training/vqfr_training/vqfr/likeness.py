"""What compares a drawn image with the good one: pixels, gradients, features.

Shapes: images (N, 3, S, S) RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vqfr_training.configs import Stage1, Stage2
from vqfr_training.vqfr.losses import gradient_l1, weighted_l1
from vqfr_training.vqfr.perceptual import Features, Vgg16, perceptual_losses


@dataclass(frozen=True)
class Likeness:
    """How unlike the good image a drawn one is."""

    total: Tensor
    """The weighted sum."""
    perceptual: Tensor
    """The share of the features in it; 0 where none are compared."""
    parts: dict[str, Tensor]
    """By name, for the log: pixels and gradients unweighted."""


@dataclass(frozen=True)
class Yardstick:
    """What a stage compares by."""

    stage: Stage1 | Stage2
    weight: Tensor
    """(S, S), mean 1: where errors count more."""
    features: Features | None
    """What the perceptual term compares."""

    def features_of(self, good: Tensor) -> list[Tensor] | None:
        """The features of the good image, for `compare`; no gradient goes there."""
        with torch.no_grad():
            return None if self.features is None else self.features(good)

    def compare(
        self, image: Tensor, good: Tensor, seen: list[Tensor] | None, *, pixel: float
    ) -> Likeness:
        """`image` and `good`, whose features are `seen`; pixels and gradients weigh `pixel`."""
        stage = self.stage
        parts = {
            "pixel": _weighed(pixel, lambda: weighted_l1(image, good, self.weight)),
            "gradient": _weighed(
                pixel * stage.gradient, lambda: gradient_l1(image, good, self.weight)
            ),
        }
        total = pixel * (parts["pixel"] + stage.gradient * parts["gradient"])
        perceptual = image.new_zeros(())
        if stage.perceptual is not None and self.features is not None and seen is not None:
            weights = self.features.channel_weights if isinstance(self.features, Vgg16) else None
            compared = perceptual_losses(
                self.features(image), seen, stage.perceptual, weights=weights
            )
            perceptual = torch.stack(list(compared.values())).sum()
            parts |= compared
            total = total + perceptual
        return Likeness(total, perceptual, parts)


def _weighed(weight: float, loss: Callable[[], Tensor]) -> Tensor:
    """The loss; what weighs nothing is only for the log, and keeps nothing for going back."""
    with torch.set_grad_enabled(weight != 0 and torch.is_grad_enabled()):
        return loss()
