"""A preview of a film: where it looks, and that its frames are those of a whole restoration."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.scenes import HEIGHT, WIDTH, write_scene
from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.errors import InputError, OptionError, OutputError
from vqfr_media.frames import Frame
from vqfr_media.media.image import read_image
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.review.film_preview import clock, preview_film
from vqfr_media.review.pick import SampledMoment, Stretch, pick_stretches
from vqfr_media.time_range import TimeRange
from vqfr_media.values import Face

OPTIONS = RestoreOptions()


def face(*, side: float = 50, score: float = 0.9) -> Face:
    return Face(np.array([0, 0, side, side]), np.zeros((5, 2)), score)


def test_most_least_clear_and_largest_faces_are_picked_apart_from_each_other() -> None:
    moments = [
        SampledMoment(10, (face(), face())),
        SampledMoment(11, (face(score=0.81),)),
        SampledMoment(20, (face(score=0.82),)),
        SampledMoment(30, ()),
        SampledMoment(39, (face(side=200),)),
    ]
    picked = pick_stretches(moments, film_seconds=40, length=5, count=3)
    assert picked == (
        Stretch(7.5, 12.5, "most faces"),
        Stretch(17.5, 22.5, "least clear faces"),
        Stretch(35, 40, "largest faces"),
    )
    assert pick_stretches(moments, film_seconds=40, length=5, count=1) == picked[:1]
    assert pick_stretches(moments, film_seconds=4, length=5, count=3) == (
        Stretch(0, 4, "most faces"),
    )
    assert pick_stretches(moments[3:4], film_seconds=40, length=5, count=3) == ()


def test_times_as_people_write_them() -> None:
    assert clock(0) == "0:00:00.0"
    assert clock(3730.46) == "1:02:10.5"
    assert clock(59.96) == "0:01:00.0"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, a cut after the first, key frames each twelve frames."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    options = {"g": "12", "preset": "ultrafast"}
    return write_scene(path, frames=50, cut=25, discs=2, codec="libx264", options=options)


@pytest.fixture
def ready() -> Prepared:
    return prepare(OPTIONS, InvertingEngine(size=64, batch_size=1), MarkerDetector())


def test_frames_are_those_of_a_whole_restoration(
    film: Path, ready: Prepared, tmp_path: Path
) -> None:
    seen: list[Frame] = []
    told: list[int | None] = []
    output, sheet = tmp_path / "preview.mp4", tmp_path / "preview.png"
    done = preview_film(
        film, output, sheet, seconds=0.4, stretches=2, ready=ready,
        on_start=lambda info: told.append(info.frame_count_from_header), on_frame=seen.append,
    )  # fmt: skip
    assert len(done.stretches) == 2
    assert done.frames == len(seen) == told[0] == 20
    assert done.film_frames == 50
    assert done.film_seconds == pytest.approx(done.seconds * 2.5)
    with open_video(film) as reader:
        info = reader.info
        restorer = Restorer(
            ready.engine, ready.detector, OPTIONS, info.time_base, info.frame_rate, None
        )
        whole = {frame.index: frame for frame, _ in restore_frames(reader, restorer)}
    for frame in seen:
        for plane, wanted in zip(frame.planes, whole[frame.index].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)
    with open_video(output) as reader:
        assert reader.info.frame_rate == Fraction(25)
        assert reader.info.width == 2 * WIDTH
        assert reader.info.height > HEIGHT
        assert sum(1 for _ in reader) == 20
    shown, _ = read_image(sheet)
    assert shown.width >= 2 * WIDTH


def test_a_part_is_previewed_in_that_part(film: Path, ready: Prepared, tmp_path: Path) -> None:
    seen: list[Frame] = []
    options = replace(OPTIONS, part=TimeRange(start="1.2", end="1.8"))
    done = preview_film(
        film, tmp_path / "a.mp4", tmp_path / "a.png", options, seconds=0.2, ready=ready,
        on_frame=seen.append,
    )  # fmt: skip
    assert all(30 <= frame.index < 45 for frame in seen)
    assert done.film_frames == 15
    assert all(1.2 <= one.start < one.stop <= 1.8 + 1e-9 for one in done.stretches)


def test_what_cannot_be_previewed_is_refused(film: Path, ready: Prepared, tmp_path: Path) -> None:
    output, sheet = tmp_path / "a.mp4", tmp_path / "a.png"
    bare = write_scene(tmp_path / "bare.mkv", frames=3, discs=0)
    with pytest.raises(InputError, match="no face in 3 frames of it"):
        preview_film(bare, output, sheet, ready=ready)
    with pytest.raises(OptionError, match=r"give it a name in \.mp4"):
        preview_film(film, sheet, output, ready=ready)
    with pytest.raises(OptionError, match=r"give it a name in \.png"):
        preview_film(film, output, tmp_path / "b.mp4", ready=ready)
    with pytest.raises(OptionError, match="1 to 3 stretches"):
        preview_film(film, output, sheet, stretches=4, ready=ready)
    with pytest.raises(OptionError, match="leave out --tracks"):
        preview_film(film, output, sheet, replace(OPTIONS, tracks=Path("t.json")), ready=ready)
    with pytest.raises(OptionError, match="leave out --fields deinterlace"):
        preview_film(film, output, sheet, replace(OPTIONS, fields="deinterlace"), ready=ready)
    with pytest.raises(InputError, match="input itself"):
        preview_film(film, film, sheet, ready=ready)
    with pytest.raises(OutputError):
        preview_film(film, tmp_path / "nowhere" / "a.mp4", sheet, ready=ready)
    photo = Path(__file__).parents[3] / "vqfr_media/demo/astronaut.jpg"
    with pytest.raises(OptionError, match="is an image"):
        preview_film(photo, output, sheet, ready=ready)
    assert not output.exists()
