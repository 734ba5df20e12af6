"""RetinaFace with a MobileNet of a quarter's width, as facexlib has it: torch alone, for training.

Names, shapes and numbers are those of `facexlib.detection.retinaface.RetinaFace("mobile0.25")` (a
test compares them), so that what is trained here loads there. Machines that train need no facexlib.
"""

import json
import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vqfr_media.files import write_bytes

MEAN_BGR = (104.0, 117.0, 123.0)
"""Subtracted from the levels 0..255 of pictures in the order blue, green, red."""


class RetinaFace(nn.Module):
    """Boxes, classes and landmarks at every anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _Body()
        self.fpn = _Pyramid()
        self.ssh1, self.ssh2, self.ssh3 = _Context(), _Context(), _Context()
        self.ClassHead = nn.ModuleList(_Head(2) for _ in range(3))
        self.BboxHead = nn.ModuleList(_Head(4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(_Head(10) for _ in range(3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets (N, A, 4), class logits (N, A, 2) and landmarks (N, A, 10) at A anchors.

        Args:
            images: (N, 3, H, W) BGR levels less `MEAN_BGR`.
        """
        levels = self.fpn(self.body(images))
        seen = [
            ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)
        ]
        outputs = [
            torch.cat([head(level) for head, level in zip(heads, seen, strict=True)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        ]
        return outputs[0], outputs[1], outputs[2]


def initialise(network: RetinaFace, *, face_share: float = 0.01) -> None:
    """Draws weights that keep the signal's variance; at first every anchor says "no face"."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.bias is None:
            nn.init.kaiming_normal_(
                module.weight, a=0.1, mode="fan_out" if module.groups == 1 else "fan_in"
            )
        else:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for name, bias in network.ClassHead.named_parameters():
            if name.endswith("bias"):
                bias[1::2] = math.log(face_share / (1 - face_share))


def to_images(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """Returns (N, 3, H, W) as the network takes it, channels last, of (H, W, 3) RGB pictures."""
    bgr = np.stack(pictures)[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)
    return torch.from_numpy(bgr).permute(0, 3, 1, 2)


def save_detector(path: Path, network: RetinaFace) -> None:
    """Writes the weights as float16 and the batch norms' statistics as they are.

    The keys are facexlib's, so `vqfr_media.network.checkpoint.load_official` reads the file. It
    appears under its name only when it is complete.

    Raises:
        ValueError: a weight is not finite or too large for float16; nothing is written.
    """
    state = {}
    for name, value in network.state_dict().items():
        # A variance may be beyond what float16 holds; there are few of them.
        statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        kept = value.detach().cpu() if statistic else value.detach().to("cpu", torch.float16)
        if not bool(kept.isfinite().all()):
            raise ValueError(f"{name} has a value that float16 cannot hold; nothing was written")
        state[name] = kept.contiguous()
    description = {"format_version": 1, "kind": "retinaface_mobilenet0.25", "config": {}}
    write_bytes(path, safetensors.torch.save(state, {"vqfr_media": json.dumps(description)}))


class _Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            _conv(3, 8, 3, stride=2), _separable(8, 16), _separable(16, 32, stride=2),
            _separable(32, 32), _separable(32, 64, stride=2), _separable(64, 64),
        )  # fmt: skip
        self.stage2 = nn.Sequential(
            _separable(64, 128, stride=2), *(_separable(128, 128) for _ in range(5))
        )
        self.stage3 = nn.Sequential(_separable(128, 256, stride=2), _separable(256, 256))

    def forward(self, x: Tensor) -> list[Tensor]:
        one = self.stage1(x)
        two = self.stage2(one)
        return [one, two, self.stage3(two)]


class _Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_conv(c, 64, 1) for c in (64, 128, 256))
        self.merge1, self.merge2 = _conv(64, 64, 3), _conv(64, 64, 3)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        one, two, three = self.output1(levels[0]), self.output2(levels[1]), self.output3(levels[2])
        two = self.merge2(two + F.interpolate(three, size=two.shape[2:], mode="nearest"))
        one = self.merge1(one + F.interpolate(two, size=one.shape[2:], mode="nearest"))
        return [one, two, three]


class _Context(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3X3 = _conv(64, 32, 3, leaky=False)
        self.conv5X5_1 = _conv(64, 16, 3)
        self.conv5X5_2 = _conv(16, 16, 3, leaky=False)
        self.conv7X7_2 = _conv(16, 16, 3)
        self.conv7x7_3 = _conv(16, 16, 3, leaky=False)

    def forward(self, x: Tensor) -> Tensor:
        half = self.conv5X5_1(x)
        seen = (self.conv3X3(x), self.conv5X5_2(half), self.conv7x7_3(self.conv7X7_2(half)))
        return F.relu(torch.cat(seen, dim=1))


class _Head(nn.Module):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(64, 2 * values, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1x1(x).permute(0, 2, 3, 1)
        return out.reshape(len(x), -1, self.values)


def _conv(
    inputs: int, outputs: int, size: int, *, stride: int = 1, leaky: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.LeakyReLU(0.1, inplace=True)] if leaky else []))


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )
