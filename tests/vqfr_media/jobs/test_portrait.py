"""Faces held by their mesh, and what is in front of them kept: segments and a job that goes on."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.portrait import RATE, SIDE, PaintingEngine, TremblingDetector, portrait
from vqfr_media.errors import EngineError
from vqfr_media.frames import Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import BlendOptions, EncodeOptions, RestoreOptions, TemporalOptions
from vqfr_media.pipeline import restore_video

FRAMES = 18
OPTIONS = RestoreOptions(
    temporal=TemporalOptions(landmarks="mesh"),
    blend=BlendOptions(keep_occluders=True),
    encode=EncodeOptions(codec="ffv1"),
)


def write_portrait(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in range(FRAMES):
            drawn = av.VideoFrame.from_ndarray(portrait(number, bar=True), format="rgb24")
            picture = drawn.reformat(format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1) / RATE
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def restore(source: Path, output: Path, *, seconds: float, engine: PaintingEngine) -> list[Frame]:
    options = replace(OPTIONS, segment_seconds=seconds)
    restore_video(source, output, options, engine=engine, detector=TremblingDetector())
    with open_video(output) as reader:
        return list(reader)


def test_a_stopped_job_goes_on_to_the_bits_of_one_run(tmp_path: Path) -> None:
    source = write_portrait(tmp_path / "in.mkv")
    whole = restore(source, tmp_path / "a.mkv", seconds=0, engine=PaintingEngine())
    with pytest.raises(EngineError, match="stopped by the test"):
        restore(source, tmp_path / "b.mkv", seconds=0.5, engine=PaintingEngine(stop_after=14))
    rest = PaintingEngine()
    resumed = restore(source, tmp_path / "b.mkv", seconds=0.5, engine=rest)
    assert 0 < rest.decoded < FRAMES
    assert len(whole) == len(resumed) == FRAMES
    with open_video(source) as reader:
        changed = [
            bool((one.planes[0] != before.planes[0]).any())
            for one, before in zip(whole, reader, strict=True)
        ]
    assert all(changed)
    for one, other in zip(whole, resumed, strict=True):
        for plane, wanted in zip(other.planes, one.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted, f"frame {one.index}")
