"""The lite model on faces of people it never saw, damaged with fixed seeds.

    python -m benchmarks.lite_val FACES [WEIGHTS] [PICTURE.png]

FACES holds val/ photographs aligned as training wants them. Prints the input's and both branches'
figures, writes results/lite_val.json and, if asked, a picture: input, texture branch, main branch,
truth.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from vqfr_training.data.photographs import Photographs, validation_pairs
from vqfr_training.lite_recipes import lite_stage2

from benchmarks import record
from vqfr_media import weights
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.vqfr_v1 import VqfrV1

SEEDS = (7, 8, 9)
SHOWN = (0, 5, 9, 14, 20)

Picture = npt.NDArray[np.uint8]


def to_picture(image: Tensor) -> Picture:
    """(3, S, S) in [-1, 1] -> (S, S, 3) uint8 RGB."""
    levels = ((image.clamp(-1, 1) / 2 + 0.5) * 255).round()
    return levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _landmarks(picture: Picture, detector: Detector) -> npt.NDArray[np.float64] | None:
    faces = detector(picture)
    return faces[0].landmarks if faces else None


def compare(images: Tensor, truth: Tensor, detector: Detector) -> dict[str, float]:
    """Mean PSNR, SSIM, sharpness and landmark distance (pixels at 256) of (N, 3, S, S) images."""
    rows = []
    lost = 0
    for image, hq in zip(images, truth, strict=True):
        a, b = to_picture(image), to_picture(hq)
        error = max(float(np.mean((a.astype(float) - b) ** 2)), 1e-9)
        gradients = [np.abs(np.diff(p.astype(float).mean(axis=2))).mean() for p in (a, b)]
        marks = [_landmarks(p, detector) for p in (a, b)]
        if marks[0] is None or marks[1] is None:
            lost += 1
            distance = np.nan
        else:
            distance = float(np.linalg.norm(marks[0] - marks[1], axis=1).mean())
        ssim = float(structural_similarity(a, b, channel_axis=2))
        psnr = 10 * np.log10(255**2 / error)
        rows.append((psnr, ssim, gradients[0] / gradients[1], distance))
    psnr, ssim, sharpness, distance = np.nanmean(np.array(rows), axis=0).tolist()
    return {
        "psnr": psnr,
        "ssim": ssim,
        "sharpness": sharpness,
        "landmark_distance": distance,
        "lost": float(lost),
    }


def main() -> None:
    """Prints the table; writes the record and the picture."""
    faces = Path(sys.argv[1])
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else weights.find("lite")
    network = load_network(path)
    if not isinstance(network, VqfrV1):
        raise TypeError(f"{path} holds no lite network")
    recipe = lite_stage2()
    photographs = Photographs(faces / "val", size=recipe.network.image_size)
    detector = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet", score=0.8)
    kinds: dict[str, list[Tensor]] = {name: [] for name in ("input", "texture", "main", "truth")}
    codes = []
    with torch.inference_mode():
        for seed in SEEDS:
            lq, hq = validation_pairs(photographs, seed=seed, degradation=recipe.degradation)
            for image in torch.split(lq, 1):
                latent = network.encode(image)
                texture, main_branch = network.decode(image, latent)
                codes.append(network.codes(latent).flatten())
                kinds["texture"].append(texture)
                kinds["main"].append(main_branch)
            kinds["input"].append(lq)
            kinds["truth"].append(hq)
    images = {name: torch.cat(parts) for name, parts in kinds.items()}
    figures: dict[str, object] = {
        name: compare(images[name], images["truth"], detector)
        for name in ("input", "texture", "main")
    }
    figures["codes_used"] = int(torch.unique(torch.cat(codes)).numel())
    for name, values in figures.items():
        print(f"{name:10} {values}")
    record.write("lite_val", figures)
    if len(sys.argv) > 3:
        order = ("input", "texture", "main", "truth")
        rows = [np.hstack([to_picture(images[name][i]) for name in order]) for i in SHOWN]
        cv2.imwrite(sys.argv[3], cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
