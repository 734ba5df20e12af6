"""Finds faces with RetinaFace in a small proxy picture; the only place that imports facexlib."""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.faces.affine import Matrix23
from vqfr_media.faces.openvino_network import OpenvinoNetwork
from vqfr_media.faces.turned import look_again, placed
from vqfr_media.frames import Frame
from vqfr_media.media.colour import proxy_to_display, rgb_proxy
from vqfr_media.network.checkpoint import load_official
from vqfr_media.values import Detected, Face

# Faces down to this share of the wanted score are kept: `track` takes them where a neighbouring
# frame vouches for them. Below 0.4 RetinaFace sees faces in foliage and in clothes.
WEAK = 0.5

# Columns and rows of the thumbnail by which `track` finds cuts, whatever the picture's shape.
THUMBNAIL = (64, 36)

# RetinaFace as facexlib configures it (detection/retinaface.py, generate_config): strides of the
# three feature maps, the two anchor sizes on each, and the scale of the regressed offsets.
_STRIDES = (8, 16, 32)
_ANCHORS = ((16, 32), (64, 128), (256, 512))
_VARIANCES = (0.1, 0.2)
_MEAN_BGR = (104.0, 117.0, 123.0)
_OVERLAP = 0.4
# Overlap above which an anchor has a say in where a stronger one's face is.
_AGREEMENT = 0.5
_NETWORKS = {"mobilenet": "mobile0.25", "resnet50": "resnet50"}


class Detector(Protocol):
    """Finds faces in a picture."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Finds faces in an (h, w, 3) RGB picture, best first, in its pixel-centre coordinates."""


def detect(frame: Frame, detector: Detector, *, proxy: int, score: float) -> Detected:
    """Finds the faces of a frame in a small upright picture of it.

    Args:
        frame: The picture.
        detector: Called once, and three times around each face that may be turned.
        proxy: Longer side of the small picture; it is never enlarged.
        score: Score of a face that counts by itself; faces from `WEAK` of it are kept.

    Returns:
        The faces in display coordinates, best first, and a thumbnail for finding cuts.
    """
    picture = rgb_proxy(frame, proxy)
    found = [
        look_again(picture, face, detector)
        for face in detector(picture)
        if face.score >= WEAK * score
    ]
    return detected_in(frame, picture, found, proxy_to_display(frame, picture.shape))


def detected_in(
    frame: Frame,
    picture: npt.NDArray[np.uint8],
    found: Sequence[Face],
    to_display: Matrix23,
) -> Detected:
    """Returns the faces of a small picture as those of the frame, with a thumbnail.

    Args:
        frame: What the picture shows.
        picture: (h, w, 3) RGB, upright.
        found: In pixel-centre coordinates of the picture.
        to_display: Leads from there to display coordinates.
    """
    # The small picture's pixels are square to within rounding, so a box stays a box.
    faces = tuple(placed(face, to_display) for face in found)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return Detected(frame, faces, thumbnail.astype(np.uint8, copy=False))


