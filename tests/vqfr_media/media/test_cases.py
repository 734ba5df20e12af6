"""Files as people have them (`../shared/data/cases`), and made ones of the same kinds."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import packets, picture, small_jpeg, write_clip
from tests.paths import SHARED
from vqfr_media.errors import CodecError, MediaError
from vqfr_media.media.decoder import BestTimes
from vqfr_media.media.read import open_video
from vqfr_media.media.read_back import Promise, check_output
from vqfr_media.media.write import open_writer, try_writer
from vqfr_media.options import EncodeOptions

CASES = SHARED / "data/cases"
FAST = EncodeOptions(preset="ultrafast")
DROP = EncodeOptions(preset="ultrafast", drop_unsupported_streams=True)


def case(name: str) -> Path:
    if not CASES.is_dir():
        pytest.skip("the shared data are not here")
    return CASES / name


def copied(source: Path, output: Path, options: EncodeOptions = FAST) -> list[str]:
    """Tries the writer, then writes every frame; returns the writer's warnings."""
    with open_video(source) as reader:
        try_writer(output, source, reader.info, options)
        assert not output.exists()
        with open_writer(output, source, reader.info, options) as writer:
            for frame in reader:
                writer.write(frame)
    return writer.warnings


def streams(path: Path) -> list[tuple[str, str | None]]:
    with av.open(str(path)) as container:
        return [(stream.type, stream.name) for stream in container.streams]


def is_refused_before_the_work(source: Path, output: Path, match: str) -> None:
    with open_video(source) as reader, pytest.raises(CodecError, match=match) as caught:
        try_writer(output, source, reader.info, FAST)
    assert "leave such streams out with --drop-unsupported-streams" in str(caught.value)
    assert not output.exists()


def sound_of_each_channel(path: Path) -> np.ndarray[Any, Any]:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", ["pcm_stereo.avi", "made.avi", "made.mkv"])
def test_sound_that_names_no_loudspeakers(tmp_path: Path, name: str, suffix: str) -> None:
    source, output = tmp_path / name, tmp_path / f"b{suffix}"
    if name.startswith("made"):
        _write_pcm(source)
    else:
        source = case(name)
    warnings = copied(source, output)
    said = "does not say which loudspeakers its channels are for, as mp4 must: written as stereo"
    assert (said in " ".join(warnings)) == (suffix == ".mp4")
    np.testing.assert_array_equal(sound_of_each_channel(output), sound_of_each_channel(source))


def _write_pcm(path: Path) -> None:
    """Writes MJPEG and sound whose header has two channels and no word of their places."""
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        sound: Any = output.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for number in range(6):
            frame = picture(number).reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            values = (np.arange(2 * 1920).reshape(1, -1) * 7).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(values, format="s16", layout="stereo")
            samples.sample_rate, samples.pts = 48000, number * 1920
            output.mux(sound.encode(samples))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))


