"""The multi-box loss over RetinaFace's anchors: which anchor answers for which face, and how well.

SSD (Liu et al., 2016) with RetinaFace's landmark term. Anchors are (A, 4): centre x, y, width and
height in pixels; boxes are left, top, right, bottom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqfr_media.faces.anchors import priors
from vqfr_training.detector.scenes import Scene

VARIANCES = (0.1, 0.2)
"""Scales of the regressed offsets: of centres and landmarks, and of sizes."""


@dataclass(frozen=True, kw_only=True)
class MultiBox:
    """The loss's settings."""

    matched: float = 0.35
    """Overlap (intersection over union) from which an anchor answers for a face."""
    negatives: int = 7
    """Background anchors, the hardest, that count for every one with a face."""
    box: float = 2.0
    """Weight of the box term."""
    face: float = 2.0
    """Weight of the class term."""
    landmarks: float = 1.0
    """Weight of the landmark term."""
    beta: float = 0.2
    """Error from which on smooth L1 is linear, in the regressed unit: lower is more exact."""
    fewest_negatives: int = 40
    """A scene without faces shows at least so many background anchors."""


@dataclass(frozen=True)
class Targets:
    """What the network is to say about N scenes at A anchors."""

    classes: Tensor
    """(N, A) int64: 1 face, 0 background, -1 neither right nor wrong."""
    offsets: Tensor
    """(N, A, 4), where classes is 1."""
    landmarks: Tensor
    """(N, A, 10), where classes is 1."""

    def to(self, device: torch.device) -> "Targets":
        """Returns the same on `device`."""
        parts = (self.classes, self.offsets, self.landmarks)
        return Targets(*(part.to(device, non_blocking=True) for part in parts))


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (N, M) intersection over union of (N, 4) with (M, 4)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), np.float32)


def encode(scene: Scene, config: MultiBox) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns classes (A,) and regression targets (A, 14) of one scene.

    Box offsets, then landmarks.
    """
    anchors = priors(*scene.image.shape[:2])
    classes = np.zeros(len(anchors), np.int64)
    wanted = np.zeros((len(anchors), 14), np.float32)
    if len(scene.boxes) == 0:
        return classes, wanted
    corners = np.concatenate(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], axis=1
    )
    shared = overlaps(corners, scene.boxes)
    best = shared.argmax(axis=1)
    # Every face has at least the anchor that fits it best, however badly it fits.
    forced = np.zeros(len(anchors), bool)
    for face in np.flatnonzero(scene.counted):
        anchor = shared[:, face].argmax()
        best[anchor], forced[anchor] = face, True
    near = shared[np.arange(len(anchors)), best] >= config.matched
    classes[near | forced] = 1
    classes[(classes == 1) & ~scene.counted[best] & ~forced] = -1
    # Within what is hardly visible nothing is asked for.
    for box in scene.boxes[~scene.counted]:
        inside = ((anchors[:, :2] > box[:2]) & (anchors[:, :2] < box[2:])).all(axis=1)
        classes[inside & (classes == 0)] = -1
    centres, sides = anchors[:, :2], anchors[:, 2:]
    boxes = scene.boxes[best]
    wanted[:, :2] = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centres) / (VARIANCES[0] * sides)
    wanted[:, 2:4] = np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / sides) / VARIANCES[1]
    points = (scene.landmarks[best] - centres[:, None]) / (VARIANCES[0] * sides[:, None])
    wanted[:, 4:] = points.reshape(-1, 10)
    return classes, wanted


def targets(scenes: list[Scene], config: MultiBox) -> Targets:
    """Computes the loss of a batch of equally large scenes."""
    encoded = [encode(scene, config) for scene in scenes]
    classes = torch.from_numpy(np.stack([one for one, _ in encoded]))
    wanted = torch.from_numpy(np.stack([two for _, two in encoded]))
    return Targets(classes, wanted[..., :4], wanted[..., 4:])


def multibox_loss(output: Sequence[Tensor], wanted: Targets, config: MultiBox) -> dict[str, Tensor]:
    """Returns the terms by name, each a mean over matched anchors; "total" is their weighted sum.

    Args:
        output: offsets (N, A, 4), class logits (N, A, 2), landmarks (N, A, 10).
        wanted: as `targets` gives them.
        config: weights and mining.
    """
    offsets, logits, landmarks = output
    positive = wanted.classes == 1
    count = positive.sum().clamp(min=1)
    box, points = (
        F.smooth_l1_loss(found[positive], true[positive], reduction="sum", beta=config.beta)
        for found, true in ((offsets, wanted.offsets), (landmarks, wanted.landmarks))
    )
    entropy = F.cross_entropy(
        logits.flatten(0, 1), wanted.classes.clamp(min=0).flatten(), reduction="none"
    ).reshape(positive.shape)
    with torch.no_grad():
        difficulty = torch.where(wanted.classes == 0, entropy, -torch.inf)
        places = (positive.sum(dim=1) * config.negatives).clamp(min=config.fewest_negatives)
        ranked = difficulty.sort(dim=1, descending=True).indices.argsort(dim=1)
        negative = (ranked < places[:, None]) & (wanted.classes == 0)
    face = (entropy * (positive | negative)).sum() / count
    box, points = box / count, points / count
    total = config.box * box + config.face * face + config.landmarks * points
    return {"total": total, "class": face, "box": box, "landmarks": points}
