"""Finds faces with RetinaFace in a small proxy picture."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.faces.affine import Matrix23
from vqfr_media.faces.anchors import decode, priors
from vqfr_media.faces.areas import areas_around
from vqfr_media.faces.coarse_network import WithoutSmallFaces
from vqfr_media.faces.converted_detector import load_converted
from vqfr_media.faces.openvino_network import OpenvinoNetwork
from vqfr_media.faces.retinaface_network import Backbone, load_retinaface
from vqfr_media.faces.turned import look_again, moved, placed
from vqfr_media.frames import Frame
from vqfr_media.media.colour import proxy_to_display, rgb_proxy
from vqfr_media.values import Detected, Face

# Faces down to this share of the wanted score are kept: `track` takes them where a neighbouring
# frame vouches for them. Below 0.4 RetinaFace sees faces in foliage and in clothes.
WEAK = 0.5

# Columns and rows of the thumbnail by which `track` finds cuts, whatever the picture's shape.
THUMBNAIL = (64, 36)

_MEAN_BGR = (104.0, 117.0, 123.0)
# Pixels of the smallest face for which the two coarser maps do: in four clips landmarks were the
# same with and without the finest one.
_COARSE_FROM = 64.0

type Network = Callable[[Tensor], Sequence[Tensor]]
"""From (1, 3, h, w) blue, green, red without their means to (1, N, 4) offsets, (1, N, 2) scores and
(1, N, 10) landmarks."""


class Detector(Protocol):
    """Finds faces in a picture.

    One that can do so near known faces for less is a `search.NearDetector`.
    """

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
    found = detector(picture)
    return detected_by(detector, frame, picture, thumbnail_of(picture), found, score=score)


def detected_by(
    detector: Detector,
    frame: Frame,
    picture: npt.NDArray[np.uint8],
    thumbnail: npt.NDArray[np.uint8],
    found: Sequence[Face],
    *,
    score: float,
) -> Detected:
    """Looks again at faces that may be turned, and places in the frame all that may count.

    Args:
        detector: As in `detect`.
        frame: What the picture shows.
        picture: (h, w, 3) RGB, upright, of the frame.
        thumbnail: Of the picture.
        found: In pixel-centre coordinates of the picture.
        score: As in `detect`.
    """
    seen = [look_again(picture, face, detector) for face in found if face.score >= WEAK * score]
    return detected_in(frame, thumbnail, seen, proxy_to_display(frame, picture.shape))


def detected_in(
    frame: Frame,
    thumbnail: npt.NDArray[np.uint8],
    found: Sequence[Face],
    to_display: Matrix23,
) -> Detected:
    """Returns the faces of a small picture as those of the frame, with a thumbnail.

    Args:
        frame: What the picture shows.
        thumbnail: Of the small picture.
        found: In pixel-centre coordinates of the picture.
        to_display: Leads from there to display coordinates.
    """
    # The small picture's pixels are square to within rounding, so a box stays a box.
    faces = tuple(placed(face, to_display) for face in found)
    return Detected(frame, faces, thumbnail)


def thumbnail_of(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the `THUMBNAIL` of an (h, w, 3) RGB picture."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return thumbnail.astype(np.uint8, copy=False)


class RetinaFaceDetector:
    """facexlib's RetinaFace network between our own preparation and decoding.

    Deterministic: one picture at a time, so that nothing depends on a batch. One instance per
    thread. Scores of the two backends agree to 1e-5, places to 1e-3 pixels.
    """

    def __init__(
        self,
        weights: Path,
        *,
        backbone: Backbone,
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
                half the time for each picture, and seconds more the first time of all, after which
                the converted network is kept.

        Raises:
            ValueError: backend openvino on another device than the CPU.
            BackendError: backend openvino without OpenVINO.
            CheckpointError: the file is damaged or belongs to another network.
        """
        if backend == "openvino" and device != "cpu":
            raise ValueError(f"backend openvino runs on the CPU, not on {device!r}")
        if backend == "auto":
            here = importlib.util.find_spec("openvino") is not None
            backend = "openvino" if device == "cpu" and here else "torch"
        self._backend, self._device = backend, device
        self._network: Network
        self._coarse_network: Network
        if backend == "openvino":
            both = OpenvinoNetwork(load_converted(weights, backbone=backbone))
            self._network, self._coarse_network = both.part(range(3)), both.part(range(3, 6))
        else:
            network = load_retinaface(weights, backbone=backbone)
            network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._network, self._coarse_network = network, WithoutSmallFaces(network).eval()
        self._lowest = WEAK * score

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Finds faces in an (h, w, 3) RGB picture, best first, in its pixel-centre coordinates."""
        _check(image)
        return self._find(image)

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        """Finds faces in a picture where `known` ones are or close to them: see `NearDetector`.

        By the whole network where they are small, else without its finest feature map.
        """
        _check(image)
        rows, columns = image.shape[:2]
        found: list[Face] = []
        for area in areas_around(known, rows, columns):
            part = area.of(image)
            coarse = area.smallest >= _COARSE_FROM
            seen = self._find(part, part=part.shape != image.shape or coarse, coarse=coarse)
            here = [moved(face, area.left, area.top) for face in seen]
            found += [face for face in here if not area.cuts(face, rows, columns)]
        return sorted(found, key=lambda face: -face.score)

    def _find(
        self, image: npt.NDArray[np.uint8], *, part: bool = False, coarse: bool = False
    ) -> list[Face]:
        rows, columns = image.shape[:2]
        red, green, blue = cv2.split(image)
        centred = np.empty((1, 3, rows, columns), np.float32)
        for plane, samples, mean in zip(centred[0], (blue, green, red), _MEAN_BGR, strict=True):
            np.subtract(samples, np.float32(mean), out=plane)
        batch = torch.from_numpy(centred)
        if self._backend == "torch":
            batch = batch.contiguous(memory_format=torch.channels_last).to(self._device)
        offsets, scores, landmarks = (
            out[0].cpu().numpy() for out in self.outputs(batch, part=part, coarse=coarse)
        )
        found = np.flatnonzero(scores[:, 1] > self._lowest)
        anchors = priors(rows, columns, coarse=coarse)[found]
        return decode(anchors, offsets[found], landmarks[found], scores[found, 1])

    def outputs(
        self, batch: Tensor, *, part: bool = False, coarse: bool = False
    ) -> Sequence[Tensor]:
        """Runs the network on (1, 3, h, w) blue, green, red without their means.

        In float32 that is not rounded, whatever the engine does beside it: PyTorch has one setting
        for all threads, and by chance some frames would be rounded and some not.

        Args:
            batch: Where the network is.
            part: Whether it is a part of a picture. Those are of many sizes, for each of which
                OpenVINO would compile the network anew.
            coarse: Leaves out the finest feature map and its anchors.

        Returns:
            (1, N, 4) offsets, (1, N, 2) scores and (1, N, 10) landmarks, where `batch` is.
        """
        network = self._coarse_network if coarse else self._network
        with torch.inference_mode(), exact_float32(batch.device):
            if part and isinstance(network, OpenvinoNetwork):
                return network.in_any_size(batch)
            return network(batch)


def _check(image: npt.NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (h, w, 3) uint8, got {image.shape} {image.dtype}")