@pytest.mark.parametrize("timecode", ["case", "10:11:12:13", "23:59:59:00"])
def test_a_timecode_is_kept_or_refused(tmp_path: Path, timecode: str) -> None:
    source = tmp_path / "a.mov"
    if timecode == "case":
        source, timecode = case("timecode.mov"), "01:00:00:00"
    else:
        write_clip(source, codec="libx264", metadata={"timecode": timecode}, audio="aac")
    assert not any("timecode" in warning for warning in copied(source, tmp_path / "b.mov"))
    assert streams(tmp_path / "b.mov") == streams(source)
    with av.open(str(tmp_path / "b.mov")) as container:
        assert container.streams[2].metadata["timecode"] == timecode
    assert packets(tmp_path / "b.mov", "data") == packets(source, "data")
    for suffix in (".mp4", ".mkv"):
        output = tmp_path / f"b{suffix}"
        match = r"cannot hold stream 2 \(data, timecode\).*; use \.mov, or"
        is_refused_before_the_work(source, output, match)
        warnings = copied(source, output, DROP)
        assert "cannot hold stream 2 (data, timecode); it was left out" in " ".join(warnings)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_track_of_places_beside_chapters(tmp_path: Path, suffix: str) -> None:
    source, output = case("gpmd_chapters.mov"), tmp_path / f"b{suffix}"
    assert copied(source, output) == []
    assert packets(output, "data")[0] == packets(source, "data")[0]
    assert len(packets(output, "data")[0]) == 7
    assert b"gpmd" in output.read_bytes()
    with av.open(str(output)) as made, av.open(str(source)) as given:
        assert [c["metadata"] for c in made.chapters()] == [
            c["metadata"] for c in given.chapters()
        ] == [{"title": "One"}, {"title": "Two"}]  # fmt: skip
    match = r"matroska cannot hold stream 2 \(data, bin_data\).*; use \.mov or \.mp4, or"
    is_refused_before_the_work(source, tmp_path / "b.mkv", match)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_data_that_no_container_names(tmp_path: Path, suffix: str) -> None:
    """MOV would take them, into a table of samples that says nothing of what they are."""
    source = tmp_path / "a.ts"
    with av.open(str(source), "w") as output:
        video: Any = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        data = output.add_data_stream("klv")
        for number in range(12):
            frame = picture(number).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            packet: Any = av.Packet(b"\x06\x0e\x2b\x34" + bytes([number] * 20))
            packet.pts = packet.dts = number * 3600
            packet.time_base, packet.stream = Fraction(1, 90000), data
            output.mux(packet)
        output.mux(video.encode(None))
    assert streams(source)[1] == ("data", "klv")
    match = r"cannot hold stream 1 \(data, klv\).*; no other holds all the streams: leave"
    is_refused_before_the_work(source, tmp_path / f"b{suffix}", match)
    assert "it was left out" in " ".join(copied(source, tmp_path / f"b{suffix}", DROP))


