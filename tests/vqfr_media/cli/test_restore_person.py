"""`restore --person` and `--not-person` as typed: one face is restored, the other stays."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media import cli
from vqfr_media.demo import scene
from vqfr_media.media.rgb_clip import read_pictures, write_clip

FRAMES = 3


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut twice, the second time in a mirror: two persons, as they are in one picture."""
    path = tmp_path_factory.mktemp("persons") / "film.mkv"
    pictures = (np.hstack([one, one[:, ::-1]]) for one in scene.recorded(FRAMES))
    write_clip(path, pictures, frame_rate=scene.FRAME_RATE, quality=scene.CRF)
    return path


def halves(path: Path) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """The left and the right half of every frame."""
    for picture in read_pictures(path):
        yield np.split(picture, 2, axis=1)


@pytest.mark.parametrize(("words", "restored"), [("--person 2", 1), ("--not-person 2", 0)])
def test_one_person_is_restored_and_the_other_stays(
    film: Path, tmp_path: Path, words: str, restored: int
) -> None:
    output, report = tmp_path / "out.mkv", tmp_path / "report.json"
    options = "--codec ffv1 --model lite --backend torch --detector bundled --score 0.9 --quiet"
    command = ["restore", film, "-o", output, *words.split(), "--report", report, *options.split()]
    with pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in command])
    assert caught.value.code == 0
    for before, after in zip(halves(film), halves(output), strict=True):
        np.testing.assert_array_equal(before[1 - restored], after[1 - restored])
        assert np.abs(before[restored].astype(int) - after[restored]).max() > 20
    told = json.loads(report.read_text())
    assert told["restored"] == FRAMES
    assert told["skipped"] == {"disabled": FRAMES}
