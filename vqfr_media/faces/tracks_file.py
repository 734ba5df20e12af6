"""Tracks as JSON (docs/tracks.md), one line a face, so that a person can edit them."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vqfr_media.errors import InputError
from vqfr_media.faces.align import similarity
from vqfr_media.faces.tracks import Appearance, FaceSettings, FaceTrack, Tracks, TracksSource
from vqfr_media.files import write_text
from vqfr_media.frames import Display
from vqfr_media.values import Face

FORMAT = "vqfr-media tracks"
VERSION = 1


def write_tracks(
    path: Path, tracks: Tracks, persons: Mapping[int, FaceSettings] | None = None
) -> None:
    """Writes `tracks`; the file gets its name when it is complete.

    Args:
        path: the file.
        tracks: what it is to hold.
        persons: settings for all tracks of a person, by number; by default none differ.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    write_text(path, to_json(tracks, persons))


def to_json(tracks: Tracks, persons: Mapping[int, FaceSettings] | None = None) -> str:
    """Returns the file's text; numbers are written so that they are read back exactly."""
    source, settings = tracks.source, persons or {}
    head = {
        "format": FORMAT,
        "version": VERSION,
        "source": {
            # A name that is no UTF-8 is escaped: the file is for people to read and edit.
            "name": source.name.encode("utf-8", "backslashreplace").decode("utf-8"),
            "width": source.width,
            "height": source.height,
            "frame_count": source.frame_count,
            "frame_count_from_header": source.frame_count_from_header,
            "time_base": str(source.time_base),
            "frame_rate": str(source.frame_rate),
            "sample_aspect_ratio": str(source.display.sample_aspect_ratio),
            "quarter_turns": source.display.quarter_turns,
        },
        "shots": list(tracks.shots),
        "persons": [
            {"id": person, **asdict(settings.get(person, FaceSettings()))}
            for person in sorted({t.person for t in tracks.tracks if t.person is not None})
        ],
    }
    parts = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},"
             for key, value in head.items()]  # fmt: skip
    blocks = []
    for track in tracks.tracks:
        about = {
            "id": track.id,
            "person": track.person,
            "enabled": track.enabled,
            "fidelity": track.fidelity,
            "strength": track.strength,
        }
        faces = ",\n".join(f"   {json.dumps(_appearance(one))}" for one in track.appearances)
        blocks.append(f'  {json.dumps(about)[:-1]}, "faces": [\n{faces}\n  ]}}')
    return "\n".join(["{", *parts, ' "tracks": [', ",\n".join(blocks), " ]", "}", ""])


def _appearance(one: Appearance) -> dict[str, Any]:
    return {
        "frame": one.frame,
        "box": one.face.box.tolist(),
        "landmarks": one.face.landmarks.tolist(),
        "score": one.face.score,
        "filled": one.filled,
    }


