"""The demonstration: what it films is known exactly, and it needs nothing but this package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.paths import ROOT
from vqfr_media.demo import scene
from vqfr_media.demo.picture import contact_sheet, face_tile, side_by_side, titled
from vqfr_media.demo.run import demonstrate, face_psnr
from vqfr_media.errors import OptionError, OutputError

# Any use of the network by Python code is written down and refused.
REFUSE = """
import os, sys

def refuse(event, arguments):
    if event.startswith("socket."):
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{event} {arguments}\\n")
        raise RuntimeError(f"the network was asked for: {event}")

sys.addaudithook(refuse)
"""
FRAMES = 8
# What must be gained at least, in dB; measured on these frames: 1.81.
GAIN = 0.8


def without_network() -> list[str]:
    """What starts a command in a network namespace without any route, where that is allowed."""
    command = ["unshare", "-rn"]
    if shutil.which("unshare") is None:
        return []
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if allowed else []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command wrote, and what it said, on a machine that has nothing else."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "sitecustomize.py").write_text(REFUSE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VQFR")} | {
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "ASKED": str(folder / "asked"),
    }
    command = [sys.executable, "-m", "vqfr_media", "demo", "--seconds", str(FRAMES / 25)]
    done = subprocess.run(
        [*without_network(), *command, "-o", str(folder / "a" / "out")],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "asked").exists(), (folder / "asked").read_text()
    return folder / "a" / "out", done.stdout


def decoded(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        frames: Any = container.decode(video=0)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def test_the_hook_of_these_tests_sees_a_socket(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ASKED": str(tmp_path / "asked")}
    command = [sys.executable, "-c", "import socket; socket.socket()"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode != 0
    assert "socket.__new__" in (tmp_path / "asked").read_text()


def test_the_films_and_the_sheet_are_there(made: tuple[Path, str]) -> None:
    folder, said = made
    names = ["contact_sheet.png", "degraded.mp4", "restored.mp4", "side_by_side.mp4"]
    assert sorted(path.name for path in folder.iterdir()) == names
    sizes = {
        "degraded.mp4": (240, 320),
        "restored.mp4": (240, 320),
        "side_by_side.mp4": (504, 1280),
    }
    for name, size in sizes.items():
        pictures = decoded(folder / name)
        assert len(pictures) == FRAMES
        assert {picture.shape[:2] for picture in pictures} == {size}
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.size == (3 * 240, 24 + 3 * 240)
    for expected in ("detector bundled (asked for)", "model lite", f"{FRAMES} frames in", "fps"):
        assert expected in said
    # At least hers in every frame; the bundled detector also sees a face in the shuttle's nose.
    restored = re.search(r"(\d+) faces restored in \d+ tracks?", said)
    assert restored is not None
    assert int(restored[1]) >= FRAMES


def test_the_restored_face_is_nearer_to_the_truth(made: tuple[Path, str]) -> None:
    folder, said = made
    means = []
    for name in ("degraded.mp4", "restored.mp4"):
        errors = [
            face_psnr(picture, scene.truth(index), scene.face_box(index))
            for index, picture in enumerate(decoded(folder / name))
        ]
        means.append(float(np.mean(errors)))
    assert means[1] > means[0] + GAIN
    told = said.rpartition("PSNR: ")[2].split()  # "25.70 dB before, 27.10 dB after"
    assert [float(told[0]), float(told[3])] == pytest.approx(means, abs=0.1)


def test_outside_the_face_the_films_differ_by_the_encoder_alone(made: tuple[Path, str]) -> None:
    folder, _ = made
    before, after = (decoded(folder / name) for name in ("degraded.mp4", "restored.mp4"))
    for index in (0, FRAMES - 1):
        change = np.abs(before[index].astype(float) - after[index])
        x0, y0, x1, y1 = scene.face_box(index)
        assert change[200:].mean() < 3
        assert change[y0:y1, x0:x1].mean() > 1.5 * change[200:].mean()


@pytest.mark.parametrize("seconds", [0.0, 1.3, 4.8, 9.1, 60.0])
def test_the_camera_never_looks_past_the_photograph(seconds: float) -> None:
    matrix = np.vstack([scene.camera(seconds), [0, 0, 1]])
    corners = np.array([[0, 0], [319, 0], [0, 239], [319, 239]], float)
    seen = (np.linalg.inv(matrix) @ np.column_stack([corners, np.ones(4)]).T)[:2]
    assert seen.min() >= 0
    assert seen.max() <= 511


def test_the_face_s_box_follows_the_face() -> None:
    left, top, right, bottom = scene.FACE
    middle = np.array([(left + right) / 2, (top + bottom) / 2, 1])
    for index in range(0, 120, 7):
        x0, y0, x1, y1 = scene.face_box(index)
        seen = scene.camera(index / 25) @ middle
        assert [(x0 + x1) / 2, (y0 + y1) / 2] == pytest.approx(seen, abs=1)
        assert 60 < np.sqrt((x1 - x0) * (y1 - y0)) < 120
        assert (0 < x0 < x1 < 320, 0 < y0 < y1 < 240) == (True, True)


def test_the_truth_is_the_photograph_where_the_camera_is_nearest() -> None:
    # At the end of the push the scale is 1: only the turn and a fraction of a pixel are left.
    index = 120
    matrix = np.vstack([scene.camera(index / 25), [0, 0, 1]])
    assert np.sqrt(np.linalg.det(matrix[:2, :2])) == pytest.approx(1)
    picture, photograph = scene.truth(index).astype(float), scene.photograph().astype(float)
    y, x = np.mgrid[20:220:5, 20:300:5]
    there = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    nearest = photograph[np.rint(there[1]).astype(int), np.rint(there[0]).astype(int)]
    error = np.abs(picture[y.ravel(), x.ravel()] - nearest)
    assert np.median(error) < 3


def test_the_recording_is_the_same_every_time() -> None:
    for one, other in zip(scene.recorded(2), scene.recorded(2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_figure_is_psnr() -> None:
    truth = np.full((10, 12, 3), 100, np.uint8)
    picture = truth.copy()
    picture[2:5, 3:7] = 110  # within the box, and all of it
    assert face_psnr(picture, truth, (3, 2, 7, 5)) == pytest.approx(20 * np.log10(255 / 10))
    assert face_psnr(picture, truth, (0, 6, 12, 10)) == pytest.approx(10 * np.log10(255**2 / 1e-9))


def test_drawings_keep_the_pictures() -> None:
    before, after = scene.truth(0), scene.truth(1)
    both = side_by_side(before, after)
    assert both.shape == (504, 1280, 3)
    small = np.asarray(Image.fromarray(both[24:, 640:]).reduce(2), float)
    assert np.abs(small - after).mean() < 3
    np.testing.assert_array_equal(titled(before, "before")[24:], before)
    tiles = [[face_tile(before, scene.face_box(0))] * 3] * 2
    assert contact_sheet(tiles, ("a", "b", "c")).shape == (24 + 480, 720, 3)
    with pytest.raises(ValueError, match="needs 3 tiles"):
        contact_sheet([tiles[0], tiles[0][:2]], ("a", "b", "c"))


def test_a_tile_stays_within_the_picture() -> None:
    picture = scene.truth(0)
    tile = face_tile(picture, (0, 0, 100, 100))  # a face in the corner
    expected = np.asarray(
        Image.fromarray(picture[:135, :135]).resize((240, 240), Image.Resampling.BICUBIC)
    )
    assert np.abs(tile.astype(float) - expected).mean() < 1.5


@pytest.mark.parametrize("seconds", [0.0, 61.0, float("nan")])
def test_a_length_that_cannot_be(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(OptionError, match=r"seconds must be between 0\.2 and 60"):
        demonstrate(tmp_path, seconds=seconds)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file.*cannot be written"):
        demonstrate(tmp_path / "file" / "out", seconds=1)
