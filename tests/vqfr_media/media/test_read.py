"""What the reader gives is what the decoder gave, and what is damaged is an error."""

import gc
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import picture, small_jpeg, write_clip
from tests.paths import SHARED
from vqfr_media.errors import MediaError
from vqfr_media.media.formats import find_layout, pack, unpack
from vqfr_media.media.input_container import quarter_turns
from vqfr_media.media.read import open_video

DUO = SHARED / "data/clips/duo_lq.mp4"
FFV1 = sorted(form.name for form in av.Codec("ffv1", "w").video_formats or ())
FFV1 = [name for name in FFV1 if find_layout(name) is not None]
PACKED = [
    "nv12", "nv21", "nv16", "nv24", "nv42", "nv20le", "p010le", "p012le", "p016le", "p210le",
    "p212le", "p216le", "p410le", "p412le", "p416le", "yuyv422", "uyvy422", "yvyu422", "y210le",
    "y212le", "y216le", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb",
    "0bgr", "rgb48le", "bgr48le", "rgba64le", "bgra64le", "ya8", "ya16le", "vuya", "vuyx", "ayuv",
    "uyva", "vyu444", "ayuv64le", "xv36le", "xv48le", "x2rgb10le", "x2bgr10le", "xv30le", "v30xle",
    "yuv420p10be", "gbrp12be", "gray16be", "rgb48be",
]  # fmt: skip


def raw_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The rows of every plane as bytes, without padding, by line size alone."""
    rows = []
    for plane in frame.planes:
        data = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        rows.append(data[:, : plane.width * (2 if "le" in frame.format.name else 1)])
    return rows


@pytest.mark.parametrize("pix_fmt", FFV1)
def test_every_ffv1_format_is_exact(tmp_path: Path, pix_fmt: str) -> None:
    made = write_clip(tmp_path / "a.mkv", pix_fmt=pix_fmt, frames=2, width=66, height=50)
    layout = find_layout(pix_fmt)
    assert layout is not None
    with open_video(tmp_path / "a.mkv") as reader:
        frames = list(reader)
    assert len(frames) == 2
    for frame, reference in zip(frames, made, strict=True):
        assert frame.format.bits == layout.bits
        assert frame.format.family == layout.family
        if layout.planar:
            for plane, raw in zip(frame.planes, raw_planes(reference), strict=True):
                assert (plane.view(np.uint8) == raw).all()
        else:
            for plane, other in zip(frame.planes, unpack(reference, layout, ""), strict=True):
                assert (plane == other).all()


@pytest.mark.parametrize("name", PACKED)
def test_packed_formats_equal_swscale(name: str) -> None:
    """Unpacking is compared with swscale's conversion to the planar sibling."""
    source = picture(3, width=64, height=32).reformat(format=name)
    layout = find_layout(name)
    assert layout is not None
    planes = unpack(source, layout, "")
    sampling = {(0, 0): "444", (1, 0): "422", (1, 1): "420"}[layout.subsampling]
    depth = "" if layout.bits == 8 else f"{layout.bits}le"
    alpha = "a" if layout.alpha else ""
    sibling = {"yuv": f"yuv{alpha}{sampling}p", "rgb": f"gbr{alpha}p", "gray": "gray"}[
        layout.family
    ]
    sibling += depth
    if sibling not in av.video.format.names:
        pytest.skip(f"FFmpeg has no {sibling}")
    reference = source.reformat(format=sibling)
    for plane, raw in zip(planes, raw_planes(reference), strict=layout.family != "gray"):
        assert (plane.view(np.uint8) == raw).all()
    if not layout.dtype.endswith("u4"):
        again = unpack(pack(planes, name), layout, "")
        assert all((a == b).all() for a, b in zip(planes, again, strict=True))


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_jpeg_video_is_full_range_and_centred(tmp_path: Path, pix_fmt: str) -> None:
    write_clip(tmp_path / "a.mkv", codec="mjpeg", pix_fmt=pix_fmt, tags={"color_range": 2})
    with open_video(tmp_path / "a.mkv") as reader:
        assert reader.info.format.full_range
        assert reader.info.format.chroma_location == "center"


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "yuvj420p"])
def test_x264_lossless(tmp_path: Path, pix_fmt: str) -> None:
    made = write_clip(
        tmp_path / "a.mp4", codec="libx264", pix_fmt=pix_fmt, options={"qp": "0"}, frames=12
    )
    with open_video(tmp_path / "a.mp4") as reader:
        for frame, reference in zip(reader, made, strict=True):
            for plane, raw in zip(frame.planes, raw_planes(reference), strict=True):
                assert (plane.view(np.uint8) == raw).all()


