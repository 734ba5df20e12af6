"""Where the template lies in a data set's pictures, several data sets as one, and their weights."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.layout import chances, find_sources, parts, template_side
from vqfr_training.data.photographs import Photographs


def wave(side: int, *, view: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The same smooth scene at any size: a wave over the template."""
    at = ((np.arange(side) + 0.5) / side - 0.5) * view
    x, y = np.meshgrid(at, at)
    scene = np.stack([np.sin(3 * x), np.cos(2 * y), np.sin(2 * x + 2 * y)], axis=2)
    return np.asarray(np.rint(127.5 + 100 * scene), np.uint8)


def put(folder: Path, name: str, side: int, *, view: float, layout: bool = True) -> Path:
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / part / f"{name}.png"), wave(side, view=view))
    if layout:
        (folder / "layout.json").write_text(json.dumps({"field_of_view": view}))
    return folder


def test_the_layout_says_where_the_template_is() -> None:
    assert template_side(480, 1.2) == 400
    assert template_side(768) == 640  # as before there were layouts
    assert template_side(480) == 480


def test_pictures_of_any_size_give_the_same_face(tmp_path: Path) -> None:
    truth = wave(64, view=1.0)[..., ::-1].astype(np.float32) / 255
    for side in (96, 120, 192, 300):
        folder = put(tmp_path / str(side), "a", side, view=1.2)
        face = Photographs(folder / "train", size=64).plain(0)
        assert np.abs(face - truth).max() < 2.5 / 255, side


def test_a_margin_leaves_a_quarter_more_than_the_working_size(tmp_path: Path) -> None:
    folder = put(tmp_path, "a", 480, view=1.2)
    assert Photographs(folder / "train", size=256).image(0).shape == (384, 384, 3)
    assert Photographs(folder / "train", size=64).image(0).shape == (96, 96, 3)


def test_several_data_sets_are_used_as_one(tmp_path: Path) -> None:
    small = put(tmp_path / "small", "b_s", 120, view=1.2)
    large = put(tmp_path / "large", "a_l", 768, view=1.2, layout=False)
    both = Photographs(parts([small, large], "train"), size=64)
    assert both.names == ["b_s.png", "a_l.png"]
    first, second = both.plain(0), both.plain(1)
    assert np.abs(first - second).max() < 2.5 / 255
    # What one data set gives is what it gives alone.
    alone = Photographs(large / "train", size=64)
    np.testing.assert_array_equal(second, alone.plain(0))


def test_fields_of_view_that_differ_are_an_error(tmp_path: Path) -> None:
    folders = [put(tmp_path / str(view), "a", 120, view=view) / "train" for view in (1.2, 1.5)]
    with pytest.raises(ValueError, match=r"1\.2, 1\.5 cannot be used as one"):
        Photographs(folders, size=64)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '{"field_of_view": 0.5}', '{"field_of_view": "a"}', "x"]
)
def test_a_bad_layout_is_named(tmp_path: Path, text: str) -> None:
    put(tmp_path, "a", 96, view=1.2)
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(ValueError, match=r"layout\.json.*field_of_view"):
        find_sources(tmp_path / "train")


def test_no_folder_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one folder"):
        find_sources([])


def test_chances_follow_the_ends_of_names() -> None:
    names = ["x/a_1_s.jpg", "b_2_m.jpg", "c_3_l.jpg", "neutral_1.jpg"]
    got = chances(names, (("_s", 0.5), ("_m", 1.5)))
    np.testing.assert_allclose(got, np.array([0.5, 2.0, 3.0, 4.0]) / 4)
    with pytest.raises(ValueError, match="negative"):
        chances(names, (("_s", -1.0),))
    with pytest.raises(ValueError, match="none of 1 pictures"):
        chances(names[:1], (("_s", 0.0),))


def test_pictures_are_drawn_as_they_weigh(tmp_path: Path) -> None:
    put(tmp_path, "a_s", 96, view=1.2)
    dark = np.zeros((96, 96, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "train" / "b_l.png"), dark)
    photographs = Photographs(tmp_path / "train", size=64, weights=(("_s", 0.25),))
    generator = np.random.default_rng(0)
    drawn = [photographs.draw(generator).any() for _ in range(2000)]
    # 0.25 of 1.25, within four standard deviations.
    assert np.mean(drawn) == pytest.approx(0.2, abs=0.036)
    never = Photographs(tmp_path / "train", size=64, weights=(("_s", 0.0),))
    assert not any(never.sample(generator, flips_only()).any() for _ in range(50))
