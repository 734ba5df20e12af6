"""What containers hold: what fits is there again, what does not is refused before the work."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import packets, small_jpeg, write_clip, write_two_films
from tests.vqfr_media.media.test_write import FAST, LOSSLESS, copy_video, read_all
from vqfr_media.errors import CodecError, OutputError
from vqfr_media.media.codecs import encoder_formats
from vqfr_media.media.read import open_video
from vqfr_media.media.stream_copy import _date_by_order
from vqfr_media.media.write import open_writer
from vqfr_media.options import EncodeOptions

TONES = ["aac", "ac3", "eac3", "mp2", "libmp3lame", "libopus", "flac", "pcm_s16le", "alac"]
PTS = (0, 3, 1, 2, 6, 4, 5)


@pytest.mark.parametrize(
    ("suffix", "says"),
    [
        (".m3u8", "writes several files"),
        (".mpd", "writes several files"),
        (".jpg", r"b\.jpg: \.jpg is for a single picture, and the source is a film"),
        (".png", r"b\.png: \.png is for a single picture, and the source is a film"),
    ],
)
def test_several_files_are_refused(tmp_path: Path, suffix: str, says: str) -> None:
    write_clip(tmp_path / "a.mkv", frames=2)
    with pytest.raises(CodecError, match=rf"{says}; use \.mp4, \.mkv or \.mov"):
        copy_video(tmp_path / "a.mkv", tmp_path / f"b{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.parametrize("name", ["hls", "dash", "segment", "image2", "tee", "null"])
def test_muxers_that_open_their_own_files_are_refused(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / "a.mkv", frames=2)
    with pytest.raises(CodecError, match=f"{name} writes several files; use .mp4"):
        copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv", EncodeOptions(container=name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pix_fmt": "yuv411p"}, "b.mp4: mp4 cannot hold yuv411p .*use .mkv"),
        ({"width": 159, "height": 119}, "b.mp4: mp4 cannot hold yuv420p at 159×119 .*use .mkv"),
        ({"audio": "pcm_s16le", "suffix": ".webm"}, r"b.webm: webm cannot hold stream 1 .*mkv"),
    ],
)
def test_every_refusal_names_the_output_and_the_advice_works(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    source = tmp_path / "a.mkv"
    output = tmp_path / f"b{options.pop('suffix', '.mp4')}"
    write_clip(source, frames=2, **options)
    with pytest.raises(CodecError, match=says):
        copy_video(source, output, EncodeOptions())
    copy_video(source, tmp_path / "b.mkv", EncodeOptions())


@pytest.mark.parametrize("codec", ["auto", "libx265", "libx264"])
def test_a_transport_stream_with_sound(tmp_path: Path, codec: str) -> None:
    source, output = tmp_path / "a.mp4", tmp_path / "b.ts"
    write_clip(source, codec="libx264", frames=30, audio="aac", chapters=[(0, 500, "One")])
    options = EncodeOptions(codec=codec, preset="ultrafast")
    *warnings, used = copy_video(source, output, options)
    assert used == ("libx264" if codec == "auto" else codec)
    assert "mpegts has no time 0" in warnings[0]
    assert "mpegts has no chapters" in warnings[1]
    assert len(warnings) == 2
    (before, first), (after, second) = read_all(source), read_all(output)
    assert (after.width, after.height, len(second)) == (64, 48, 30)
    # The muxer moves everything by the same time, so that no decoding time is negative.
    shift = second[0].pts * after.time_base - first[0].pts * before.time_base
    assert 0 <= shift < Fraction(1, 2)
    for old, new in zip(first, second, strict=True):
        assert new.pts * after.time_base - old.pts * before.time_base == shift
        assert np.abs(old.planes[0].astype(int) - new.planes[0]).mean() < 3
    old_sound, new_sound = packets(source, "audio")[0], packets(output, "audio")[0]
    assert len(old_sound) > 40
    for (data, time), (sent, sent_time) in zip(old_sound, new_sound, strict=True):
        assert sent.endswith(data)  # behind an ADTS header
        assert time is not None
        assert sent_time is not None
        assert abs(sent_time - time - shift) <= Fraction(1, 90000)


@pytest.mark.parametrize("audio", TONES)
def test_sound_in_a_transport_stream_comes_back_or_is_refused(tmp_path: Path, audio: str) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.ts"
    try:
        write_clip(source, codec="libx264", audio=audio)
    except ValueError:
        pytest.skip(f"this build has no {audio}, or its samples are no floats")
    with av.open(str(source)) as container:
        name = container.streams.audio[0].codec_context.codec.canonical_name
    if audio in ("flac", "pcm_s16le", "alac"):
        with pytest.raises(CodecError, match=r"cannot hold stream 1 \(audio, .*use \.mkv"):
            copy_video(source, output)
        options = EncodeOptions(drop_unsupported_streams=True, preset="ultrafast")
        assert "it was left out" in " ".join(copy_video(source, output, options))
        return
    copy_video(source, output)
    with av.open(str(output)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == name
    assert len(packets(output, "audio")[0]) == len(packets(source, "audio")[0])


def test_what_a_transport_stream_has_no_place_for(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.ts"
    write_clip(source, codec="libx264", subtitles="subrip")
    with pytest.raises(CodecError, match=r"mpegts cannot hold stream 1 \(subtitle, .*\.mkv"):
        copy_video(source, output)
    write_clip(source, codec="libx264", attachments=[("f.ttf", "font/ttf", b"1")])
    with pytest.raises(CodecError, match=r"mpegts cannot hold stream 1 \(attachment, .*\.mkv"):
        copy_video(source, output)
    write_clip(source, frames=2)
    with pytest.raises(CodecError, match="mpegts cannot hold ffv1"):
        copy_video(source, output, LOSSLESS)
    write_clip(source, frames=2, rotation=90)
    with pytest.raises(CodecError, match=r"mpegts cannot hold .*rotation.*use \.mp4"):
        copy_video(source, output)
    assert not output.exists()
    # Nobody is sent there for what other containers refuse.
    write_clip(source, codec="libx264", subtitles="subrip")
    with pytest.raises(CodecError) as caught:
        copy_video(source, tmp_path / "b.mp4")
    assert ".ts" not in str(caught.value)


@pytest.mark.parametrize(
    ("pix_fmt", "width"), [("yuv420p", 64), ("yuv444p", 64), ("yuv420p", 63), ("bgr0", 64)]
)
def test_webm_is_vp9(tmp_path: Path, pix_fmt: str, width: int) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.webm"
    write_clip(source, pix_fmt=pix_fmt, width=width, rotation=90, chapters=[(0, 100, "One")],
               time_base=Fraction(1, 1000), pts=[0, 40, 81, 120, 160, 200])  # fmt: skip
    assert copy_video(source, output, EncodeOptions()) == ["libvpx-vp9"]
    (before, first), (after, second) = read_all(source), read_all(output)
    assert (after.width, after.height) == (before.width, before.height)
    assert (after.format.bits, after.format.subsampling) == (
        before.format.bits, before.format.subsampling,
    )  # fmt: skip
    assert after.display == before.display
    assert [f.pts for f in second] == [f.pts for f in first]
    for old, new in zip(first, second, strict=True):
        error = np.abs(old.planes[0].astype(int) - new.planes[0]).mean()
        assert error / (1 << old.format.bits - 8) < 3
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
        assert [c["metadata"]["title"] for c in container.chapters()] == ["One"]


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({"audio": "aac"}, r"webm cannot hold stream 1 \(audio, aac\).*use \.mkv"),
        ({"subtitles": "subrip"}, r"webm cannot hold stream 1 \(subtitle, subrip\)"),
        ({"attachments": [("f.ttf", "font/ttf", b"1")]}, r"webm cannot hold stream 1 \(attachm"),
        ({"pix_fmt": "yuva420p"}, "webm cannot hold yuva420p .*ffv1; use .mkv"),
        ({"pix_fmt": "gray"}, "webm cannot hold gray .*use .mkv"),
        ({"cover": small_jpeg()}, r"webm cannot hold stream 1 \(video, mjpeg\)"),
    ],
)
def test_what_webm_cannot_hold(tmp_path: Path, extra: dict[str, object], match: str) -> None:
    source = tmp_path / ("a.mp4" if "cover" in extra else "a.mkv")
    codec = "libx264" if "cover" in extra else "ffv1"
    write_clip(source, codec=codec, frames=3, **extra)  # type: ignore[arg-type]
    with pytest.raises(CodecError, match=match):
        copy_video(source, tmp_path / "b.webm", EncodeOptions())
    assert not (tmp_path / "b.webm").exists()


def test_a_lost_pixel_shape_is_said(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", codec="libx264", frames=3, sar=Fraction(12, 11))
    warnings = {
        name: copy_video(tmp_path / "a.mkv", tmp_path / name, options)[:-1]
        for name, options in (("b.mkv", LOSSLESS), ("c.webm", EncodeOptions()), ("d.mkv", FAST))
    }
    assert "ffv1 in matroska does not say that pixels are 12:11" in warnings["b.mkv"][0]
    assert "libvpx-vp9 in webm does not say that pixels are 12:11" in warnings["c.webm"][0]
    assert warnings["d.mkv"] == []
    for name, said in warnings.items():
        info, _ = read_all(tmp_path / name)
        assert (info.display.sample_aspect_ratio == Fraction(12, 11)) == (said == [])


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("frames", [1, 2, 20])
@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_second_film_with_b_frames(tmp_path: Path, kind: str, frames: int, suffix: str) -> None:
    source, output = tmp_path / f"a.{kind}", tmp_path / f"b.{suffix}"
    write_two_films(source, frames=frames)
    said = copy_video(source, output)
    assert any(
        "of 2 video streams, stream 0 (video, h264) was restored; copied: stream 1 (video, h264)"
        in warning
        for warning in said
    )
    second, copied = packets(source, "video")[1], packets(output, "video")[1]
    assert copied == second
    assert len(copied) == frames
    with av.open(str(output)) as container:
        film = container.streams.video[1]
        times = [packet.dts for packet in container.demux(film) if packet.size]
        assert [t for t in times if t is not None] == sorted({t for t in times if t is not None})
    with av.open(str(output)) as container:
        shown = [frame.pts for frame in container.decode(video=1)]
    assert len(shown) == frames
    assert all(a is not None and b is not None and a < b for a, b in pairwise(shown))


def test_packets_without_any_decoding_time() -> None:
    made = []
    for pts in PTS:
        packet = av.Packet(b"x")
        packet.pts = pts
        made.append(packet)
    dated = [packet.dts for packet in _date_by_order(made)]
    assert dated == [-1, 0, 1, 2, 3, 4, 5]
    assert all(due is not None and due <= pts for due, pts in zip(dated, PTS, strict=True))


def test_webm_refuses_what_vp9_cannot_encode(tmp_path: Path) -> None:
    if "yuv420p10le" in encoder_formats("libvpx-vp9"):
        pytest.skip("this build's libvpx has ten bits")
    write_clip(tmp_path / "a.mkv", pix_fmt="yuv420p10le", frames=2)
    with pytest.raises(CodecError, match=r"webm cannot hold yuv420p10le .*libx264.*use \.mkv"):
        copy_video(tmp_path / "a.mkv", tmp_path / "b.webm", EncodeOptions())


def test_sound_that_is_rounded_is_said(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=25, audio="aac")
    warning, _ = copy_video(tmp_path / "a.mp4", tmp_path / "b.mkv")
    assert "steps of 0.001 s, so the times of sound move by up to half a step" in warning
    old, new = packets(tmp_path / "a.mp4", "audio")[0], packets(tmp_path / "b.mkv", "audio")[0]
    moves = [abs(a[1] - b[1]) for a, b in zip(old, new, strict=True) if a[1] and b[1]]
    assert 0 < max(moves) <= Fraction(1, 2000)
    # From milliseconds to 1/48000 s nothing is lost.
    assert copy_video(tmp_path / "b.mkv", tmp_path / "c.mp4") == ["libx264"]


def test_the_input_is_not_the_output_by_any_name(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(source, frames=2)
    (tmp_path / "hard.mkv").hardlink_to(source)
    (tmp_path / "symbolic.mkv").symlink_to(source)
    with open_video(source) as reader:
        for name in ("hard.mkv", "symbolic.mkv"):
            with pytest.raises(ValueError, match=f"{name}: is the input itself"):
                open_writer(tmp_path / name, source, reader.info, FAST)
        with pytest.raises(OutputError, match="/dev/null: is not an ordinary file"):
            open_writer(Path("/dev/null"), source, reader.info, EncodeOptions(container="matroska"))