def test_palette() -> None:
    codes = np.random.default_rng(1).integers(0, 256, (20, 30)).astype(np.uint8)
    palette = np.random.default_rng(2).integers(0, 256, (256, 4)).astype(np.uint8)
    palette[:, 3] = 255
    frame = av.VideoFrame(30, 20, "pal8")
    np.frombuffer(frame.planes[0], np.uint8).reshape(20, -1)[:, :30] = codes
    np.frombuffer(frame.planes[1], np.uint8).reshape(256, 4)[:] = palette
    layout = find_layout("pal8")
    assert layout is not None
    planes = unpack(frame, layout, "")
    assert (np.dstack(planes) == palette[codes][:, :, [1, 0, 2]]).all()
    np.frombuffer(frame.planes[1], np.uint8).reshape(256, 4)[::2, 3] = 0
    with pytest.raises(MediaError, match="transparent"):
        unpack(frame, layout, "x.avi")


def test_planes_stay_valid_and_read_only(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=30)
    with open_video(tmp_path / "a.mp4") as reader:
        frames, sums = [], []
        for frame in reader:
            frames.append(frame)
            sums.append([int(plane.sum()) for plane in frame.planes])
    gc.collect()
    assert [[int(plane.sum()) for plane in frame.planes] for frame in frames] == sums
    with pytest.raises(ValueError, match="read-only"):
        frames[0].planes[0][0, 0] = 1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_variable_frame_rate_is_exact(tmp_path: Path, suffix: str) -> None:
    pts = [0, 40, 81, 200, 201, 950, 1000, 1333]
    write_clip(
        tmp_path / f"a.{suffix}",
        codec="libx264",
        pts=pts,
        time_base=Fraction(1, 1000),
        container_options={"video_track_timescale": "1000"} if suffix != "mkv" else None,
    )
    with open_video(tmp_path / f"a.{suffix}") as reader:
        assert reader.info.time_base == Fraction(1, 1000)
        frames = list(reader)
    assert [frame.pts for frame in frames] == pts
    assert [frame.index for frame in frames] == list(range(8))


def test_times_are_made_where_there_are_none(tmp_path: Path) -> None:
    # A raw H.264 stream has no time stamps at all.
    write_clip(tmp_path / "a.h264", codec="libx264", frames=10)
    with open_video(tmp_path / "a.h264") as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
    steps = {b - a for a, b in pairwise(times)}
    assert len(times) == 10
    assert steps == {Fraction(1, 25)}


def test_tags(tmp_path: Path) -> None:
    tags = {
        "color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1,
        "chroma_sample_location": 3,
    }  # fmt: skip
    write_clip(
        tmp_path / "a.mp4", codec="libx265", pix_fmt="yuv420p10le", tags=tags,
        options={"x265-params": "log-level=none"}, sar=Fraction(4, 3), rotation=90,
    )  # fmt: skip
    with open_video(tmp_path / "a.mp4") as reader:
        info = reader.info
    assert info.format.matrix == "bt2020nc"
    assert (info.format.bits, info.format.full_range) == (10, False)
    assert info.format.chroma_location == "topleft"
    assert (info.tags.primaries, info.tags.transfer, info.tags.matrix) == (9, 16, 9)
    assert info.display.sample_aspect_ratio == Fraction(4, 3)
    assert info.display.quarter_turns == 1
    assert info.tags.display_matrix is not None
    assert (info.width, info.height) == (64, 48)
    assert info.frame_rate == 25


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_is_what_ffmpeg_would_show(tmp_path: Path, turns: int) -> None:
    write_clip(tmp_path / "a.mov", rotation=90 * turns, codec="libx264")
    with open_video(tmp_path / "a.mov") as reader:
        assert reader.info.display.quarter_turns == turns
    with av.open(str(tmp_path / "a.mov")) as container:
        # PyAV documents: the angle by which the frame is turned counter-clockwise.
        assert next(container.decode(video=0)).rotation % 360 == 90 * turns


def test_mirrored_matrices_stand_upright() -> None:
    one = 1 << 16
    assert quarter_turns((-one, 0, 0, 0, one, 0, 0, 0, 1 << 30)) == 0  # left and right
    assert quarter_turns((one, 0, 0, 0, -one, 0, 0, 0, 1 << 30)) == 2  # upside down


@pytest.mark.parametrize(
    ("height", "tags", "expected"),
    [
        (48, {}, ("bt601", False)),
        (578, {}, ("bt709", False)),
        (48, {"colorspace": 1, "color_range": 2}, ("bt709", True)),
        (578, {"colorspace": 6}, ("bt601", False)),
        (578, {"color_primaries": 9}, ("bt2020nc", False)),
    ],
)
def test_defaults(
    tmp_path: Path, height: int, tags: dict[str, int], expected: tuple[str, bool]
) -> None:
    write_clip(tmp_path / "a.mkv", codec="libx264", height=height, tags=tags, frames=1)
    with open_video(tmp_path / "a.mkv") as reader:
        assert (reader.info.format.matrix, reader.info.format.full_range) == expected


