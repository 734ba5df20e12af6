"""The weights a network begins with."""

from typing import cast

from torch import nn

from vqfr_media.network.blocks import Attention, ResidualBlock
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_training.vqfr.ablations import SingleBranch


def initialise_linear(network: nn.Module) -> None:
    """Initialises as a linear network that keeps the signal's variance, with warps that do nothing.

    With PyTorch's own initial weights every convolution outside a residual block divides the
    variance by three, and what reaches the code grid comes from the blocks' noise: stage 1 then
    needs more steps for the same loss. Here each block begins as the identity (its last
    convolution is zero) and the convolutions between blocks keep the variance. Convolutions that
    are zero on purpose (offsets, the predicted residual) stay so.
    """
    inside = set[nn.Module]()
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            inside |= {module.conv1, module.conv2}
            _set_weights(module.conv2, deviation=0.0)
        elif isinstance(module, Attention):
            inside |= {module.q, module.k, module.v, module.proj_out}
            _set_weights(module.proj_out, deviation=0.0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in inside and module.groups == 1:
            if module.weight.any():
                _set_weights(module, deviation=module.weight[0].numel() ** -0.5)
        elif isinstance(module, ModulatedDeformConv):
            nn.init.dirac_(module.weight)
            module.weight.data *= 2  # the mask begins at one half


def initialise_as_texture_decoder(network: SingleBranch) -> None:
    """Initialises as the pretrained texture decoder: the features of the input join in as they
    learn."""
    for block in network.fusion_dict.values():
        shortcut = cast(nn.Conv2d, cast(ResidualBlock, block).shortcut_conv)
        nn.init.dirac_(shortcut.weight)
        if shortcut.bias is not None:
            nn.init.zeros_(shortcut.bias)


def _set_weights(conv: nn.Conv2d, *, deviation: float) -> None:
    nn.init.normal_(conv.weight, std=deviation)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
