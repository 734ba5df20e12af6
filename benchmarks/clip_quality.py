"""How near a restored clip is to the truth, on its faces.

    python -m benchmarks.clip_quality TRUTH CANDIDATE [CANDIDATE ...]

Faces are found in the truth and aligned by the truth's landmarks, so that every candidate is judged
on the same pixels (256 px crops, inner 200 px).
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from benchmarks import record
from vqfr_media import weights
from vqfr_media.faces.affine import warp
from vqfr_media.faces.align import similarity
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.media.rgb_clip import Picture, read_pictures
from vqfr_media.values import Face

SIZE = 256
INNER = slice(28, 228)
# Faces of the truth below this score are not asked for: the detector doubts them there, too.
CERTAIN = 0.8

Crop = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Figures:
    """Means over all faces of a clip."""

    psnr: float
    """dB, on 8-bit RGB."""
    ssim: float
    """Structural similarity, 0 to 1."""
    sharpness: float
    """Gradient energy over the truth's: 1 is as sharp."""
    flicker: float
    """Mean |change between neighbours − the truth's change|, 8-bit levels."""
    landmark_jitter: float
    """Mean |landmark motion − the truth's motion| between neighbours, pixels of the truth."""
    landmark_distance: float
    """Mean distance of landmarks to the truth's, pixels of the truth."""
    lost: float
    """Share of the truth's faces that are not found in the candidate."""
    faces: int
    """Faces compared."""


@dataclass(frozen=True)
class _Seen:
    truth: Face
    truth_crop: Crop
    crop: Crop
    own: Face | None


def pictures(path: Path, size: tuple[int, int] | None = None) -> Iterator[Picture]:
    """Yields every frame as (H, W, 3) uint8 RGB, enlarged by a cubic to `size` (width, height)."""
    for picture in read_pictures(path):
        if size is not None and picture.shape[1::-1] != size:
            yield _enlarged(picture, size)
        else:
            yield picture


def _enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


def _crop(picture: Picture, face: Face) -> Crop:
    matrix = similarity(face.landmarks, SIZE)
    return warp(picture, matrix, shape=(SIZE, SIZE)).clip(0, 255)


def _energy(crop: Crop) -> float:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 1)).mean())


def _nearest(faces: list[Face], truth: Face) -> Face | None:
    def distance(face: Face) -> float:
        return float(np.abs(face.landmarks - truth.landmarks).mean())

    nearest = min(faces, key=distance, default=None)
    width = truth.box[2] - truth.box[0]
    return nearest if nearest is not None and distance(nearest) < 0.25 * width else None


def measure(truth: Path, candidate: Path, detector: Detector) -> Figures:
    """Compares `candidate` with `truth`, frame by frame.

    Raises:
        ValueError: the clips have different numbers of frames, or the truth has no faces.
    """
    values: dict[str, list[float]] = {
        name: [] for name in ("psnr", "ssim", "sharpness", "flicker", "jitter", "distance")
    }
    lost = 0
    previous: list[_Seen] = []
    truths = pictures(truth)
    first = next(truths)
    size = (first.shape[1], first.shape[0])
    for real, made in zip(_chain(first, truths), pictures(candidate, size), strict=True):
        own = detector(made)
        current = []
        for face in detector(real):
            if face.score < CERTAIN:
                continue
            seen = _Seen(face, _crop(real, face), _crop(made, face), _nearest(own, face))
            a, b = seen.crop[INNER, INNER], seen.truth_crop[INNER, INNER]
            error = max(float(np.mean((a - b) ** 2)), 1e-9)
            values["psnr"].append(10 * np.log10(255**2 / error))
            values["ssim"].append(
                float(structural_similarity(a, b, channel_axis=2, data_range=255))
            )
            values["sharpness"].append(_energy(seen.crop) / _energy(seen.truth_crop))
            if seen.own is None:
                lost += 1
            else:
                offsets = seen.own.landmarks - face.landmarks
                values["distance"].append(float(np.linalg.norm(offsets, axis=1).mean()))
            _add_motion(values, seen, previous)
            current.append(seen)
        previous = current
    count = len(values["psnr"])
    if not count:
        raise ValueError(f"no faces in {truth}")
    means = {name: float(np.mean(found)) for name, found in values.items() if found}
    return Figures(
        psnr=means["psnr"],
        ssim=means["ssim"],
        sharpness=means["sharpness"],
        flicker=means["flicker"],
        landmark_jitter=means["jitter"],
        landmark_distance=means["distance"],
        lost=lost / count,
        faces=count,
    )


def _chain(first: Picture, rest: Iterator[Picture]) -> Iterator[Picture]:
    yield first
    yield from rest


def _add_motion(values: dict[str, list[float]], seen: _Seen, previous: list[_Seen]) -> None:
    width = seen.truth.box[2] - seen.truth.box[0]
    for before in previous:
        moved = seen.truth.landmarks - before.truth.landmarks
        if np.abs(moved).mean() >= 0.15 * width:
            continue
        change = (seen.crop - before.crop) - (seen.truth_crop - before.truth_crop)
        values["flicker"].append(float(np.abs(change)[INNER, INNER].mean()))
        if seen.own is not None and before.own is not None:
            error = (seen.own.landmarks - before.own.landmarks) - moved
            values["jitter"].append(float(np.linalg.norm(error, axis=1).mean()))


def main() -> None:
    """Prints a table and writes results/clip_quality.json."""
    truth, *candidates = map(Path, sys.argv[1:])
    detector = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet", score=0.8)
    results = {}
    for candidate in candidates:
        figures = measure(truth, candidate, detector)
        results[candidate.name] = asdict(figures)
        if len(results) == 1:
            print(f"{'clip':24}" + "".join(f"{name:>18}" for name in results[candidate.name]))
        cells = "".join(f"{value:18.3f}" for value in results[candidate.name].values())
        print(f"{candidate.name:24}{cells}", flush=True)
    record.write("clip_quality", results)


if __name__ == "__main__":
    main()
