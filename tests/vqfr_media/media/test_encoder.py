"""An encoder that cannot do what it is asked says which of it, and never blames the disk."""

import os
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from tests.clips import write_clip
from tests.vqfr_media.media.test_write import copy_video
from vqfr_media.errors import CodecError, OptionError
from vqfr_media.media.codecs import can_encode, encoder_options
from vqfr_media.media.encoder import _start
from vqfr_media.options import EncodeOptions

CODECS = ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "mpeg4", "h264_nvenc"]


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="needs a machine without such a GPU")
def test_an_encoder_that_cannot_start(tmp_path: Path, codec: str) -> None:
    if not can_encode(codec):
        pytest.skip(f"this build has no {codec}")
    write_clip(tmp_path / "a.mkv", frames=2)
    for options, match in (
        (EncodeOptions(codec=codec), f"encoder {codec} cannot start on this machine: "),
        (
            EncodeOptions(codec=codec, preset="slow", quality=20),
            f"encoder {codec} cannot start on this machine with preset=slow quality=20: ",
        ),
    ):
        with pytest.raises(CodecError, match=match + ".*use another codec"):
            copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv", options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.parametrize("codec", ["libvpx-vp9", "ffv1", "mpeg4", "mjpeg"])
def test_no_preset(codec: str) -> None:
    with pytest.raises(OptionError, match=f"{codec} has no preset to set; leave it out"):
        encoder_options(codec, EncodeOptions(preset="fast"))


@pytest.mark.parametrize(
    ("codec", "good", "bad", "match"),
    [
        ("libx264", "placebo", "nonsense", "must be one of ultrafast, .*got 'nonsense'"),
        ("libx264rgb", "9", "10", "must be one of ultrafast"),
        ("libx265", "slow", "", "must be one of ultrafast"),
        ("libsvtav1", "13", "14", "must be a number from -2 to 13, got '14'"),
        ("libsvtav1", "-2", "fast", "must be a number from -2 to 13, got 'fast'"),
        ("h264_nvenc", "p7", "veryslow", "must be one of .*p7, got 'veryslow'"),
    ],
)
def test_presets(codec: str, good: str, bad: str, match: str) -> None:
    if not can_encode(codec):
        pytest.skip(f"this build has no {codec}")
    assert encoder_options(codec, EncodeOptions(preset=good))["preset"] == good
    with pytest.raises(OptionError, match=f"the preset of {codec} {match}"):
        encoder_options(codec, EncodeOptions(preset=bad))


@pytest.mark.parametrize(
    ("codec", "high", "default"),
    [("libx264", 51, "16"), ("libx264rgb", 51, "16"), ("libx265", 51, "16"),
     ("libvpx-vp9", 63, "20"), ("libsvtav1", 63, "24")],
)  # fmt: skip
def test_qualities(codec: str, high: int, default: str) -> None:
    assert encoder_options(codec, EncodeOptions())["crf"] == default
    for quality in (0, 17.5, high):
        options = encoder_options(codec, EncodeOptions(quality=quality))
        assert options["crf"] == f"{quality:g}"
    if high < 63:
        with pytest.raises(OptionError, match=f"quality of {codec} must be between 0 and {high}"):
            encoder_options(codec, EncodeOptions(quality=high + 0.5))


def test_quantisers() -> None:
    options = encoder_options("mpeg4", EncodeOptions(quality=31))
    assert options == {"flags": "+qscale", "global_quality": str(31 * 118)}
    for quality in (0, 32):
        with pytest.raises(OptionError, match="quality of mpeg4 must be between 1 and 31"):
            encoder_options("mpeg4", EncodeOptions(quality=quality))


def test_a_preset_is_not_silently_dropped(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=2)
    for codec in ("libvpx-vp9", "ffv1", "mpeg4"):
        options = EncodeOptions(codec=codec, preset="fast")
        with pytest.raises(OptionError, match=f"{codec} has no preset"):
            copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv", options)
    # Alpha sends the codec auto to FFV1, which is only known once the file is open.
    write_clip(tmp_path / "a.mkv", frames=2, pix_fmt="yuva420p")
    with pytest.raises(OptionError, match="ffv1 has no preset"):
        copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv", EncodeOptions(preset="fast"))


def test_an_option_that_the_encoder_leaves_over() -> None:
    context = av.CodecContext.create("ffv1", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"crf": "20", "level": "3"}
    with pytest.raises(OptionError, match="ffv1 has no quality; leave quality out"):
        _start("ffv1", context, Fraction(1, 25), EncodeOptions())


@pytest.mark.parametrize(
    ("codec", "base"), [("mpeg2video", 12800), ("mpeg1video", 12800), ("mpeg4", 90000)]
)
def test_encoders_that_count_frames(tmp_path: Path, codec: str, base: int) -> None:
    write_clip(
        tmp_path / "a.mp4", codec="libx264", time_base=Fraction(1, base), frames=3,
        pts=[n * base // 25 for n in range(3)],
        container_options={"video_track_timescale": str(base)},
    )  # fmt: skip
    with pytest.raises(
        CodecError, match=f"{codec} counts time in .*steps of 1/{base} s: .*; use another"
    ):
        copy_video(tmp_path / "a.mp4", tmp_path / "b.mp4", EncodeOptions(codec=codec))
