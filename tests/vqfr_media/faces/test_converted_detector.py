"""The converted detector is kept, and what is kept finds what a fresh conversion finds."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vqfr_media import weights
from vqfr_media.engines_folder import VARIABLE
from vqfr_media.errors import CheckpointError
from vqfr_media.faces.detect import RetinaFaceDetector

pytest.importorskip("openvino")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines are kept; it is not there yet."""
    place = tmp_path / "engines"
    monkeypatch.setenv(VARIABLE, str(place))
    return place


@pytest.fixture(scope="module")
def bundled() -> Path:
    return weights.find("bundled", offline=True)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 3, 96, 128) * 60


def answers(file: Path, batch: torch.Tensor) -> list[np.ndarray]:
    """Both networks' outputs, by the network for one size and by that for all."""
    detector = RetinaFaceDetector(file, backbone="mobilenet", backend="openvino")
    return [
        output.numpy()
        for coarse in (False, True)
        for part in (False, True)
        for output in detector.outputs(batch, coarse=coarse, part=part)
    ]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_later_start_takes_what_was_kept(
    folder: Path, bundled: Path, batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(bundled, batch)
    (kept,) = folder.iterdir()
    assert kept.name.startswith("detector-mobilenet-")
    before = kept.stat()
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", None)  # cannot be imported
    assert_equal(answers(bundled, batch), expected)
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:0],
        lambda data: data[:2000] + bytes([data[2000] ^ 1]) + data[2001:],
        lambda data: data[:-3000] + bytes([data[-3000] ^ 1]) + data[-2999:],
    ],
    ids=["cut short", "empty", "a bit of the graph", "a bit of the weights"],
)
def test_what_is_damaged_is_converted_again(
    folder: Path,
    bundled: Path,
    batch: torch.Tensor,
    damage: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert callable(damage)
    expected = answers(bundled, batch)
    (kept,) = folder.iterdir()
    sound = kept.read_bytes()
    kept.write_bytes(damage(sound))
    assert_equal(answers(bundled, batch), expected)
    assert "the detector is converted again" in caplog.text
    caplog.clear()
    assert_equal(answers(bundled, batch), expected)
    assert caplog.text == ""


def test_other_weights_are_another_detector(
    folder: Path, bundled: Path, batch: torch.Tensor, tmp_path: Path
) -> None:
    mine = answers(bundled, batch)
    other = tmp_path / "other.safetensors"
    save_file({name: value * 0.9 for name, value in load_file(bundled).items()}, other)
    assert not np.array_equal(answers(other, batch)[0], mine[0])
    assert len(list(folder.iterdir())) == 2
    assert_equal(answers(bundled, batch), mine)


def test_a_place_that_is_no_folder_is_no_error(
    folder: Path, bundled: Path, batch: torch.Tensor
) -> None:
    expected = answers(bundled, batch)
    for kept in folder.iterdir():
        kept.unlink()
    folder.rmdir()
    folder.write_text("a file")
    assert_equal(answers(bundled, batch), expected)
    assert folder.read_text() == "a file"


def test_weights_that_cannot_be_read_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth cannot be read: No such file"):
        RetinaFaceDetector(tmp_path / "nowhere.pth", backbone="mobilenet", backend="openvino")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"damaged\.pth cannot be read as a checkpoint"):
        RetinaFaceDetector(damaged, backbone="mobilenet", backend="openvino")
    assert not folder.exists()
