"""Interlaced video: each field's face restored at its own time and place, all else untouched."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.interlaced import FRAMES, SETTINGS, SPEED, at_time, write_interlaced
from tests.paths import SHARED
from tests.scenes import HEIGHT, WIDTH
from tests.stand_ins import IdentityEngine, InvertingEngine, MarkerDetector, NearMarkerDetector
from vqfr_media.errors import OptionError
from vqfr_media.faces.detect import detect
from vqfr_media.faces.tracks import by_fields
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.frames import Display, Frame, PixelFormat
from vqfr_media.media.fields import check_fields, mixed, split, weave, with_fields
from vqfr_media.media.read import open_video
from vqfr_media.options import DamageChoice, EncodeOptions, FieldsChoice, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.summary import Summary
from vqfr_media.time_range import TimeRange

LOSSLESS = EncodeOptions(codec="ffv1")


def restored(source: Path, output: Path, options: RestoreOptions) -> Summary:
    return restore_video(
        source, output, options, engine=InvertingEngine(), detector=NearMarkerDetector()
    )


def lumas(path: Path) -> list[npt.NDArray[np.int64]]:
    with open_video(path) as reader:
        return [frame.planes[0].astype(np.int64) for frame in reader]


def flags(path: Path) -> tuple[int, bool]:
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        return container.streams.video[0].codec_context.field_order, picture.interlaced_frame


def _film_of_fields(path: Path) -> Path:
    """Writes the whole picture at the time of each field: the truth."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=Fraction(50), options=SETTINGS["ffv1"])
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv422p"
        for number in range(2 * FRAMES):
            drawn = av.VideoFrame.from_ndarray(at_time(number), format="rgb24")
            picture = drawn.reformat(format="yuv422p")
            picture.pts, picture.time_base = number, Fraction(1, 50)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_each_field_s_face_is_restored_at_its_own_place(tmp_path: Path, order: str) -> None:
    source = write_interlaced(tmp_path / "a.mkv", order=order)
    options = RestoreOptions(encode=LOSSLESS)
    summary = restored(source, tmp_path / "b.mkv", options)
    assert (summary.frames, summary.restored, len(summary.tracks)) == (6, 12, 1)
    assert summary.read_back == ("6 packets of the restored video",)
    first = "top" if order == "tff" else "bottom"
    assert any(
        f"interlaced, {first} field first: its fields were restored one by one" in said
        for said in summary.warnings
    )
    assert flags(tmp_path / "b.mkv") == flags(source) == (2 if order == "tff" else 3, True)
    # The truth is what becomes of the whole pictures at the times of the fields.
    truth = _film_of_fields(tmp_path / "truth.mkv")
    restored(truth, tmp_path / "restored_truth.mkv", options)
    # And weaving is what becomes of them where nobody says that they are interlaced.
    unsaid = write_interlaced(tmp_path / "unsaid.mkv", order=order, flag=False)
    restored(unsaid, tmp_path / "woven.mkv", options)
    whole = lumas(tmp_path / "restored_truth.mkv")
    before, by_field, woven = (
        lumas(path) for path in (source, tmp_path / "b.mkv", tmp_path / "woven.mkv")
    )
    errors = {"field": 0.0, "woven": 0.0}
    parity = 0 if order == "tff" else 1
    for number in range(FRAMES):
        expected = whole[2 * number].copy()
        expected[1 - parity :: 2] = whole[2 * number + 1][1 - parity :: 2]
        errors["field"] += float(np.abs(by_field[number] - expected).mean())
        errors["woven"] += float(np.abs(woven[number] - expected).mean())
        # Beyond the masks the lines are those of the source, bit for bit.
        far = np.abs(np.arange(WIDTH) - 70 - SPEED * (2 * number + 0.5)) > 100
        np.testing.assert_array_equal(by_field[number][:, far], before[number][:, far])
    assert errors["field"] < errors["woven"] / 3


