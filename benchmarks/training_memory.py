"""What a step of training holds at its fullest: every live storage counted, nothing computed.

    python -m benchmarks.training_memory RECIPE [--batch N] [--accumulate N] [--precision P]

The stage is built on the CPU and turned into fake tensors; its deformable convolutions go image by
image, as on a GPU. In bfloat16 normalisations take and give float32, as CUDA's autocast has it (a
CPU's does not). Not in it: cuDNN's workspaces and the allocator's gaps. Prints one line.
"""

import argparse
import gc
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import deform_conv2d
from vqfr_training.configs import VqRecipe
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.warp import SampledDeformConv

from benchmarks.gpu_training import RandomFacesStage, late_step, recipe_for
from benchmarks.live_bytes import LiveBytes
from vqfr_media.network.blocks import full_precision
from vqfr_media.network.deform import image_by_image


@dataclass(frozen=True)
class StepBytes:
    """What lives during a step."""

    weights: int
    """Before the first step: the networks, their averages, the teacher, what is compared by."""
    first: int
    """The most in the first step, which makes Adam's state."""
    later: int
    """The most in a later one."""


class WarpOfAGpu(nn.Module):
    """A deformable convolution with its parameters, computed as on a GPU."""

    def __init__(self, original: SampledDeformConv) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        self.conv_offset = original.conv_offset

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """As `ModulatedDeformConv.forward`."""
        with full_precision(x):
            first, second, mask = self.conv_offset(guide.float()).chunk(3, dim=1)

            def convolved(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
                y: Tensor = deform_conv2d(
                    x.float(), offset, self.weight, self.bias, padding=1, mask=mask
                )
                return y.to(x.dtype)

            offset = torch.cat((first, second), dim=1)
            return image_by_image(convolved, x, offset, torch.sigmoid(mask))


class _Finite(LiveBytes):  # type: ignore[no-untyped-call]
    """Answers what the step asks of values that do not exist: no gradient is infinite."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 1.0
        return super().__torch_dispatch__(function, types, args, kwargs)


def step_bytes(recipe: VqRecipe, *, fake: bool = True) -> StepBytes:
    """Counts two steps of stage 2 with every loss, the gradient penalty among them.

    Args:
        recipe: as from `recipe_for`.
        fake: compute nothing; False computes on the CPU, to compare.
    """
    stage = RandomFacesStage(recipe, torch.device("cpu"))
    loss = stage.training.reconstruction_loss
    candidates = (
        stage.network,
        stage.averaged,
        stage.discriminators,
        stage.training.teacher,
        loss.features,
        loss.identity,
    )
    whole = [module for module in candidates if isinstance(module, nn.Module)]
    for module in [each for top in whole for each in top.modules()]:
        for name, child in list(module.named_children()):
            if isinstance(child, SampledDeformConv):
                setattr(module, name, WarpOfAGpu(child))
        if recipe.precision == "bfloat16" and isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext()
    if isinstance(mode, FakeTensorMode):
        for top in whole:
            _make_fake(top, mode)
    with mode, _Finite() if fake else LiveBytes() as live:
        for top in whole:
            for tensor in chain(top.parameters(), top.buffers()):
                live.add(tensor)
        del tensor
        weights, peaks = live.now, []
        optimisers, number = make_optimisers(stage), late_step(recipe)
        for index in range(2):
            gc.collect()
            live.peak = live.now
            # The penalty comes in every sixteenth step.
            train_step(stage, optimisers, stage.batch(), number + 16 * index)
            peaks.append(live.peak)
    return StepBytes(weights, *peaks)


def _make_fake(network: nn.Module, mode: FakeTensorMode) -> None:
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = mode.from_tensor(parameter.detach())
                module._parameters[name] = nn.Parameter(fake, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else mode.from_tensor(buffer)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    recipe = recipe_for(
        given.recipe, batch=given.batch, accumulate=given.accumulate, precision=given.precision
    )
    found = step_bytes(recipe)
    print(
        f"{given.recipe}, {recipe.precision}, batch {recipe.batch} in {recipe.accumulate}: "
        f"{found.weights / 2**30:.2f} GiB before, {found.first / 2**30:.2f} GiB in the first step, "
        f"{found.later / 2**30:.2f} GiB later"
    )


if __name__ == "__main__":
    main()
