"""What was chosen on the page: as JSON, as tracks, as a file that reads the same."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqfr_media.errors import OptionError
from vqfr_media.faces.tracks import Appearance, FaceSettings, FaceTrack, Tracks, TracksSource
from vqfr_media.faces.tracks_file import read_tracks, write_tracks
from vqfr_media.frames import Display
from vqfr_media.options import BlendOptions, RestoreOptions
from vqfr_media.studio.settings import StudioSettings
from vqfr_media.values import Face

POINTS = [[30.0, 30], [50, 30], [40, 40], [32, 50], [48, 50]]


def track(number: int, person: int | None, **settings: Any) -> FaceTrack:
    face = Face(np.array([20.0, 20, 60, 60]), np.array(POINTS), 0.9)
    return FaceTrack(number, (Appearance(number, face),), person=person, **settings)


def tracks_of(*made: FaceTrack) -> Tracks:
    source = TracksSource(
        name="film.mkv",
        width=100,
        height=80,
        frame_count=9,
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
        display=Display(),
    )
    return Tracks(source, (0,), made)


TRACKS = tracks_of(
    track(0, 1),
    track(1, 1, strength=0.5),
    track(2, 2, enabled=False, strength=0.25),
    track(3, 2, enabled=False, strength=0.25),
    track(4, None, fidelity=0.75),
)


def told(tracks: Tracks) -> list[FaceSettings]:
    return [one.settings for one in tracks.tracks]


def test_a_person_has_what_all_its_tracks_have() -> None:
    options = RestoreOptions(blend=BlendOptions(strength=0.9, grain=0.4))
    settings = StudioSettings.of(TRACKS, options)
    assert (settings.strength, settings.grain, settings.fidelity) == (0.9, 0.4, None)
    assert settings.persons == {
        1: FaceSettings(),
        2: FaceSettings(enabled=False, strength=0.25),
    }
    assert settings.tracks == {
        0: FaceSettings(),
        1: FaceSettings(strength=0.5),
        2: FaceSettings(),
        3: FaceSettings(),
        4: FaceSettings(fidelity=0.75),
    }
    assert told(settings.applied(TRACKS)) == told(TRACKS)  # as it was


def test_the_file_says_what_was_applied(tmp_path: Path) -> None:
    settings = StudioSettings(
        persons={1: FaceSettings(strength=0.75), 2: FaceSettings(enabled=False, fidelity=0.125)},
        tracks={1: FaceSettings(strength=0.5), 3: FaceSettings(fidelity=1.0)},
    )
    path = tmp_path / "tracks.json"
    write_tracks(path, settings.own_tracks(TRACKS), settings.persons)
    assert (
        told(read_tracks(path))
        == told(settings.applied(TRACKS))
        == [
            FaceSettings(strength=0.75),
            FaceSettings(strength=0.5),
            FaceSettings(enabled=False, fidelity=0.125),
            FaceSettings(enabled=False, fidelity=1.0),
            FaceSettings(),
        ]
    )
    persons = json.loads(path.read_text())["persons"]
    assert persons == [
        {"id": 1, "enabled": True, "fidelity": None, "strength": 0.75},
        {"id": 2, "enabled": False, "fidelity": 0.125, "strength": None},
    ]


def test_json_is_read_back() -> None:
    settings = StudioSettings.of(TRACKS, RestoreOptions())
    again = StudioSettings.from_json(json.dumps(settings.to_json()).encode(), TRACKS)
    assert again == settings
    changed = replace(settings, strength=0.5)
    assert StudioSettings.from_json(json.dumps(changed.to_json()).encode(), TRACKS) == changed


ONE = {"enabled": True, "fidelity": None, "strength": None}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"strength": 1.01}, "strength must be between 0 and 1"),
        ({"strength": "1"}, "strength must be a number"),
        ({"strength": None}, "strength must be a number"),
        ({"strength": True}, "strength must be a number"),
        ({"strength": float("nan")}, "strength must be between 0 and 1"),
        ({"grain": -0.1}, "grain must be between 0 and 1"),
        ({"fidelity": 2}, "fidelity must be between 0 and 1"),
        ({"more": 1}, "the settings must be an object with"),
        ({"persons": []}, "persons must be an object of settings by number"),
        ({"persons": {"7": ONE}}, "persons has no number '7'"),
        ({"persons": {"1": {**ONE, "strength": 3}}}, "strength of a face must be between 0 and 1"),
        ({"tracks": {"-1": ONE}}, "tracks has no number '-1'"),
        ({"tracks": {"../0": ONE}}, "tracks has no number '../0'"),
        ({"tracks": {"0": {"enabled": True}}}, r"tracks\[0\] must be an object with enabled"),
        ({"tracks": {"0": {**ONE, "enabled": 1}}}, r"tracks\[0\].enabled must be true or false"),
        ({"tracks": {"0": {**ONE, "fidelity": "x"}}}, r"tracks\[0\].fidelity must be a number"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], says: str) -> None:
    value = {**StudioSettings().to_json(), **change}
    with pytest.raises(OptionError, match=says):
        StudioSettings.from_json(json.dumps(value).encode(), TRACKS)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_settings_is_refused(text: bytes) -> None:
    with pytest.raises(OptionError, match="the settings"):
        StudioSettings.from_json(text, TRACKS)
