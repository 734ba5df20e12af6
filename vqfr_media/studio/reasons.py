"""Why faces are left alone: in a frame, and in how many frames of a film."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched

from vqfr_media.faces.track import choose
from vqfr_media.faces.tracks import Tracks
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.restoration.radii import FrameRadii
from vqfr_media.studio.film import Film
from vqfr_media.values import FrameFaces, SkipReason, TrackedFace
from vqfr_media.windows import Window, sliding, window_at

type Reasons = Mapping[int, SkipReason | None]
"""By tracks, of faces in one picture; None where the face is restored."""


def reasons_in_frame(
    film: Film, number: int, parts_tracks: Tracks, options: RestoreOptions
) -> Reasons:
    """Returns why each face of a frame is left alone.

    Args:
        film: the frame's.
        number: of the frame.
        parts_tracks: where the faces are in the parts of the film's frames.
        options: say which faces are left alone.
    """

    def tracked(part: int) -> FrameFaces[TrackedFace]:
        return parts_tracks.frame_faces(film.blank(part))

    radius, count = _choice_radius(film, options), film.count * film.parts_of_frame
    return _together(
        [
            _of_part(part, window_at(tracked, part, radius, count), parts_tracks, options.face)
            for part in film.numbers_of_parts(number)
        ]
    )


def reasons_by_track(
    film: Film, tracks: Tracks, options: RestoreOptions
) -> dict[int, Counter[SkipReason]]:
    """Counts in how many frames each track is left alone for another reason than a choice.

    Args:
        film: says which frames count.
        tracks: its faces.
        options: say which faces are left alone.
    """
    radius, count = _choice_radius(film, options), film.parts_of_frame
    tracks = film.tracks_of_parts(tracks)
    found: dict[int, Counter[SkipReason]] = {}
    for run in _runs_with_faces(tracks):
        items = (tracks.frame_faces(film.blank(part)) for part in run)
        windows = zip(run, sliding(items, radius), strict=True)
        for parts in batched(windows, count):  # a frame's fields have the same faces
            if parts[0][0] // count not in film.shown:
                continue
            reasons = _together([_of_part(*one, tracks, options.face) for one in parts])
            for track, reason in reasons.items():
                if reason is not None and reason != SkipReason.DISABLED:
                    found.setdefault(track, Counter())[reason] += 1
    return found


def _choice_radius(film: Film, options: RestoreOptions) -> int:
    """Returns the parts to each side that are looked at to choose among faces."""
    rate = film.info.frame_rate * film.parts_of_frame
    return FrameRadii.of(options.temporal, rate, faces_known=True).choose


def _of_part(
    part: int, window: Window[FrameFaces[TrackedFace]], tracks: Tracks, options: FaceOptions
) -> Reasons:
    names = [track.id for track, _ in tracks.faces_of(part)]
    faces = choose(window, options=options).faces
    return {name: face.skip for name, face in zip(names, faces, strict=True)}


def _together(parts: Sequence[Reasons]) -> Reasons:
    """Returns why faces are left alone in all parts of a frame."""
    return {
        track: None if any(part[track] is None for part in parts) else reason
        for track, reason in parts[0].items()
    }


def _runs_with_faces(tracks: Tracks) -> Iterator[range]:
    """Yields stretches of frames, or fields, with a face in each: no link goes beyond one."""
    start = None
    for number in range(tracks.source.frame_count + 1):
        there = bool(tracks.faces_of(number))
        if there and start is None:
            start = number
        elif not there and start is not None:
            yield range(start, number)
            start = None
