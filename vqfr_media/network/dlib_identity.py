"""dlib's face recognition network: 128 numbers that are near for one person's faces.

A ResNet with 29 convolutions (dlib's `dlib_face_recognition_resnet_model_v1`), written as a plain
module: differentiable, and exported like any other.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vqfr_media.errors import WeightsError

SIDE = 150
"""Side of the input, pixels."""
LANDMARKS = ((47.6, 46.6), (100.5, 46.6), (74.0, 76.6), (50.4, 103.0), (97.6, 103.0))
"""Where eyes, nose and mouth corners lie in it: (x, y) pixels, the viewer's left first."""
_MEAN = (122.782, 117.001, 104.298)
_WIDTHS = {
    "conv32_1": (32, 32),
    "conv32_2": (32, 32),
    "conv32_3": (32, 32),
    "conv64_down": (32, 64),
    "conv64_1": (64, 64),
    "conv64_2": (64, 64),
    "conv64_3": (64, 64),
    "conv128_down": (64, 128),
    "conv128_1": (128, 128),
    "conv128_2": (128, 128),
    "conv256_down": (128, 256),
    "conv256_1": (256, 256),
    "conv256_2": (256, 256),
    "conv256_down_out": (256, 256),
}
"""Channels in and out of the residual blocks, in their order."""


class ScaledConv(nn.Module):
    """A convolution, then a factor and a shift for each channel (a folded batch normalisation)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding)
        self.scale = nn.Parameter(torch.ones(out_channels))
        self.shift = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, out_channels, h, w)`."""
        scaled: Tensor = self.conv(x) * self.scale[:, None, None] + self.shift[:, None, None]
        return scaled


class DlibResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip; `down` halves the size without padding at first."""

    def __init__(self, in_channels: int, out_channels: int, *, down: bool) -> None:
        super().__init__()
        stride, padding = (2, 0) if down else (1, 1)
        self.conv1 = ScaledConv(in_channels, out_channels, 3, stride=stride, padding=padding)
        self.conv2 = ScaledConv(out_channels, out_channels, 3, stride=1, padding=1)
        self._down = down

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, out_channels, H, W)` or about half that size."""
        inner = self.conv2(F.relu(self.conv1(x)))
        if not self._down:
            return F.relu(inner + x)
        skip = F.avg_pool2d(x, 2)
        # Zeros at the right, at the bottom and in the channels make both alike.
        height, width = (max(inner.shape[axis], skip.shape[axis]) for axis in (2, 3))
        channels = inner.shape[1] - skip.shape[1]
        inner = F.pad(inner, (0, width - inner.shape[3], 0, height - inner.shape[2]))
        skip = F.pad(skip, (0, width - skip.shape[3], 0, height - skip.shape[2], 0, channels))
        return F.relu(inner + skip)


class DlibIdentity(nn.Module):
    """Aligned faces to descriptors; the distance of two is Euclidean.

    One person's lie 0.2 to 0.5 apart, two people's 0.7 to 0.9.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = ScaledConv(3, 32, 7, stride=2, padding=0)
        self.blocks = nn.ModuleDict(
            {
                name: DlibResidualBlock(*channels, down="down" in name)
                for name, channels in _WIDTHS.items()
            }
        )
        self.fc = nn.Parameter(torch.zeros(256, 128))
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, 150, 150)` RGB in [0, 1], aligned to `LANDMARKS`, to `(N, 128)`."""
        x = F.relu(self.first((image * 255 - self.mean) / 256))
        x = F.max_pool2d(x, 3, stride=2)
        for block in self.blocks.values():
            x = block(x)
        return x.mean(dim=(2, 3)) @ self.fc


def load_dlib_identity(path: Path) -> DlibIdentity:
    """Loads the network with the weights in `path`, frozen, float32.

    Raises:
        WeightsError: the file is absent or holds other weights.
    """
    if not path.is_file():
        raise WeightsError(f"no weights of dlib's face network at {path}")
    given = load_file(path)
    network = DlibIdentity()
    wanted = network.state_dict()
    renamed = {published_name(name): name for name in wanted}
    if odd := sorted(given.keys() ^ renamed.keys()):
        raise WeightsError(f"{path} does not hold dlib's face network: {odd[0]} differs")
    for published, name in renamed.items():
        if given[published].shape != wanted[name].shape:
            raise WeightsError(
                f"{path} does not hold dlib's face network: {published} is "
                f"{tuple(given[published].shape)}, not {tuple(wanted[name].shape)}"
            )
    network.load_state_dict({name: given[key].float() for key, name in renamed.items()})
    return network.requires_grad_(False).eval()


def published_name(name: str) -> str:
    """Returns what the file calls a parameter: `conv32_1__conv1__scale__weights`."""
    if name == "fc":
        return "fc"
    parts = name.removeprefix("blocks.").split(".")
    last = {
        "conv.weight": "conv__filters",
        "conv.bias": "conv__bias",
        "scale": "scale__weights",
        "shift": "scale__biases",
    }
    for ours, theirs in last.items():
        if name.endswith(f".{ours}"):
            head = parts[: len(parts) - len(ours.split("."))]
            return "__".join([*(["conv32_down"] if head == ["first"] else head), theirs])
    raise AssertionError(name)
