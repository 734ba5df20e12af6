"""The persons of a film: its tracks told apart by their faces, and one of them found by a photo."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from vqfr_media import weights
from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.persons import Descriptor, FaceDescriber, group_persons, nearest_person
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks
from vqfr_media.frames import Frame
from vqfr_media.media.image import is_image, read_image
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions
from vqfr_media.restoration.find_tracks import find_tracks

# Of each track, so many faces are looked at: the surest of each third of it.
_LOOKS = 3
# A photograph of whom to restore must show a face of so many pixels.
_SMALLEST = 24.0


def load_describer() -> FaceDescriber:
    """Returns what describes faces, with the weights that come with this package.

    Raises:
        WeightsError: they are damaged.
    """
    return FaceDescriber.of_weights(weights.find("identity", offline=True))


def describe_tracks(
    source: Path,
    tracks: Tracks,
    describer: FaceDescriber,
    *,
    on_frame: Callable[[Frame], None] | None = None,
) -> dict[int, Descriptor]:
    """Returns a descriptor of each track that has a face, by the track's number.

    Args:
        source: the video or image in which the tracks were found.
        tracks: its faces.
        describer: describes them.
        on_frame: called with each frame that is read.

    Raises:
        InputError: the source cannot be read.
    """
    wanted: dict[int, list[tuple[int, Appearance]]] = defaultdict(list)
    for track in tracks.tracks:
        for one in _looks(track):
            wanted[one.frame].append((track.id, one))
    found: dict[int, list[Descriptor]] = defaultdict(list)
    last = max(wanted, default=-1)
    with _frames(source) as frames:
        for frame in frames:
            if frame.index > last:
                break
            for number, one in wanted.get(frame.index, ()):
                found[number].append(describer.describe(frame, one.face.landmarks))
            if on_frame is not None:
                on_frame(frame)
    return {number: np.mean(looks, axis=0) for number, looks in found.items()}


def find_persons(
    source: Path,
    tracks: Tracks,
    describer: FaceDescriber,
    *,
    on_frame: Callable[[Frame], None] | None = None,
) -> Tracks:
    """Returns the tracks with the number of a person in each, from 1 in order of appearance.

    Tracks that are in one picture together are two persons, however alike they look. Arguments and
    errors are those of `describe_tracks`.
    """
    return with_persons(tracks, describe_tracks(source, tracks, describer, on_frame=on_frame))


def with_persons(tracks: Tracks, descriptors: dict[int, Descriptor]) -> Tracks:
    """Returns the tracks with persons; those without a descriptor have none."""
    shown = [track for track in tracks.tracks if track.id in descriptors]
    shown.sort(key=lambda track: track.appearances[0].frame)
    frames = [{one.frame for one in track.appearances} for track in shown]
    apart = [(a, b) for a, b in combinations(range(len(shown)), 2) if frames[a] & frames[b]]
    persons = group_persons([descriptors[track.id] for track in shown], apart)
    numbers = {track.id: person for track, person in zip(shown, persons, strict=True)}
    return replace(
        tracks, tracks=tuple(replace(one, person=numbers.get(one.id)) for one in tracks.tracks)
    )


def only_persons(
    source: Path,
    tracks: Tracks,
    *,
    wanted: Sequence[str] = (),
    unwanted: Sequence[str] = (),
    options: RestoreOptions | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Tracks:
    """Returns the tracks of which only some persons' are to be restored.

    Args:
        source: the video or image in which the tracks were found.
        tracks: its faces; persons in them, which somebody may have corrected, are kept.
        wanted: restore these only: numbers of persons, or photographs of them; all if empty.
        unwanted: leave these alone, named in the same way.
        options: how the face in a photograph is found.
        on_frame: called with each frame that is read for telling persons apart.

    Raises:
        InputError: a photograph shows no face, or nobody of the film.
        OptionError: there is no person of this number.
    """
    photos = [name for name in (*wanted, *unwanted) if not name.isdecimal()]
    if photos or not any(track.person is not None for track in tracks.tracks):
        describer = load_describer()
        descriptors = describe_tracks(source, tracks, describer, on_frame=on_frame)
        if not any(track.person is not None for track in tracks.tracks):
            tracks = with_persons(tracks, descriptors)
        persons: dict[int, list[Descriptor]] = defaultdict(list)
        for track in tracks.tracks:
            if track.person is not None and track.id in descriptors:
                persons[track.person].append(descriptors[track.id])
        shown = {name: _person_of_photo(Path(name), describer, persons, options) for name in photos}
    else:
        shown = {}
    known = {track.person for track in tracks.tracks if track.person is not None}

    def number(name: str) -> int:
        person = shown[name] if name in shown else int(name)
        if person not in known:
            raise OptionError(
                f"there is no person {person} in {tracks.source.name}, which has "
                f"{len(known)}; `vqfr-media tracks {tracks.source.name} --preview faces.png` "
                "shows them"
            )
        return person

    only, never = {number(name) for name in wanted}, {number(name) for name in unwanted}
    return replace(
        tracks,
        tracks=tuple(
            replace(one, enabled=one.enabled and _is_meant(one, only, never))
            for one in tracks.tracks
        ),
    )


def _is_meant(track: FaceTrack, only: set[int], never: set[int]) -> bool:
    return track.person not in never and (not only or track.person in only)


def _person_of_photo(
    photo: Path,
    describer: FaceDescriber,
    persons: dict[int, list[Descriptor]],
    options: RestoreOptions | None,
) -> int:
    """Returns the person in the film whom a photograph shows."""
    if not is_image(photo):
        raise InputError(f"{photo}: is no photograph; give one of the person, or a person's number")
    face = (options or RestoreOptions()).face
    only_faces = RestoreOptions(face=face, offline=True)
    found = [
        one
        for track in find_tracks(photo, only_faces).tracks
        for one in track.appearances
        if one.face.size >= _SMALLEST
    ]
    if not found:
        raise InputError(f"{photo}: no face was found in it; give a larger or clearer photograph")
    largest = max(found, key=lambda one: one.face.size)
    frame, _ = read_image(photo)
    person = nearest_person(describer.describe(frame, largest.face.landmarks), persons)
    if person is None:
        raise InputError(
            f"{photo}: nobody in the film looks like it; choose by number: "
            "`vqfr-media tracks FILM --preview faces.png` shows the persons"
        )
    return person


def _looks(track: FaceTrack) -> list[Appearance]:
    """Returns the surest face of each part of a track; filled ones only where all are."""
    seen = [one for one in track.appearances if not one.filled] or list(track.appearances)
    parts = [part for part in np.array_split(np.arange(len(seen)), _LOOKS) if len(part)]
    return [
        max((seen[at] for at in part), key=lambda one: (one.face.score, one.face.size))
        for part in parts
    ]


@contextmanager
def _frames(source: Path) -> Iterator[Iterable[Frame]]:
    if is_image(source):
        yield [read_image(source)[0]]
        return
    with open_video(source) as reader:
        yield reader