def read_tracks(path: Path) -> Tracks:
    """Reads a file that `write_tracks` wrote and a person may have edited.

    Raises:
        InputError: there is no such file, or it is not one of tracks; the place is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such file; make it with `vqfr-media tracks VIDEO -o {path.name}`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as tracks: {error}") from error
    try:
        # A cut file or a missing comma; the error says the line.
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    return _Reader(path).tracks(values)


class _Reader:
    """Takes the values apart; every complaint names the file and the place in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.longer_side = 0.0
        """Of the picture, in display pixels: what a face's place is judged by."""

    def wrong(self, place: str, what: str) -> InputError:
        return InputError(f"{self.path}: {place} {what}")

    def tracks(self, values: object) -> Tracks:
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise self.wrong("the file", f'is not one of tracks (no "format": "{FORMAT}")')
        if values.get("version") != VERSION:
            raise self.wrong(
                "version",
                f"{values.get('version')!r} is not known; this vqfr-media reads version {VERSION}",
            )
        # Files of version 1 from before there were persons have none.
        names = {"format", "version", "source", "shots", "tracks"}
        self.keys(values, "the file", names, optional={"persons"})
        source = self.source(values["source"])
        self.longer_side = max(
            source.width * float(source.display.sample_aspect_ratio), float(source.height)
        )
        count = source.frame_count
        shots = self.numbers(values["shots"], "shots", count)
        if not shots or shots[0] != 0:
            raise self.wrong("shots", "must begin with 0")
        tracks = tuple(
            self.track(value, f"tracks[{at}]", count)
            for at, value in enumerate(self.items(values["tracks"], "tracks"))
        )
        seen: set[int] = set()
        for at, track in enumerate(tracks):
            if track.id in seen:
                raise self.wrong(f"tracks[{at}].id", f"{track.id} is another track's already")
            seen.add(track.id)
        persons = self.persons(values.get("persons", []))
        return Tracks(source, shots, tuple(_settled(t, persons) for t in tracks), self.path)

    def persons(self, value: object) -> dict[int, FaceSettings]:
        """Takes what is set for all tracks of a person."""
        found: dict[int, FaceSettings] = {}
        for at, one in enumerate(self.items(value, "persons")):
            place = f"persons[{at}]"
            person = self.keys(one, place, {"id", "enabled", "fidelity", "strength"})
            number = self.integer(person["id"], f"{place}.id", 1)
            if number in found:
                raise self.wrong(f"{place}.id", f"{number} is another person's already")
            found[number] = FaceSettings(
                enabled=self.boolean(person["enabled"], f"{place}.enabled"),
                fidelity=self.share(person["fidelity"], f"{place}.fidelity"),
                strength=self.share(person["strength"], f"{place}.strength"),
            )
        return found

    def source(self, value: object) -> TracksSource:
        names = {"name", "width", "height", "frame_count", "frame_count_from_header", "time_base",
                 "frame_rate", "sample_aspect_ratio", "quarter_turns"}  # fmt: skip
        source = self.keys(value, "source", names)
        claim = source["frame_count_from_header"]
        if not isinstance(source["name"], str):
            raise self.wrong("source.name", f"must be a text, got {source['name']!r}")
        return TracksSource(
            name=source["name"],
            width=self.integer(source["width"], "source.width", 1),
            height=self.integer(source["height"], "source.height", 1),
            frame_count=self.integer(source["frame_count"], "source.frame_count", 1),
            time_base=self.fraction(source["time_base"], "source.time_base"),
            frame_rate=self.fraction(source["frame_rate"], "source.frame_rate"),
            display=Display(
                self.fraction(source["sample_aspect_ratio"], "source.sample_aspect_ratio"),
                self.integer(source["quarter_turns"], "source.quarter_turns", 0, 3),
            ),
            frame_count_from_header=None
            if claim is None
            else self.integer(claim, "source.frame_count_from_header", 0),
        )

    def track(self, value: object, place: str, count: int) -> FaceTrack:
        # Files of version 1 from before there was a strength lack it.
        names = {"id", "enabled", "fidelity", "faces"}
        track = self.keys(value, place, names, optional={"strength", "person"})
        person = track.get("person")
        appearances = tuple(
            self.appearance(face, f"{place}.faces[{at}]", count)
            for at, face in enumerate(self.items(track["faces"], f"{place}.faces"))
        )
        frames = [one.frame for one in appearances]
        for at in range(1, len(frames)):
            if frames[at] <= frames[at - 1]:
                raise self.wrong(f"{place}.faces[{at}].frame", "must be later than the one before")
        return FaceTrack(
            id=self.integer(track["id"], f"{place}.id", 0),
            appearances=appearances,
            enabled=self.boolean(track["enabled"], f"{place}.enabled"),
            fidelity=self.share(track["fidelity"], f"{place}.fidelity"),
            strength=self.share(track.get("strength"), f"{place}.strength"),
            person=None if person is None else self.integer(person, f"{place}.person", 1),
        )

    def appearance(self, value: object, place: str, count: int) -> Appearance:
        face = self.keys(value, place, {"frame", "box", "landmarks", "score", "filled"})
        box = self.reals(face["box"], f"{place}.box", 4)
        if box[0] >= box[2] or box[1] >= box[3]:
            raise self.wrong(f"{place}.box", f"must be x0, y0, x1, y1 with x0 < x1, got {box}")
        landmarks = [
            self.reals(point, f"{place}.landmarks[{at}]", 2)
            for at, point in enumerate(self.items(face["landmarks"], f"{place}.landmarks"))
        ]
        if len(landmarks) != 5:
            raise self.wrong(f"{place}.landmarks", f"must be five points, got {len(landmarks)}")
        extent = float(np.ptp(np.array(landmarks), axis=0).max())
        if extent > self.longer_side:  # a slip of the decimal point would ask for a crop of GiBs
            raise self.wrong(
                f"{place}.landmarks", f"span {extent:g} pixels, more than the picture has"
            )
        try:
            similarity(landmarks, 512)
        except ValueError as error:
            raise self.wrong(f"{place}.landmarks", f"cannot be aligned: {error}") from error
        return Appearance(
            self.integer(face["frame"], f"{place}.frame", 0, count - 1),
            Face(
                np.array(box),
                np.array(landmarks),
                self.number(face["score"], f"{place}.score", 0, 1),
            ),
            self.boolean(face["filled"], f"{place}.filled"),
        )

    def keys(
        self,
        value: object,
        place: str,
        names: set[str],
        *,
        optional: AbstractSet[str] = frozenset(),
    ) -> dict[str, Any]:
        """Takes `value` as an object with these keys alone: a mistyped one is not passed over."""
        if not isinstance(value, dict):
            raise self.wrong(place, f"must be an object, got {_short(value)}")
        for name in sorted(names - set(value)):
            raise self.wrong(place, f'lacks "{name}"')
        known = names | optional
        for name in sorted(set(value) - known):
            raise self.wrong(
                place, f'has an unknown "{name}"; known are {", ".join(sorted(known))}'
            )
        return value

    def items(self, value: object, place: str) -> list[object]:
        if not isinstance(value, list):
            raise self.wrong(place, f"must be a list, got {_short(value)}")
        return value

    def number(self, value: object, place: str, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(place, f"must be a number, got {_short(value)}")
        if not low <= value <= high:  # NaN is not, either
            raise self.wrong(place, f"must be between {low:g} and {high:g}, got {value}")
        return float(value)

    def share(self, value: object, place: str) -> float | None:
        """Takes a number from 0 to 1, or null, which leaves it to the option."""
        return None if value is None else self.number(value, place, 0, 1)

    def reals(self, value: object, place: str, count: int) -> list[float]:
        values = [
            self.number(one, f"{place}[{at}]", -self.longer_side, 2 * self.longer_side)
            for at, one in enumerate(self.items(value, place))
        ]
        if len(values) != count:
            raise self.wrong(place, f"must be {count} numbers, got {len(values)}")
        return values

    def integer(self, value: object, place: str, low: int, high: int | None = None) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(place, f"must be a whole number, got {_short(value)}")
        if value < low or (high is not None and value > high):
            limit = f"at least {low}" if high is None else f"between {low} and {high}"
            raise self.wrong(place, f"must be {limit}, got {value}")
        return value

    def numbers(self, value: object, place: str, count: int) -> tuple[int, ...]:
        """Indices of frames, each later than the one before."""
        found = [
            self.integer(one, f"{place}[{at}]", 0, count - 1)
            for at, one in enumerate(self.items(value, place))
        ]
        if found != sorted(set(found)):
            raise self.wrong(place, "must be in order, each once")
        return tuple(found)

    def boolean(self, value: object, place: str) -> bool:
        if not isinstance(value, bool):
            raise self.wrong(place, f"must be true or false, got {_short(value)}")
        return value

    def fraction(self, value: object, place: str) -> Fraction:
        try:
            result = Fraction(value) if isinstance(value, str) else Fraction(0)
        except (ValueError, ZeroDivisionError):
            result = Fraction(0)
        if result <= 0:
            raise self.wrong(place, f'must be a ratio like "1001/24000", got {_short(value)}')
        return result


def _settled(track: FaceTrack, persons: dict[int, FaceSettings]) -> FaceTrack:
    """Returns the track with what is set for its person, where it has no setting of its own."""
    person = persons.get(track.person) if track.person is not None else None
    return track if person is None else track.with_settings(track.settings, person)


def _short(value: object) -> str:
    """Returns what was given, in a line."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
