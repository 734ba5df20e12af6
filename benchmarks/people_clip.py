"""Makes a clip of people who move slowly, and the same clip damaged, from photographs.

usage: python -m benchmarks.people_clip FOLDER TRUTH.mp4 DAMAGED.mp4 [--skip 0]
FOLDER is a data set with val/ photographs. Six of them, sharp ones, each turn, nod and come nearer
at a pace of their own; 48 frames of 1280 x 720 at 25 a second, the damaged clip of half the size:
blurred, reduced, with noise, JPEG and H.264, as `duo_lq.mp4` is. `benchmarks.clip_quality` compares
what is restored from it: people and motion that nothing was tuned on.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from vqfr_training.data.picture_files import read_picture

from vqfr_media.media.rgb_clip import Picture, write_clip

FRAMES, WIDTH, HEIGHT, TILE = 48, 1280, 720, 360
COLUMNS = (20, 460, 900)
RATE = Fraction(25)


def photographs(folder: Path, skip: int) -> list[Picture]:
    """Returns six photographs that had pixels of their own (their names end in m or l)."""
    paths = sorted(p for p in (folder / "val").iterdir() if p.stem[-1] in "ml")[skip:][::4][:6]
    if len(paths) < 6:
        raise ValueError(f"{folder}/val has too few sharp photographs after the first {skip}")
    return list(map(read_picture, paths))


def truth(people: list[Picture]) -> Iterator[Picture]:
    """Yields the frames: each photograph in its own tile, moved by a smooth path."""
    for frame in range(FRAMES):
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        for number, person in enumerate(people):
            rng = np.random.default_rng(number)
            phase, pace = 2 * np.pi * rng.random(4), rng.uniform(0.2, 0.7, 4)
            x, y, turn, near = np.sin(phase + 2 * np.pi * pace * frame / float(RATE))
            side = person.shape[0]
            matrix = cv2.getRotationMatrix2D(
                ((side - 1) / 2, (side - 1) / 2), 6 * turn, (0.82 + 0.06 * near) * TILE / side
            )
            matrix[:, 2] += (TILE - side) / 2 + np.array([12 * x, 10 * y])
            tile = cv2.warpAffine(
                person, matrix, (TILE, TILE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
            )
            left, top = COLUMNS[number % 3], TILE * (number // 3)
            picture[top : top + TILE, left : left + TILE] = tile
        yield picture


def damaged(pictures: Iterator[Picture]) -> Iterator[Picture]:
    """Yields each picture at half its size, blurred, noisy, and JPEG-compressed."""
    for number, picture in enumerate(pictures):
        soft = cv2.GaussianBlur(picture, (0, 0), 1.8)
        small = cv2.resize(soft, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        noise = np.random.default_rng(number).normal(0, 5, small.shape)
        noisy = np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
        packed = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        yield np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def main() -> None:
    """Writes both clips."""
    parser = argparse.ArgumentParser(description="Make a clip of people, and damage it.")
    parser.add_argument("folder", type=Path, help="data set with val/ photographs")
    parser.add_argument("truth", type=Path, help="where the clean clip goes")
    parser.add_argument("damaged", type=Path, help="where the damaged clip goes")
    parser.add_argument("--skip", type=int, default=0, help="begins later among the people [0]")
    options = parser.parse_args()
    people = photographs(options.folder, options.skip)
    write_clip(options.truth, truth(people), frame_rate=RATE, quality=6)
    write_clip(options.damaged, damaged(truth(people)), frame_rate=RATE, quality=24)


if __name__ == "__main__":
    main()
