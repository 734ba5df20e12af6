"""Frames by settings that change: the bits of a restoration, and no more work than needed."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.interlaced import FRAMES, SPEED, write_interlaced
from tests.scenes import write_scene
from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.choices import ChosenDetector, ChosenModel
from vqfr_media.errors import MediaError, OptionError
from vqfr_media.faces.tracks import FaceSettings, Tracks
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.frames import Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import (
    BlendOptions,
    EncodeOptions,
    FaceOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.pipeline import restore_video
from vqfr_media.prepare import Prepared
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.studio.film import Film, open_film
from vqfr_media.studio.frame_restorer import FrameRestorer
from vqfr_media.studio.open_session import open_session
from vqfr_media.studio.reasons import reasons_by_track
from vqfr_media.studio.settings import StudioSettings
from vqfr_media.time_range import TimeRange
from vqfr_media.values import SkipReason

COUNT = 14


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("discs") / "scene.mkv"
    return write_scene(path, frames=COUNT, discs=2, cut=9)


@pytest.fixture(scope="module")
def tracks(clip: Path) -> Tracks:
    found = find_tracks(clip, detector=MarkerDetector())
    assert [len(one.appearances) for one in found.tracks] == [9, 9, 5, 5]
    return found


def engine_and_restorer(
    clip: Path, tracks: Tracks, options: RestoreOptions
) -> tuple[InvertingEngine, FrameRestorer]:
    engine = InvertingEngine(size=64)
    return engine, FrameRestorer(open_film(clip, options), prepared(engine), options, tracks)


def prepared(engine: InvertingEngine) -> Prepared:
    return Prepared(
        engine, None, ChosenModel("identity", Path(), ""), ChosenDetector("none", Path(), "")
    )


def streamed(
    clip: Path, tracks: Tracks, options: RestoreOptions, settings: StudioSettings
) -> list[Frame]:
    """What `restore --tracks` hands to the encoder."""
    film = open_film(clip, options)
    mixing = replace(options.blend, strength=settings.strength, grain=settings.grain)
    restorer = Restorer(
        InvertingEngine(size=64),
        None,
        replace(options, blend=mixing),
        film.info.time_base,
        film.info.frame_rate,
        settings.applied(tracks),
    )
    frames = film.frames(range(COUNT)).values()
    return [frame for frame, _ in restore_frames(frames, restorer)]


def restored_with(
    tracks: Tracks, source: Path, folder: Path, options: RestoreOptions
) -> list[Frame]:
    """What `restore --tracks` writes without loss."""
    tracks_file, output = folder / "t.json", folder / "b.mkv"
    write_tracks(tracks_file, tracks)
    asked = replace(options, tracks=tracks_file, encode=EncodeOptions(codec="ffv1"))
    restore_video(source, output, asked, engine=InvertingEngine(size=64))
    with open_video(output) as reader:
        return list(reader)


CHOICES = [
    StudioSettings(),
    StudioSettings(strength=0.4, grain=0.5),
    StudioSettings(tracks={0: FaceSettings(enabled=False)}),
    StudioSettings(grain=0, tracks={1: FaceSettings(strength=0.3), 2: FaceSettings(strength=0)}),
    StudioSettings(tracks={0: FaceSettings(enabled=False), 3: FaceSettings(enabled=False)}),
]


@pytest.mark.parametrize(
    "options",
    [
        RestoreOptions(),
        RestoreOptions(
            face=FaceOptions(faces="largest"),
            temporal=TemporalOptions(choice_radius=0.04, latent_radius=0.04),
            blend=BlendOptions(keep_occluders=True),
        ),
    ],
    ids=["defaults", "largest"],
)
def test_frames_are_those_of_a_restoration_in_any_order(
    clip: Path, tracks: Tracks, options: RestoreOptions
) -> None:
    _, restorer = engine_and_restorer(clip, tracks, options)
    expected = [streamed(clip, tracks, options, settings) for settings in CHOICES]
    # From choice to choice at a frame, as somebody tries them; and back to the first.
    for number in (3, 9, 3):
        for settings, frames in zip((*CHOICES, CHOICES[0]), (*expected, expected[0]), strict=True):
            restored = restorer.restore(number, settings)
            for plane, wanted in zip(restored.planes, frames[number].planes, strict=True):
                np.testing.assert_array_equal(plane, wanted)


def test_sliders_and_fewer_faces_cost_nothing_of_the_network(clip: Path, tracks: Tracks) -> None:
    engine, restorer = engine_and_restorer(clip, tracks, RestoreOptions())
    whole = restorer.restore(4, StudioSettings())
    work = engine.decoded
    assert work > 0
    for settings in (CHOICES[1], CHOICES[2], CHOICES[3], StudioSettings()):
        again = restorer.restore(4, settings)
    assert engine.decoded == work
    assert all(map(np.array_equal, again.planes, whole.planes))
    # A neighbour needs one frame more, of two faces.
    restorer.restore(5, StudioSettings())
    assert work < engine.decoded <= work + 2 * engine.spec.batch_size
    # What nobody wants restored is not restored.
    before = engine.decoded
    off = StudioSettings(tracks={n: FaceSettings(enabled=False) for n in range(4)})
    assert restorer.restore(12, off).planes == restorer.film.frames(range(12, 13))[12].planes
    assert engine.decoded == before


def test_reasons_are_those_of_the_stages(clip: Path, tracks: Tracks) -> None:
    face = FaceOptions(min_face=55, max_face=100_000)
    _, restorer = engine_and_restorer(clip, tracks, RestoreOptions(face=face))
    assert restorer.reasons(2, StudioSettings()) == {0: SkipReason.TOO_SMALL, 1: None}
    off = StudioSettings(tracks={1: FaceSettings(enabled=False)})
    assert restorer.reasons(2, off) == {0: SkipReason.TOO_SMALL, 1: SkipReason.DISABLED}
    largest = RestoreOptions(face=FaceOptions(faces="largest"))
    _, restorer = engine_and_restorer(clip, tracks, largest)
    assert restorer.reasons(2, StudioSettings()) == {0: SkipReason.NOT_CHOSEN, 1: None}
    assert restorer.reasons(2, off) == {0: None, 1: SkipReason.DISABLED}


@pytest.mark.parametrize(
    ("order", "form", "options"),
    [
        ("bff", "yuv422p", RestoreOptions()),
        (
            "tff",
            "yuv420p",
            RestoreOptions(
                face=FaceOptions(faces="largest"),
                temporal=TemporalOptions(choice_radius=0.04, latent_radius=0.02),
                blend=BlendOptions(keep_occluders=True),
                part=TimeRange(start="0.08"),
                fields="keep",
            ),
        ),
    ],
    ids=["defaults", "others"],
)
def test_an_interlaced_film_s_frames_are_what_the_tracks_file_makes_of_it(
    order: str, form: str, options: RestoreOptions, tmp_path: Path
) -> None:
    source = write_interlaced(tmp_path / "a.mkv", order=order, form=form)
    found = find_tracks(source, RestoreOptions(), detector=MarkerDetector())
    _, restorer = engine_and_restorer(source, found, options)
    shown = restorer.film.shown
    sources = open_film(source, options).frames(shown)
    for settings in (
        StudioSettings(),
        StudioSettings(strength=0.8, grain=0.3, tracks={0: FaceSettings(strength=0.4)}),
        StudioSettings(tracks={0: FaceSettings(enabled=False)}),
    ):
        mixing = replace(options.blend, strength=settings.strength, grain=settings.grain)
        asked = replace(options, blend=mixing)
        written = restored_with(settings.own_tracks(found), source, tmp_path, asked)
        expected = dict(zip(shown, written, strict=True))
        for number in (4, *shown):
            restored = restorer.restore(number, settings)
            for plane, wanted, before in zip(
                restored.planes, expected[number].planes, sources[number].planes, strict=True
            ):
                np.testing.assert_array_equal(plane, wanted)
                changed = (plane != before).any(axis=1)
                restored_fields = [bool(changed[field::2].any()) for field in (0, 1)]
                assert restored_fields == [settings.applied(found).tracks[0].enabled] * 2


def test_no_field_that_is_looked_at_is_left_out(tmp_path: Path) -> None:
    """A field's result depends on few others here, so that a frame's window is not the film."""
    source = write_interlaced(tmp_path / "a.mkv", frames=COUNT)
    found = find_tracks(source, RestoreOptions(), detector=MarkerDetector())
    temporal = TemporalOptions(choice_radius=0, landmarks_radius=0.02, pixel_radius=0)
    options = RestoreOptions(temporal=temporal, blend=BlendOptions(grain=0))
    expected = restored_with(found, source, tmp_path, options)
    for number in (7, 0, COUNT - 1):
        engine, restorer = engine_and_restorer(source, found, options)
        restored = restorer.restore(number, StudioSettings.of(found, options))
        assert engine.decoded < 2 * COUNT
        for plane, wanted in zip(restored.planes, expected[number].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_the_page_of_an_interlaced_film(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv", order="bff")
    tracks_file = tmp_path / "t.json"
    write_tracks(tracks_file, find_tracks(source, RestoreOptions(), detector=MarkerDetector()))
    options = RestoreOptions(tracks=tracks_file, fields="keep")
    session = open_session(
        source, tmp_path / "new.json", options, ready=prepared(InvertingEngine(size=64))
    )
    about = session.about()
    assert about["words"].endswith("6 frames, 25 a second, interlaced (bottom field first)")
    assert [(one["frames"], one["reasons"]) for one in about["tracks"]] == [(FRAMES, [])]
    assert "--fields keep" in session.status(session.settings)["command"]
    (face,) = session.frame(3, session.settings)["faces"]
    assert face["reason"] is None
    with Image.open(io.BytesIO(session.before(3))) as picture:
        seen = np.asarray(picture)[:, :, 0].astype(int)
    # The later field, on top here, shows the disc further to the right.
    rightmost = [
        np.flatnonzero((seen[88 + field : 92 : 2] > 200).any(axis=0)).max() for field in (0, 1)
    ]
    assert rightmost[0] - rightmost[1] == pytest.approx(SPEED, abs=1)


def test_an_interlaced_film_s_frames_are_counted_not_its_fields(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv")
    face = FaceOptions(min_face=1000)
    options = RestoreOptions(face=face, part=TimeRange(start="0.08"))
    found = find_tracks(source, RestoreOptions(), detector=MarkerDetector())
    _, restorer = engine_and_restorer(source, found, options)
    film = restorer.film
    assert (film.shown, film.parts_of_frame) == (range(2, FRAMES), 2)
    assert restorer.reasons(3, StudioSettings()) == {0: SkipReason.TOO_SMALL}
    too_small = {0: Counter({SkipReason.TOO_SMALL: FRAMES - 2})}
    assert reasons_by_track(film, found, options) == too_small
    with pytest.raises(OptionError, match="tracks number its interlaced pictures"):
        open_film(source, RestoreOptions(fields="deinterlace", tracks=tmp_path / "t.json"))


def test_a_face_whose_one_field_is_restored_is_not_left_alone(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "a.mkv")
    found = find_tracks(source, RestoreOptions(), detector=MarkerDetector())
    (track,) = found.tracks
    # It grows by five pixels a field: those of frame 2 are 57.5 and 62.5 px.
    growing = [
        replace(one, face=replace(one.face, box=np.array([0.0, 0.0, side, side])))
        for one in track.appearances
        for side in (40 + 10 * one.frame,)
    ]
    found = replace(found, tracks=(replace(track, appearances=tuple(growing)),))
    options = RestoreOptions(
        face=FaceOptions(min_face=60), temporal=TemporalOptions(choice_radius=0)
    )
    _, restorer = engine_and_restorer(source, found, options)
    reasons = [restorer.reasons(number, StudioSettings())[0] for number in range(FRAMES)]
    assert reasons == [SkipReason.TOO_SMALL] * 2 + [None] * (FRAMES - 2)
    counted = reasons_by_track(restorer.film, found, options)
    assert counted == {0: Counter({SkipReason.TOO_SMALL: 2})}


def test_fidelity_needs_a_network_that_has_it(clip: Path, tracks: Tracks) -> None:
    _, restorer = engine_and_restorer(clip, tracks, RestoreOptions())
    assert not restorer.has_fidelity
    for settings in (
        StudioSettings(fidelity=0.5),
        StudioSettings(tracks={0: FaceSettings(fidelity=0.5)}),
    ):
        with pytest.raises(OptionError, match="fidelity has no effect on identity; only v2"):
            restorer.restore(0, settings)


def test_a_film_keeps_what_was_read_and_gives_any_frame(clip: Path) -> None:
    film = open_film(clip, RestoreOptions())
    assert (film.count, film.shown) == (COUNT, range(COUNT))
    first = film.frames(range(4, 7))
    assert list(first) == [4, 5, 6]
    again = film.frames(range(3, 8))
    assert all(again[number] is first[number] for number in (4, 5, 6))
    assert [again[number].index for number in again] == [3, 4, 5, 6, 7]
    assert film.seconds(5) == pytest.approx(0.2)
    blank = film.blank(7)
    assert (blank.index, blank.display_size) == (7, again[7].display_size)
    clip_gone = Film(Path("nowhere.mkv"), film.info, film.shown, film._index, None)
    with pytest.raises(MediaError, match="nowhere"):
        clip_gone.frames(range(1))
