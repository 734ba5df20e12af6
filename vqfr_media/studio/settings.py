"""What somebody chose on the page: for all faces, for a person, for a track."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from vqfr_media.errors import OptionError
from vqfr_media.faces.tracks import FaceSettings, FaceTrack, Tracks
from vqfr_media.options import BlendOptions, ModelOptions, RestoreOptions

_FACE_KEYS = {"enabled", "fidelity", "strength"}


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """Everything that can be chosen on the page."""

    strength: float = BlendOptions.strength
    """How much of a restored face shows, where neither track nor person has a strength; 0 to 1."""
    grain: float = BlendOptions.grain
    """How much of the film's grain restored faces get back, 0 to 1."""
    fidelity: float | None = None
    """0 to 1, where neither track nor person has a fidelity; None leaves it to the network."""
    persons: Mapping[int, FaceSettings] = field(default_factory=dict)
    """By the person's number; those who are not here have no settings."""
    tracks: Mapping[int, FaceSettings] = field(default_factory=dict)
    """By the track's number; those that are not here have no settings."""

    def __post_init__(self) -> None:
        # The same limits and messages as those of the options.
        BlendOptions(strength=self.strength, grain=self.grain)
        ModelOptions(fidelity=self.fidelity)

    @classmethod
    def of(cls, tracks: Tracks, options: RestoreOptions) -> Self:
        """Returns what the options and a tracks file say; a person has what all its tracks have."""
        persons: dict[int, FaceSettings] = {}
        own = {track.id: track.settings for track in tracks.tracks}
        for person in persons_of(tracks):
            theirs = [track for track in tracks.tracks if track.person == person]
            common = persons[person] = _common(track.settings for track in theirs)
            for track in theirs:
                own[track.id] = FaceSettings(
                    enabled=track.enabled or not common.enabled,
                    fidelity=None if common.fidelity is not None else track.fidelity,
                    strength=None if common.strength is not None else track.strength,
                )
        return cls(
            strength=options.blend.strength,
            grain=options.blend.grain,
            fidelity=options.model.fidelity,
            persons=persons,
            tracks=own,
        )

    @classmethod
    def from_json(cls, text: bytes, tracks: Tracks) -> Self:
        """Reads what the page sent.

        Args:
            text: JSON in UTF-8.
            tracks: the film's; only persons and tracks of these can have settings.

        Raises:
            OptionError: it is no such JSON, or a value is out of its range.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"the settings are not JSON: {error}") from error
        names = {"strength", "grain", "fidelity", "persons", "tracks"}
        _check_keys(value, "the settings", names)
        return cls(
            strength=_number(value["strength"], "strength"),
            grain=_number(value["grain"], "grain"),
            fidelity=_number_or_none(value["fidelity"], "fidelity"),
            persons=_faces(value["persons"], "persons", persons_of(tracks)),
            tracks=_faces(value["tracks"], "tracks", {track.id for track in tracks.tracks}),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return {
            "strength": self.strength,
            "grain": self.grain,
            "fidelity": self.fidelity,
            "persons": {str(number): asdict(one) for number, one in self.persons.items()},
            "tracks": {str(number): asdict(one) for number, one in self.tracks.items()},
        }

    def own_tracks(self, tracks: Tracks) -> Tracks:
        """Returns the tracks with settings of their own, without those of their persons."""
        return self._with_settings(tracks, {})

    def applied(self, tracks: Tracks) -> Tracks:
        """Returns the tracks as a restoration sees them."""
        return self._with_settings(tracks, self.persons)

    def _with_settings(self, tracks: Tracks, persons: Mapping[int, FaceSettings]) -> Tracks:
        nothing = FaceSettings()

        def settled(track: FaceTrack) -> FaceTrack:
            person = nothing if track.person is None else persons.get(track.person, nothing)
            return track.with_settings(self.tracks.get(track.id, nothing), person)

        return replace(tracks, tracks=tuple(map(settled, tracks.tracks)))


def persons_of(tracks: Tracks) -> set[int]:
    """Returns the numbers of the persons that were told apart."""
    return {track.person for track in tracks.tracks if track.person is not None}


def _common(settings: Iterable[FaceSettings]) -> FaceSettings:
    """Returns what all of them say."""
    all_of_them = list(settings)
    first = all_of_them[0]
    return FaceSettings(
        enabled=any(one.enabled for one in all_of_them),
        fidelity=first.fidelity if len({one.fidelity for one in all_of_them}) == 1 else None,
        strength=first.strength if len({one.strength for one in all_of_them}) == 1 else None,
    )


def _check_keys(value: object, place: str, names: set[str]) -> None:
    if not isinstance(value, dict) or set(value) != names:
        raise OptionError(f"{place} must be an object with {', '.join(sorted(names))}")


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"{place} must be a number, got {value!r:.40}")
    return float(value)


def _number_or_none(value: object, place: str) -> float | None:
    return None if value is None else _number(value, place)


def _faces(value: object, place: str, known: set[int]) -> dict[int, FaceSettings]:
    if not isinstance(value, dict):
        raise OptionError(f"{place} must be an object of settings by number")
    numbers = {str(number): number for number in known}
    found = {}
    for name, one in value.items():
        if name not in numbers:
            raise OptionError(f"{place} has no number {name!r:.40}")
        here = f"{place}[{name}]"
        _check_keys(one, here, _FACE_KEYS)
        if not isinstance(one["enabled"], bool):
            raise OptionError(f"{here}.enabled must be true or false")
        found[numbers[name]] = FaceSettings(
            enabled=one["enabled"],
            fidelity=_number_or_none(one["fidelity"], f"{here}.fidelity"),
            strength=_number_or_none(one["strength"], f"{here}.strength"),
        )
    return found
