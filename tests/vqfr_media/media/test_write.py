"""A written file is its source, but for the pixels that were meant to change."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import packets, small_jpeg, write_clip
from tests.paths import ROOT, SHARED
from vqfr_media.errors import CodecError, InputError, MediaError, OptionError, OutputError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.read import open_video
from vqfr_media.media.write import can_encode, open_writer
from vqfr_media.options import EncodeOptions

DUO = SHARED / "data/clips/duo_lq.mp4"
FAST = EncodeOptions(preset="ultrafast")
LOSSLESS = EncodeOptions(codec="ffv1")
TAGS = {
    "color_primaries": 5, "color_trc": 6, "colorspace": 5, "color_range": 1,
    "chroma_sample_location": 1,
}  # fmt: skip


def copy_video(source: Path, output: Path, options: EncodeOptions = FAST) -> list[str]:
    """Reads and writes every frame; returns the writer's warnings and its codec's name, last."""
    with (
        open_video(source) as reader,
        open_writer(output, source, reader.info, options) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return [*writer.warnings, writer.codec]


def read_all(path: Path) -> tuple[VideoInfo, list[Frame]]:
    with open_video(path) as reader:
        return reader.info, list(reader)


def facts(path: Path) -> dict[str, object]:
    """What is known of the file and of its streams, without what every muxer writes again."""
    with av.open(str(path)) as container:
        return {
            "metadata": {
                key: value
                for key, value in container.metadata.items()
                if key.lower() not in {"encoder", "major_brand", "minor_version"}
                and key != "compatible_brands"
            },
            "chapters": [
                (
                    c["start"] * c["time_base"].num / c["time_base"].den,
                    c["end"] * c["time_base"].num / c["time_base"].den,
                    c["metadata"],
                )
                for c in container.chapters()
            ],
            "streams": [
                (
                    s.type,
                    s.disposition,
                    {k: v for k, v in s.metadata.items() if k not in {"DURATION", "encoder"}},
                )
                for s in container.streams
            ],
        }


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [
        ("yuv420p", "libx264"), ("yuv422p", "libx264"), ("yuv444p", "libx264"),
        ("yuv420p10le", "libx264"), ("yuv422p10le", "libx264"), ("yuv444p10le", "libx264"),
        ("gbrp", "libx264rgb"), ("gbrp10le", "libx265"), ("yuv420p12le", "libx265"),
        ("gray", "libx265"), ("gray10le", "libx265"), ("gray12le", "libx265"),
    ],
)  # fmt: skip
def test_round_trip_of_every_property(
    tmp_path: Path, suffix: str, pix_fmt: str, codec: str
) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / f"b.{suffix}"
    tags = {} if pix_fmt.startswith(("gbr", "gray")) else TAGS
    pts = [40, 80, 121, 200, 360, 400]
    write_clip(
        source, pix_fmt={"gbrp": "bgr0"}.get(pix_fmt, pix_fmt), pts=pts, tags=tags,
        time_base=Fraction(1, 1000), sar=Fraction(12, 11), rotation=270,
    )  # fmt: skip
    assert copy_video(source, output) == [codec]
    (before, first), (after, second) = read_all(source), read_all(output)
    assert [f.pts for f in second] == pts
    assert after.format == before.format
    assert after.display == before.display
    assert (after.width, after.height, after.time_base) == (64, 48, Fraction(1, 1000))
    if tags:
        assert after.tags == before.tags
    for old, new in zip(first, second, strict=True):
        for a, b in zip(old.planes, new.planes, strict=True):
            error = np.abs(a.astype(int) - b.astype(int)).mean() / (1 << old.format.bits - 8)
            assert error < 4


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv410p", "yuv411p", "yuv440p", "yuva420p", "yuva444p10le", "bgra", "gbrap12le", "gbrp14le",
     "gray16le", "ya8", "yuv420p9le", "yuv444p16le", "yuv422p14le", "gbrp16le"],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4"])
def test_the_rest_goes_to_ffv1_exactly(tmp_path: Path, pix_fmt: str, suffix: str) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / f"b.{suffix}"
    write_clip(source, pix_fmt=pix_fmt, frames=3)
    if suffix != "mkv":
        with pytest.raises(CodecError, match=r"cannot hold .*ffv1; use \.mkv"):
            copy_video(source, output)
        return
    assert copy_video(source, output, EncodeOptions()) == ["ffv1"]
    (before, first), (after, second) = read_all(source), read_all(output)
    assert after == before
    for old, new in zip(first, second, strict=True):
        for a, b in zip(old.planes, new.planes, strict=True):
            assert (a == b).all()


@pytest.mark.parametrize(
    "time_base", [Fraction(1, 30000), Fraction(1001, 30000), Fraction(1, 90000)]
)
def test_mp4_holds_any_time(tmp_path: Path, time_base: Fraction) -> None:
    step = 1 if time_base.numerator > 1 else 1001
    pts = [step * n for n in (0, 1, 2, 4, 5, 9, 10, 30, 31)]
    settings = {"video_track_timescale": str(time_base.denominator)}
    write_clip(
        tmp_path / "a.mp4", codec="libx264", pts=pts, time_base=time_base, options={"bf": "0"},
        container_options=settings,
    )  # fmt: skip
    assert copy_video(tmp_path / "a.mp4", tmp_path / "b.mp4") == ["libx264"]
    (before, first), (after, second) = read_all(tmp_path / "a.mp4"), read_all(tmp_path / "b.mp4")
    seconds = [p * time_base for p in pts]
    assert [f.pts * before.time_base for f in first] == seconds
    assert [f.pts * after.time_base for f in second] == seconds
    assert after.duration_seconds_from_header == before.duration_seconds_from_header


def test_matroska_says_that_it_rounds(tmp_path: Path) -> None:
    pts = [1001 * n for n in range(6)]
    write_clip(
        tmp_path / "a.mp4", codec="libx264", pts=pts, time_base=Fraction(1, 30000),
        container_options={"video_track_timescale": "30000"},
    )  # fmt: skip
    warning, _ = copy_video(tmp_path / "a.mp4", tmp_path / "b.mkv")
    assert "steps of 0.001 s" in warning
    _, frames = read_all(tmp_path / "b.mkv")
    assert [f.pts for f in frames] == [round(p / 30) for p in pts]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_other_streams_are_copied(tmp_path: Path, suffix: str) -> None:
    source, output = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    write_clip(
        source,
        codec="libx264",
        frames=60,
        time_base=Fraction(1, 25),
        audio="aac",
        subtitles="subrip" if suffix == "mkv" else "mov_text",
        chapters=[(0, 1000, "One"), (1000, 2400, "Two")],
        metadata={"title": "A film", "comment": "äöü"},
        attachments=[("font.ttf", "font/ttf", bytes(range(256)) * 5)] if suffix == "mkv" else (),
        cover=small_jpeg() if suffix == "mp4" else None,
    )
    copy_video(source, output)
    for kind in ("audio", "subtitle", "data"):
        if kind != "data" or suffix == "mkv":
            assert packets(output, kind) == packets(source, kind)
    assert len(packets(output, "audio")) == 1
    assert len(packets(output, "audio")[0]) > 100
    texts = [data for data, _ in packets(output, "subtitle")[0] if data != bytes(2)]
    assert [text[-7:] for text in texts] == [b"Bonjour", b" revoir"]
    assert facts(output) == facts(source)
    with av.open(str(output)) as container:
        assert container.streams.audio[0].language == "dan"
        if suffix == "mkv":
            attachment = next(s for s in container.streams if s.type == "attachment")
            assert attachment.data == bytes(range(256)) * 5  # type: ignore[attr-defined]
        if suffix == "mp4":
            cover = next(s for s in container.streams.video if s.disposition & 1024)
            assert next(bytes(p) for p in container.demux(cover) if p.size) == small_jpeg()


def test_a_cover_becomes_a_matroska_attachment(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", cover=small_jpeg())
    copy_video(tmp_path / "a.mp4", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        cover = next(s for s in container.streams.video if s.disposition & 1024)
        assert next(bytes(p) for p in container.demux(cover) if p.size) == small_jpeg()


def test_unusual_mp4_metadata(tmp_path: Path) -> None:
    write_clip(
        tmp_path / "a.mp4", codec="libx264", metadata={"com.example.place": "here", "title": "T"},
        container_options={"movflags": "use_metadata_tags"},
    )  # fmt: skip
    copy_video(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert facts(tmp_path / "b.mp4") == facts(tmp_path / "a.mp4")


def test_a_stream_that_does_not_fit(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(
        source, codec="libx264", subtitles="subrip", attachments=[("f.ttf", "font/ttf", b"1")]
    )
    with pytest.raises(CodecError, match=r"mp4 cannot hold stream \d \((subtitle|attachment).*mkv"):
        copy_video(source, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
    options = EncodeOptions(drop_unsupported_streams=True)
    warnings = copy_video(source, tmp_path / "b.mp4", options)
    assert len([w for w in warnings if "left out" in w]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mp4"]


def test_a_transport_stream_starts_at_zero(tmp_path: Path) -> None:
    pts = [900000 + 3600 * n for n in range(10)]
    write_clip(
        tmp_path / "a.ts", codec="libx264", pts=pts, time_base=Fraction(1, 90000), audio=None
    )
    warning, _ = copy_video(tmp_path / "a.ts", tmp_path / "b.mp4")
    assert "clock starts at" in warning
    _, first = read_all(tmp_path / "a.ts")
    _, second = read_all(tmp_path / "b.mp4")
    assert second[0].pts == 0
    assert [f.pts - first[0].pts for f in first] == [f.pts for f in second]


def test_full_range_and_upscale(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.mp4"
    write_clip(source, codec="mjpeg", pix_fmt="yuvj420p", tags={"color_range": 2})
    with (
        open_video(source) as reader,
        open_writer(output, source, reader.info, FAST, upscale=2) as writer,
    ):
        for frame in reader:
            planes = tuple(plane.repeat(2, 0).repeat(2, 1) for plane in frame.planes)
            writer.write(Frame(frame.index, frame.pts, planes, frame.format))
    info, frames = read_all(output)
    assert (info.width, info.height, len(frames)) == (128, 96, 6)
    assert info.format.full_range
    assert info.tags.color_range == 2


def test_same_input_same_output(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=20, audio="aac")
    for name in ("b.mp4", "c.mp4"):
        copy_video(tmp_path / "a.mp4", tmp_path / name)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


def test_quality_and_codec_are_used(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=10)
    sizes = {}
    for quality in (5, 45):
        output = tmp_path / f"{quality}.mkv"
        options = EncodeOptions(codec="libx265", quality=quality)
        assert copy_video(tmp_path / "a.mkv", output, options)[-1] == "libx265"
        sizes[quality] = output.stat().st_size
    assert sizes[45] < sizes[5] * 0.8


def test_codec_errors(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(source, pix_fmt="yuv444p12le", frames=2)
    for options, suffix, match in (
        (EncodeOptions(codec="nonsense"), ".mkv", "no video encoder 'nonsense'"),
        (EncodeOptions(codec="libx264"), ".mkv", "libx264 cannot hold yuv444p12le .*yuv420p"),
        (EncodeOptions(codec="ffv1"), ".mov", "mov cannot hold ffv1"),
        (EncodeOptions(), ".xyz", r"unknown container '\.xyz'"),
        (EncodeOptions(container="nonsense"), ".mkv", "unknown container 'nonsense'"),
        (EncodeOptions(), ".avi", "AVI cannot hold exact times"),
    ):
        with pytest.raises(CodecError, match=match):
            copy_video(source, tmp_path / f"b{suffix}", options)
    for options, match in (
        (EncodeOptions(codec="ffv1", quality=3), "ffv1 has no quality"),
        (EncodeOptions(codec="ffv1", preset="fast"), "ffv1 has no preset"),
        (EncodeOptions(preset="nonsense"), "preset of libx265 .*ultrafast.*got 'nonsense'"),
        (EncodeOptions(quality=52), "quality of libx265 must be between 0 and 51, got 52"),
    ):
        with pytest.raises(OptionError, match=match):
            copy_video(source, tmp_path / "b.mkv", options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mkv"]


def test_odd_sizes_do_not_go_to_x264(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", width=63, height=47, frames=2)
    assert copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv", EncodeOptions()) == ["ffv1"]
    with pytest.raises(CodecError, match="63×47"):
        copy_video(tmp_path / "a.mkv", tmp_path / "b.mp4")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(source, frames=2)
    with pytest.raises(InputError, match="is the input itself"):
        copy_video(source, source)
    for output, match in (
        (tmp_path / "none" / "b.mkv", "no folder"),
        (source / "b.mkv", "no folder"),
        (Path("/proc/b.mkv"), "cannot be written"),
        (tmp_path / ("x" * 300 + ".mkv"), "cannot be written"),
    ):
        with pytest.raises(OutputError, match=match):
            copy_video(source, output)
    (tmp_path / "folder.mkv").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        copy_video(source, tmp_path / "folder.mkv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "folder.mkv"]


@pytest.mark.parametrize("limit", [1000, 100_000, 380_000])
def test_a_full_disk(tmp_path: Path, limit: int) -> None:
    """A limit on file sizes stands for a full disk: writes fail, early, late or at the end."""
    write_clip(tmp_path / "a.mkv", frames=60, width=320, height=240)
    code = f"""
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from tests.vqfr_media.media.test_write import copy_video, LOSSLESS
from vqfr_media.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    copy_video(Path("a.mkv"), Path("b.mkv"), LOSSLESS)
except OutputError as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "b.mkv: cannot be written" in done.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mkv"]