def test_chapters_and_a_title_alone(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    write_clip(source, codec="libx264", chapters=[(0, 80, "One"), (80, 240, "Two")], cover=None)
    assert streams(source)[1] == ("data", "bin_data")  # how MP4 shows chapters
    for suffix in (".mp4", ".mov", ".mkv"):
        assert copied(source, tmp_path / f"b{suffix}") == []
        with av.open(str(tmp_path / f"b{suffix}")) as container:
            titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == ["One", "Two"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("audio", [None, "aac"])
def test_a_cover_passes_the_trial(tmp_path: Path, suffix: str, audio: str | None) -> None:
    """It is one packet without a time, for which the copier waited in vain."""
    write_clip(tmp_path / "a.mp4", codec="libx264", audio=audio, cover=small_jpeg())
    copied(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
    with av.open(str(tmp_path / f"b{suffix}")) as container:
        cover = next(stream for stream in container.streams if stream.disposition & 1024)
        assert next(bytes(p) for p in container.demux(cover) if p.size) == small_jpeg()


def test_the_menus_of_a_dvd(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mov", ".mkv"):
        warnings = copied(case("dvd_nav.vob"), tmp_path / f"b{suffix}")
        assert "stream 0 (data, dvd_nav_packet) says where things are on a DVD" in warnings[1]
        assert [kind for kind, _ in streams(tmp_path / f"b{suffix}")] == ["video", "audio"]


def _sound_twice_at_one_time(path: Path, number: int, time: int | None) -> None:
    """Writes Matroska of which one packet of sound has the time of the one before it, or `time`."""
    write_clip(path, codec="libx264", frames=20, audio="aac")
    content = bytearray(path.read_bytes())
    sound = packets(path, "audio")[0]
    before, at = content.index(sound[number - 1][0]), content.index(sound[number][0])
    # The time of a block is in front of its flags.
    earlier = content[before - 3 : before - 1] if time is None else time.to_bytes(2, "big")
    content[at - 3 : at - 1] = earlier
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("kind", ["case", "equal", "backwards"])
def test_times_that_do_not_rise(tmp_path: Path, kind: str, suffix: str) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / f"b{suffix}"
    if kind == "case":
        source = case("dup_dts.mkv")
    else:
        _sound_twice_at_one_time(source, 5, None if kind == "equal" else 0)
    said = " ".join(copied(source, output))
    assert "stream 1 (audio, aac): the time of 1 packet was not later" in said
    assert "moved by the least step" in said
    before, after = packets(source, "audio")[0], packets(output, "audio")[0]
    assert len(after) == len(before)
    times = [time for _, time in after if time is not None]
    assert all(a < b for a, b in pairwise(times))
    if suffix == ".ts":
        return  # which has its own clock
    step = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 48000)
    moved = [b - a for (_, a), (_, b) in zip(before, after, strict=True) if a is not None and b]
    assert sum(move > step / 2 for move in moved) == 1
    if kind != "backwards":
        assert max(moved) <= step * Fraction(3, 2)


def test_times_that_are_right_stay(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=20, audio="aac")
    for suffix in (".mp4", ".mov"):
        assert copied(tmp_path / "a.mp4", tmp_path / f"b{suffix}") == []
        assert packets(tmp_path / f"b{suffix}", "audio") == packets(tmp_path / "a.mp4", "audio")


VIDEO = ("video", "the restored video", 6)


@pytest.mark.parametrize(
    ("promise", "match"),
    [
        (Promise(streams=(("video", "film", 7),), chapters=1, attachments=1), "6 of 7 packets of"),
        (Promise(streams=(VIDEO, ("data", "gps", 1)), chapters=1, attachments=1), "0 of 1 streams"),
        (Promise(streams=(VIDEO,), chapters=2, attachments=1), "1 of 2 chapters"),
        (Promise(streams=(VIDEO,), chapters=1, attachments=0), "1 of 0 attached files"),
    ],
)
def test_a_broken_promise(tmp_path: Path, promise: Promise, match: str) -> None:
    path = tmp_path / "a.mkv"
    write_clip(path, chapters=[(0, 100, "One")], attachments=[("f.ttf", "font/ttf", b"1")])
    whole = Promise(streams=(VIDEO,), chapters=1, attachments=1)
    assert check_output(path, path, "matroska", whole) == (
        "6 packets of the restored video", "1 chapter", "1 attached file"
    )  # fmt: skip
    assert check_output(path, path, "mpegts", whole) == ()
    with pytest.raises(CodecError, match=f"a.mkv: does not come back from matroska.*{match}"):
        check_output(path, path, "matroska", promise)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CodecError, match=r"as it was written: it cannot be read"):
        check_output(path, path, "matroska", promise)


def test_packed_pictures_are_at_their_own_time() -> None:
    with open_video(case("packed.avi")) as reader:
        assert [frame.pts for frame in reader] == list(range(1, 13))


class _Picture:
    """A picture's times, which are all that is asked of it."""

    def __init__(self, pts: int | None, dts: int | None) -> None:
        self.pts, self.dts = pts, dts


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([(0, 0), (1, 1), (2, 2)], [0, 1, 2]),
        ([(0, 0), (3, 1), (1, 2), (5, 3), (4, 4)], [0, 1, 2, 3, 4]),
        ([(0, 5), (1, 5), (2, 5)], [0, 1, 2]),  # the times of decoding are at fault
        ([(None, 4), (5, None), (None, None)], [4, 5, None]),
    ],
)
def test_the_better_of_two_times(times: list[Any], chosen: list[int | None]) -> None:
    best, pictures = BestTimes(), [*(_Picture(*pair) for pair in times), None]
    assert [best.choose(a, b) for a, b in pairwise(pictures)] == chosen  # type: ignore[arg-type]


def test_pixels_that_change_their_shape() -> None:
    with (
        open_video(case("sar_change.ts")) as reader,
        pytest.raises(MediaError, match=r"pixels change from 16:15 to 64:45 .* at frame 5,"),
    ):
        list(reader)


