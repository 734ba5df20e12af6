"""What a step of training holds: counted by storages, with fake tensors and with real ones."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from vqfr_training.configs import VqRecipe
from vqfr_training.vqfr.networks import codebook_network, restoration_network

from benchmarks.gpu_training import recipe_for
from benchmarks.live_bytes import LiveBytes
from benchmarks.training_memory import step_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_storage_counts_once_for_as_long_as_it_lives() -> None:
    with LiveBytes() as live:
        one = torch.ones(1000)
        two = one.reshape(10, 100).t()  # a view
        three = one + 1
        assert live.now == 8000
        del one
        assert live.now == 8000  # the view holds it
        del two
        assert live.now == 4000
        four = three.double()
        del three
    assert (live.now, live.peak) == (8000, 12000)
    assert four.sum() == 2000


def small(**changed: Any) -> VqRecipe:
    recipe: Any = recipe_for("smoke_stage2", **{"accumulate": 1, "precision": "float32", **changed})
    network: Any = replace(
        recipe.network,
        image_size=32,
        channels=(8, 8),
        encoder_blocks=(0, 1),
        texture_blocks=(1, 1),
        offset_channels=(0, 8),
        norm_groups=4,
        offset_groups=2,
    )
    changed_recipe: VqRecipe = replace(
        recipe, network=network, stage=replace(recipe.stage, discriminators=())
    )
    return changed_recipe


def test_what_is_counted_without_computing_is_what_lives() -> None:
    recipe = small(batch=4)
    found = step_bytes(recipe)
    real = step_bytes(recipe, fake=False)
    assert found.weights == real.weights
    # A fake operator may give a view where a real one gives a tensor.
    assert (found.first, found.later) == pytest.approx((real.first, real.later), rel=0.02)
    network = restoration_network(recipe.network, recipe.stage)  # type: ignore[arg-type]

    def bytes_of(module: torch.nn.Module) -> int:
        return sum(4 * p.numel() for p in (*module.parameters(), *module.buffers()))

    # The network, its average, and the teacher.
    assert found.weights == 2 * bytes_of(network) + bytes_of(codebook_network(recipe.network))
    in_parts = step_bytes(small(batch=4, accumulate=4))
    assert in_parts.weights == found.weights
    assert in_parts.later < found.weights + 0.5 * (found.later - found.weights)
