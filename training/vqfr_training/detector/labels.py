"""Where the faces of the photographs are: five landmarks and a box each.

The photographs come without them, so a trained RetinaFace finds them once on the clean pictures;
`labels.json` beside this file holds the answer. A photograph that is not in it takes the
template's.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_media.faces.align import TEMPLATE_512
from vqfr_media.files import write_text
from vqfr_training.data.layout import Data, find_sources, parts, template_side
from vqfr_training.data.photographs import decode
from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.protocols import FaceDetector

LABELS = Path(__file__).with_name("labels.json")

LABELLED_SIDE = 768
"""Side of the square in which labels count, whatever the photograph's own size, pixels."""
# The FFHQ template is drawn at 640 px in the middle of that square.
_TEMPLATE_SIDE = 640
_TEMPLATE_SCALE, _TEMPLATE_MARGIN = _TEMPLATE_SIDE / 512, 64.0
# The mean box of the labelled photographs, for those without a label.
_USUAL_BOX = (207.6, 169.9, 561.2, 658.0)
# Left and right change places in a mirrored picture.
MIRRORED = (1, 0, 2, 4, 3)
_SHIFTS = ((0, 0), (11, 5), (-7, 13), (5, -9))


@dataclass(frozen=True)
class Label:
    """A face in a photograph of 768 px, or enlarged to that, in its pixel-centre coordinates."""

    box: NDArray[np.float64]
    """(4,) left, top, right, bottom."""
    landmarks: NDArray[np.float64]
    """(5, 2) eyes, nose, corners of the mouth, from the picture's left."""


def usual_label() -> Label:
    """Returns where a photograph aligned to the template has its face."""
    landmarks = np.array(TEMPLATE_512) * _TEMPLATE_SCALE + _TEMPLATE_MARGIN
    return Label(np.array(_USUAL_BOX), landmarks)


def load_labels(path: Path = LABELS) -> Mapping[str, Label]:
    """Returns the labels by file name."""
    content = json.loads(path.read_text())["faces"]
    return {
        name: Label(np.array(face["box"]), np.array(face["landmarks"]))
        for name, face in content.items()
    }


def read_portraits(folders: Data) -> Iterator[tuple[str, Picture]]:
    """Yields file name and RGB picture of every photograph of `folders`, parts of data sets.

    Raises:
        ValueError: there are none, or one cannot be read, is not square or does not show 1.2 times
            the FFHQ template's side, as labels want it.
    """
    for source in find_sources(folders):
        for location in source.locations:
            picture = decode(location)
            side = len(picture)
            template = template_side(side, source.field_of_view)
            if abs(side * _TEMPLATE_SIDE / LABELLED_SIDE - template) > 1:
                raise ValueError(
                    f"{location} is {side}x{side} with the FFHQ template at {template:g} px; the "
                    "detector learns from pictures of 1.2 times the template, as layout.json says"
                )
            yield PurePosixPath(location.name).name, np.ascontiguousarray(picture[..., ::-1])


def find_label(photograph: NDArray[np.uint8], detector: FaceDetector) -> Label:
    """Returns the best face of a photograph, the mean over small shifts and mirror images.

    Raises:
        ValueError: the finder sees no face in one of them.
    """
    boxes, points = [], []
    rows, columns = photograph.shape[:2]
    for x, y in _SHIFTS:
        for mirrored in (False, True):
            matrix = np.array([[1.0, 0, x], [0, 1, y]])
            if mirrored:
                matrix = np.array([[-1.0, 0, columns - 1 + x], [0, 1, y]])
            moved = cv2.warpAffine(
                photograph, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE
            )
            faces = detector(np.asarray(moved, np.uint8))
            if not faces:
                raise ValueError("no face in a photograph of one")
            box, landmarks = np.array(faces[0].box, float), np.array(faces[0].landmarks, float)
            box -= (x, y, x, y)
            landmarks -= (x, y)
            if mirrored:
                box = np.array([columns - 1 - box[2], box[1], columns - 1 - box[0], box[3]])
                landmarks[:, 0] = columns - 1 - landmarks[:, 0]
                landmarks = landmarks[list(MIRRORED)]
            boxes.append(box)
            points.append(landmarks)
    return Label(np.mean(boxes, axis=0), np.mean(points, axis=0))


def write_labels(data: Data, detector: FaceDetector, *, made_by: str, path: Path = LABELS) -> int:
    """Labels `train` and `val` of all data sets; returns how many photographs there were.

    Raises:
        ValueError: what `read_portraits` and `find_label` raise, or two have one file name.
    """
    faces: dict[str, dict[str, object]] = {}
    for part in ("train", "val"):
        for name, picture in read_portraits(parts(data, part)):
            if name in faces:
                raise ValueError(f"two photographs are called {name}: rename one")
            side = (LABELLED_SIDE, LABELLED_SIDE)
            enlarged = cv2.resize(picture, side, interpolation=cv2.INTER_CUBIC)
            label = find_label(np.asarray(enlarged, np.uint8), detector)
            faces[name] = {
                "box": label.box.round(2).tolist(),
                "landmarks": label.landmarks.round(2).tolist(),
            }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(face)}" for name, face in faces.items())
    write_text(path, f'{{"made_by": {json.dumps(made_by)}, "faces": {{\n{lines}\n}}}}\n')
    return len(faces)
