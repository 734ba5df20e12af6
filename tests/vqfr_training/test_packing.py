"""Small copies of data sets: what they hold, and that training reads them as the originals."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from vqfr_training.__main__ import main
from vqfr_training.data.layout import find_sources
from vqfr_training.data.packing import write_copies
from vqfr_training.data.photographs import Photographs


def test_copies_give_nearly_the_same_faces(drawn_faces: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    for part in ("train", "val"):
        (small / part).mkdir(parents=True)
        picture = cv2.imread(str(drawn_faces / part / "0.png"))
        assert picture is not None
        assert cv2.imwrite(str(small / part / "a_1_s.png"), cv2.resize(picture, (480, 480)))
    (small / "layout.json").write_text('{"field_of_view": 1.2}')
    assert write_copies([drawn_faces, small], tmp_path / "pack", side=384) == {"train": 7, "val": 4}
    (source,) = find_sources(tmp_path / "pack" / "train")
    assert source.field_of_view == pytest.approx(1.2)
    assert [location.name for location in source.locations][-2:] == [
        "00000005_5.jpg",
        "00000006_a_1_s.jpg",
    ]
    packed = Photographs(tmp_path / "pack" / "train", size=64)
    plain = Photographs(drawn_faces / "train", size=64)
    for number in range(6):
        assert np.abs(packed.plain(number) - plain.plain(number)).mean() < 0.005


def test_the_same_pictures_give_the_same_bytes(drawn_faces: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = ["pack", "--data", str(drawn_faces), "--out", str(tmp_path / name)]
        assert main([*arguments, "--side", "96", "--quality", "80"]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["layout.json", "train-000000.tar", "val-000000.tar"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_cannot_be_packed_is_an_error(drawn_faces: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small for copies"):
        write_copies(drawn_faces, tmp_path / "a", side=1000)
    with pytest.raises(ValueError, match="quality"):
        write_copies(drawn_faces, tmp_path / "b", side=96, quality=0)
    write_copies(drawn_faces, tmp_path / "c", side=96)
    with pytest.raises(ValueError, match="there already"):
        write_copies(drawn_faces, tmp_path / "c", side=96)
