"""Clips of plain pictures, read back by PyAV alone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.scenes import scene
from vqfr_media.errors import CodecError, OutputError
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import picture_of, read_pictures, write_clip, write_picture

RATE = Fraction(30000, 1001)


def test_a_clip_has_the_pictures_at_their_times(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    given = [scene(index, discs=0) for index in range(5)]
    assert write_clip(path, iter(given), frame_rate=RATE, quality=1) == 5
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts * frame.time_base for frame in frames if frame.pts is not None]
    assert times == [n / RATE for n in range(5)]
    assert {(f.width, f.height, f.format.name, f.colorspace) for f in frames} == {
        (320, 192, "yuv420p", 6)
    }
    weights = np.array([0.299, 0.587, 0.114])  # BT.601, limited range
    for frame, picture in zip(frames, given, strict=True):
        luma = frame.to_ndarray()[:192].astype(float)
        error = luma - (16 + 219 / 255 * (picture @ weights))
        assert abs(error.mean()) < 0.2
        assert np.abs(error).mean() < 0.7
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_pictures_are_ffmpeg_s_up_to_the_chroma_s_interpolation(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    y, x = np.mgrid[0:96, 0:128]
    smooth = np.stack([x + 60, 200 - y, 90 + (x + y) // 3], axis=2).astype(np.uint8)
    write_clip(path, [smooth], frame_rate=RATE, quality=1)
    with av.open(str(path)) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    (picture,) = read_pictures(path)
    with open_video(path) as reader:
        np.testing.assert_array_equal(picture_of(next(iter(reader))), picture)
    # swscale rounds down where we round to the nearest.
    assert np.abs(picture - expected)[4:-4, 4:-4].max() <= 4
    assert np.abs(picture - expected - 0.5)[4:-4, 4:-4].mean() < 1


def test_what_cannot_be_a_clip_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    good, odd = scene(0), scene(0)[:-1]
    with pytest.raises(ValueError, match="at least one picture"):
        write_clip(path, [], frame_rate=RATE, quality=20)
    with pytest.raises(ValueError, match=r"even sizes, got first\.shape = \(191, 320, 3\)"):
        write_clip(path, [odd], frame_rate=RATE, quality=20)
    with pytest.raises(ValueError, match=r"expected \(192, 320, 3\), got .*\(191, 320, 3\)"):
        write_clip(path, [good, odd], frame_rate=RATE, quality=20)
    with pytest.raises(OutputError, match="there is no folder"):
        write_clip(tmp_path / "no" / "clip.mp4", [good], frame_rate=RATE, quality=20)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_written_exactly(tmp_path: Path) -> None:
    picture = scene(3)
    write_picture(tmp_path / "picture.png", picture)
    with Image.open(tmp_path / "picture.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    with pytest.raises(CodecError, match="unknown image format"):
        write_picture(tmp_path / "picture.xyz", picture)
