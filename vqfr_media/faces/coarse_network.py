"""RetinaFace with and without the finest of its feature maps, which only small faces need.

No other map depends on that one, of stride 8, and half of the work is for it; its anchors are for
faces of 16 to 32 pixels. So what is left is what the whole network says, and faces that no such
anchor sees are the same.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

type Answer = tuple[Tensor, Tensor, Tensor]
"""(N, anchors, 4) offsets, (N, anchors, 2) scores and (N, anchors, 10) landmarks."""


class WholeAndCoarse(nn.Module):
    """What the network says, and behind it the same of all anchors but those of the finest map."""

    def __init__(self, network: nn.Module) -> None:
        """Shares the parts of `network`, facexlib's RetinaFace."""
        super().__init__()
        self.network: Any = network

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Takes what the network takes; returns three and three tensors, see `Answer`."""
        net = self.network
        fine, middle, top = _maps(net, batch)
        upsampled = F.interpolate(middle, size=fine.shape[2:], mode="nearest")
        fine = net.fpn.merge1(net.fpn.output1(fine) + upsampled)
        features = [net.ssh1(fine), net.ssh2(middle), net.ssh3(top)]
        return *_answer(net, features), *_answer(net, features[1:])


class WithoutSmallFaces(nn.Module):
    """What the network says of all anchors but those of the finest map, for half of the work."""

    def __init__(self, network: nn.Module) -> None:
        """Shares the parts of `network`, facexlib's RetinaFace."""
        super().__init__()
        self.network: Any = network

    def forward(self, batch: Tensor) -> Answer:
        """Takes what the network takes."""
        net = self.network
        _, middle, top = _maps(net, batch)
        return _answer(net, [net.ssh2(middle), net.ssh3(top)])


def _maps(net: Any, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the feature maps from fine to coarse; the pyramid is missing in the finest."""
    fine, middle, top = net.body(batch).values()
    top = net.fpn.output3(top)
    middle = net.fpn.output2(middle)
    middle = middle + F.interpolate(top, size=middle.shape[2:], mode="nearest")
    return fine, net.fpn.merge2(middle), top


def _answer(net: Any, features: list[Tensor]) -> Answer:
    """Asks the heads of the last maps."""
    first = 3 - len(features)
    offsets, scores, landmarks = (
        torch.cat([heads[first + at](map_) for at, map_ in enumerate(features)], dim=1)
        for heads in (net.BboxHead, net.ClassHead, net.LandmarkHead)
    )
    return offsets, scores.softmax(dim=-1), landmarks
