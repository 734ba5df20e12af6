"""The lite model on faces of people it never saw, damaged with fixed seeds.

    python -m benchmarks.lite_val FOLDER [FOLDER ...] [--weights FILE] [--picture PICTURE.png]

Each FOLDER is a data set with val/ photographs as training wants them. Prints the input's and both
branches' figures for each, and for the third of its people whose faces are darkest and lightest;
writes results/lite_val.json and, if asked, a picture of the first data set's people: input, texture
branch, main branch, truth. With dlib's face network (--identity FILE) also the distance of
identities to the truth.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from vqfr_training.data.photographs import Photographs, validation_pairs
from vqfr_training.evaluation.mesh import mesh_of_picture
from vqfr_training.lite_recipes import lite_stage2
from vqfr_training.vqfr.identity import Identity, load_identity
from vqfr_training.vqfr.perceptual import middle_of_face

from benchmarks import record
from vqfr_media import weights
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.vqfr_v1 import VqfrV1

SEEDS = (7, 8, 9)
SHOWN = 8
KINDS = ("input", "texture", "main")
NAMES = ("psnr", "ssim", "sharpness", "landmark_distance", "identity_distance", "mesh_distance")

Picture = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Restored:
    """A data set's faces under every damage, each (N, 3, S, S) in [-1, 1]."""

    images: dict[str, Tensor]
    """By "input", "texture", "main" and "truth"."""
    people: int
    codes: int
    """Different codes in use."""


def to_picture(image: Tensor) -> Picture:
    """Maps (3, S, S) in [-1, 1] to (S, S, 3) uint8 RGB."""
    levels = ((image.clamp(-1, 1) / 2 + 0.5) * 255).round()
    return levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def restore(network: VqfrV1, photographs: Photographs) -> Restored:
    """Puts every face through the network, once a seed."""
    degradation = lite_stage2().degradation
    kinds: dict[str, list[Tensor]] = {name: [] for name in (*KINDS, "truth")}
    codes = []
    with torch.inference_mode():
        for seed in SEEDS:
            lq, hq = validation_pairs(photographs, seed=seed, degradation=degradation)
            for image in torch.split(lq, 1):
                latent = network.encode(image)
                texture, main_branch = network.decode(image, latent)
                codes.append(network.codes(latent).flatten())
                kinds["texture"].append(texture)
                kinds["main"].append(main_branch)
            kinds["input"].append(lq)
            kinds["truth"].append(hq)
    images = {name: torch.cat(parts) for name, parts in kinds.items()}
    return Restored(images, len(photographs), int(torch.unique(torch.cat(codes)).numel()))


@dataclass(frozen=True)
class Judges:
    """The networks that faces are measured by."""

    detector: Detector
    identity: Identity | None


@dataclass(frozen=True)
class Truth:
    """What is known of the true faces, once for every image (N, 3, S, S) in [-1, 1]."""

    images: Tensor
    marks: list[Rows | None]
    """Landmarks (5, 2) each; None where none are found."""
    identities: Tensor | None
    """(N, 128)."""
    meshes: list[Rows | None]
    """Landmarks (468, 2) each; None where none are found."""


def know(restored: Restored, discriminators: Judges) -> Truth:
    """Looks at every person once; the damages have the same truth."""
    images = restored.images["truth"]
    people = images[: restored.people]
    times = len(images) // restored.people
    marks = [_landmarks(to_picture(face), discriminators.detector) for face in people]
    described = None
    if discriminators.identity is not None:
        with torch.inference_mode():
            described = torch.cat([discriminators.identity(few) for few in torch.split(people, 8)])
            described = described.repeat(times, 1)
    meshes = [
        None if five is None else mesh_of_picture(to_picture(face), five).points
        for face, five in zip(people, marks, strict=True)
    ]
    return Truth(images, marks * times, described, meshes * times)


