"""What a face loses that is larger than the network's picture, with and without its own detail.

usage: python -m benchmarks.large_faces FOLDER [--every 4] [--picture PICTURE.jpg]
FOLDER is a data set with val/ photographs, as training wants them. Each is damaged at its full size
in several ways, or not at all, and restored with lite. PSNR in dB to the photograph,
and gradients over its own ("sharpness"), within the face, of what is given, of `--detail 0` and of
the default; the mean over the photographs.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import record
from vqfr_media.options import BlendOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_image
from vqfr_media.prepare import Prepared, prepare

Picture = npt.NDArray[np.uint8]

SHOWN = ("clean", "a third, noise 8, JPEG 50")
NAMES = ("given", "detail 0", "default")


def _noise(picture: Picture, levels: float) -> Picture:
    noise = np.random.default_rng(1).normal(0, levels, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _jpeg(picture: Picture, quality: int) -> Picture:
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _small(picture: Picture, times: int) -> Picture:
    """Shrinks and enlarges again: a picture that has fewer pixels of its own."""
    rows, columns = picture.shape[:2]
    small = cv2.resize(picture, (columns // times, rows // times), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


DAMAGES: tuple[tuple[str, Callable[[Picture], Picture]], ...] = (
    ("clean", lambda picture: picture),
    ("JPEG 90", lambda picture: _jpeg(picture, 90)),
    ("JPEG 50", lambda picture: _jpeg(picture, 50)),
    ("JPEG 20", lambda picture: _jpeg(picture, 20)),
    ("noise 3", lambda picture: _noise(picture, 3)),
    ("noise 8", lambda picture: _noise(picture, 8)),
    ("noise 20", lambda picture: _noise(picture, 20)),
    ("half size", lambda picture: _small(picture, 2)),
    ("a third, noise 8", lambda picture: _noise(_small(picture, 3), 8)),
    ("a third, noise 8, JPEG 50", lambda picture: _jpeg(_noise(_small(picture, 3), 8), 50)),
)


def face_of(picture: Picture) -> Picture:
    """Cuts brows to chin out of an aligned photograph."""
    side = picture.shape[0]
    return picture[side // 4 : -side // 5, side // 4 : -side // 4]


def restore(path: Path, out: Path, ready: Prepared, options: RestoreOptions) -> Picture:
    """Restores a picture from file to file."""
    if not restore_image(path, out, options, ready=ready).restored:
        raise RuntimeError(f"no face was found in {path.name}")
    return read(out)


def read(path: Path) -> Picture:
    """Reads a picture, BGR."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path} is no picture")
    return np.asarray(picture, np.uint8)


def measure(picture: Picture, truth: Picture) -> tuple[float, float]:
    """PSNR, infinite of the same picture, and sharpness of a face."""
    a, b = (face_of(each).astype(float) for each in (picture, truth))
    gradients = [np.abs(np.diff(each.mean(axis=2), axis=1)).mean() for each in (a, b)]
    error = float(np.mean((a - b) ** 2))
    psnr = float(10 * np.log10(255**2 / error)) if error else math.inf
    return psnr, float(gradients[0] / gradients[1])


def figures(
    paths: list[Path], folder: Path
) -> tuple[dict[str, dict[str, tuple[float, float]]], list[Picture]]:
    """Mean figures by damage and by what is looked at; rows of pictures of the last photograph."""
    table: dict[str, dict[str, tuple[float, float]]] = {}
    shown: list[Picture] = []
    default = RestoreOptions(model=ModelOptions(model="lite"))
    without = replace(default, blend=BlendOptions(detail=0.0))
    ready = prepare(default, None, None)
    for damage, apply in DAMAGES:
        found: list[list[tuple[float, float]]] = []
        for number, path in enumerate(paths):
            truth = read(path)
            given = apply(truth)
            source = folder / f"{damage}-{number}.png"
            if not cv2.imwrite(str(source), given):
                raise OSError(f"cannot write {source}")
            pictures = [
                given,
                restore(source, folder / f"{damage}-{number}-0.png", ready, without),
                restore(source, folder / f"{damage}-{number}-1.png", ready, default),
            ]
            found.append([measure(picture, truth) for picture in pictures])
            if damage in SHOWN and path == paths[-1]:
                shown.append(np.hstack([face_of(picture) for picture in (*pictures, truth)]))
        means = np.mean(found, axis=0)
        table[damage] = {
            name: (float(psnr), float(sharp))
            for name, (psnr, sharp) in zip(NAMES, means, strict=True)
        }
    return table, shown


def main() -> None:
    """Prints the table; writes the record and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--picture", type=Path, help="given, --detail 0, default, truth")
    options = parser.parse_args()
    paths = sorted((options.folder / "val").iterdir())[:: options.every]
    with tempfile.TemporaryDirectory() as folder:
        table, shown = figures(paths, Path(folder))
    print(f"{len(paths)} photographs; PSNR in dB, sharpness")
    print(f"{'damage':26}" + "".join(f"{name:>16}" for name in NAMES))
    for damage, row in table.items():
        cells = "".join(f"{psnr:10.2f}{sharp:6.2f}" for psnr, sharp in row.values())
        print(f"{damage:26}{cells}")
    finite = {
        damage: {
            name: {"psnr": psnr if math.isfinite(psnr) else None, "sharpness": sharp}
            for name, (psnr, sharp) in row.items()
        }
        for damage, row in table.items()
    }
    found = {"every": options.every, "photographs": len(paths), "damages": finite}
    record.write("large_faces", found)
    if options.picture is not None and not cv2.imwrite(str(options.picture), np.vstack(shown)):
        raise OSError(f"cannot write {options.picture}")


if __name__ == "__main__":
    main()
