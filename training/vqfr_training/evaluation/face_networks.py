"""Networks that know faces, for metrics: recognition and 98 landmarks.

facexlib's own way to its networks cannot be used: `init_recognition_model` moves them to a GPU
whether there is one or not, and the decoding of heat maps uses `np.float`, which NumPy no longer
has. So the modules are built here, and the heat maps decoded.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vqfr_media.files import first_line
from vqfr_training.data.picture_files import Picture

type Embedder = Callable[[Picture], NDArray[np.float64]]
"""From an aligned face to a vector whose direction is the person."""
type LandmarkFinder = Callable[[Picture], NDArray[np.float64]]
"""From an aligned face to (N, 2) landmarks, x before y, in its pixels."""

# Where ArcFace wants the five landmarks in 112 × 112 (insightface's template).
_ARCFACE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def load_resnet18(path: Path, device: torch.device) -> Embedder:
    """Returns the recogniser of the paper's tables, on the whole grey picture.

    Raises:
        CheckpointError: the file does not fit the network.
    """
    from vqfr_training.evaluation.arcface import ResnetFace18

    network = _load(path, ResnetFace18(), device)

    @torch.inference_mode()
    def embed(picture: Picture) -> NDArray[np.float64]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_LINEAR)
        batch = torch.from_numpy((small.astype(np.float32) - 127.5) / 127.5)
        return np.asarray(network(batch[None, None].to(device))[0].cpu(), np.float64)

    return embed


def load_ir_se50(path: Path, device: torch.device) -> Embedder:
    """Runs facexlib's recogniser, on the part of the picture that it was trained on.

    Raises:
        CheckpointError: the file does not fit the network.
    """
    from facexlib.recognition.arcface_arch import Backbone

    network = _load(path, Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se"), device)

    @torch.inference_mode()
    def embed(picture: Picture) -> NDArray[np.float64]:
        face = arcface_crop(picture)
        batch = torch.from_numpy(face / np.float32(127.5) - 1).permute(2, 0, 1)[None]
        return np.asarray(network(batch.to(device))[0].cpu(), np.float64)

    return embed


def load_bundled_dlib(device: torch.device) -> Embedder:
    """Returns `load_dlib` with the weights that come with the package.

    Raises:
        WeightsError: they are damaged.
    """
    from vqfr_media.weights import find

    return load_dlib(find("identity", offline=True), device)


def load_dlib(path: Path, device: torch.device) -> Embedder:
    """Returns dlib's network; the distance of two of its vectors is Euclidean.

    Raises:
        ValueError: the file holds other weights.
    """
    from vqfr_training.vqfr.identity import load_identity

    identity = load_identity(path, device)

    @torch.inference_mode()
    def describe(picture: Picture) -> NDArray[np.float64]:
        batch = torch.from_numpy(picture.astype(np.float32) / np.float32(127.5) - 1)
        found = identity(batch.permute(2, 0, 1)[None].to(device))
        return np.asarray(found[0].cpu(), np.float64)

    return describe


def load_awing(path: Path, device: torch.device) -> LandmarkFinder:
    """Returns 98 landmarks by the network of the paper's column LMD.

    Raises:
        CheckpointError: the file does not fit the network.
    """
    from facexlib.alignment.awing_arch import FAN

    network = _load(path, FAN(num_modules=4, num_landmarks=98, device=str(device)), device)

    @torch.inference_mode()
    def find(picture: Picture) -> NDArray[np.float64]:
        small = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_LINEAR)
        batch = torch.from_numpy(small.astype(np.float32) / np.float32(255)).permute(2, 0, 1)
        maps = network(batch[None].to(device))[0][-1][0, :-1]  # the last one is the boundary
        rows, columns = picture.shape[:2]
        scale = np.array([columns / maps.shape[2], rows / maps.shape[1]])
        return np.asarray(decode_heat_maps(maps.cpu().numpy()) * scale, np.float64)

    return find


def arcface_crop(picture: Picture) -> NDArray[np.float32]:
    """Returns (112, 112, 3), 0..255: what ArcFace sees of a face that lies as in FFHQ.

    One and the same cut for all pictures: they are aligned already.
    """
    from vqfr_media.faces.affine import warp
    from vqfr_media.faces.align import template

    source = template(picture.shape[0]) @ np.array([1, 1j])
    target = np.array(_ARCFACE_112) @ np.array([1, 1j])
    away = source - source.mean()
    factor = complex(np.sum(away.conj() * (target - target.mean())) / np.sum(np.abs(away) ** 2))
    shift = target.mean() - factor * source.mean()
    matrix = np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )
    return warp(picture, matrix, shape=(112, 112)).clip(0, 255)


def decode_heat_maps(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Finds the peaks of (N, H, W) maps: (N, 2), x before y, in cells, 0.5 the first's middle.

    A quarter of a cell is added towards the larger neighbour on either axis, as AWing has it; none
    at a border, where there is one neighbour only.
    """
    count, rows, columns = maps.shape
    peaks = maps.reshape(count, -1).argmax(axis=1)
    y, x = np.divmod(peaks, columns)
    around = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    each = np.arange(count)
    towards_x = np.sign(around[each, y + 1, x + 2] - around[each, y + 1, x])
    towards_y = np.sign(around[each, y + 2, x + 1] - around[each, y, x + 1])
    towards_x[(x == 0) | (x == columns - 1)] = 0
    towards_y[(y == 0) | (y == rows - 1)] = 0
    return np.stack([x + 0.25 * towards_x, y + 0.25 * towards_y], axis=1) + 0.5


def angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Returns Between two embeddings, in degrees; 0 is the same person."""
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _load[Network: nn.Module](path: Path, network: Network, device: torch.device) -> Network:
    """Returns `network` with the weights in `path`, ready to be used."""
    from pickle import UnpicklingError

    from vqfr_media.errors import CheckpointError

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        state = {name.removeprefix("module."): value for name, value in state.items()}
        network.load_state_dict(state)
    except (RuntimeError, UnpicklingError, AttributeError, EOFError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"{path} does not hold a {type(network).__name__}: {reason}; get it from its publisher"
        ) from error
    return network.requires_grad_(False).eval().to(device)
