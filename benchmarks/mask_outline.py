"""Whether the mask had better follow the outline of the face's mesh than be a fixed oval.

usage: python -m benchmarks.mask_outline FOLDER [--every 1]
FOLDER is a data set with val/ photographs, as training wants them. Each face is damaged and
restored with lite, its colours matched as when it is mixed in. PSNR in dB of the input and of the
restored face, under the mask, inside the outline of the mesh (found in the truth) and beside it:
were the face beside the outline worse than the input, the mask should end there.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from vqfr_training.data.degradation import degrade
from vqfr_training.data.photographs import Photographs
from vqfr_training.lite_recipes import video_degradation

from benchmarks import record
from benchmarks.occluders import SIZE, Picture, lite_network, psnr, restored
from vqfr_media.faces.affine import apply, invert, warp
from vqfr_media.faces.align import template
from vqfr_media.faces.blend import match_colour, soft_mask
from vqfr_media.faces.mesh import SIDE, bundled_mesh, mesh_square


def inside_of_outline(face: Picture) -> Picture:
    """Returns (256, 256), 1 inside of the hull of the face's mesh and 0 beside it."""
    matrix = mesh_square(template(SIZE))
    square = np.dstack(
        [warp(face[..., i], matrix, shape=(SIDE, SIDE), interpolation="linear") for i in range(3)]
    )
    points = apply(invert(matrix), bundled_mesh()(square).points)
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    where: Picture = np.zeros((SIZE, SIZE), np.float32)
    cv2.fillConvexPoly(where, hull, 1.0)
    return where


def figures(folder: Path, every: int) -> dict[str, float]:
    """PSNR of input and restored face on both sides of the outline, and how many gain there."""
    network = lite_network()
    photographs = Photographs(folder / "val", size=SIZE)
    mask = soft_mask(SIZE)
    errors: dict[str, list[float]] = {}
    for number in range(0, len(photographs), every):
        face = photographs.plain(number)
        given = degrade(face, np.random.default_rng([number, 99]), video_degradation())
        _, made = restored(network, given)
        where = inside_of_outline(face)
        for side, weight in (("inside", where * mask), ("beside", (1 - where) * mask)):
            for name, picture in (("input", given), ("lite", match_colour(made, given, mask))):
                error = ((picture - face) ** 2).mean(2)
                errors.setdefault(f"{side}, {name}", []).append(
                    float((weight * error).sum() / weight.sum())
                )
    result = {key: psnr(values) for key, values in errors.items()}
    for side in ("inside", "beside"):
        gains = np.array(errors[f"{side}, lite"]) < np.array(errors[f"{side}, input"])
        result[f"{side}, share of faces that gain"] = float(np.mean(gains))
    return result


def main() -> None:
    """Prints a table and writes results/mask_outline.json."""
    parser = argparse.ArgumentParser(description="Measure the mask beside the mesh's outline.")
    parser.add_argument("folder", type=Path, help="data set with val/ photographs")
    parser.add_argument("--every", type=int, default=1, help="takes every n-th person [1]")
    options = parser.parse_args()
    result = figures(options.folder, options.every)
    for key, value in result.items():
        print(f"{key:34} {value:6.2f}")
    record.write("mask_outline", result)


if __name__ == "__main__":
    main()
