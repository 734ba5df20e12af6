"""Boxes on a video and crops on a sheet: what is drawn is what the tracks say."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import write_clip
from tests.scenes import write_scene
from tests.stand_ins import MarkerDetector
from tests.vqfr_media.review.clips import RED, Picture, decoded, disc, times_of, write_pictures
from vqfr_media import cli
from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks
from vqfr_media.faces.tracks_file import read_tracks, write_tracks
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.review.boxes import COLOURS, DISABLED, Mark, draw_marks
from vqfr_media.review.contact_sheet import (
    MOST,
    SIDE,
    best_appearance,
    contact_sheet,
    shown_tracks,
    tile,
)
from vqfr_media.review.preview import write_preview
from vqfr_media.values import Face

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip that has sound, two faces and two shots, and its tracks."""
    folder = tmp_path_factory.mktemp("made")
    pictures = []
    for index in range(12):
        if index < 7:
            pictures.append(disc((60, 80 + index % 3), (220, 100)))
        else:
            pictures.append(np.ascontiguousarray(disc((90, 80), (250, 100))[::-1]))
    clip = write_pictures(folder / "in.mkv", pictures, sound=True)
    write_tracks(folder / "tracks.json", find_tracks(clip, detector=MarkerDetector()))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def edit(path: Path, number: int, **changes: Any) -> None:
    values = json.loads(path.read_text())
    values["tracks"][number] |= changes
    path.write_text(json.dumps(values))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def a_face(box: tuple[float, float, float, float], *, score: float = 0.9) -> Face:
    x0, y0, x1, y1 = box
    shape = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return Face(np.array(box), shape * (x1 - x0, y1 - y0) + (x0, y0), score)


def a_track(number: int, *faces: tuple[int, Face], **rest: Any) -> FaceTrack:
    return FaceTrack(number, tuple(Appearance(frame, face) for frame, face in faces), **rest)


def colour_at(picture: Picture, x: float, y: float) -> tuple[int, ...]:
    return tuple(int(value) for value in picture[round(y), round(x)])


def test_a_box_is_drawn_where_the_face_is() -> None:
    blank = np.full((200, 300, 3), 77, np.uint8)
    face = a_face((100.0, 60.0, 180.0, 150.0))
    track = a_track(1, (0, face))
    drawn = draw_marks(blank, [Mark(track, track.appearances[0])], IDENTITY)
    assert (blank == 77).all()
    for x, y in ((100, 100), (180, 100), (140, 150)):
        assert colour_at(drawn, x, y) == COLOURS[1]
    for x, y in face.landmarks:
        assert colour_at(drawn, x, y) == COLOURS[1]
    assert colour_at(drawn, 120, 75) == (77, 77, 77)  # within the box
    assert (drawn[152:] == 77).all()
    assert (drawn[:, 182:] == 77).all()
    assert (drawn[45:58, 101:120] != 77).any()  # the label stands above the box
    moved = draw_marks(
        blank, [Mark(track, track.appearances[0])], np.array([[0.5, 0, 20], [0, 0.5, 0]])
    )
    assert colour_at(moved, 70, 50) == COLOURS[1]


def test_what_a_box_looks_like_says_what_becomes_of_the_face() -> None:
    blank = np.full((300, 400, 3), 77, np.uint8)
    face = a_face((100.0, 100.0, 300.0, 250.0))
    track = a_track(2, (0, face))
    seen = track.appearances[0]

    def right_edge(track: FaceTrack, appearance: Appearance) -> Picture:
        return draw_marks(blank, [Mark(track, appearance)], IDENTITY)[100:250, 300]

    def share(edge: Picture, colour: tuple[int, ...]) -> float:
        return float((edge == colour).all(axis=1).mean())

    assert share(right_edge(track, seen), COLOURS[2]) == 1
    dashed = share(right_edge(track, replace(seen, filled=True)), COLOURS[2])
    assert 0.4 < dashed < 0.65
    off = replace(track, enabled=False, fidelity=0.25)
    assert share(right_edge(off, seen), DISABLED) == 1
    crossed = draw_marks(blank, [Mark(off, seen)], IDENTITY)
    assert colour_at(crossed, 260, 130) == DISABLED  # on the diagonal
    assert Mark(off, replace(seen, filled=True)).label == "#2 0.90 off fidelity 0.25 filled"
    assert Mark(replace(track, strength=0.5), seen).label == "#2 0.90 strength 0.5"


