"""Two clips in one: what is shown where, of what, when, and what is refused."""

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.scenes import write_scene
from tests.stand_ins import MarkerDetector
from tests.vqfr_media.review.clips import Picture, decoded, disc, frame_of, times_of, write_pictures
from vqfr_media import cli
from vqfr_media.errors import InputError, MediaError, OptionError, OutputError
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.review.compare import CompareOptions, compare
from vqfr_media.review.pairs import Pair
from vqfr_media.review.picture import bar_height
from vqfr_media.review.views import draw_faces, wipe, wipe_share
from vqfr_media.review.zoom import plan_zoom
from vqfr_media.values import Face

FRAMES = 10


def moving(index: int) -> Picture:
    return disc((100 + 3 * index, 90))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip with sound, its negative at twice the size, and its tracks."""
    folder = tmp_path_factory.mktemp("made")
    pictures = [moving(index) for index in range(FRAMES)]
    before = write_pictures(folder / "before.mkv", pictures, sound=True)
    large = [np.repeat(np.repeat(255 - picture, 2, 0), 2, 1) for picture in pictures]
    write_pictures(folder / "after.mkv", large)
    write_tracks(folder / "tracks.json", find_tracks(before, detector=MarkerDetector()))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def near(one: Picture, other: Picture, levels: float) -> None:
    assert one.shape == other.shape
    assert np.abs(one.astype(float) - other).mean() < levels


def found(folder: Path) -> Tracks:
    return find_tracks(folder / "before.mkv", detector=MarkerDetector())


def test_side_by_side_at_the_larger_size(folder: Path) -> None:
    out = folder / "out.mp4"
    assert run("compare", folder / "before.mkv", folder / "after.mkv", "-o", out, "--quiet") == 0
    pictures = decoded(out)
    bar = bar_height(384)
    assert {picture.shape for picture in pictures} == {(384 + bar, 1280, 3)}
    assert times_of(out) == [Fraction(number, 25) for number in range(FRAMES)]
    for index in (0, FRAMES - 1):
        left, right = pictures[index][bar:, :640], pictures[index][bar:, 640:]
        wanted = np.asarray(Image.fromarray(moving(index)).resize((640, 384), 2))
        near(left, wanted, 4)
        near(right, 255 - wanted, 4)
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_ten_bit_clips_are_compared(tmp_path: Path) -> None:
    one = write_scene(tmp_path / "one.mkv", frames=3, pix_fmt="yuv420p10le")
    other = write_scene(tmp_path / "other.mp4", frames=3, codec="libx264")
    done = compare(one, other, tmp_path / "out.mkv")
    assert (done.frames, done.size) == (3, (640, 192 + bar_height(192)))
    picture = decoded(tmp_path / "out.mkv")[1][bar_height(192) :]
    near(picture[:, :320], decoded(one)[1], 4)
    near(picture[:, 320:], decoded(other)[1], 4)


def test_a_wipe_shows_each_clip_on_its_side() -> None:
    before, after = np.full((90, 200, 3), 60, np.uint8), np.full((90, 200, 3), 200, np.uint8)
    picture = wipe(before, after, 0.25, ("", ""))
    assert (picture[30:, :46] == 60).all()
    assert (picture[30:, 54:] == 200).all()
    assert (picture[30:, 49:51] == 255).all()  # the divider
    np.testing.assert_array_equal(wipe(before, after, 0.0, ("", ""))[30:], after[30:])
    np.testing.assert_array_equal(wipe(before, after, 1.0, ("", ""))[30:], before[30:])
    named = wipe(before, after, 0.5, ("a", "b"))
    assert (named[:20, :12] < 60).any()
    assert (named[:20, -12:] < 200).any()
    # A name that does not fit beside the divider is left out.
    narrow = wipe(before, after, 0.02, ("a long name", ""))
    assert (narrow[:, 10:190] == 200).all()
    with pytest.raises(ValueError, match="share"):
        wipe(before, after, 1.1, ("", ""))
    with pytest.raises(ValueError, match="one size"):
        wipe(before, after[:50], 0.5, ("", ""))


def test_a_moving_divider_goes_everywhere_and_comes_back() -> None:
    places = [wipe_share(seconds, 4.0) for seconds in (0, 1, 2, 3, 4)]
    assert places == pytest.approx([0.5, 1, 0.5, 0, 0.5])
    steps = np.abs(np.diff([wipe_share(n / 100, 4.0) for n in range(400)]))
    assert steps == pytest.approx(0.005)


def test_a_fixed_wipe_in_a_video(folder: Path) -> None:
    out = folder / "out.mp4"
    options = CompareOptions(mode="wipe", divider=0.3, labels=("", ""))
    done = compare(folder / "before.mkv", folder / "after.mkv", out, options)
    assert done.size == (640, 384)
    picture = decoded(out)[4]
    wanted = np.asarray(Image.fromarray(moving(4)).resize((640, 384), 2))
    near(picture[40:, :185], wanted[40:, :185], 4)
    near(picture[40:, 200:], 255 - wanted[40:, 200:], 4)


def test_a_sheet_of_evenly_spaced_moments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "sheet.png"
    clips = (folder / "before.mkv", folder / "after.mkv")
    assert run("compare", *clips, "-o", out, "--moments", 2, "--mode", "wipe") == 0
    assert "2 pictures" in capsys.readouterr().out
    with Image.open(out) as image:
        sheet = np.asarray(image)
    rows, columns = sheet.shape[0] // (384 + bar_height(384)), sheet.shape[1] // 640
    assert rows * columns == 2
    top, left = (sheet.shape[0] // 2, 0) if rows == 2 else (0, 640)
    second = sheet[top + bar_height(384) :, left : left + 640]
    wanted = np.asarray(Image.fromarray(moving(7)).resize((640, 384), 2))  # (2·1 + 1)·10 // (2·2)
    near(second[60:, :310], wanted[60:, :310], 1.5)


def test_two_images(tmp_path: Path) -> None:
    one, other, out = (tmp_path / name for name in ("one.png", "other.png", "out.png"))
    Image.fromarray(disc()).save(one)
    Image.fromarray(255 - disc()).save(other)
    done = compare(one, other, out)
    assert (done.frames, done.size) == (1, (640, 192 + bar_height(192)))
    with Image.open(out) as image:
        drawn = np.asarray(image)[bar_height(192) :]
    np.testing.assert_array_equal(drawn[:, :320], disc())
    np.testing.assert_array_equal(drawn[:, 320:], 255 - disc())
    with pytest.raises(OptionError, match=r"out\.mp4.*an image"):
        compare(one, other, tmp_path / "out.mp4")


def test_zoomed_faces_are_cut_out_of_both_at_the_same_place(folder: Path) -> None:
    out = folder / "out.mkv"
    words = ("--mode", "faces", "--tracks", folder / "tracks.json", "--quiet")
    assert run("compare", folder / "before.mkv", folder / "after.mkv", "-o", out, *words) == 0
    pictures = decoded(out)
    tile = pictures[0].shape[1] // 2
    assert tile == 256
    for picture in pictures:
        left, right = picture[-tile:, :tile], picture[-tile:, tile:]
        near(left[40:], 255 - right[40:], 4)
        # The face stays in the middle although it moves, and fills the middle of the tile.
        red = (left[:, :, 0] > 180) & (left[:, :, 1] < 80)
        y, x = np.argwhere(red).mean(axis=0)
        assert [x, y] == pytest.approx([(tile - 1) / 2] * 2, abs=6)
        assert np.sqrt(red.sum() * 4 / np.pi) == pytest.approx(tile / 1.6, rel=0.05)
    sheet = compare(
        folder / "before.mkv",
        folder / "after.mkv",
        folder / "sheet.png",
        CompareOptions(mode="faces", moments=3),
        find=lambda: found(folder),
    )
    assert sheet.frames == 3


def a_track(number: int, frames: range, box: tuple[float, float, float, float]) -> FaceTrack:
    points = np.zeros((5, 2)) + box[:2]
    face = Face(np.array(box), points, 0.9)
    return FaceTrack(number, tuple(Appearance(frame, face) for frame in frames))


def test_faces_get_rows_and_the_most_seen_come_first(folder: Path) -> None:
    tracks = replace(
        found(folder),
        tracks=(
            a_track(0, range(0, 4), (0, 0, 50, 50)),
            a_track(1, range(0, 10), (100, 50, 200, 150)),
            a_track(2, range(4, 10), (0, 0, 50, 50)),
            a_track(3, range(3, 6), (0, 0, 10, 10)),
        ),
    )
    plan = plan_zoom(tracks, rows=2)
    assert (plan.slots, plan.hidden) == (2, 1)
    rows = {view.track: view.slot for views in plan.views.values() for view in views}
    assert rows == {1: 0, 2: 1, 0: 1}  # 0 and 2 follow one another; there is no place for 3
    (view,) = [view for view in plan.views[5] if view.track == 1]
    assert view.centre == pytest.approx((150, 100))
    assert view.side == pytest.approx(160)
    matrix = view.matrix(320)
    np.testing.assert_allclose(matrix @ [150, 100, 1], [159.5, 159.5])
    assert plan_zoom(tracks, rows=4).slots == 3
    assert plan_zoom(tracks, rows=4, scale=100.0).tile == 512
    with pytest.raises(ValueError, match="rows"):
        plan_zoom(tracks, rows=0)
    # Where no face is, its row is dark.
    pair = Pair(frame_of(disc(), index=99), frame_of(disc(), index=99), 0.0)
    empty = draw_faces(plan, ("", ""))(pair)
    assert empty[bar_height(plan.tile) :].max() < 40


def test_a_zoom_does_not_follow_every_twitch(folder: Path) -> None:
    tracks = found(folder)
    shaken = [
        Appearance(n, Face(np.array([100.0, 100, 140, 140]) + 4 * (-1) ** n, np.zeros((5, 2)), 0.9))
        for n in range(40)
    ]
    plan = plan_zoom(replace(tracks, tracks=(FaceTrack(0, tuple(shaken)),)), rows=1)
    centres = [plan.views[n][0].centre[0] for n in range(10, 30)]
    assert np.ptp(centres) < 0.5
    # A gap is no end: the window goes on from where the face comes back.
    apart = FaceTrack(0, (*shaken[:10], *shaken[25:]))
    plan = plan_zoom(replace(tracks, tracks=(apart,)), rows=1)
    assert sorted(plan.views) == [*range(10), *range(25, 40)]
    assert plan.views[9][0].centre[0] == pytest.approx(120, abs=4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "blink"}, "one of side-by-side, wipe, faces"),
        ({"mode": "wipe", "divider": 1.5}, "divider must be between 0 and 1"),
        ({"divider": 0.5}, "only mode wipe"),
        ({"sweep_seconds": 0.0}, "sweep_seconds"),
        ({"moments": 0}, "moments"),
        ({"rows": 13}, "rows"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        CompareOptions(**options)


def test_what_cannot_be_compared(folder: Path) -> None:
    before, after = folder / "before.mkv", folder / "after.mkv"
    kept = sorted(folder.iterdir())
    faces = CompareOptions(mode="faces")
    with pytest.raises(InputError, match="is the input itself"):
        compare(before, after, after)
    with pytest.raises(OutputError, match="there is no folder"):
        compare(before, after, folder / "no" / "out.mp4")
    with pytest.raises(MediaError, match="no such file"):
        compare(before, folder / "none.mkv", folder / "out.mp4")
    with pytest.raises(ValueError, match="needs the faces"):
        compare(before, after, folder / "out.mp4", faces)
    with pytest.raises(InputError, match="no face was found to zoom in on"):
        compare(
            before, after, folder / "out.mp4", faces,
            find=lambda: replace(found(folder), tracks=()),
        )  # fmt: skip
    assert sorted(folder.iterdir()) == kept
