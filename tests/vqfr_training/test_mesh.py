"""The face mesh: where it looks, and that its points follow the face."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from vqfr_training.data.photographs import Photographs
from vqfr_training.evaluation.mesh import FaceMesh, square

# The template's landmarks at 256 px.
FIVE = np.array([[96.5, 120.0], [159.5, 120.1], [128.3, 157.0], [100.6, 185.7], [156.5, 185.6]])


def test_the_square_is_centred_level_and_wide() -> None:
    turned = (FIVE - 128) @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 140
    matrix = square(turned)
    seen = turned @ matrix[:, :2].T + matrix[:, 2]
    assert seen[0, 1] == pytest.approx(seen[1, 1])
    centre = (seen[:2].mean(0) + seen[3:].mean(0)) / 2
    np.testing.assert_allclose(centre, 95.5)
    eyes_to_mouth = np.linalg.norm(seen[3:].mean(0) - seen[:2].mean(0))
    assert eyes_to_mouth == pytest.approx(192 / 2.9)
    with pytest.raises(ValueError, match="no face"):
        square(np.ones((5, 2)))


def test_points_lie_on_the_face_and_move_with_it(shared: Path) -> None:
    mesh = FaceMesh(shared / "weights" / "mediapipe_face_landmark.tflite")
    face = Photographs(shared / "data" / "faces" / "val", size=256).plain(0)
    picture = np.asarray(np.rint(face * 255), np.uint8)
    points = mesh(picture, FIVE)
    assert points.shape == (468, 2)
    # Eyes and mouth corners, by MediaPipe's numbers.
    left, right = points[[33, 133, 159, 145]].mean(0), points[[263, 362, 386, 374]].mean(0)
    found = np.stack([left, right, points[[1, 4]].mean(0), points[61], points[291]])
    assert np.abs(found - FIVE).max() < 12
    moved = cv2.warpAffine(picture, np.array([[1.0, 0, 9], [0, 1, -5]]), (256, 256))
    again = mesh(np.asarray(moved, np.uint8), FIVE + np.array([9, -5]))
    assert np.abs(again - points - np.array([9, -5])).max() < 0.5


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no face mesh"):
        FaceMesh(tmp_path / "absent.tflite")
