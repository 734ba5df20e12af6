"""The face detector as the loop wants it: RetinaFace from scratch on endless scenes."""

import copy
import os
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vqfr_training.configs import DetectorRecipe
from vqfr_training.data.layout import Data, parts
from vqfr_training.detector.backgrounds import sample_photographs
from vqfr_training.detector.detections import contact_sheet, find_faces
from vqfr_training.detector.multibox import Targets, multibox_loss, targets
from vqfr_training.detector.portraits import Portraits
from vqfr_training.detector.retinaface import RetinaFace, initialise, save_detector, to_images
from vqfr_training.detector.scenes import MAX_SCENES_IN_A_BATCH, Scene, SceneConfig, make_scene
from vqfr_training.stage import ParameterGroup, place

type DetectorBatch = tuple[Tensor, Targets]
"""(N, 3, S, S) as the network takes it, and what it is to say."""

_VALIDATION_SEED = 7
_VALIDATED_AT_ONCE = 8


class DetectorStage:
    """A face detector learning from the photographs of one data set or several."""

    def __init__(
        self,
        recipe: DetectorRecipe,
        *,
        data: Data,
        device: torch.device,
        init: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Weights are drawn from the recipe's seed, or begin as `init`, another run's averaged."""
        self.recipe = recipe
        self._data, self._device = data, device
        torch.manual_seed(recipe.seed)
        self.network = RetinaFace()
        initialise(self.network)
        if init is not None:
            self.network.load_state_dict(dict(init))
        self.network.to(device)
        self.network.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._validation = scenes_of(
            Portraits(parts(data, "val")),
            config=recipe.validation,
            count=recipe.validation_scenes,
            seed=_VALIDATION_SEED,
        )

    def batches(
        self, *, first_step: int, workers: int, rank: int = 0, world_size: int = 1
    ) -> Generator[DetectorBatch]:
        """Scenes and targets of every step, prepared ahead by threads that give way to others.

        Raises:
            ValueError: there are several ranks; the detector is trained by one.
        """
        if world_size != 1:
            raise ValueError(
                f"the detector is trained by one process, not rank {rank} of {world_size}"
            )
        portraits, photographs = Portraits(parts(self._data, "train")), sample_photographs()
        recipe = self.recipe

        def prepare(number: int) -> DetectorBatch:
            kind = recipe.batches[number % len(recipe.batches)]
            scenes = [
                make_scene(
                    number * MAX_SCENES_IN_A_BATCH + at,
                    seed=recipe.seed,
                    config=kind.scenes,
                    portraits=portraits,
                    photographs=photographs,
                )
                for at in range(kind.count)
            ]
            return to_images([scene.image for scene in scenes]), targets(scenes, recipe.stage)

        ahead = deque[Future[DetectorBatch]]()
        with ThreadPoolExecutor(workers, initializer=os.nice, initargs=(5,)) as pool:
            try:
                for number in range(first_step, recipe.steps):
                    while len(ahead) < min(3 * workers, recipe.steps - number):
                        ahead.append(pool.submit(prepare, number + len(ahead)))
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def prepare(self, number: int) -> dict[str, float]:
        """Nothing."""
        del number
        return {}

    def parts(self, batch: DetectorBatch) -> list[DetectorBatch]:
        """Returns the batch as it is."""
        return [batch]

    def step(self, batch: DetectorBatch, number: int) -> dict[str, Tensor]:
        """Returns the multi-box losses."""
        del number
        images, wanted = batch
        output = self.network(place(images, self._device))
        return multibox_loss(
            tuple(part.float() for part in output), wanted.to(self._device), self.recipe.stage
        )

    def parameter_groups(self) -> list[ParameterGroup]:
        """All alike."""
        return [ParameterGroup(list(self.network.parameters()), 1.0, self.recipe.betas)]

    discriminators = None
    """A detector has no discriminators."""

    def discriminator_groups(self) -> list[ParameterGroup]:
        """None."""
        return []

    def discriminator_losses(self, batch: DetectorBatch, number: int) -> dict[str, Tensor]:
        """Nothing to learn."""
        del batch, number
        return {}

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """Returns the losses of the averaged network on scenes of the people of `val`."""
        scenes = self._validation
        sums: dict[str, float] = {}
        for first in range(0, len(scenes), _VALIDATED_AT_ONCE):
            some = scenes[first : first + _VALIDATED_AT_ONCE]
            images = place(to_images([scene.image for scene in some]), self._device)
            output = tuple(part.float() for part in self.averaged(images))
            wanted = targets(some, self.recipe.stage).to(self._device)
            losses = multibox_loss(output, wanted, self.recipe.stage)
            for name, value in losses.items():
                sums[f"val_{name}"] = sums.get(f"val_{name}", 0.0) + float(value) * len(some)
        shown = scenes[:24]
        found = [find_faces(self.averaged, scene.image, score=0.5) for scene in shown]
        sheet = contact_sheet(shown, found)
        if not cv2.imwrite(str(picture), np.ascontiguousarray(sheet[..., ::-1])):
            raise OSError(f"cannot write {picture}")
        return {name: value / len(scenes) for name, value in sums.items()}

    def export(self, path: Path) -> None:
        """Writes the averaged weights as the package loads them."""
        save_detector(path, self.averaged)

    def extra_state(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


def scenes_of(portraits: Portraits, *, config: SceneConfig, count: int, seed: int) -> list[Scene]:
    """Returns the first `count` scenes with these people."""
    photographs = sample_photographs()
    return [
        make_scene(index, seed=seed, config=config, portraits=portraits, photographs=photographs)
        for index in range(count)
    ]
