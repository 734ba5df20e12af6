"""Real small engines and detectors, so that the pipeline is tested without weights."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqfr_media.faces.align import template
from vqfr_media.faces.detect import Detector
from vqfr_media.values import EngineSpec, Face


class IdentityEngine:
    """Returns its input; its latents are the crops' means, so that they differ between faces."""

    def __init__(self, *, size: int = 128, batch_size: int = 4) -> None:
        self.spec = EngineSpec(
            model="identity",
            size=size,
            latent_shape=(3, 4, 4),
            batch_size=batch_size,
            precision="float32",
            device="cpu",
            has_fidelity=False,
        )
        self.encoded = 0
        self.decoded = 0

    def encode(self, crops: Tensor) -> Tensor:
        self.encoded += len(crops)
        return torch.nn.functional.adaptive_avg_pool2d(crops, 4)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        assert latents.shape == (len(crops), 3, 4, 4)
        assert 0 <= fidelity <= 1
        self.decoded += len(crops)
        return crops


class InvertingEngine(IdentityEngine):
    """Returns the negative: a change that no one can miss, and that depends on every pixel."""

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        return 1 - super().decode(crops, latents, fidelity=fidelity)


class RememberingDetector:
    """Another detector, which searches only once a picture that it has seen before."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.found: dict[bytes, list[Face]] = {}

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
        if key not in self.found:
            self.found[key] = self.detector(image)
        return self.found[key]


class MarkerDetector:
    """Finds pure red discs: a face is as large as its disc, its landmarks lie in it.

    The landmarks are those of the aligned template, so that the crop is upright and the disc fills
    the middle of it.
    """

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        red, green, blue = (image[..., c].astype(int) for c in range(3))
        marked = (red > 150) & (green < 90) & (blue < 90)
        faces = []
        # Discs are kept apart by empty columns.
        columns = np.flatnonzero(marked.any(axis=0))
        for run in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            if not len(run):
                continue
            rows = np.flatnonzero(marked[:, run[0] : run[-1] + 1].any(axis=1))
            x0, x1, y0, y1 = run[0], run[-1] + 1, rows[0], rows[-1] + 1
            side = float(max(x1 - x0, y1 - y0))
            if side < 6:
                continue
            centre = np.array([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2])
            # The template's five points, seen from their mean, at half the disc's size.
            points = template(512)
            landmarks = centre + (points - points.mean(axis=0)) * (side / 320)
            faces.append(Face(np.array([x0, y0, x1, y1], float), landmarks, 0.99))
        return faces


class NearMarkerDetector(MarkerDetector):
    """Finds discs again near known ones, a quarter of a pixel beside where it sees them otherwise.

    So where a picture is searched as a whole, and where near known faces, shows in every bit.
    """

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        return [
            Face(face.box + 0.25, face.landmarks + 0.25, face.score)
            for face in self(image)
            if any(np.abs(face.box - other.box).max() < face.size for other in known)
        ]
