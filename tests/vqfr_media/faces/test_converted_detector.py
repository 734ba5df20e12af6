"""The converted detector is kept, and what is kept finds what a fresh conversion finds."""

import logging
import resource
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vqfr_media import weights
from vqfr_media.engines_folder import VARIABLE
from vqfr_media.errors import BackendError, CheckpointError
from vqfr_media.faces.detect import RetinaFaceDetector

pytest.importorskip("openvino")

VERSION = "vqfr_media.faces.converted_detector.version"


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
        lambda data: data[:-6] + bytes([data[-6] ^ 64]) + data[-5:],
        lambda data: data[:-10] + b"\xff\xff\xff\x7f" + data[-6:],
    ],
    ids=["cut short", "empty", "in the graph", "in the weights", "in the end", "in the directory"],
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


def test_what_another_version_made_of_the_same_weights_goes(
    folder: Path, bundled: Path, batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = answers(bundled, batch)
    (before,) = folder.iterdir()
    other = folder / "detector-mobilenet-0123456789ab-0123456789ab.zip"
    other.write_bytes(b"of other weights")
    monkeypatch.setattr(VERSION, lambda name: f"{version(name)}.1")
    assert_equal(answers(bundled, batch), mine)
    assert not before.exists()
    assert other in folder.iterdir()
    assert len(list(folder.iterdir())) == 2


def test_a_library_without_a_version_is_no_error(
    folder: Path, bundled: Path, batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(name: str) -> str:
        raise PackageNotFoundError(name)

    expected = answers(bundled, batch)
    (kept,) = folder.iterdir()
    kept.unlink()
    monkeypatch.setattr(VERSION, untold)
    assert_equal(answers(bundled, batch), expected)
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_no_error(
    folder: Path, bundled: Path, batch: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(bundled, batch)
    (kept,) = folder.iterdir()
    kept.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with caplog.at_level(logging.INFO):
            found = answers(bundled, batch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert_equal(found, expected)
    assert "the converted detector is not kept" in caplog.text
    assert list(folder.iterdir()) == []


def test_without_openvino_the_error_says_what_to_install(
    folder: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="pip install openvino"):
        RetinaFaceDetector(bundled, backbone="mobilenet", backend="openvino")
    assert not folder.exists()


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
