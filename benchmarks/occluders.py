"""What becomes of hands, bars, microphones and hair in front of faces, and what keeping them earns.

usage: python -m benchmarks.occluders FOLDER [--every 3] [--picture PICTURE.png]
FOLDER is a data set with val/ photographs, as training wants them. Something is drawn in front of
each face, the whole is damaged, and both branches of the lite network restore it: the main branch,
which is what people get, and the texture branch, which draws from the codebook alone and so stands
for a network that paints over what is no face. PSNR in dB inside and outside of what is in front
(under the mask), the truth being the undamaged picture with what is in front.
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from vqfr_training.data.degradation import degrade
from vqfr_training.data.photographs import Photographs
from vqfr_training.lite_recipes import video_degradation

from benchmarks import record
from vqfr_media import weights
from vqfr_media.faces.blend import match_colour, soft_mask
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.restoration.occlusion import covered, excess

KINDS = ("none", "hand", "bar", "microphone", "hair")
SIZE = 256
Picture = npt.NDArray[np.float32]
Place = npt.NDArray[np.float64]


def draw(face: Picture, other: Picture, kind: str, rng: np.random.Generator) -> tuple[Picture, ...]:
    """Draws something in front of a face; returns the picture, and where it hides the face."""
    where: Picture = np.zeros((SIZE, SIZE), np.float32)
    centre = SIZE * np.array([0.5 + 0.28 * np.sin(2 * np.pi * rng.random()), rng.uniform(0.5, 0.8)])

    def line(first: Place, last: Place, width: float, on: Picture = where) -> None:
        ends = [tuple(int(v) for v in np.rint(16 * end)) for end in (first, last)]
        cv2.line(on, ends[0], ends[1], 1.0, round(width), cv2.LINE_AA, 4)

    look: Picture = np.ones((SIZE, SIZE, 3), np.float32)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 1.2)
    noise = noise[..., None]
    if kind == "hand":  # with the skin of somebody else's cheek
        cheek = other[141:184, 77:107]
        tile = np.concatenate([cheek, cheek[:, ::-1]], 1)
        tile = np.concatenate([tile, tile[::-1]], 0)
        look = np.tile(tile, (4, 5, 1))[:SIZE, :SIZE] * np.float32(rng.uniform(0.75, 1.1))
        turn = rng.uniform(-1.2, 1.2)
        along = np.array([np.sin(turn), -np.cos(turn)])
        across = np.array([along[1], -along[0]])
        gaps: Picture = np.zeros((SIZE, SIZE), np.float32)
        for finger in range(4):
            root = centre + across * (finger - 1.5) * 17
            tip = root + along * rng.uniform(45, 70) + across * (finger - 1.5) * 5
            line(root, tip, 15)
            line(root + across * 8.5, tip + across * 8.5, 2, gaps)
        line(centre, centre, 72)
        line(centre, centre + across * 60 + along * 10, 15)
        line(centre, centre - along * 160, 58)
        look = look * (1 - 0.45 * cv2.GaussianBlur(gaps, (0, 0), 1))[..., None]
    elif kind == "bar":
        turn = rng.uniform(-0.5, 0.5) + np.pi / 2 * rng.integers(2)
        along = 2 * SIZE * np.array([np.cos(turn), np.sin(turn)])
        line(centre - along, centre + along, rng.uniform(18, 45))
        look = look * rng.uniform(0.05, 0.95, 3) + 0.15 * noise
    elif kind == "microphone":
        centre[1] = SIZE * rng.uniform(0.62, 0.8)
        line(centre, centre, 54)
        line(centre, centre + np.array([rng.uniform(-60, 60), SIZE]), 20)
        look = look * rng.uniform(0.05, 0.35, 3) + 0.2 * noise
    elif kind == "hair":
        rows = np.linspace(0.1, 0.85, 25)
        for _ in range(30):
            columns = centre[0] / SIZE + 0.12 * np.sin(4 * rows) + rng.normal(0, 0.05)
            path = SIZE * np.stack([columns + rng.normal(0, 0.003, 25), rows], 1)
            for first, last in pairwise(path):
                line(first, last, 1.6)
        look = look * rng.uniform(0.05, 0.3) * np.array([1, 0.8, 0.65]) * (1 + noise)
    where = np.asarray(cv2.GaussianBlur(where, (0, 0), 0.8), np.float32)
    shown = face + where[..., None] * (look.astype(np.float32) - face)
    return np.clip(shown, 0, 1), where


def shown_face(image: Picture, given: Picture, *, keep: bool) -> Picture:
    """Returns the restored face with its colours matched, and with what is kept of the input."""
    matched = match_colour(image, given, soft_mask(SIZE))
    stays = covered(excess(image, given)) if keep else None
    if stays is None:
        return matched
    share = cv2.resize(stays, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)[..., None]
    return np.asarray(matched + share * (given - matched), np.float32)


@dataclass(frozen=True)
class Case:
    """One face with something in front."""

    kind: str
    truth: Picture
    given: Picture
    where: Picture
    """How much of the truth is in front, 0 to 1."""
    branches: dict[str, Picture]
    """What the network's branches made of it, by name."""


