"""Scenes: their truth is where things really are, and they repeat."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from vqfr_training.detector.backgrounds import sample_photographs
from vqfr_training.detector.labels import Label, find_label, load_labels, usual_label
from vqfr_training.detector.portraits import LEVELS, Portrait, Portraits, level_for
from vqfr_training.detector.pose import Pose, random_pose
from vqfr_training.detector.scenes import Scene, SceneBatch, SceneConfig, make_scene, paste

SMALL = SceneConfig(side=128, size=(20.0, 90.0), faces=3, empty=0.0)


@pytest.fixture(scope="module")
def portraits(drawn_faces: Path) -> Portraits:
    return Portraits(drawn_faces / "train")


def scenes(portraits: Portraits, config: SceneConfig, count: int, *, seed: int = 1) -> list[Scene]:
    photographs = sample_photographs()
    return [
        make_scene(index, seed=seed, config=config, portraits=portraits, photographs=photographs)
        for index in range(count)
    ]


def dotted(at: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Portrait:
    """An opaque black portrait with one soft white dot."""
    y, x = np.mgrid[:256, :256]
    dot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 4.0**2))
    image = np.dstack([dot.astype(np.uint8)] * 3 + [np.full((256, 256), 255, np.uint8)])
    label = usual_label()
    return Portrait(image, (label.landmarks + 0.5) / 3 - 0.5, (label.box + 0.5) / 3 - 0.5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mark", range(5))
def test_a_mark_is_drawn_where_the_truth_says(seed: int, mark: int) -> None:
    generator = np.random.default_rng(seed)
    pose = random_pose(
        generator, centre=np.array([130.0, 120.0]), size=140.0, rotation=45.0, yaw=35.0
    )
    plain = dotted(np.zeros(2) - 99)
    portrait = dotted(plain.landmarks[mark])
    image = np.zeros((256, 256, 3), np.uint8)
    paste(image, portrait, pose, np.random.default_rng(3))
    level = image.astype(float).sum(axis=2)
    level = np.where(level > 0.5 * level.max(), level - 0.5 * level.max(), 0)
    y, x = np.mgrid[:256, :256]
    seen = np.array([(x * level).sum(), (y * level).sum()]) / level.sum()
    np.testing.assert_allclose(seen, pose.place(portrait.face_landmarks())[mark], atol=1.0)


@pytest.mark.parametrize("seed", range(5))
def test_unplace_undoes_place(seed: int) -> None:
    pose = random_pose(
        np.random.default_rng(seed),
        centre=np.array([50.0, 60.0]),
        size=80.0,
        rotation=45.0,
        yaw=40.0,
    )
    points = np.random.default_rng(9).uniform(-1, 1, (50, 2))
    np.testing.assert_allclose(pose.unplace(pose.place(points)), points, atol=0.03)


def test_an_upright_pose_by_hand() -> None:
    matrix = np.array([[20.0, 0, 100], [0, 20, 50], [0, 0, 1]])
    pose = Pose(yaw=0.0, pitch=0.0, jaw=0.0, matrix=matrix, size=40.0, turn=0.0)
    np.testing.assert_allclose(pose.place(np.array([[0.0, 0], [1, -1]])), [[100, 50], [120, 30]])
    assert not pose.mirrored
    assert replace(pose, matrix=matrix @ np.diag([-1, 1, 1])).mirrored
    # A nose stands out: turning the head moves it further than the eyes.
    turned = replace(pose, yaw=0.5).place(np.array([[0.0, 0.15], [0.0, -0.6]]))
    assert turned[0, 0] > turned[1, 0] > 100


def test_the_picture_s_left_stays_left(portraits: Portraits) -> None:
    for scene in scenes(portraits, replace(SMALL, rotation=20.0, yaw=10.0), 12):
        points = scene.landmarks
        assert (points[:, 0, 0] < points[:, 1, 0]).all()
        assert (points[:, 3, 0] < points[:, 4, 0]).all()
        assert (points[:, 0, 1] < points[:, 3, 1]).all()


def test_landmarks_lie_within_their_boxes(portraits: Portraits) -> None:
    faces = 0
    for scene in scenes(portraits, SMALL, 12):
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == np.uint8
        faces += len(scene.boxes)
        for box, points in zip(scene.boxes, scene.landmarks, strict=True):
            assert (points >= box[:2]).all()
            assert (points <= box[2:]).all()
    assert faces >= 12


def test_same_number_same_scene(portraits: Portraits) -> None:
    one, two = scenes(portraits, SMALL, 4), scenes(portraits, SMALL, 4)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert not np.array_equal(one[0].image, scenes(portraits, SMALL, 1, seed=2)[0].image)


def test_an_empty_scene_has_no_truth(portraits: Portraits) -> None:
    scene = scenes(portraits, replace(SMALL, empty=1.0), 1)[0]
    assert scene.boxes.shape == (0, 4)
    assert scene.landmarks.shape == (0, 5, 2)


def test_a_face_beyond_the_edge_does_not_count(portraits: Portraits) -> None:
    config = replace(SMALL, side=128, size=(80.0, 120.0), faces=1, damaged=0.0)
    seen = scenes(portraits, config, 60)
    hidden = [s for s in seen if len(s.boxes) and not s.counted.all()]
    assert hidden, "no face of sixty is cut off"
    for scene in hidden:
        box = scene.boxes[0].clip(0, 128)
        assert np.prod(box[2:] - box[:2]) < 0.75 * np.prod(scene.boxes[0, 2:] - scene.boxes[0, :2])


def test_the_level_has_the_detail_of_the_face() -> None:
    assert [LEVELS[level_for(size)] for size in (300, 200, 100, 50, 10)] == [512, 512, 256, 128, 64]


def test_every_photograph_of_the_data_is_labelled(shared: Path) -> None:
    labels = load_labels()
    folder = shared / "data" / "faces"
    names = {path.name for part in ("train", "val") for path in (folder / part).iterdir()}
    assert set(labels) == names
    template = usual_label().landmarks
    for name, label in labels.items():
        distance = np.linalg.norm(label.landmarks - template, axis=1).max()
        assert distance < 45, name
        assert (label.landmarks > label.box[:2]).all()
        assert (label.landmarks < label.box[2:]).all()


def test_a_label_is_the_mean_over_shifts_and_mirror_images() -> None:
    truth = usual_label()
    picture = np.zeros((768, 768, 3), np.uint8)
    for number, (x, y) in enumerate(truth.landmarks):
        cv2.circle(picture, (round(x), round(y)), 6, (0, 50 + 40 * number, 0), -1)

    def finder(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[object]:
        parts = np.array([np.argwhere(np.abs(image[..., 1].astype(int) - 50 - 40 * n) < 5).mean(0)
                          for n in range(5)])[:, ::-1]  # fmt: skip
        if parts[0, 0] > parts[1, 0]:  # a mirrored picture: what is on the left is the left eye
            parts = parts[[1, 0, 2, 4, 3]]
        low, high = parts.min(axis=0) - 50, parts.max(axis=0) + 50
        return [Label(np.concatenate([low, high]), parts)]

    label = find_label(picture, finder)  # type: ignore[arg-type]
    np.testing.assert_allclose(label.landmarks, truth.landmarks, atol=1.0)
    with pytest.raises(ValueError, match="no face"):
        find_label(picture, lambda image: [])  # noqa: ARG005


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        SceneConfig(side=100)
    with pytest.raises(ValueError, match="share"):
        SceneConfig(empty=1.5)
    with pytest.raises(ValueError, match="size"):
        SceneConfig(size=(50.0, 20.0))
    with pytest.raises(ValueError, match="count"):
        SceneBatch(count=0, scenes=SceneConfig())
    with pytest.raises(ValueError, match=r"no \.jpg or \.png"):
        Portraits(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="expected 768x768"):
        Portraits(tmp_path)