def test_an_exception_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_clip(source, codec="libx264", audio="aac")
    output.write_bytes(b"precious")

    def fails_midway(failure: type[BaseException]) -> None:
        with (
            open_video(source) as reader,
            open_writer(output, source, reader.info, FAST) as writer,
        ):
            writer.write(next(iter(reader)))
            raise failure

    for failure in (KeyboardInterrupt, ValueError):
        with pytest.raises(failure):
            fails_midway(failure)
    assert output.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    copy_video(source, output)
    assert len(read_all(output)[1]) == 6


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(source, frames=2)
    info, frames = read_all(source)
    with (
        pytest.raises(ValueError, match="expected 128×96"),
        open_writer(tmp_path / "b.mkv", source, info, FAST, upscale=2) as writer,
    ):
        writer.write(frames[0])
    with open_writer(tmp_path / "b.mkv", source, info, FAST) as writer:
        writer.write(frames[1])
        with pytest.raises(ValueError, match="later than"):
            writer.write(frames[0])


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", codec="libx264", audio="aac", frames=30)
    assert copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv")
    with pytest.raises(MediaError, match="no such file"), open_video(tmp_path / "a.mkv") as reader:
        open_writer(tmp_path / "c.mkv", tmp_path / "gone.mkv", reader.info, FAST)


def test_can_encode() -> None:
    assert can_encode("libx264")
    assert can_encode("ffv1")
    assert not can_encode("aac")
    assert not can_encode("nonsense")


@pytest.mark.skipif(not DUO.exists(), reason="needs ../shared/data/clips/duo_lq.mp4")
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_real_clip(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"b.{suffix}"
    copy_video(DUO, output)
    (before, first), (after, second) = read_all(DUO), read_all(output)
    times = [f.pts * before.time_base for f in first]
    assert [f.pts * after.time_base for f in second] == times
    assert after.tags == before.tags
    old, new = packets(DUO, "audio")[0], packets(output, "audio")[0]
    assert [data for data, _ in old] == [data for data, _ in new]
    if suffix == "mp4":
        assert old == new
        assert facts(output) == facts(DUO)
