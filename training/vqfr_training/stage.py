"""What the loop asks of whatever it trains."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqfr_training.configs import RunConfig


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a pace."""

    parameters: list[nn.Parameter]
    """Of one network."""
    rate: float
    """Learning rate relative to the recipe's."""
    betas: tuple[float, float]
    """Adam's."""


class TrainingStage[Batch](Protocol):
    """A network with its data and losses; one object a run."""

    @property
    def recipe(self) -> RunConfig:
        """The run's configuration."""

    @property
    def network(self) -> nn.Module:
        """What the optimiser changes."""

    @property
    def averaged(self) -> nn.Module:
        """The exponential moving average of `network`: what a run is for."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns what of `network` learns, and how fast."""

    def batches(
        self, *, first_step: int, workers: int, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch]:
        """Yields what the steps from `first_step` on see, the same however a run is cut.

        Of several ranks, each gets its share of the batch that one alone would see.
        """

    def parts(self, batch: Batch) -> list[Batch]:
        """Returns the equal parts of a rank's batch that are computed one after the other."""

    def prepare(self, number: int) -> dict[str, float]:
        """Whatever must happen before step `number`; returns what is worth a line in the log."""

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Returns the losses of step `number` by name; "total" is the one to go down."""

    @property
    def discriminators(self) -> nn.Module | None:
        """Networks with an optimiser of their own that score what `network` draws; None: none."""

    def discriminator_groups(self) -> list[ParameterGroup]:
        """Returns what of `discriminators` learns, and how fast; empty without any."""

    def discriminator_losses(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Returns the discriminators' losses after `step`, as there; empty in steps in which none
        learns."""

    def validate(self, picture: Path) -> dict[str, float]:
        """Measures the averaged network on other people; writes a picture to look at."""

    def export(self, path: Path) -> None:
        """Writes the averaged network as the package loads it, if it is one that is installed."""

    def extra_state(self) -> Mapping[str, Any]:
        """Returns what a checkpoint must hold beside weights and optimiser."""

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes `extra_state` back out of a checkpoint."""


def equal_parts(batch: tuple[Tensor, Tensor], count: int) -> list[tuple[Tensor, Tensor]]:
    """Cuts a batch of N pairs into `count` of N / `count` each.

    Raises:
        ValueError: that is no whole number.
    """
    first, second = batch
    if len(first) % count:
        raise ValueError(
            f"a rank's {len(first)} faces cannot be accumulated in {count} equal parts"
        )
    return list(zip(first.chunk(count), second.chunk(count), strict=True))


def place(images: Tensor, device: torch.device) -> Tensor:
    """Returns images where the network wants them, channels last."""
    return images.to(device=device, memory_format=torch.channels_last, non_blocking=True)