def lite_network() -> VqfrV1:
    """Returns the bundled network."""
    network = load_network(weights.find("lite", offline=True))
    if not isinstance(network, VqfrV1):
        raise TypeError("the lite network is no v1")
    return network


def restored(network: VqfrV1, given: Picture) -> tuple[Picture, Picture]:
    """Returns what the texture branch and the main branch make of a face, 0 to 1."""
    image = torch.from_numpy(given).permute(2, 0, 1)[None] * 2 - 1
    with torch.inference_mode():
        made = network.decode(image, network.encode(image))
    texture, main = ((one[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy() for one in made)
    return texture, main


def cases(folder: Path, every: int) -> list[Case]:
    """Draws, damages and restores."""
    network = lite_network()
    photographs = Photographs(folder / "val", size=SIZE)
    found = []
    for number in range(0, len(photographs), every):
        face = photographs.plain(number)
        other = photographs.plain((number * 7 + 3) % len(photographs))
        for place, kind in enumerate(KINDS):
            truth, where = draw(face, other, kind, np.random.default_rng([number, place]))
            given = degrade(truth, np.random.default_rng([number, 99]), video_degradation())
            texture, main = restored(network, given)
            found.append(Case(kind, truth, given, where, {"main": main, "texture": texture}))
    return found


def psnr(errors: list[float]) -> float:
    """Returns dB for mean squared errors."""
    return float(-10 * np.log10(np.mean(errors)))


def figures(found: list[Case]) -> dict[str, float]:
    """PSNR by what is in front, the branch, whether it is kept, and the side of the edge."""
    errors: dict[str, list[float]] = {}
    mask = soft_mask(SIZE)
    for case in found:
        pictures = {"input": case.given}
        for name, image in case.branches.items():
            for keep in (False, True):
                picture = shown_face(image, case.given, keep=keep)
                pictures[f"{name}{', kept' if keep else ''}"] = picture
        for side, weight in (("inside", case.where), ("outside", 1 - case.where)):
            if (weight * mask).sum() < 50:
                continue
            for name, picture in pictures.items():
                error = ((picture - case.truth) ** 2).mean(2)
                key = f"{case.kind}, {name}, {side}"
                errors.setdefault(key, []).append(
                    float((weight * mask * error).sum() / (weight * mask).sum())
                )
    return {key: psnr(values) for key, values in errors.items()}


def sheet(found: list[Case], kind: str, rows: int) -> npt.NDArray[np.uint8]:
    """Truth, input, main branch, texture branch, and that with what is in front kept."""
    lines = []
    for case in [case for case in found if case.kind == kind][:rows]:
        parts = [case.truth, case.given, shown_face(case.branches["main"], case.given, keep=False)]
        parts += [shown_face(case.branches["texture"], case.given, keep=k) for k in (False, True)]
        lines.append(np.hstack(parts))
    small = cv2.resize(np.vstack(lines), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(small * 255), np.uint8)


def main() -> None:
    """Prints a table and writes results/occluders.json."""
    parser = argparse.ArgumentParser(description="Measure what is in front of faces.")
    parser.add_argument("folder", type=Path, help="data set with val/ photographs")
    parser.add_argument("--every", type=int, default=3, help="takes every n-th person [3]")
    parser.add_argument("--picture", type=Path, help="where a picture of bars goes")
    options = parser.parse_args()
    found = cases(options.folder, options.every)
    result = figures(found)
    for key, value in result.items():
        print(f"{key:40} {value:6.2f} dB")
    if options.picture is not None:
        picture = cv2.cvtColor(sheet(found, "bar", 4), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(options.picture), picture):
            raise OSError(f"cannot write {options.picture}")
    record.write("occluders", result)


if __name__ == "__main__":
    main()
