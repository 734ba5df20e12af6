"""The face mesh: where it looks, that its points follow the face, and when it is believed."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from vqfr_media import weights
from vqfr_media.errors import EngineError
from vqfr_media.faces.affine import apply, invert
from vqfr_media.faces.align import template
from vqfr_media.faces.mesh import (
    POINTS,
    SIDE,
    FaceMesh,
    Mesh,
    bundled_mesh,
    find_mesh,
    mesh_square,
)
from vqfr_media.faces.mesh_fit import MeshFits, fit_of, mean_shape, mesh_landmarks, trust
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.image import read_image
from vqfr_media.values import Face

ASTRONAUT = Path(__file__).parents[3] / "vqfr_media" / "demo" / "astronaut.jpg"
# Eyes, nose and mouth corners as the bundled detector finds them, in the photograph's pixels.
FIVE = np.array([[203.6, 99.8], [247.3, 102.8], [223.7, 124.8], [203.5, 142.6], [241.2, 145.2]])


def face(five: npt.NDArray[np.float64], *, size: float = 110) -> Face:
    middle = five.mean(axis=0)
    return Face(np.concatenate([middle - size / 2, middle + size / 2]), five, 0.99)


@pytest.fixture(scope="module")
def astronaut() -> Frame:
    return read_image(ASTRONAUT)[0]


@pytest.fixture(scope="module")
def mesh(astronaut: Frame) -> Mesh:
    return find_mesh(astronaut, FIVE, bundled_mesh())


def test_the_square_is_centred_level_and_wide() -> None:
    turned = (template(256) - 128) @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 140
    seen = apply(mesh_square(turned), turned)
    assert seen[0, 1] == pytest.approx(seen[1, 1], abs=0.1)
    centre = (seen[:2].mean(0) + seen[3:].mean(0)) / 2
    np.testing.assert_allclose(centre, 95.5)
    eyes_to_mouth = np.linalg.norm(seen[3:].mean(0) - seen[:2].mean(0))
    assert eyes_to_mouth == pytest.approx(SIDE / 2.9)
    with pytest.raises(ValueError, match="no face"):
        mesh_square(np.ones((5, 2)))


def test_its_points_lie_on_the_face_and_move_with_it(astronaut: Frame, mesh: Mesh) -> None:
    assert mesh.points.shape == (POINTS, 2)
    assert mesh.presence > 0.99
    assert np.abs(mesh_landmarks(mesh.points) - FIVE).max() < 6
    shift = np.array([[1.0, 0, 9], [0, 1, -5]])
    rows, columns = astronaut.planes[0].shape
    moved = Frame(
        0,
        0,
        tuple(
            np.asarray(cv2.warpAffine(plane, shift, (columns, rows)), np.uint8)
            for plane in astronaut.planes
        ),
        astronaut.format,
    )
    again = find_mesh(moved, FIVE + shift[:, 2], bundled_mesh())
    assert np.abs(again.points - mesh.points - shift[:, 2]).max() < 0.05


def test_its_bits_do_not_depend_on_the_number_of_threads(astronaut: Frame, mesh: Mesh) -> None:
    torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1)
    try:
        other = FaceMesh(weights.find("mesh", offline=True))
        found = find_mesh(astronaut, FIVE, other)
    finally:
        torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1)
    np.testing.assert_array_equal(found.points, mesh.points)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "face_mesh.tflite"
    other.write_bytes(b"no network")
    with pytest.raises(EngineError, match=r"face_mesh.tflite holds no face mesh"):
        FaceMesh(other)


def test_a_fit_to_the_mean_shape_is_exact_and_leaves_out_mouth_and_jaw() -> None:
    shape, rigid = mean_shape()
    # MediaPipe's numbers: lips and chin move, eyes, brows and the nose do not.
    assert not rigid[[13, 14, 61, 291, 152]].any()
    assert rigid[[33, 263, 1, 70, 300, 10]].all()
    turn = np.array([[0.3, -0.1, 40.0], [0.1, 0.3, 25]])
    points = apply(turn, shape)
    points[~rigid] += 50  # a mouth wide open
    fit = fit_of(Mesh(points, 1.0), face(apply(turn, template(512))))
    np.testing.assert_allclose(fit.matrix, invert(turn), atol=1e-9)


@pytest.mark.parametrize(
    ("size", "presence", "expected"),
    [(110, 1.0, 1.0), (30, 1.0, 0.5), (26, 1.0, 0.0), (110, 0.7, 0.5), (110, 0.5, 0.0)],
)
def test_small_and_covered_faces_are_trusted_less(
    size: float, presence: float, expected: float
) -> None:
    shape, _ = mean_shape()
    five = mesh_landmarks(shape)
    assert trust(Mesh(shape, presence), face(five, size=size)) == pytest.approx(expected)


def test_a_profile_is_not_trusted() -> None:
    """A head turned about its axis: points are foreshortened about the nose, ears apart."""
    shape, _ = mean_shape()
    five = mesh_landmarks(shape)
    profile = shape.copy()
    profile[234] = shape[1] + 0.05 * (shape[234] - shape[1])
    assert trust(Mesh(profile, 1.0), face(five)) == 0
    half = shape.copy()
    half[234] = shape[1] + 0.5 * (shape[234] - shape[1])
    assert trust(Mesh(half, 1.0), face(five)) == 1


def test_a_mesh_elsewhere_than_the_detectors_face_is_not_trusted() -> None:
    shape, _ = mean_shape()
    five = mesh_landmarks(shape)
    eyes = float(np.linalg.norm(five[1] - five[0]))
    assert trust(Mesh(shape + np.array([0.2 * eyes, 0]), 1.0), face(five)) == 1
    assert trust(Mesh(shape + np.array([eyes, 0]), 1.0), face(five)) == 0


def test_each_face_is_looked_at_once_and_small_ones_not_at_all(astronaut: Frame) -> None:
    fits = MeshFits()
    known = face(FIVE)
    assert fits.of(astronaut, known).trust == 1
    assert fits.of(astronaut, known) is fits.of(astronaut, known)
    grey = Frame(0, 0, (np.zeros((8, 8), np.uint8),), PixelFormat(family="gray"))
    assert fits.of(grey, face(FIVE, size=20)).trust == 0


def test_a_picture_without_a_face_is_not_trusted() -> None:
    grey = Frame(0, 0, (np.full((300, 400), 90, np.uint8),), PixelFormat(family="gray"))
    assert MeshFits().of(grey, face(FIVE)).trust == 0
