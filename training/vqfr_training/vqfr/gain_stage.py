"""The band gains as the loop wants them: a small network behind one that has been trained.

The network before it is frozen, so what it draws of a face is drawn once and kept.
"""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_training.configs import GainRecipe
from vqfr_training.data.degradation import Image
from vqfr_training.data.large_faces import cut_out
from vqfr_training.data.layout import Data, parts
from vqfr_training.data.photographs import Photographs, pair, prepare_ahead, validation_pairs
from vqfr_training.distributed import DistributedContext
from vqfr_training.records import save_samples
from vqfr_training.stage import ParameterGroup, place
from vqfr_training.vqfr.losses import missing_detail
from vqfr_training.vqfr.networks import frozen_copy, gains_network, place_network
from vqfr_training.vqfr.prepared_faces import (
    Levels,
    PreparedBatch,
    PreparedFaces,
    from_levels,
    to_levels,
)
from vqfr_training.vqfr.vq_stage import psnr, validate

_FLOOR = 2e-6
"""Of the mean squared error, for images in [0, 1]: 57 dB. The logarithm of a perfect face would be
endless."""


class Samples:
    """The faces of a run before the network sees them, each a function of seed and number."""

    def __init__(self, recipe: GainRecipe, photographs: Data) -> None:
        """Reads the photographs; at the size of large faces too where some are wanted.

        Raises:
            ValueError: as `Photographs` does, also where they are too small for large faces.
        """
        self._recipe = recipe
        self._size, stage = recipe.network.image_size, recipe.stage
        weights = recipe.name_weights
        self._photographs = Photographs(photographs, size=self._size, weights=weights)
        self._large: Photographs | None = None
        if stage.large > 0:
            self._large = Photographs(photographs, size=stage.large_size, weights=weights)

    def pair(self, number: int) -> tuple[Levels, Levels]:
        """Returns (lq, hq) of sample `number`."""
        # Its own numbers, so that the others are the samples of a run without large ones.
        generator = np.random.default_rng([self._recipe.seed, number, 2])
        if self._large is None or generator.random() >= self._recipe.stage.large:
            lq, hq = self._drawn(self._photographs, number)
        else:
            large = self._drawn(self._large, number)
            lq, hq = cut_out(large, generator, size=self._size)
        return to_levels(lq), to_levels(hq)

    def _drawn(self, photographs: Photographs, number: int) -> tuple[Image, Image]:
        return pair(
            photographs,
            number,
            seed=self._recipe.seed,
            augmentation=self._recipe.augmentation,
            degradation=self._recipe.degradation,
        )