def test_not_videos(tmp_path: Path) -> None:
    def refuses(name: str, match: str) -> None:
        with pytest.raises(MediaError, match=match) as caught:
            open_video(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)

    refuses("none.mp4", "no such file")
    (tmp_path / "folder").mkdir()
    refuses("folder", "is a folder")
    (tmp_path / "empty.mp4").touch()
    refuses("empty.mp4", r"empty \(0 bytes\)")
    (tmp_path / "words.mp4").write_text("no video at all " * 100)
    refuses("words.mp4", "not a video")
    (tmp_path / "words.txt").write_text("no video at all " * 100)
    refuses("words.txt", "not a video")
    (tmp_path / "noise.mkv").write_bytes(os.urandom(5000))
    refuses("noise.mkv", "not a video")


def test_audio_only_and_cover_art_are_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        silence = np.zeros((2, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(MediaError, match="no video stream, only audio"):
        open_video(tmp_path / "a.m4a")
    write_clip(tmp_path / "film.mp4", codec="libx264", cover=small_jpeg(), audio="aac")
    with av.open(str(tmp_path / "film.mp4")) as source:
        audio = source.streams.audio[0]
        cover = next(s for s in source.streams.video if s.disposition & 1024)
        with av.open(str(tmp_path / "song.mp4"), "w") as output:
            targets = {
                s.index: output.add_stream_from_template(s, opaque=True) for s in (audio, cover)
            }
            targets[cover.index].disposition = cover.disposition
            for packet in source.demux(audio, cover):
                if packet.size:
                    packet.stream = targets[packet.stream_index]
                    output.mux(packet)
    with pytest.raises(MediaError, match="cover art is no video"):
        open_video(tmp_path / "song.mp4")
    with open_video(tmp_path / "film.mp4") as reader:
        assert (reader.info.width, len(list(reader))) == (64, 6)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("layout", ["end", "front", "fragments", "mkv", "avi"])
def test_truncation_is_an_error(tmp_path: Path, layout: str, share: float) -> None:
    suffix = {"mkv": ".mkv", "avi": ".avi"}.get(layout, ".mp4")
    flags = {"front": "faststart", "fragments": "frag_keyframe+empty_moov"}.get(layout)
    write_clip(
        tmp_path / f"whole{suffix}",
        codec="libx264",
        frames=60,
        options={"g": "10", "bf": "0"},
        audio="aac" if suffix == ".mp4" else None,
        container_options={"movflags": flags} if flags else None,
    )
    data = (tmp_path / f"whole{suffix}").read_bytes()
    with open_video(tmp_path / f"whole{suffix}") as reader:
        assert len(list(reader)) == 60
    (tmp_path / f"cut{suffix}").write_bytes(data[: int(len(data) * share)])
    with (
        pytest.raises(MediaError, match=r"truncated|damaged"),
        open_video(tmp_path / f"cut{suffix}") as reader,
    ):
        list(reader)


def test_damage_names_the_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=60, options={"g": "1", "bf": "0"})
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as container:
        entry = container.streams.video[0].index_entries[40]
    data[entry.pos : entry.pos + entry.size] = bytes(entry.size)
    (tmp_path / "a.mp4").write_bytes(data)
    with open_video(tmp_path / "a.mp4") as reader:
        seen: list[int] = []
        with pytest.raises(MediaError, match=r"damaged after frame \d+ \(1\.\d{3} s\)") as caught:
            seen.extend(frame.index for frame in reader)
    assert str(tmp_path / "a.mp4") in str(caught.value)


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    # A transport stream may change midway.
    for name, width in (("a.ts", 64), ("b.ts", 96)):
        write_clip(tmp_path / name, codec="mpeg2video", width=width, frames=12)
    joined = (tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes()
    (tmp_path / "c.ts").write_bytes(joined)
    with open_video(tmp_path / "c.ts") as reader, pytest.raises(MediaError) as caught:
        list(reader)
    assert "64×48 yuv420p to 96×48 yuv420p" in str(caught.value)


def test_closing_midway_lets_go_of_the_file(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=6)
    before = len(os.listdir("/proc/self/fd"))
    reader = open_video(tmp_path / "a.mkv")
    frames = iter(reader)
    first = next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
    reader.close()
    assert first.planes[0].mean() > 0


def test_a_colon_in_the_name(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=2)
    (tmp_path / "a.mkv").rename(tmp_path / "http:film 1%d.mkv")
    with open_video(tmp_path / "http:film 1%d.mkv") as reader:
        assert len(list(reader)) == 2


@pytest.mark.skipif(not DUO.exists(), reason="needs ../shared/data/clips/duo_lq.mp4")
def test_a_real_clip() -> None:
    with open_video(DUO) as reader:
        times = [frame.pts for frame in reader]
    assert times == [512 * n for n in range(160)]
    assert reader.info.frame_count_from_header == 160