@pytest.mark.parametrize(
    ("codec", "suffix", "before", "after", "says"),
    [
        ("libx264", ".ts", {}, {"sar": Fraction(64, 45)}, "from 16:15 to 64:45 .* at frame 6,"),
        ("mpeg2video", ".ts", {}, {"sar": Fraction(64, 45)}, "from 1:1 to 4:3 .* at frame 6,"),
        ("libx265", ".ts", {}, {"sar": Fraction(64, 45)}, "from 16:15 to 64:45 .* at frame 6,"),
        ("libx264", ".h264", {"sar": None}, {}, "from 1:1 to 16:15 .* at frame 6,"),
        ("libx264", ".ts", {}, {"width": 96}, "from 64×48 yuv420p to 96×48 yuv420p after frame 5;"),
        ("libx264", ".ts", {}, {"pix_fmt": "yuv422p"}, "to 64×48 yuv422p after frame 5;"),
    ],
)
def test_pictures_that_change(
    tmp_path: Path,
    codec: str,
    suffix: str,
    before: dict[str, Any],
    after: dict[str, Any],
    says: str,
) -> None:
    one = {"codec": codec, "frames": 6, "sar": Fraction(16, 15)}
    write_clip(tmp_path / f"a{suffix}", **{**one, **before})
    write_clip(tmp_path / f"b{suffix}", **{**one, **after, "pts": range(6, 12)})
    joined = tmp_path / f"c{suffix}"
    joined.write_bytes(b"".join((tmp_path / f"{n}{suffix}").read_bytes() for n in "ab"))
    with open_video(joined) as reader, pytest.raises(MediaError, match=says):
        list(reader)


@pytest.mark.parametrize("codec", ["case", "libvpx-vp9", "libvpx"])
def test_alpha_beside_the_picture(tmp_path: Path, codec: str) -> None:
    source, output = tmp_path / "a.webm", tmp_path / "b.mkv"
    if codec == "case":
        source = case("alpha.webm")
    else:
        tag = {"alpha_mode": "1"}
        with av.open(str(source), "w") as made:
            video: Any = made.add_stream(codec, rate=25, options={"auto-alt-ref": "0"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuva420p"
            video.metadata.update(tag)
            for number in range(4):
                frame = picture(number).reformat(format="yuva420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                made.mux(video.encode(frame))
            made.mux(video.encode(None))
    copied(source, output, EncodeOptions())
    with open_video(source) as given, open_video(output) as back:
        assert given.info.tags.alpha
        assert back.info.tags.alpha
        for a, b in zip(given, back, strict=True):
            for before, after in zip(a.planes, b.planes, strict=True):
                np.testing.assert_array_equal(before, after)
    with av.open(str(output)) as container:
        assert not {"alpha_mode", "encoder"} & {k.lower() for k in container.streams[0].metadata}
    with open_video(source) as reader, pytest.raises(CodecError, match=r"for its alpha it needs"):
        try_writer(tmp_path / "b.mp4", source, reader.info, EncodeOptions())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_deep_hevc_stays_hevc(tmp_path: Path, suffix: str) -> None:
    source, output = case("hdr10.mov"), tmp_path / f"b{suffix}"
    assert copied(source, output) == []
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "hevc"
        assert stream.codec_context.codec_tag == ("hvc1" if suffix != ".mkv" else "\0\0\0\0")
    with open_video(source) as given, open_video(output) as back:
        assert back.info.format == given.info.format
        assert back.info.tags.content_light == given.info.tags.content_light == (1000, 400)
        assert back.info.tags.mastering_display == (
            34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 1, 10000000,
        ) == given.info.tags.mastering_display  # fmt: skip
    options = EncodeOptions(codec="libx264", preset="ultrafast")
    said = " ".join(copied(source, tmp_path / f"c{suffix}", options))
    assert "libx264 drops HDR10's mastering display and content light" in said


def test_refusals_for_the_true_reason(tmp_path: Path) -> None:
    for name, match in (("odd.webm", "for an odd size it needs"), ("anim.gif", "for its alpha it")):
        with open_video(case(name)) as reader, pytest.raises(CodecError, match=match):
            try_writer(tmp_path / "b.mp4", case(name), reader.info, FAST)
        copied(case(name), tmp_path / f"{name}.mkv", EncodeOptions())  # as it advises
    with pytest.raises(MediaError, match=r"a\.heic: HEIC and AVIF .*convert it to PNG"):
        open_video(case("a.heic"))
    with pytest.raises(MediaError, match=r"and what says where its frames are; copy it again$"):
        open_video(case("no_moov.mp4"))
