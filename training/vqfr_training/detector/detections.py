"""From the network's output to faces, and pictures of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vqfr_media.faces.anchors import priors
from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.multibox import VARIANCES
from vqfr_training.detector.retinaface import RetinaFace, to_images
from vqfr_training.detector.scenes import Scene

# Boxes that share more than this are one face (facexlib's setting).
_SAME_FACE = 0.4


@dataclass(frozen=True)
class Detections:
    """The faces found in a picture, best first; pixel centres."""

    boxes: NDArray[np.float32]
    """(N, 4) left, top, right, bottom."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2)."""
    scores: NDArray[np.float32]
    """(N,) within 0..1."""


@torch.no_grad()
def find_faces(network: RetinaFace, image: Picture, *, score: float) -> Detections:
    """Returns faces of at least `score` in an (H, W, 3) RGB picture.

    The network is in eval mode.
    """
    from torchvision.ops import nms

    device = next(network.parameters()).device
    output = network(to_images([image]).to(device))
    offsets, logits, points = (part[0].float().cpu() for part in output)
    scores = logits.softmax(dim=1)[:, 1]
    kept = scores >= score
    anchors = torch.from_numpy(priors(*image.shape[:2]).copy())[kept]
    centres, sides = anchors[:, :2], anchors[:, 2:]
    middle = centres + offsets[kept, :2] * VARIANCES[0] * sides
    half = sides * (offsets[kept, 2:] * VARIANCES[1]).exp() / 2
    boxes = torch.cat([middle - half, middle + half], dim=1)
    marks = centres[:, None] + points[kept].reshape(-1, 5, 2) * VARIANCES[0] * sides[:, None]
    best = nms(boxes, scores[kept], _SAME_FACE)
    return Detections(boxes[best].numpy(), marks[best].numpy(), scores[kept][best].numpy())


def contact_sheet(
    scenes: Sequence[Scene], found: Sequence[Detections], *, columns: int = 6
) -> Picture:
    """Returns the scenes side by side, RGB.

    Truth green (grey where not counted), faces found in red.
    """
    tiles = []
    for scene, faces in zip(scenes, found, strict=True):
        tile = scene.image.copy()
        for box, counted in zip(scene.boxes, scene.counted, strict=True):
            _rectangle(tile, box, (0, 220, 0) if counted else (128, 128, 128))
        for box, points in zip(faces.boxes, faces.landmarks, strict=True):
            _rectangle(tile, box, (255, 0, 0))
            for x, y in np.clip(points, -1e4, 1e4).round().astype(int):
                cv2.circle(tile, (int(x), int(y)), 1, (255, 255, 0), -1)
        tiles.append(tile)
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[at : at + columns]) for at in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def _rectangle(image: Picture, box: NDArray[np.float32], colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = (int(v) for v in np.clip(box, -1e4, 1e4).round())
    cv2.rectangle(image, (left, top), (right, bottom), colour, 1)
