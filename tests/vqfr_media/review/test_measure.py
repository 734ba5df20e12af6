"""Whole clips measured: each made so that one figure is known, and the others are nothing."""

import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.stand_ins import MarkerDetector
from tests.vqfr_media.review.clips import RED, Picture, disc, write_pictures
from vqfr_media.errors import InputError
from vqfr_media.faces.tracks import Tracks
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.review.measure import measure
from vqfr_media.review.measurement import MeasuredRestoration

FRAMES = 12
STILL = [disc()] * FRAMES
# Standard deviation of normal noise over the median of its absolute value, over √1.5.
ROOT, NORMAL = np.sqrt(1.5), 1 / 0.674489750196082


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip in which nothing moves, with one face."""
    return write_pictures(tmp_path_factory.mktemp("still") / "still.mkv", STILL)


@pytest.fixture
def against(still: Path, tmp_path: Path) -> Callable[..., MeasuredRestoration]:
    """Measures the still clip against one made of the given pictures."""

    def run(pictures: Sequence[Picture], **rest: Any) -> MeasuredRestoration:
        other = write_pictures(tmp_path / "other.mkv", pictures)
        return measured(still, other, **rest)

    return run


def measured(one: Path, other: Path, **rest: Any) -> MeasuredRestoration:
    return measure(
        one, other, RestoreOptions(), detector=MarkerDetector(), detector_description="it", **rest
    )


def test_a_still_clip_against_itself(against: Callable[..., MeasuredRestoration]) -> None:
    found = against(STILL)
    whole = found.figures
    assert whole is not None
    assert (found.pairs, found.shots, len(found.tracks)) == (FRAMES, 1, 1)
    assert found.seconds == pytest.approx((FRAMES - 1) / 25)
    assert (whole.jitter_before, whole.jitter_after) == (0, 0)
    assert (whole.flicker_before, whole.flicker_after) == (0, 0)
    assert (whole.sharpness, whole.change, whole.skipped, whole.lost) == (1, 0, 0, 0)
    (track,) = found.tracks
    assert (track.id, track.first_frame, track.last_frame, track.frames) == (0, 0, 11, 12)
    assert track.mean_size == pytest.approx(53)  # a disc of radius 26
    assert [part.faces for part in track.series] == [1] * FRAMES
    assert [part.jitter_before for part in track.series] == [None, *[0] * 10, None]
    (moment,) = track.moments
    assert moment.before[:2] == b"\xff\xd8"  # JPEG
    assert (found.source.name, found.restored.name) == ("still.mkv", "other.mkv")
    assert (found.source.width, found.source.height, found.source.bits) == (320, 192, 8)
    assert found.lines() == [
        "landmark jitter 0.00 px before, 0.00 after",
        "flicker 0.00 levels before, 0.00 after",
        "sharpness 1.00 times that of the source",
    ]


@pytest.mark.parametrize("pixels", [1, 2])
def test_known_jitter(against: Callable[..., MeasuredRestoration], pixels: int) -> None:
    found = against([disc((150 + pixels * (n % 2), 90)) for n in range(FRAMES)])
    assert found.figures is not None
    assert found.figures.jitter_before == 0
    # Every frame is `pixels` off the line between its neighbours, sideways only.
    assert found.figures.jitter_after == pytest.approx(pixels / ROOT / np.sqrt(2))


def test_known_flicker(against: Callable[..., MeasuredRestoration]) -> None:
    found = against([disc() + np.uint8(6 * (n % 2)) for n in range(FRAMES)])
    whole = found.figures
    assert whole is not None
    assert (whole.flicker_before, whole.jitter_after) == (0, 0)
    assert whole.flicker_after == pytest.approx(6 / ROOT * NORMAL, rel=0.01)
    assert whole.change == pytest.approx(3, rel=0.01)
    assert whole.sharpness == pytest.approx(1, rel=0.01)
    (track,) = found.tracks
    assert [moment.what for moment in track.moments] == ["surest", "most flicker"]


def test_known_sharpness(tmp_path: Path) -> None:
    # Blocks with strong edges: what rounding to whole levels adds is next to nothing.
    rough = np.kron(np.random.default_rng(3).integers(50, 200, (48, 80)), np.ones((4, 4)))
    sharp = disc()
    grey = (sharp != RED).any(axis=2)
    sharp[grey] = rough.astype(np.uint8)[grey][:, None]
    half = np.rint(127 + (sharp.astype(float) - 127) / 2).astype(np.uint8)
    soft = cv2.GaussianBlur(sharp, (0, 0), 2.0).astype(np.uint8)
    source = write_pictures(tmp_path / "source.mkv", [sharp] * 3)
    found = []
    for number, picture in enumerate((half, soft)):
        other = write_pictures(tmp_path / f"{number}.mkv", [picture] * 3)
        figures = measured(source, other).figures
        assert figures is not None
        assert figures.sharpness is not None
        found.append(figures.sharpness)
    assert found[0] == pytest.approx(0.5, rel=0.02)
    assert found[1] < 0.4


def test_faces_that_are_lost(against: Callable[..., MeasuredRestoration]) -> None:
    hidden = disc((-100, -100))
    found = against([hidden if 4 <= n < 7 else disc() for n in range(FRAMES)])
    assert found.figures is not None
    assert found.figures.lost == pytest.approx(3 / FRAMES)
    (track,) = found.tracks
    assert [part.lost for part in track.series] == [float(4 <= n < 7) for n in range(FRAMES)]
    # Jitter needs three frames in which the face is there: 1-2, and 8-10.
    known = [n for n, part in enumerate(track.series) if part.jitter_after is not None]
    assert known == [1, 2, 8, 9, 10]


def test_a_result_of_twice_the_size_is_measured_in_the_pixels_of_the_source(
    against: Callable[..., MeasuredRestoration],
) -> None:
    large = [np.repeat(np.repeat(disc((150 + n % 2, 90)), 2, 0), 2, 1) for n in range(FRAMES)]
    found = against(large)
    assert found.figures is not None
    assert found.figures.jitter_after == pytest.approx(1 / ROOT / np.sqrt(2))
    assert found.figures.lost == 0
    assert (found.restored.width, found.restored.height) == (640, 384)


def test_why_faces_were_left_alone(
    against: Callable[..., MeasuredRestoration], still: Path
) -> None:
    small = against(STILL, chosen=FaceOptions(min_face=60))
    assert small.reasons == {"too small": FRAMES}
    assert small.figures is not None
    assert small.figures.skipped == 1
    assert against(STILL, chosen=FaceOptions()).reasons == {}
    tracks = find_tracks(still, detector=MarkerDetector())
    off = replace(tracks, tracks=(replace(tracks.tracks[0], id=7, enabled=False),))
    found = against(STILL, tracks=off)
    assert found.reasons == {"disabled": FRAMES}
    assert [(track.id, track.reasons) for track in found.tracks] == [(7, {"disabled": FRAMES})]


def test_shots_and_tracks_have_the_numbers_of_the_tracks_file(tmp_path: Path) -> None:
    pictures = [disc((60, 80), (220, 100))] * 6
    pictures += [np.ascontiguousarray(disc((150, 60))[::-1])] * 7
    clip = write_pictures(tmp_path / "clip.mkv", pictures)
    shutil.copy(clip, tmp_path / "same.mkv")
    tracks = find_tracks(clip, detector=MarkerDetector())
    for known in (None, tracks):
        found = measured(clip, tmp_path / "same.mkv", tracks=known)
        assert found.shots == 2
        assert [
            (t.id, t.shot, t.first_frame, t.last_frame) for t in found.tracks
        ] == [(0, 0, 0, 5), (1, 0, 0, 5), (2, 1, 6, 12)]  # fmt: skip
    only = measured(clip, tmp_path / "same.mkv", max_tracks=1)
    assert [bool(track.moments) for track in only.tracks] == [False, False, True]
    assert [bool(track.series) for track in only.tracks] == [False, False, True]
    assert only.figures == found.figures


def without(tracks: Tracks, *frames: int) -> Tracks:
    (track,) = tracks.tracks
    kept = tuple(one for one in track.appearances if one.frame not in frames)
    return replace(tracks, tracks=(replace(track, appearances=kept),))


def test_a_track_with_a_gap_stays_one_track(
    against: Callable[..., MeasuredRestoration], still: Path
) -> None:
    tracks = without(find_tracks(still, detector=MarkerDetector()), 5)
    found = against([disc() + np.uint8(20 * (n > 5)) for n in range(FRAMES)], tracks=tracks)
    (track,) = found.tracks
    assert (track.first_frame, track.last_frame, track.frames) == (0, 11, 11)
    # The step in brightness lies in the gap: no three frames that follow one another see it.
    assert track.figures.flicker_after == 0


def test_a_clip_without_faces(tmp_path: Path) -> None:
    clip = write_pictures(tmp_path / "clip.mkv", [disc((-100, -100))] * 3)
    shutil.copy(clip, tmp_path / "same.mkv")
    found = measured(clip, tmp_path / "same.mkv")
    assert (found.figures, found.tracks) == (None, ())
    assert found.lines() == ["no face was found: there is nothing to measure"]


def test_images_have_figures_but_no_unrest(tmp_path: Path) -> None:
    for name, picture in (("a.png", disc()), ("b.png", disc() + np.uint8(5))):
        Image.fromarray(picture).save(tmp_path / name)
    found = measured(tmp_path / "a.png", tmp_path / "b.png")
    assert found.figures is not None
    assert found.figures.change == pytest.approx(5, rel=0.01)
    assert (found.figures.jitter_before, found.figures.flicker_after) == (None, None)
    assert found.source.image
    assert found.lines() == ["sharpness 1.00 times that of the source"]


def test_tracks_of_another_clip_are_refused(still: Path, tmp_path: Path) -> None:
    tracks = find_tracks(still, detector=MarkerDetector())
    longer = write_pictures(tmp_path / "longer.mkv", [disc()] * 14)
    with pytest.raises(InputError, match="12 frames"):
        measured(longer, longer, tracks=tracks)
    shorter = write_pictures(tmp_path / "shorter.mkv", [disc()] * 9)
    with pytest.raises(InputError, match=r"12 frames.*9"):
        measured(shorter, shorter, tracks=tracks)
    with pytest.raises(ValueError, match="max_tracks"):
        measured(still, still, max_tracks=-1)


def test_figures_as_plain_values(against: Callable[..., MeasuredRestoration]) -> None:
    values = against(STILL).to_json()
    assert values["figures"]["flicker_after"] == 0
    assert values["tracks"][0]["series"][3]["faces"] == 1
    assert "moments" not in values["tracks"][0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        pictures = [disc((150 + n % 3, 90)) for n in range(12)]
        clip = write_pictures(tmp_path / f"{frames}.mkv", (pictures * frames)[:frames])
        tracemalloc.start()
        try:
            measured(clip, clip)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # what is loaded once
    assert peak(240) < 1.05 * peak(60)
