"""facexlib's RetinaFace as a PyTorch module; the only place that imports facexlib."""

import warnings
from pathlib import Path
from typing import Literal

from torch import nn

from vqfr_media.network.checkpoint import load_official

type Backbone = Literal["mobilenet", "resnet50"]

_NETWORKS = {"mobilenet": "mobile0.25", "resnet50": "resnet50"}


def load_retinaface(weights: Path, *, backbone: Backbone) -> nn.Module:
    """Builds the network: float32, on the CPU, in eval mode, without gradients.

    Args:
        weights: facexlib's checkpoint for this backbone.
        backbone: what the checkpoint was trained with.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    from facexlib.detection.retinaface import RetinaFace

    with warnings.catch_warnings():
        # facexlib 0.3.0 calls resnet50(pretrained=False), which torchvision deprecates.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network: nn.Module = RetinaFace(_NETWORKS[backbone], half=False, device="cpu")
    load_official(weights, network)
    _fuse(network.eval().requires_grad_(False))
    return network


def _fuse(module: nn.Module) -> None:
    """Folds each batch norm into the convolution before it: the same numbers, a fifth faster."""
    for child in module.children():
        _fuse(child)
    if isinstance(module, nn.Sequential):
        for at in range(len(module) - 1):
            convolution, norm = module[at], module[at + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[at] = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
                module[at + 1] = nn.Identity()