class RetinaFaceDetector:
    """facexlib's RetinaFace network between our own preparation and decoding.

    Deterministic: one picture at a time, so that nothing depends on a batch. One instance per
    thread. Scores of the two backends agree to 1e-5, places to 1e-3 pixels.
    """

    def __init__(
        self,
        weights: Path,
        *,
        backbone: Literal["mobilenet", "resnet50"],
        device: str = "cpu",
        score: float = 0.8,
        backend: Literal["auto", "torch", "openvino"] = "auto",
    ) -> None:
        """Loads the network; nothing is downloaded.

        Args:
            weights: facexlib's checkpoint for this backbone.
            backbone: what the checkpoint was trained with.
            device: where the network runs.
            score: as in `detect`: faces from `WEAK` of it are returned.
            backend: what runs it; auto is openvino on the CPU where it is installed. That takes
                half the time for each picture and a second more to begin with: for one picture
                alone torch is the better choice.

        Raises:
            ValueError: backend openvino on another device than the CPU.
            BackendError: backend openvino without OpenVINO.
            CheckpointError: the file is damaged or belongs to another network.
        """
        if backend == "openvino" and device != "cpu":
            raise ValueError(f"backend openvino runs on the CPU, not on {device!r}")
        from facexlib.detection.retinaface import RetinaFace

        with warnings.catch_warnings():
            # facexlib 0.3.0 calls resnet50(pretrained=False), which torchvision deprecates.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            network: nn.Module = RetinaFace(_NETWORKS[backbone], half=False, device="cpu")
        load_official(weights, network)
        _fuse(network.eval().requires_grad_(False))
        if backend == "auto":
            here = importlib.util.find_spec("openvino") is not None
            backend = "openvino" if device == "cpu" and here else "torch"
        self._network: Callable[[Tensor], Sequence[Tensor]]
        if backend == "openvino":
            self._network = OpenvinoNetwork(network)
        else:
            self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._lowest = WEAK * score

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Finds faces in an (h, w, 3) RGB picture, best first, in its pixel-centre coordinates."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (h, w, 3) uint8, got {image.shape} {image.dtype}")
        rows, columns = image.shape[:2]
        red, green, blue = cv2.split(image)
        centred = np.empty((1, 3, rows, columns), np.float32)
        for plane, samples, mean in zip(centred[0], (blue, green, red), _MEAN_BGR, strict=True):
            np.subtract(samples, np.float32(mean), out=plane)
        batch = torch.from_numpy(centred)
        if not isinstance(self._network, OpenvinoNetwork):
            batch = batch.contiguous(memory_format=torch.channels_last).to(self._device)
        offsets, scores, landmarks = (out[0].cpu().numpy() for out in self.outputs(batch))
        found = np.flatnonzero(scores[:, 1] > self._lowest)
        return _decode(
            priors(rows, columns)[found], offsets[found], landmarks[found], scores[found, 1]
        )

    def outputs(self, batch: Tensor) -> Sequence[Tensor]:
        """Runs the network on (1, 3, h, w) blue, green, red without their means.

        In float32 that is not rounded, whatever the engine does beside it: PyTorch has one setting
        for all threads, and by chance some frames would be rounded and some not.

        Returns:
            (1, N, 4) offsets, (1, N, 2) scores and (1, N, 10) landmarks, where `batch` is.
        """
        with torch.inference_mode(), exact_float32(batch.device):
            return self._network(batch)


@lru_cache(maxsize=4)
def priors(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Returns (N, 4): centre x, y and side (twice) of every anchor, in pixels, in network order."""
    grids = []
    for stride, sides in zip(_STRIDES, _ANCHORS, strict=True):
        y, x, side = np.meshgrid(
            (np.arange(-(-rows // stride)) + 0.5) * stride,
            (np.arange(-(-columns // stride)) + 0.5) * stride,
            sides,
            indexing="ij",
        )
        grids.append(np.stack([x, y, side, side], axis=-1).reshape(-1, 4))
    anchors = np.concatenate(grids).astype(np.float32)
    anchors.flags.writeable = False
    return anchors


def _decode(
    anchors: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.float32],
    landmarks: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> list[Face]:
    """Reads faces from the output at `anchors`; the weaker of overlapping ones are left out.

    A dozen anchors see each face, and which of them is strongest changes from frame to frame. So
    boxes and landmarks are means over the anchors that agree (box voting: Gidaris and Komodakis,
    2015, section 3.3), each with the square of its score times its overlap above `_AGREEMENT`: a
    weight without a step, so that a small change of the network's output is one of the face.
    """
    from torchvision.ops import box_iou, nms

    centres, sides = anchors[:, :2], anchors[:, 2:]
    middle = centres + offsets[:, :2] * _VARIANCES[0] * sides
    half = sides * np.exp(offsets[:, 2:] * _VARIANCES[1]) / 2
    points = centres[:, None] + landmarks.reshape(-1, 5, 2) * _VARIANCES[0] * sides[:, None]
    places = np.concatenate([middle - half, middle + half, points.reshape(-1, 10)], axis=1)
    boxes = torch.from_numpy(places[:, :4])
    kept = nms(boxes, torch.from_numpy(scores), _OVERLAP).numpy()
    overlaps = box_iou(boxes[kept], boxes).numpy().astype(np.float64)
    weights = np.maximum(overlaps - _AGREEMENT, 0) * scores**2
    means = weights @ places / weights.sum(axis=1, keepdims=True)
    return [
        Face(mean[:4], mean[4:].reshape(5, 2), float(scores[index]))
        for mean, index in zip(means, kept, strict=True)
    ]


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
