"""Recomputing blocks changes what is kept, and no number."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vqfr_training.recipes import smoke_stage2
from vqfr_training.vqfr.initialisation import initialise_linear
from vqfr_training.vqfr.networks import recompute_blocks, restoration_network, restore
from vqfr_training.vqfr.warp import use_sampled_warps

pytestmark = pytest.mark.usefixtures("one_thread")


def made(*, recompute: bool) -> nn.Module:
    torch.manual_seed(0)
    recipe = smoke_stage2()
    network = restoration_network(recipe.network, recipe.stage)  # type: ignore[arg-type]
    initialise_linear(network)
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    use_sampled_warps(network)
    if recompute:
        recompute_blocks(network)
    return network


def kept(network: Any, image: Tensor) -> tuple[int, list[Tensor]]:
    """Bytes kept for going back, and the gradients."""
    storages: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total = torch.stack([branch.square().mean() for branch in restore(network, image)]).sum()
    count = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    learning = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(total, learning, retain_graph=True)
    again = torch.autograd.grad(total, learning)  # as the adaptive weight needs it
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    return count, list(gradients)


def test_the_same_gradients_from_half_the_memory() -> None:
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    whole, expected = kept(made(recompute=False), image)
    less, gradients = kept(made(recompute=True), image)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-7, rtol=1e-5)
    assert less < 0.5 * whole
