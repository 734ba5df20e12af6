"""The reconstruction loss.

A drawn image against the high-quality one, by pixels, gradients, features.

Shapes: images (N, 3, S, S) RGB in [-1, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vqfr_training.configs import Stage1, Stage2
from vqfr_training.vqfr.identity import Identity
from vqfr_training.vqfr.losses import gradient_l1, weighted_l1
from vqfr_training.vqfr.perceptual import Features, Vgg16, middle_of_face, perceptual_losses


@dataclass(frozen=True)
class ReconstructionTerms:
    """How much a drawn image differs from the high-quality one."""

    total: Tensor
    """The weighted sum."""
    perceptual: Tensor
    """The share of the features in it; 0 where none are compared."""
    parts: dict[str, Tensor]
    """By name, for the log: pixels and gradients unweighted."""


@dataclass(frozen=True)
class Seen:
    """What was seen of the high-quality image."""

    features: list[Tensor] | None
    """By the perceptual term's network."""
    identity: Tensor | None
    """(N, 128), by the identity network."""


@dataclass(frozen=True)
class ReconstructionLoss:
    """What a stage compares, and how much each part counts."""

    stage: Stage1 | Stage2
    """Says how much each part counts."""
    weight: Tensor
    """(S, S), mean 1: where errors count more."""
    features: Features | None
    """What the perceptual term compares."""
    identity: Identity | None = None
    """What the identity term compares."""

    def features_of(self, hq: Tensor) -> Seen:
        """Returns what is to be compared of the high-quality image; no gradient goes there."""
        with torch.no_grad():
            return Seen(
                None if self.features is None else self.features(self._window(hq)),
                None if self.identity is None else self.identity(hq),
            )

    def compare(
        self, image: Tensor, hq: Tensor, seen: Seen, *, pixel: float, identity: float = 0.0
    ) -> ReconstructionTerms:
        """`image` and `hq`, of which `seen` is known.

        Pixels and gradients weigh `pixel`, the squared distance of identities `identity`.
        """
        stage = self.stage
        parts = {
            "pixel": _weighed(pixel, lambda: weighted_l1(image, hq, self.weight)),
            "gradient": _weighed(
                pixel * stage.gradient, lambda: gradient_l1(image, hq, self.weight)
            ),
        }
        total = pixel * (parts["pixel"] + stage.gradient * parts["gradient"])
        perceptual = image.new_zeros(())
        if stage.perceptual is not None and self.features is not None and seen.features:
            weights = self.features.channel_weights if isinstance(self.features, Vgg16) else None
            compared = perceptual_losses(
                self.features(self._window(image)),
                seen.features,
                stage.perceptual,
                weights=weights,
            )
            perceptual = torch.stack(list(compared.values())).sum()
            parts |= compared
            total = total + perceptual
        if identity > 0 and self.identity is not None and seen.identity is not None:
            parts["identity"] = (self.identity(image) - seen.identity).square().sum(dim=1).mean()
            total = total + identity * parts["identity"]
        return ReconstructionTerms(total, perceptual, parts)

    def _window(self, image: Tensor) -> Tensor:
        """Returns what of an image the perceptual term looks at."""
        wanted = self.stage.perceptual
        return image if wanted is None else middle_of_face(image, wanted.window)


def _weighed(weight: float, loss: Callable[[], Tensor]) -> Tensor:
    """Returns the loss.

    What weighs nothing is only for the log, and keeps nothing for going back.
    """
    with torch.set_grad_enabled(weight != 0 and torch.is_grad_enabled()):
        return loss()
