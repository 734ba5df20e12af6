"""Scenes: their truth is where things really are, and they repeat."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from vqfr_training.data.picture_files import read_picture
from vqfr_training.detector.backgrounds import sample_photographs
from vqfr_training.detector.labels import (
    Label,
    find_label,
    load_labels,
    usual_label,
    write_labels,
)
from vqfr_training.detector.portraits import LEVELS, Portrait, Portraits, level_for
from vqfr_training.detector.pose import Pose, random_pose
from vqfr_training.detector.scenes import Scene, SceneBatch, SceneConfig, make_scene, paste

PARTS = ("train", "val")
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
    folders = [shared / "data" / data / part for data in ("faces", "people") for part in PARTS]
    names = {path.name for folder in folders for path in folder.iterdir()}
    assert set(labels) == names
    template = usual_label().landmarks
    for name, label in labels.items():
        distance = np.linalg.norm(label.landmarks - template, axis=1).max()
        assert distance < 65, name
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


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        SceneConfig(side=100)
    with pytest.raises(ValueError, match="share"):
        SceneConfig(empty=1.5)
    with pytest.raises(ValueError, match="size"):
        SceneConfig(size=(50.0, 20.0))
    with pytest.raises(ValueError, match="count"):
        SceneBatch(count=0, scenes=SceneConfig())


def test_photographs_of_any_size_and_several_folders_make_portraits(
    drawn_faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "layout.json").write_text('{"field_of_view": 1.2}')
    (tmp_path / "train").mkdir()
    path = min((drawn_faces / "train").glob("*.png"))
    half = cv2.resize(read_picture(path), (384, 384), interpolation=cv2.INTER_AREA)[..., ::-1]
    cv2.imwrite(str(tmp_path / "train" / "half.png"), half)
    name = path.name
    label = Label(np.array([200.0, 160, 560, 650]), usual_label().landmarks + 3)
    labels = {name: label, "half.png": label}
    both = Portraits([drawn_faces / "train", tmp_path / "train"], labels=labels)
    assert len(both) == 7
    assert both.names[-1] == "half.png"
    whole, small = both.at(both.names.index(name), 1), both.at(6, 1)
    np.testing.assert_array_equal(whole.landmarks, small.landmarks)
    np.testing.assert_allclose(small.landmarks, (label.landmarks + 0.5) / 3 - 0.5)
    difference = small.image.astype(float) - whole.image
    assert np.abs(difference[..., :3]).mean() < 2


def test_folders_without_fitting_photographs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"no \.jpg, .* pictures in"):
        Portraits(tmp_path / "train")
    cv2.imwrite(str(tmp_path / "train" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="expected a square"):
        Portraits(tmp_path / "train")
    cv2.imwrite(str(tmp_path / "train" / "a.png"), np.zeros((512, 512, 3), np.uint8))
    with pytest.raises(ValueError, match=r"FFHQ template at 512 px; .* 1\.2 times"):
        Portraits(tmp_path / "train")


def test_all_data_sets_are_labelled_in_one_file(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        for part in PARTS:
            (folder / part).mkdir(parents=True)
            picture = np.zeros((96, 96, 3), np.uint8)
            cv2.imwrite(str(folder / part / f"{folder.name}_{part}.png"), picture)
        (folder / "layout.json").write_text('{"field_of_view": 1.2}')
    seen: list[tuple[int, ...]] = []

    def finder(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[Label]:
        seen.append(image.shape)
        return [usual_label()]

    path = tmp_path / "labels.json"
    assert write_labels(folders, finder, made_by="a test", path=path) == 4  # type: ignore[arg-type]
    assert set(seen) == {(768, 768, 3)}
    assert set(load_labels(path)) == {f"{f.name}_{part}.png" for f in folders for part in PARTS}
    (folders[1] / "val" / "one_train.png").write_bytes(
        (folders[0] / "val" / "one_val.png").read_bytes()
    )
    with pytest.raises(ValueError, match=r"two photographs are called one_train\.png"):
        write_labels(folders, finder, made_by="a test", path=path)  # type: ignore[arg-type]
