"""Five landmarks of an aligned face, by the package's own detector."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.protocols import FaceDetector
from vqfr_training.evaluation.metrics import Score

if TYPE_CHECKING:
    from vqfr_media.faces.detect import Detector


def load_face_detector() -> "tuple[Detector, str]":
    """Returns RetinaFace with the best weights that are here, down to a score of 0.4.

    And its name.
    """
    from vqfr_media.choices import choose_detector
    from vqfr_media.options import FaceOptions
    from vqfr_media.prepare import load_detector

    chosen = choose_detector(FaceOptions(), offline=True)
    return load_detector(chosen, device="cpu", score=0.8), chosen.name


def five_landmarks(picture: Picture, detector: FaceDetector) -> NDArray[np.float64] | None:
    """Returns (5, 2) landmarks of the face about the middle of `picture`.

    None where none is found.
    """
    middle = (np.array(picture.shape[1::-1]) - 1) / 2
    faces = detector(picture)
    if not faces:
        return None
    nearest = min(faces, key=lambda face: float(np.linalg.norm(face.landmarks.mean(0) - middle)))
    return np.asarray(nearest.landmarks, np.float64)


def five_landmark_distance(detector: FaceDetector) -> Score:
    """Returns mean distance in pixels between the landmarks of two pictures.

    NaN where a face is lost.
    """

    def score(restored: Picture, truth: Picture) -> float:
        one, other = (five_landmarks(picture, detector) for picture in (restored, truth))
        if one is None or other is None:
            return math.nan
        return float(np.linalg.norm(one - other, axis=1).mean())

    return score