class GainStage:
    """The band gains of v1's network, on the photographs in a folder."""

    discriminators: None = None
    """There are none."""

    def __init__(
        self,
        recipe: GainRecipe,
        *,
        data: Data,
        faces: Path,
        device: torch.device,
        start: Mapping[str, Tensor] | None,
        context: DistributedContext | None = None,
    ) -> None:
        """Builds the stage.

        Args:
            recipe: what the run is told.
            data: as `Photographs` takes it.
            faces: folder of the prepared faces, there already or not.
            device: where the network computes.
            start: state dict of the trained network, with gains or without.
            context: this process alone.

        Raises:
            ValueError: there are no weights to start from, there are other processes, or the
                prepared faces are others.
        """
        if start is None:
            raise ValueError(f"{recipe.name} goes on from a trained network: give --start-from")
        if context is not None and context.world_size > 1:
            raise ValueError(f"{recipe.name} is for one process alone")
        self.recipe = recipe
        self._data, self._device = data, device
        self._count = recipe.stage.faces
        size = recipe.network.image_size
        self._faces = PreparedFaces(faces, count=self._count, size=size)
        torch.manual_seed(recipe.seed)
        self.network: VqfrV1 = gains_network(recipe.network)
        # Of a network without gains, all but those.
        self.network.load_state_dict({**self.network.state_dict(), **start})
        place_network(self.network, device)
        self.averaged: VqfrV1 = frozen_copy(self.network)
        self._validation = validation_pairs(
            Photographs(parts(data, "val"), size=size),
            seed=7,
            degradation=recipe.degradation,
            most=recipe.validation_faces,
        )

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the gains' parameters."""
        learning = list(self.network.band_gains.parameters())
        return [ParameterGroup(learning, 1.0, self.recipe.betas)]

    def batches(
        self, *, first_step: int, workers: int, rank: int = 0, world_size: int = 1
    ) -> Generator[PreparedBatch]:
        """Yields the faces of every step; those that are drawn for the first time are made."""
        del rank, world_size  # there is one process alone
        recipe = self.recipe
        samples = None if self._faces.complete else Samples(recipe, parts(self._data, "train"))

        def make(step: int) -> dict[int, tuple[Levels, Levels]]:
            missing = [number for number in self.numbers(step) if number not in self._faces]
            if samples is None or not missing:
                return {}
            return {number: samples.pair(number) for number in missing}

        steps = range(first_step, recipe.steps)
        made = prepare_ahead(make, steps, workers=workers)
        for step, pairs in zip(steps, made, strict=True):
            for number, (lq, hq) in pairs.items():
                if number not in self._faces:  # a step before may have needed it too
                    self._faces.keep(number, lq=lq, main=self._restored(lq), hq=hq)
            generator = np.random.default_rng([recipe.seed, step, 1])
            mirrored = generator.random(recipe.batch) < 0.5
            corners = generator.integers(
                0, recipe.network.image_size - recipe.stage.crop + 1, (recipe.batch, 2)
            )
            yield self._faces.read(self.numbers(step), corners, mirrored, side=recipe.stage.crop)

    def numbers(self, step: int) -> list[int]:
        """Returns which of the prepared faces a step sees: all of them once, then anew."""
        batch, count = self.recipe.batch, self._count
        positions = range(step * batch, (step + 1) * batch)
        orders = {
            epoch: np.random.default_rng([self.recipe.seed, epoch]).permutation(count)
            for epoch in {position // count for position in positions}
        }
        return [int(orders[position // count][position % count]) for position in positions]

    def parts(self, batch: PreparedBatch) -> list[PreparedBatch]:
        """Returns as many as the recipe accumulates."""
        pieces = (images.chunk(self.recipe.accumulate) for images in batch)
        return [PreparedBatch(*piece) for piece in zip(*pieces, strict=True)]

    def prepare(self, number: int) -> dict[str, float]:
        """There is nothing to be done."""
        del number
        return {}

    def step(self, batch: PreparedBatch, number: int) -> dict[str, Tensor]:
        """Returns the loss, and of it, in dB: how much detail is missing, and how much nearer to
        the truth the faces are than without gains."""
        del number
        lq, main, hq = (place(images, self._device) for images in batch)
        with exact_float32(self._device):
            result = self.network.band_gains(lq, main)
            squared = ((result - hq) / 2).square().mean(dim=(1, 2, 3))
            total = (10 * (squared + _FLOOR).log10()).mean()
            weight = self.recipe.stage.detail
            lacking = missing_detail(result if weight else result.detach(), hq)
            gained = psnr(result.detach(), hq) - psnr(main, hq)
        return {
            "total": total + weight * lacking,
            "missing_detail_db": lacking,
            "gain_db": total.new_tensor(gained),
        }

    def discriminator_groups(self) -> list[ParameterGroup]:
        """There are none."""
        return []

    def discriminator_losses(self, batch: PreparedBatch, number: int) -> dict[str, Tensor]:
        """There are none."""
        del batch, number
        return {}

    def validate(self, picture: Path) -> dict[str, float]:
        """Returns mean PSNR (dB, 8-bit peak) of input and branches, and codes in use, on `val`."""
        figures, images = validate(self.averaged, *self._validation, device=self._device)
        save_samples(picture, images)
        return figures

    def export(self, path: Path) -> None:
        """Writes the averaged weights as a self-describing fp16 file."""
        save_network(path, self.averaged)

    def extra_state(self) -> Mapping[str, Any]:
        """Nothing: the prepared faces are functions of the seed, and lie in files."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Reads nothing: none is written."""
        del state

    @torch.no_grad()
    def _restored(self, lq: Levels) -> NDArray[np.float16]:
        """Returns the main output (3, S, S) without gains."""
        # Alone, for in a batch the last digits, and with them codes, depend on the others.
        image = place(from_levels(lq[None]), self._device)
        with exact_float32(self._device):  # rounded products choose other codes
            codes = self.network.quantize(self.network.encode(image))
            main = self.network.decode_unweighed(image, codes).main[0]
        return main.half().cpu().numpy()
