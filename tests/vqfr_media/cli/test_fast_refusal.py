"""What can be refused or answered without the heavy libraries is: imports are counted, not time."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vqfr_media.cli.console import resumable_progress
from vqfr_media.frames import Frame, PixelFormat, VideoInfo

SCRIPT = """
import sys
from vqfr_media.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    heavy = {"torch", "cv2", "openvino", "facexlib", "av"} & sys.modules.keys()
    print("CODE", end.code, *sorted(heavy))
"""


def outcome(*words: object) -> tuple[str, str]:
    """The last line on stdout, and stderr, of one command in a new process."""
    command = [sys.executable, "-c", SCRIPT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[-1], done.stderr


def test_a_missing_or_empty_input_is_refused_before_anything_heavy(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.mp4", tmp_path / "empty.png"
    empty.touch()
    for source, reason in ((missing, "no such file"), (empty, "the file is empty")):
        code, errors = outcome("restore", source, "-o", tmp_path / "out.mp4")
        assert code == "CODE 2"
        assert errors.startswith(f"vqfr-media: {source}: {reason}")  # and no bar before it


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("--help",), 0),
        (("weights", "list"), 0),
        (("restore", "in.mp4", "-o", "out.mp4", "--quality", "99"), 2),
    ],
)
def test_words_are_answered_without_anything_heavy(words: tuple[str, ...], code: int) -> None:
    assert outcome(*words)[0] == f"CODE {code}"


def test_the_bar_appears_when_frames_flow(capsys: pytest.CaptureFixture[str]) -> None:
    frame = Frame(0, 0, (np.zeros((2, 2), np.uint8),), PixelFormat(family="gray"))
    info = VideoInfo(
        width=2,
        height=2,
        format=frame.format,
        display=frame.display,
        time_base=Fraction(1),
        frame_rate=Fraction(1),
    )
    with resumable_progress(False) as (start, step, _):
        assert capsys.readouterr().err == ""
        start(info)
        step(frame)
    assert "1frame" in capsys.readouterr().err
