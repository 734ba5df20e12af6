"""Damaged videos: stopped at with advice that works, or restored but for what is damaged."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import packets, write_clip
from tests.paths import SHARED
from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.cli.parsing import parse
from vqfr_media.cli.restore import RestoreCommand
from vqfr_media.errors import CodecError, MediaError, OptionError, SkippedFaceError
from vqfr_media.media.damage import losses
from vqfr_media.media.header_damage import header_damage
from vqfr_media.media.index import make_index, read_frames
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary
from vqfr_media.values import SkipReason

KEEP = RestoreOptions(damaged="keep", encode=EncodeOptions(codec="ffv1"))
H264 = {"preset": "ultrafast", "g": "6", "x264-params": "cabac=1"}


def restored(source: Path, output: Path, options: RestoreOptions = KEEP) -> Summary:
    return restore_video(
        source, output, options, engine=IdentityEngine(), detector=MarkerDetector()
    )


def overwritten(path: Path, number: int, content: Callable[[bytes], bytes]) -> None:
    """Replaces the content of picture number `number`, in the order of the file."""
    file = path.read_bytes()
    picture = packets(path, "video")[0][number][0]
    assert file.count(picture) == 1
    path.write_bytes(file.replace(picture, content(picture)))


def zeros_in_the_middle(picture: bytes) -> bytes:
    third = len(picture) // 3
    return picture[:third] + bytes(third) + picture[2 * third :]


def test_a_recording_that_lacks_a_transport_packet(tmp_path: Path) -> None:
    source, output = SHARED / "data/cases/lost_packet.ts", tmp_path / "b.mkv"
    if not source.is_file():
        pytest.skip("the shared data are not here")
    with pytest.raises(MediaError, match=r"damaged after frame 4 \(1\.600 s\)") as caught:
        restored(source, output, RestoreOptions())
    advised = str(caught.value).split(" go on over the damage with ")[1]
    command = parse(["restore", str(source), "-o", str(output), *advised.split()])
    assert isinstance(command, RestoreCommand)
    summary = restored(source, output, command.options)
    assert [asdict(frame) for frame in summary.damaged] == [{"index": 5, "seconds": 1.64}]
    assert "1 damaged frame kept as they are: 5 (1.640 s)" in summary.lines()
    assert summary.to_json()["damaged"] == ({"index": 5, "seconds": 1.64},)
    assert summary.frames == 12


@pytest.mark.parametrize(
    ("name", "codec", "settings", "damaged"),
    [
        # Of MJPEG each picture is for itself; of H.264 all are made of it up to the next key frame.
        ("a.avi", "mjpeg", {}, [4]),
        ("a.mkv", "ffv1", {"g": "1", "level": "3", "slicecrc": "1"}, [4]),
        ("a.mp4", "libx264", H264, [4, 5]),
        ("a.mkv", "libx264", H264, [4, 5]),
    ],
)
def test_what_is_whole_is_restored_as_ever(
    tmp_path: Path, name: str, codec: str, settings: dict[str, str], damaged: list[int]
) -> None:
    source, output = tmp_path / name, tmp_path / "b.mkv"
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_scene(source, codec=codec, options=settings, pix_fmt=form)
    with open_video(source) as reader:
        whole = {frame.pts: frame.planes for frame in reader}
    # FFmpeg mends JPEG in silence as long as there is anything of it.
    overwritten(source, 4, (lambda b: bytes(len(b))) if codec == "mjpeg" else zeros_in_the_middle)
    with pytest.raises(MediaError, match=r"damaged after frame [23] .*with --damaged keep"):
        restored(source, output, RestoreOptions())
    summary = restored(source, output)
    named = [frame.index for frame in summary.damaged]
    lost = [warning for warning in summary.warnings if "could not be decoded" in warning]
    assert named == damaged or lost == ["1 picture could not be decoded at all: 0.160 s"]
    assert named in (damaged, damaged[1:])
    assert summary.frames == 12 - len(lost)
    assert summary.restored == 12 - len(damaged)
    assert summary.skipped.get(SkipReason.DAMAGED, 0) == len(named)
    with open_video(source, keep_damaged=True) as back:
        for frame in back:
            if not frame.damaged:
                for a, b in zip(frame.planes, whole[frame.pts], strict=True):
                    np.testing.assert_array_equal(a, b)
    if named:
        with pytest.raises(SkippedFaceError, match=f"frame {named[0]}: .*damaged picture"):
            restored(source, output, replace(KEEP, strict=True))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_file_without_its_end(tmp_path: Path, name: str) -> None:
    source, output = tmp_path / name, tmp_path / "b.mkv"
    fast = {"movflags": "faststart"} if name == "a.mp4" else {}
    codec = "mjpeg" if name == "a.avi" else "libx264"
    form = "yuvj420p" if name == "a.avi" else "yuv420p"
    write_clip(source, codec=codec, pix_fmt=form, frames=20, audio="aac" if fast else None,
               options={} if name == "a.avi" else H264, container_options=fast)  # fmt: skip
    size = source.stat().st_size
    source.write_bytes(source.read_bytes()[: size * 3 // 5])
    with pytest.raises(MediaError, match=r"a\.\w+: truncated, \d+ bytes .*with --damaged keep$"):
        restored(source, output, RestoreOptions())
    assert not output.exists()
    summary = restored(source, output)
    assert 4 <= summary.frames < 20
    assert any("bytes are missing at its end" in warning for warning in summary.warnings)


def test_segments_give_what_one_go_gives(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "a.mkv", codec="libx264", options=H264, frames=40)
    overwritten(source, 15, zeros_in_the_middle)
    at_once = restored(source, tmp_path / "b.mkv")
    cut = replace(KEEP, segment_seconds=0.4)
    in_segments = restored(source, tmp_path / "c.mkv", cut)
    assert (in_segments.damaged, in_segments.skipped) == (at_once.damaged, at_once.skipped)
    assert in_segments.damaged
    assert set(at_once.warnings) <= set(in_segments.warnings)
    with open_video(tmp_path / "b.mkv") as one, open_video(tmp_path / "c.mkv") as other:
        for a, b in zip(one, other, strict=True):
            assert a.pts == b.pts
            for before, after in zip(a.planes, b.planes, strict=True):
                np.testing.assert_array_equal(before, after)
    with open_video(source, keep_damaged=True) as reader:
        index = make_index(source, reader.info, keep_damaged=True)
        wanted = [(frame.pts, frame.damaged) for frame in reader]
    assert [(f.pts, f.damaged) for f in read_frames(source, index, range(12, 39))] == wanted[12:]


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_pictures_that_need_what_is_not_there(tmp_path: Path, codec: str) -> None:
    """A recording that begins amid a group of pictures: the decoder drops them without a word."""
    source = tmp_path / "a.ts"
    settings = {"g": "8", "bf": "0"} | ({"preset": "ultrafast"} if codec == "libx264" else {})
    write_clip(source, codec=codec, frames=24, options=settings)
    whole = packets(source, "video")[0]
    content = source.read_bytes()
    later = content.index(whole[3][0][:40])
    source.write_bytes(content[: 3 * 188] + content[later // 188 * 188 :])
    with open_video(source) as reader:
        frames = list(reader)
    assert len(frames) < 24
    assert any("missing" in said or "cannot be decoded without" in said for said in reader.notes)


def test_a_missing_frame_and_a_header_that_says_more(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_clip(source, pts=[0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16])
    with open_video(source) as reader:
        times = [frame.pts for frame in reader]
    assert reader.notes == ["about 2 pictures missing after 0.240 s"]
    info = replace(reader.info, picture_seconds_from_header=2.0)
    said = "its header says 2.000 s of pictures, of which 0.680 s are there"
    assert losses(source, info, times) == [*reader.notes, said]
    assert losses(source, info, times[:1]) == []
    # A variable rate has no gaps.
    write_clip(source, pts=[0, 1, 5, 6, 9, 15, 16, 20], time_base=Fraction(1, 25))
    with open_video(source) as reader:
        list(reader)
    assert reader.notes == []


def test_a_transport_stream_cut_off_amid_a_packet(tmp_path: Path) -> None:
    source = tmp_path / "a.ts"
    write_clip(source, codec="mpeg2video", frames=20)
    with open_video(source) as reader:
        list(reader)
    assert reader.notes == []
    source.write_bytes(source.read_bytes()[:-100])
    with open_video(source, keep_damaged=True) as reader:
        list(reader)
    assert any("last transport packet is incomplete" in said for said in reader.notes)


def test_an_unknown_way_with_damage() -> None:
    with pytest.raises(OptionError, match="damaged must be one of stop, keep, got 'mend'"):
        RestoreOptions(damaged="mend")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["stop", "keep"])
def test_a_disc_s_file_cut_off_or_begun_amid_a_film(tmp_path: Path, way: str) -> None:
    source = tmp_path / "a.vob"
    write_clip(source, codec="mpeg2video", frames=24, options={"g": "8", "bf": "0"})
    content = source.read_bytes()
    with open_video(source, keep_damaged=way == "keep") as reader:
        assert len(list(reader)) == 24
    assert reader.notes == []
    source.write_bytes(content[: len(content) // 2 // 2048 * 2048 + 700])
    with open_video(source, keep_damaged=way == "keep") as reader, suppress(MediaError):
        list(reader)
        assert any("its last sector is incomplete" in said for said in reader.notes)


def test_what_is_not_decoded_at_the_start_is_told_when_damage_is_kept_too(tmp_path: Path) -> None:
    source = tmp_path / "a.ts"
    write_clip(source, codec="mpeg2video", frames=24, options={"g": "8", "bf": "0"})
    later = source.read_bytes().index(packets(source, "video")[0][3][0][:40])
    content = source.read_bytes()
    source.write_bytes(content[: 3 * 188] + content[later // 188 * 188 :])
    said = []
    for keep in (False, True):
        with open_video(source, keep_damaged=keep) as reader:
            list(reader)
        said.append([note for note in reader.notes if "cannot be decoded without" in note])
    assert said[0] == said[1]
    assert said[0]


def flipped(picture: bytes) -> bytes:
    """Ten bits turned over, spread over the middle half of a picture."""
    data = bytearray(picture)
    for number in range(10):
        data[len(data) // 4 + number * len(data) // 20] ^= 1 << number % 8
    return bytes(data)


def with_dropout(picture: bytes) -> bytes:
    """A DV picture as a deck gives it out that has concealed one block from the frame before."""
    data = bytearray(picture)
    block = next(i for i in range(7 * 80, len(data), 80) if data[i] >> 5 == 4)
    data[block + 3] = data[block + 3] & 0x0F | 0x20
    return bytes(data)


def notes_of(path: Path, *, keep: bool) -> tuple[list[str], list[int]]:
    """What the reader says of a whole file, and which frames it calls damaged."""
    with open_video(path, keep_damaged=keep) as reader:
        damaged = [frame.index for frame in reader if frame.damaged]
    return reader.notes, damaged


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_damaged_motion_jpeg_is_said_and_left_alone_on_demand(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_scene(path, frames=10, codec="mjpeg", pix_fmt="yuvj420p")
    assert notes_of(path, keep=False) == ([], [])
    for number in (3, 7):
        overwritten(path, number, flipped)
    said = "2 pictures damaged, by a strict check of their JPEG: 3 (0.120 s), 7 (0.280 s)"
    assert notes_of(path, keep=False) == ([said], [])
    assert notes_of(path, keep=True) == ([said], [3, 7])
    with open_video(path) as reader:
        assert said in make_index(path, reader.info).notes
    summary = restored(path, tmp_path / "b.mkv", replace(KEEP, damaged="stop"))
    assert f"note: {said}" in summary.lines()
    assert SkipReason.DAMAGED not in summary.skipped
    summary = restored(path, tmp_path / "b.mkv")
    assert summary.skipped[SkipReason.DAMAGED] == 2
    assert [frame.index for frame in summary.damaged] == [3, 7]


def test_motion_jpeg_that_is_never_quite_the_standards_is_not_called_damaged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.avi"
    write_scene(path, frames=4, codec="mjpeg", pix_fmt="yuvj420p")
    for number in range(4):
        overwritten(path, number, zeros_in_the_middle)
    assert notes_of(path, keep=True) == ([], [])


def test_dropouts_of_a_dv_tape_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_clip(path, codec="dvvideo", frames=6, width=720, height=576)
    assert notes_of(path, keep=False)[0] == []
    for number in (1, 4):
        overwritten(path, number, with_dropout)
    says = "2 pictures with dropouts of the tape, by the marks of the deck that read it: "
    for keep in (False, True):
        notes, damaged = notes_of(path, keep=keep)
        assert notes == [f"{says}1 (0.040 s), 4 (0.160 s)"]
        assert damaged == []


HEADERS = [
    # Suffix, encoder of the sound, what is overwritten in the header, and with what.
    (".mp4", "aac", (b"trak", 2), b"trai"),
    (".mov", "pcm_s16le", (b"trak", 2), b"tpak"),
    (".mkv", "aac", (b"A_AAC", 1), b"A_AIC"),
    (".avi", "mp2", (b"strl", 2), b"strx"),
]


@pytest.mark.parametrize(("suffix", "sound", "place", "wrong"), HEADERS)
def test_a_header_that_may_have_lost_a_track_is_said(
    tmp_path: Path, suffix: str, sound: str, place: tuple[bytes, int], wrong: bytes
) -> None:
    path = tmp_path / f"a{suffix}"
    write_clip(path, codec="mpeg4", frames=5, audio=sound)
    assert header_damage(path) == []
    data, at = path.read_bytes(), -1
    for _ in range(place[1]):
        at = data.index(place[0], at + 1)
    path.write_bytes(data[:at] + wrong + data[at + len(wrong) :])
    assert header_damage(path) != []
    with open_video(path) as reader:
        assert len(list(reader)) == 5
    assert reader.notes[0].startswith("its header is damaged, and a track of sound, ")


def test_a_header_whose_boxes_do_not_fit_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, codec="mpeg4", frames=5, audio="aac")
    data = bytearray(path.read_bytes())
    data[data.index(b"trak", data.index(b"trak") + 1) - 1] ^= 8  # the size of the sound's track
    path.write_bytes(data)
    assert len(header_damage(path)) == 1
    path.write_text("neither")
    assert header_damage(path) == []


def test_sound_of_which_nothing_can_be_read_is_said(tmp_path: Path) -> None:
    path, output = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_clip(path, codec="mpeg4", frames=5, audio="aac")
    data = path.read_bytes()
    at = data.index(b"stts", data.index(b"stts") + 1)  # the times of the sound's packets
    path.write_bytes(data[:at] + b"stxs" + data[at + 4 :])
    assert packets(path, "audio") == [[]]
    options = RestoreOptions(encode=EncodeOptions(codec="mpeg4"))
    notes = restored(path, output, options).warnings
    assert any("and none can be read" in note for note in notes), notes


def test_sound_of_a_codec_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_clip(path, codec="mpeg4", frames=5, audio="pcm_s16le")
    data = path.read_bytes()
    assert data.count(b"sowt") == 1
    path.write_bytes(data.replace(b"sowt", b"xyzt"))
    with pytest.raises(CodecError, match=r"b\.mp4: .*stream 1 \(audio, unknown codec\)"):
        restored(path, tmp_path / "b.mp4", RestoreOptions())
