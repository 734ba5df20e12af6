"""The face mesh of pictures in memory: its points follow the face."""

from pathlib import Path

import cv2
import numpy as np
from vqfr_training.data.photographs import Photographs
from vqfr_training.evaluation.mesh import mesh_of_picture

from vqfr_media.faces.align import template
from vqfr_media.faces.mesh_fit import mesh_landmarks

FIVE = template(256)


def test_points_lie_on_the_face_and_move_with_it(shared: Path) -> None:
    face = Photographs(shared / "data" / "faces" / "val", size=256).plain(0)
    picture = np.asarray(np.rint(face * 255), np.uint8)
    mesh = mesh_of_picture(picture, FIVE)
    assert mesh.presence > 0.99
    assert np.abs(mesh_landmarks(mesh.points) - FIVE).max() < 12
    moved = cv2.warpAffine(picture, np.array([[1.0, 0, 9], [0, 1, -5]]), (256, 256))
    again = mesh_of_picture(np.asarray(moved, np.uint8), FIVE + np.array([9, -5]))
    assert np.abs(again.points - mesh.points - np.array([9, -5])).max() < 0.5
