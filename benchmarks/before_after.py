"""Draws a picture of a few moments of a clip before and after restoration.

    python -m benchmarks.before_after SOURCE RESTORED PICTURE.png

Each row shows the largest face of one moment, enlarged, before on the left and after on the right.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clip_quality import pictures
from vqfr_media.choices import choose_detector
from vqfr_media.faces.detect import Detector
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.options import FaceOptions
from vqfr_media.prepare import load_detector

SIDE = 320


def draw(source: Path, restored: Path, detector: Detector, *, moments: int = 3) -> Picture:
    """Returns (rows · 320, 640, 3) uint8 RGB: one row for each moment."""
    with open_video(restored) as reader:
        size = (reader.info.width, reader.info.height)
        count = sum(1 for _ in reader)
    shown = {(2 * number + 1) * count // (2 * moments) for number in range(moments)}
    rows = []
    pairs = zip(pictures(source, size), pictures(restored), strict=True)
    for index, (before, after) in enumerate(pairs):
        if index not in shown:
            continue
        face = max(detector(after), key=lambda face: face.size, default=None)
        if face is None:
            continue
        x0, y0, x1, y1 = face.box
        half = int(0.75 * max(x1 - x0, y1 - y0))
        left, top = int((x0 + x1) / 2) - half, int((y0 + y1) / 2) - half
        rows.append(np.hstack([_cut(p, left, top, 2 * half) for p in (before, after)]))
    if not rows:
        raise ValueError(f"no faces in {restored}")
    return np.vstack(rows)


def _cut(picture: Picture, left: int, top: int, side: int) -> Picture:
    padded = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_CONSTANT)
    part = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def main() -> None:
    """Writes the picture."""
    source, restored, picture = map(Path, sys.argv[1:])
    face = FaceOptions()
    detector = load_detector(choose_detector(face, offline=True), device="cpu", score=face.score)
    drawn = draw(source, restored, detector)
    cv2.imwrite(str(picture), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    print(picture)


if __name__ == "__main__":
    main()