@pytest.mark.parametrize("box", [(-20.0, -30.0, 60.0, 50.0), (250.0, 150.0, 330.0, 230.0)])
def test_faces_at_the_edge_are_drawn_within_the_picture(
    box: tuple[float, float, float, float],
) -> None:
    blank = np.full((200, 300, 3), 77, np.uint8)
    track = a_track(0, (0, a_face(box)))
    drawn = draw_marks(blank, [Mark(track, track.appearances[0])], IDENTITY)
    assert drawn.shape == blank.shape
    assert (drawn == COLOURS[0]).all(axis=2).sum() > 500  # most of it the label's ground


def test_a_video_has_its_boxes_times_and_sound(folder: Path) -> None:
    out = folder / "out.mp4"
    tracks = folder / "tracks.json"
    assert run("tracks", folder / "in.mkv", "--tracks", tracks, "--preview", out, "--quiet") == 0
    pictures = decoded(out)
    assert {picture.shape for picture in pictures} == {(384, 640, 3)}  # small: enlarged twice
    assert times_of(out) == [Fraction(number, 25) for number in range(12)]
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    found = read_tracks(tracks)
    assert len(found.tracks) == 4
    for index in (0, 5, 7, 11):
        for track, appearance in found.faces_of(index):
            x0, y0, x1, y1 = 2 * appearance.face.box + 0.5
            for x, y in ((x0, y0 + 20), (x1, y1 - 20), ((x0 + x1) / 2, y1)):
                near = pictures[index][round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
                wanted = np.array(COLOURS[track.id % len(COLOURS)], float)
                # Chroma is subsampled and the encoder is lossy: a thin line loses saturation.
                assert np.abs(near - wanted).mean(axis=2).min() < 70
    faces = [track.id for track, _ in found.faces_of(0)]
    assert faces == [0, 1]


def test_a_turned_clip_is_drawn_upright(tmp_path: Path) -> None:
    clip = tmp_path / "phone.mp4"
    write_clip(clip, codec="libx264", pix_fmt="yuv420p", rotation=90, audio="aac")
    tracks = find_tracks(clip, detector=MarkerDetector())
    shown = write_preview(clip, tmp_path / "out.mp4", tracks)
    assert shown.what == "6 frames with their faces"
    pictures, stored = decoded(tmp_path / "out.mp4"), decoded(clip)
    assert pictures[0].shape == (640, 480, 3)
    small = np.asarray(Image.fromarray(pictures[3]).resize((48, 64)), float)
    assert np.abs(small - np.rot90(stored[3], 1)).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream: Any = container.streams.video[0]
        picture = next(iter(container.decode(stream)))
        assert "DISPLAYMATRIX" not in picture.side_data


def test_a_sheet_has_a_crop_of_every_track(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracks = folder / "tracks.json"
    edit(tracks, 1, enabled=False, fidelity=0.5)
    sheet = folder / "sheet.png"
    assert run("tracks", folder / "in.mkv", "--tracks", tracks, "--preview", sheet) == 0
    assert "a sheet of 4 faces" in capsys.readouterr().out
    with Image.open(sheet) as image:
        drawn = np.asarray(image)
    width, height = SIDE + 8, SIDE + 72
    columns = drawn.shape[1] // width
    assert drawn.shape[0] == height * -(-4 // columns)
    middles = []
    for number in range(4):
        top, left = height * (number // columns) + 4, width * (number % columns) + 4
        crop = drawn[top : top + SIDE, left : left + SIDE]
        middles.append(tuple(int(v) for v in crop[SIDE // 2 + 20, SIDE // 2]))
        edge = tuple(int(v) for v in drawn[top + 50, left - 2])
        assert edge == (DISABLED if number == 1 else COLOURS[number])
    for number in (0, 2, 3):  # the disc fills the middle of the aligned square
        np.testing.assert_allclose(middles[number], RED, atol=3)
    assert len(set(middles[1])) == 1  # grey: left alone


def test_the_best_appearance_is_a_detected_one() -> None:
    small, large = a_face((0.0, 0.0, 40.0, 40.0)), a_face((0.0, 0.0, 50.0, 50.0))
    track = FaceTrack(
        0,
        (
            Appearance(3, small),
            Appearance(4, large),
            Appearance(5, large),
            Appearance(6, a_face((0, 0, 90, 90), score=0.95), filled=True),
        ),
    )
    assert best_appearance(track).frame == 4
    surer = FaceTrack(0, (*track.appearances, Appearance(7, a_face((0, 0, 30, 30), score=0.91))))
    assert best_appearance(surer).frame == 7


def test_a_sheet_of_too_many_tracks_shows_the_longest(folder: Path) -> None:
    face = a_face((0.0, 0.0, 40.0, 40.0))
    many = [a_track(number, (0, face)) for number in range(MOST)]
    long = a_track(9999, (0, face), (1, face))
    tracks = replace(read_tracks(folder / "tracks.json"), tracks=(*many, long))
    shown = shown_tracks(tracks)
    assert len(shown) == MOST
    assert shown[-1] is long
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    tiles = [tile(crop, track, 0) for track in shown[:3]]
    whole, cut = contact_sheet(tiles, tracks=3), contact_sheet(tiles, tracks=4)
    assert len(cut) > len(whole)  # a line says what is missing
    np.testing.assert_array_equal(cut[: len(whole)], whole)


def test_an_image_is_drawn_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(disc()).save(source)
    tracks = find_tracks(source, detector=MarkerDetector())
    assert write_preview(source, out, tracks).what == "the picture with 1 face"
    x0, y0, _, y1 = tracks.tracks[0].appearances[0].face.box
    with Image.open(out) as image:
        drawn = np.asarray(image)
    assert drawn.shape == (384, 640, 3)
    assert colour_at(drawn, 2 * x0 + 0.5, y0 + y1) == COLOURS[0]
    with pytest.raises(OptionError, match=r"faces\.mp4.*is an image"):
        write_preview(source, tmp_path / "faces.mp4", tracks)


def messages(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    yield from (line for line in capsys.readouterr().err.splitlines() if "vqfr-media:" in line)


def test_what_cannot_be_drawn_is_said_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, tracks = folder / "in.mkv", folder / "tracks.json"
    before = sorted(folder.iterdir())
    for words, code, says in (
        ([], 2, "-o tracks.json, or --preview"),
        (["--tracks", tracks, "-o", folder / "x.json"], 2, "leave out one"),
        (["--tracks", tracks, "--preview", tracks], 2, "are both"),
        (["--preview", clip], 2, "is the input itself"),
        (["--preview", folder / "no" / "x.mp4"], 3, "no folder"),
        (["--tracks", folder / "none.json", "--preview", folder / "x.mp4"], 2, "none.json"),
    ):
        assert run("tracks", clip, *words, "--quiet") == code
        (line,) = messages(capsys)
        assert says in line
    assert sorted(folder.iterdir()) == before


def test_tracks_of_another_clip_are_refused(folder: Path, tmp_path: Path) -> None:
    tracks = read_tracks(folder / "tracks.json")
    for frames, says in ((10, "12 frames"), (14, "12 frames")):
        other = write_pictures(tmp_path / "other.mkv", [disc()] * frames)
        edit(folder / "tracks.json", 0)
        shortened = replace(tracks, source=replace(tracks.source, frame_count_from_header=None))
        with pytest.raises(InputError, match=says):
            write_preview(other, tmp_path / "out.mp4", shortened)
        assert not (tmp_path / "out.mp4").exists()
    small = write_scene(tmp_path / "small.mkv", frames=12)
    empty = Tracks(replace(tracks.source, frame_count_from_header=None), (0,), ())
    with pytest.raises(InputError, match="no face was found"):
        write_preview(small, tmp_path / "sheet.png", empty)
    short = write_pictures(tmp_path / "short.mkv", [disc()] * 5)
    with pytest.raises(InputError, match=r"12 frames.*5"):
        write_preview(short, tmp_path / "sheet.png", replace(tracks, source=empty.source))
