"""TensorBoard's own reader finds what was written."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from vqfr_training.tensorboard_logger import TensorBoardLogger, open_tensorboard_logger


def read(out: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "board"))
    events.Reload()
    return events


def test_curves_and_pictures_come_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "samples.png"), pixels[..., ::-1])
    with TensorBoardLogger(tmp_path) as tensorboard:
        for step in (1, 2, 3):
            tensorboard.add_scalars({"losses/total": 1 / step, "losses/code": 0.5}, step)
        tensorboard.add_picture(tmp_path / "samples.png", 3)
        (tmp_path / "broken.png").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"broken\.png is not a readable picture"):
            tensorboard.add_picture(tmp_path / "broken.png", 3)
    events = read(tmp_path)
    curve = [(event.step, event.value) for event in events.Scalars("losses/total")]
    assert curve == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert set(events.Tags()["scalars"]) == {"losses/total", "losses/code"}
    encoded = np.frombuffer(events.Images("samples")[0].encoded_image_string, np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), pixels)


def test_a_resumed_run_overwrites_what_it_does_again(tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path) as tensorboard:
        for step in (1, 2, 3, 4):
            tensorboard.add_scalars({"total": float(step)}, step)
    with TensorBoardLogger(tmp_path, done=2) as tensorboard:
        for step in (3, 4, 5):
            tensorboard.add_scalars({"total": 10.0 * step}, step)
    curve = [(event.step, event.value) for event in read(tmp_path).Scalars("total")]
    assert curve == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]


def test_without_tensorboard_there_is_no_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    assert open_tensorboard_logger(tmp_path, done=0) is None