def measure(images: Tensor, truth: Truth, discriminators: Judges) -> Rows:
    """Measures `NAMES` of (N, 3, S, S) images, (N, 6); landmarks in px at 256, NaN where lost."""
    rows = []
    every = zip(images, truth.images, truth.marks, truth.meshes, strict=True)
    for image, hq, known, mesh in every:
        a, b = to_picture(image), to_picture(hq)
        error = max(float(np.mean((a.astype(float) - b) ** 2)), 1e-9)
        gradients = [np.abs(np.diff(p.astype(float).mean(axis=2))).mean() for p in (a, b)]
        marks = None if known is None else _landmarks(a, discriminators.detector)
        distance = float("nan")
        if marks is not None and known is not None:
            distance = float(np.linalg.norm(marks - known, axis=1).mean())
        # Both are looked at in the truth's square, so that no face is lost.
        moved = float("nan")
        if mesh is not None and known is not None:
            found_mesh = mesh_of_picture(a, known).points
            moved = float(np.linalg.norm(found_mesh - mesh, axis=1).mean())
        ssim = float(structural_similarity(a, b, channel_axis=2))
        psnr = 10 * np.log10(255**2 / error)
        rows.append((psnr, ssim, gradients[0] / gradients[1], distance, float("nan"), moved))
    found = np.array(rows)
    if discriminators.identity is not None and truth.identities is not None:
        with torch.inference_mode():
            described = torch.cat([discriminators.identity(few) for few in torch.split(images, 8)])
        found[:, 4] = (described - truth.identities).norm(dim=1).numpy()
    return found


def _landmarks(picture: Picture, detector: Detector) -> Rows | None:
    faces = detector(picture)
    return faces[0].landmarks if faces else None


def summary(rows: Rows) -> dict[str, float]:
    """Means by name, without what was not measured; "lost" counts faces without landmarks."""
    means = {
        name: float(np.nanmean(column))
        for name, column in zip(NAMES, rows.T, strict=True)
        if not np.isnan(column).all()
    }
    return {**means, "lost": float(np.isnan(rows[:, 3]).sum())}


def thirds(truth: Tensor, people: int) -> dict[str, npt.NDArray[np.int64]]:
    """Finds the images (N, 3, S, S), every person once a seed, with dark and with light faces."""
    lightness = middle_of_face(truth[:people], 0.4).mean(dim=(1, 2, 3)).numpy()
    order, third = np.argsort(lightness, kind="stable"), max(1, people // 3)
    every = np.arange(len(truth)).reshape(-1, people)
    return {
        "darkest": every[:, order[:third]].reshape(-1),
        "lightest": every[:, order[-third:]].reshape(-1),
    }


def evaluate(restored: Restored, discriminators: Judges) -> dict[str, object]:
    """Figures of one data set."""
    truth = know(restored, discriminators)
    groups = thirds(truth.images, restored.people)
    figures: dict[str, object] = {"people": restored.people, "codes_used": restored.codes}
    for kind in KINDS:
        rows = measure(restored.images[kind], truth, discriminators)
        figures[kind] = summary(rows)
        for group, numbers in groups.items():
            figures[f"{kind}_{group}"] = summary(rows[numbers])
    return figures


def draw(path: Path, restored: Restored) -> None:
    """Draws some people, evenly spaced: a row each."""
    numbers = np.linspace(0, restored.people - 1, min(SHOWN, restored.people)).round().astype(int)
    kinds = (*KINDS, "truth")
    rows = [np.hstack([to_picture(restored.images[k][int(i)]) for k in kinds]) for i in numbers]
    if not cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")


def make_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(description="Measure a lite model on validation faces.")
    parser.add_argument("folders", type=Path, nargs="+", help="data sets with val/ photographs")
    parser.add_argument("--weights", type=Path, help="the model [the bundled one]")
    parser.add_argument("--identity", type=Path, help="dlib's face network")
    parser.add_argument("--picture", type=Path, help="where a picture goes")
    parser.add_argument("--no-record", action="store_true", help="leave results/ as it is")
    return parser


def main() -> None:
    """Prints the tables; writes the record and the picture."""
    options = make_parser().parse_args()
    path = options.weights or weights.find("lite")
    network = load_network(path)
    if not isinstance(network, VqfrV1):
        raise TypeError(f"{path} holds no lite network")
    detector = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet", score=0.8)
    identity = None
    if options.identity is not None:
        identity = load_identity(options.identity, torch.device("cpu"))
    discriminators = Judges(detector, identity)
    figures: dict[str, object] = {}
    for folder in options.folders:
        photographs = Photographs(folder / "val", size=network.config.image_size)
        restored = restore(network, photographs)
        found = evaluate(restored, discriminators)
        figures[folder.name] = found
        print(folder.name)
        for name, values in found.items():
            print(f"  {name:18} {values}")
        if options.picture is not None and folder == options.folders[0]:
            draw(options.picture, restored)
    if not options.no_record:
        record.write("lite_val", figures)


if __name__ == "__main__":
    main()