@pytest.mark.parametrize(
    ("codec", "suffix", "order", "says"),
    [
        ("libx264", ".mp4", "tff", ""),
        ("libx264", ".mkv", "bff", ""),
        ("mpeg2video", ".mkv", "tff", ""),
        ("prores_ks", ".mov", "bff", ""),
        ("libx265", ".mkv", "tff", "libx265 codes no fields"),
    ],
)
def test_the_flag_of_fields_survives(
    tmp_path: Path, codec: str, suffix: str, order: str, says: str
) -> None:
    # MPEG-2 counts in frames, as AVI does.
    source = tmp_path / ("a.avi" if codec == "mpeg2video" else "a.mov")
    deep = codec == "prores_ks"
    form = "yuv422p10le" if deep else "yuv420p"
    write_interlaced(source, codec=codec if deep else "libx264", form=form, order=order)
    options = RestoreOptions(encode=EncodeOptions(codec=codec))
    said = restored(source, tmp_path / f"b{suffix}", options).warnings
    assert flags(tmp_path / f"b{suffix}") == (2 if order == "tff" else 3, not says)
    assert any(says in warning for warning in said)


def test_a_dvd_s_pictures(tmp_path: Path) -> None:
    source = SHARED / "data/cases/interlaced.vob"
    if not source.is_file():
        pytest.skip("the shared data are not here")
    summary = restored(source, tmp_path / "b.mkv", RestoreOptions(encode=LOSSLESS))
    assert any("interlaced, top field first" in said for said in summary.warnings)
    assert flags(tmp_path / "b.mkv") == (2, True)
    for a, b in zip(lumas(source), lumas(tmp_path / "b.mkv"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_deinterlacing_first(tmp_path: Path) -> None:
    source, output = write_interlaced(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    options = RestoreOptions(encode=LOSSLESS, fields="deinterlace")
    summary = restore_video(
        source, output, options, engine=IdentityEngine(), detector=MarkerDetector()
    )
    assert (summary.frames, summary.restored) == (2 * FRAMES, 2 * FRAMES)
    assert any("each field was made a whole picture" in said for said in summary.warnings)
    assert not flags(output)[1]
    with open_video(output) as reader:
        assert [frame.pts for frame in reader] == list(range(0, 20 * 2 * FRAMES, 20))
    # Each picture is that of its own time: nearer to it than to the one of the other field.
    truth = lumas(_film_of_fields(tmp_path / "truth.mkv"))
    made = lumas(output)
    for number in range(1, 2 * FRAMES - 1):
        own = np.abs(made[number] - truth[number]).mean()
        assert own < np.abs(made[number] - truth[number + 1]).mean() / 2
        assert own < np.abs(made[number] - truth[number - 1]).mean() / 2


def _frame(form: PixelFormat, display: Display, *, rows: int = HEIGHT) -> Frame:
    values = np.random.default_rng(0)
    planes: Any = tuple(
        values.integers(0, form.peak + 1, form.plane_shape(n, WIDTH, rows)).astype(form.dtype)
        for n in range(form.num_planes)
    )
    return Frame(index=3, pts=30, planes=planes, format=form, display=display, duration=10)


@pytest.mark.parametrize("rows", [48, 54])  # of 54 lines there are 27 of chroma: 14 and 13
@pytest.mark.parametrize("sampling", [(1, 1), (1, 0), (2, 0), (0, 0)])
@pytest.mark.parametrize("bits", [8, 10])
def test_fields_woven_again_are_the_frame(rows: int, sampling: tuple[int, int], bits: int) -> None:
    form = PixelFormat(family="yuv", bits=bits, subsampling=sampling)
    frame = _frame(form, Display(), rows=rows)
    for first in ("top", "bottom"):
        fields = split(frame, first)
        assert [(f.index, f.pts) for f in fields] == [(6, 60), (7, 70)]
        back = weave(frame, fields)
        assert (back.index, back.pts, back.format) == (3, 30, form)
        for a, b in zip(back.planes, frame.planes, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_field_s_lines_are_where_the_frame_s_are(turns: int) -> None:
    form = PixelFormat(family="yuv", subsampling=(1, 1))
    frame = _frame(form, Display(Fraction(16, 15), turns))
    for parity, field in enumerate(split(frame, "top")):
        assert field.display_size == frame.display_size
        for x, y in ((0, 0), (5, 7), (100, 90)):
            np.testing.assert_allclose(
                field.to_display() @ (x, y, 1), frame.to_display() @ (x, 2 * y + parity, 1)
            )
        # ISO/IEC 13818-2, figure 6-2: chroma a quarter and three quarters of a field's line down.
        down = (field.format.luma_to_plane(1) @ (0, 0, 1))[1]
        assert down == -(0.25, 0.75)[parity] / 2


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_face_that_rests_is_at_one_place_in_both_fields(turns: int) -> None:
    planes = tuple(np.rot90(at_time(5)[..., c], -turns).copy() for c in (1, 2, 0))
    form = PixelFormat(family="rgb", full_range=True)
    frame = Frame(index=0, pts=0, planes=planes, format=form, display=Display(Fraction(1), turns))
    whole = detect(frame, MarkerDetector(), proxy=640, score=0.5).faces[0]
    for field in split(frame, "top"):
        found = detect(field, MarkerDetector(), proxy=640, score=0.5).faces[0]
        np.testing.assert_allclose(found.box, whole.box, atol=1.6)
        np.testing.assert_allclose(found.landmarks, whole.landmarks, atol=1.1)


def test_a_part_of_an_interlaced_film_is_that_of_the_whole(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv")
    options = RestoreOptions(encode=LOSSLESS)
    restored(source, tmp_path / "b.mkv", options)
    part = replace(options, part=TimeRange(start="0.08", end="0.2"))
    assert restored(source, tmp_path / "c.mkv", part).frames == 3
    whole, cut = lumas(tmp_path / "b.mkv"), lumas(tmp_path / "c.mkv")
    for a, b in zip(cut, whole[2:5], strict=True):
        np.testing.assert_array_equal(a, b)


def test_tracks_of_an_interlaced_film_are_put_into_its_fields(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv", order="bff")
    options = RestoreOptions(encode=LOSSLESS)
    restored(source, tmp_path / "found.mkv", options)
    tracks = find_tracks(source, options, detector=NearMarkerDetector())
    write_tracks(tmp_path / "t.json", tracks)
    # The disc goes 5 pixels from one field to the next.
    (own,) = by_fields(tracks).tracks
    assert [one.frame for one in own.appearances] == list(range(2 * FRAMES))
    centres = [one.face.landmarks.mean(axis=0)[0] for one in own.appearances]
    np.testing.assert_allclose(np.diff(centres), SPEED, atol=2)
    summary = restored(source, tmp_path / "b.mkv", replace(options, tracks=tmp_path / "t.json"))
    assert (summary.frames, summary.restored, len(summary.tracks)) == (6, 12, 1)
    for a, b in zip(lumas(tmp_path / "b.mkv"), lumas(tmp_path / "found.mkv"), strict=True):
        # A woven picture shows where the face is to a pixel or two; elsewhere both are the source.
        assert np.abs(a - b).mean() < 4


def test_fields_in_segments_are_those_of_one_go(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv", order="bff")
    options = RestoreOptions(encode=LOSSLESS, segment_seconds=0.08)
    whole = restored(source, tmp_path / "whole.mkv", replace(options, segment_seconds=0))

    def stop_at(frame: Frame) -> None:
        if frame.index == 3:
            raise KeyboardInterrupt

    output = tmp_path / "b.mkv"
    with pytest.raises(KeyboardInterrupt):
        restore_video(
            source, output, options, engine=InvertingEngine(), detector=NearMarkerDetector(),
            on_frame=stop_at,
        )  # fmt: skip
    assert not output.exists()
    summary = restored(source, output, options)
    assert (summary.frames, summary.resumed, summary.restored) == (6, 2, 12)
    assert (summary.tracks, summary.warnings) == (whole.tracks, whole.warnings)
    assert flags(output) == (3, True)
    for a, b in zip(lumas(output), lumas(tmp_path / "whole.mkv"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("flag", [True, False])
def test_a_film_can_be_taken_for_whole_pictures(tmp_path: Path, flag: bool) -> None:
    source = write_interlaced(tmp_path / "a.mkv", flag=flag, frames=10)
    with open_video(source, fields="auto") as reader:
        assert reader.info.first_field == "top"
    options = RestoreOptions(encode=LOSSLESS, fields="whole")
    summary = restored(source, tmp_path / "b.mkv", options)
    assert (summary.frames, summary.restored, summary.warnings) == (10, 10, ())
    assert not flags(tmp_path / "b.mkv")[1]
    enlarged = restored(source, tmp_path / "c.mkv", replace(options, upscale=2))
    assert enlarged.frames == 10


def write_partly_interlaced(path: Path) -> Path:
    """Joins four whole pictures and four interlaced ones to one stream of MPEG-2."""
    parts = [path.with_name(f"{path.stem}{number}.mkv") for number in (0, 1)]
    write_interlaced(parts[0], codec="mpeg2video", form="yuv420p", flag=False, frames=4)
    write_interlaced(parts[1], codec="mpeg2video", form="yuv420p", frames=4)
    with av.open(str(path), "w") as output:
        stream: Any = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as container:
                stream = stream or output.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        packet.pts, packet.dts = (packet.pts or 0) + 160 * number, None
                        output.mux(packet)
    return path


@pytest.mark.parametrize("damaged", ["stop", "keep"])
def test_interlaced_pictures_among_whole_ones_are_told(
    tmp_path: Path, damaged: DamageChoice
) -> None:
    source = write_partly_interlaced(tmp_path / "a.mkv")
    options = RestoreOptions(encode=LOSSLESS, damaged=damaged, segment_seconds=0)
    expected = mixed(4, 8)
    assert restored(source, tmp_path / "whole.mkv", options).warnings == expected
    segments = replace(options, segment_seconds=0.08)
    assert restored(source, tmp_path / "segments.mkv", segments).warnings == expected
    part = replace(options, part=TimeRange(start="0.12", end="0.28"))
    assert restored(source, tmp_path / "part.mkv", part).warnings == mixed(3, 4)


def test_unsaid_fields_are_restored_and_stay_unsaid(tmp_path: Path) -> None:
    unsaid = write_interlaced(tmp_path / "unsaid.mkv", order="bff", flag=False, frames=10)
    summary = restored(unsaid, tmp_path / "b.mkv", RestoreOptions(encode=LOSSLESS))
    assert (summary.frames, summary.restored) == (10, 20)
    assert any("in 8 of 8 pictures looked at" in said for said in summary.warnings)
    assert flags(tmp_path / "b.mkv") == flags(unsaid)
    assert not flags(unsaid)[1]
    said = write_interlaced(tmp_path / "said.mkv", order="bff", frames=10)
    restored(said, tmp_path / "c.mkv", RestoreOptions(encode=LOSSLESS))
    for a, b in zip(lumas(tmp_path / "b.mkv"), lumas(tmp_path / "c.mkv"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_done_with_fields(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv")
    with open_video(source, fields="auto") as reader:
        info = reader.info
    for options, match in (
        (RestoreOptions(upscale=2), "upscale .* add --fields deinterlace"),
        (RestoreOptions(upscale=2, tracks=tmp_path / "t.json"), "upscale .* deinterlace it first"),
        (RestoreOptions(fields="deinterlace", tracks=tmp_path / "t.json"), "use --fields keep"),
        (RestoreOptions(fields="deinterlace", part=TimeRange(start="1")), "use --fields keep"),
    ):
        with pytest.raises(OptionError, match=match):
            check_fields(source, info, options)
    with pytest.raises(
        OptionError, match=r"a\.mkv: pictures of 191 lines have no two equal fields"
    ):
        check_fields(source, replace(info, height=191), RestoreOptions())
    with pytest.raises(OptionError, match="fields must be one of auto, keep, deinterlace, whole"):
        RestoreOptions(fields="weave")  # type: ignore[arg-type]


def test_what_is_not_said_is_asked_for_or_told(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv", flag=False)  # too short to be measured
    with open_video(source) as reader:
        info = reader.info
    cases: list[tuple[FieldsChoice, int, str]]
    cases = [
        ("auto", 192, ""), ("keep", 192, "top"), ("keep", 480, "bottom"), ("whole", 480, ""),
    ]  # fmt: skip
    for choice, height, first in cases:
        known = with_fields(replace(info, height=height), choice, source)
        assert (known.first_field, known.tags.field_order) == (first, first)
    assert mixed(0, 100) == ()
    assert "40 of 100 pictures are interlaced, as of film" in mixed(40, 100)[0]
    assert "10 of 100 pictures are interlaced: all were" in mixed(10, 100)[0]
