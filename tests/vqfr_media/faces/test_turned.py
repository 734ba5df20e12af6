"""Faces on their side and on their head: by hand, and with the detectors themselves."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vqfr_media import weights
from vqfr_media.faces.align import template
from vqfr_media.faces.detect import RetinaFaceDetector, detect
from vqfr_media.faces.still import detect_still
from vqfr_media.faces.turned import faces_of_turned, look_again, pose
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.values import Face

RGB = PixelFormat(family="rgb", bits=8, full_range=True)


def photograph(number: int, size: int, shared: Path) -> npt.NDArray[np.uint8]:
    path = sorted((shared / "data/people/val").glob("*_l.jpg"))[number]
    picture = np.asarray(Image.open(path).convert("RGB"))
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)


def scene(shared: Path, width: int, height: int, faces: dict[int, tuple[int, int, int]]) -> Frame:
    """A grey picture with photographs: number -> left, top and side."""
    picture = np.full((height, width, 3), 110, np.uint8)
    for number, (left, top, side) in faces.items():
        picture[top : top + side, left : left + side] = photograph(number, side, shared)
    return frame_of(picture)


def frame_of(picture: npt.NDArray[np.uint8]) -> Frame:
    green, blue, red = (np.ascontiguousarray(picture[..., channel]) for channel in (1, 2, 0))
    return Frame(0, 0, (green, blue, red), RGB, is_still=True)


def turned(frame: Frame, quarter_turns: int) -> Frame:
    planes = tuple(np.rot90(p, quarter_turns).astype(np.uint8, order="C") for p in frame.planes)
    return Frame(0, 0, planes, RGB, is_still=True)


@pytest.fixture(scope="module")
def published(shared: Path) -> RetinaFaceDetector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.VARIABLE, str(shared / "weights"))
        return RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet")


@pytest.fixture(scope="module")
def bundled() -> RetinaFaceDetector:
    return RetinaFaceDetector(weights.find("bundled"), backbone="mobilenet")


@pytest.mark.parametrize("degrees", [-170, -90, 0, 30, 90])
def test_a_pose_is_the_turn_and_what_no_turn_explains(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = template(512) @ turn.T * 0.3 + 40
    found = pose(points)
    assert found.shape == pytest.approx(0, abs=1e-9)
    assert found.turn == pytest.approx(degrees)
    assert found.is_doubtful == (abs(degrees) > 45)


def test_mirrored_landmarks_and_a_single_point_are_doubtful() -> None:
    assert pose(template(512)[[1, 0, 2, 4, 3]]).is_doubtful
    assert pose(np.zeros((5, 2))).is_doubtful


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_faces_of_a_turned_picture_are_where_they_are_in_the_picture(quarter_turns: int) -> None:
    picture = np.zeros((30, 50, 3), np.uint8)
    picture[7, 41] = 255

    def look(seen: npt.NDArray[np.uint8]) -> list[Face]:
        y, x = np.argwhere(seen[..., 0])[0]
        return [Face(np.array([x - 1.0, y - 1, x + 2, y + 2]), np.full((5, 2), (x, y), float), 0.9)]

    (face,) = faces_of_turned(picture, quarter_turns, look)
    np.testing.assert_array_equal(face.landmarks, np.full((5, 2), (41, 7)))
    assert face.box[0] < 41 < face.box[2]
    assert face.box[1] < 7 < face.box[3]


def test_an_upright_face_is_not_looked_at_again() -> None:
    def never(picture: npt.NDArray[np.uint8]) -> list[Face]:
        raise AssertionError(picture.shape)

    face = Face(np.array([20.0, 20, 60, 60]), template(40) + 20, 0.9)
    assert look_again(np.zeros((80, 80, 3), np.uint8), face, never) is face


def test_what_is_no_more_a_face_when_turned_stays_as_it_was() -> None:
    face = Face(np.array([20.0, 20, 60, 60]), template(40)[[1, 0, 2, 4, 3]] + 20, 0.9)
    assert look_again(np.zeros((80, 80, 3), np.uint8), face, lambda _: []) is face


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_the_published_detectors_landmarks_turn_with_the_picture(
    shared: Path, published: RetinaFaceDetector, quarter_turns: int
) -> None:
    upright = scene(shared, 640, 480, {0: (60, 130, 220), 3: (350, 130, 220)})
    expected = sorted(
        detect(upright, published, proxy=640, score=0.8).faces, key=lambda face: face.box[0]
    )
    assert len(expected) == 2
    found = detect(turned(upright, quarter_turns), published, proxy=640, score=0.8).faces
    eyes = float(np.linalg.norm(expected[0].landmarks[0] - expected[0].landmarks[1]))
    for face in expected:
        wanted = _after_turning(face.landmarks, quarter_turns, 640, 480)
        distances = [np.linalg.norm(f.landmarks - wanted, axis=1).mean() / eyes for f in found]
        assert min(distances) < 0.08  # 0.15 to 0.9 without the second look


def _after_turning(
    points: npt.NDArray[np.float64], quarter_turns: int, width: int, height: int
) -> npt.NDArray[np.float64]:
    for _ in range(quarter_turns):
        points = np.stack([points[:, 1], width - 1 - points[:, 0]], axis=1)
        width, height = height, width
    return points


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_the_bundled_detector_finds_turned_faces_in_a_picture_without_an_upright_one(
    shared: Path, bundled: RetinaFaceDetector, quarter_turns: int
) -> None:
    upright = scene(shared, 640, 480, {0: (60, 130, 220), 3: (350, 130, 220)})
    expected = detect_still(upright, bundled, proxy=640, score=0.8).faces
    assert len(expected) == 2
    every = detect_still(turned(upright, quarter_turns), bundled, proxy=640, score=0.8).faces
    found = [face for face in every if face.score >= 0.8]  # weaker ones do not count by themselves
    assert len(found) == 2
    for face in expected:
        wanted = _after_turning(face.landmarks, quarter_turns, 640, 480)
        assert min(np.abs(f.landmarks - wanted).max() for f in found) < 2


def test_small_heads_in_a_panorama_are_found_once_each_and_large_ones_whole(
    shared: Path, published: RetinaFaceDetector
) -> None:
    # Heads of some 110 px: of 9 px in the small picture of the whole.
    places = {0: (700, 300, 210), 3: (3900, 100, 210), 5: (5400, 800, 210), 6: (2000, 20, 1100)}
    picture = scene(shared, 7600, 1200, places)
    as_a_frame = detect(picture, published, proxy=640, score=0.8).faces
    assert sum(face.score >= 0.8 for face in as_a_frame) == 1
    found = detect_still(picture, published, proxy=640, score=0.8).faces
    strong = [face for face in found if face.score >= 0.8]
    assert len(strong) == len(places)
    for left, top, side in places.values():
        middle = np.array([left, top]) + side / 2
        near = [f for f in strong if np.abs(f.landmarks.mean(axis=0) - middle).max() < side / 5]
        assert len(near) == 1
        assert 0.25 * side < near[0].size < 0.8 * side
        assert not pose(near[0].landmarks).is_doubtful


def test_a_picture_of_ordinary_size_is_searched_as_a_frame_is(
    shared: Path, bundled: RetinaFaceDetector
) -> None:
    picture = scene(shared, 900, 600, {0: (60, 130, 220), 3: (450, 230, 300)})
    one, other = (
        find(picture, bundled, proxy=640, score=0.8).faces for find in (detect, detect_still)
    )
    assert [f.score for f in one] == [f.score for f in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-9)
