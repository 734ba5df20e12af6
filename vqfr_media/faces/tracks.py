"""The faces of a video as a value that a person can look at and edit: shots, tracks, places.

`Tracks.frame_faces` gives what `faces.track.track` gave when they were found, so that a restoration
with unedited tracks has the same bits as one without. `tracks_file.py` reads and writes them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.track import place
from vqfr_media.frames import Display, Frame
from vqfr_media.values import Face, FrameFaces, SkipReason, TrackedFace, number_tracks


@dataclass(frozen=True, kw_only=True)
class TracksSource:
    """The video in which the faces were found."""

    name: str
    """Its file name; only for people and messages."""
    width: int
    """Stored luma columns."""
    height: int
    """Stored luma rows."""
    frame_count: int
    """Frames that were read."""
    time_base: Fraction
    """Seconds per unit of pts."""
    frame_rate: Fraction
    """Average frames per second."""
    display: Display
    """How the pictures are shown; the places of faces depend on it."""
    frame_count_from_header: int | None = None
    """What the container claimed then; may be wrong or absent."""


@dataclass(frozen=True, kw_only=True)
class FaceSettings:
    """What is to be done with a face: with all tracks of a person, or with one track."""

    enabled: bool = True
    """Whether it is to be restored."""
    fidelity: float | None = None
    """Overrides the `fidelity` option, 0 to 1."""
    strength: float | None = None
    """Overrides the `strength` option, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("fidelity", "strength"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise OptionError(f"{name} of a face must be between 0 and 1, got {value:g}")


@dataclass(frozen=True, eq=False)
class Appearance:
    """A face in one frame."""

    frame: int
    """Index of the frame, from 0."""
    face: Face
    """Where it is, in display coordinates."""
    filled: bool = False
    """Whether the detector had lost it there, and it was put between two detections."""


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One person in one shot."""

    id: int
    """Number of the track, unique in its file."""
    appearances: tuple[Appearance, ...]
    """In the order of frames, at most one in each."""
    enabled: bool = True
    """Whether the face is to be restored."""
    fidelity: float | None = None
    """Overrides the `fidelity` option for this face; only for models that have one."""
    strength: float | None = None
    """Overrides the `strength` option for this face."""
    person: int | None = None
    """Number of the person, from 1, where persons were told apart: the same in all its tracks."""

    @property
    def settings(self) -> FaceSettings:
        """What is to be done with it."""
        return FaceSettings(enabled=self.enabled, fidelity=self.fidelity, strength=self.strength)

    def with_settings(self, own: FaceSettings, person: FaceSettings) -> "FaceTrack":
        """Returns the track with settings of its own, and its person's where it has none."""
        return replace(
            self,
            enabled=own.enabled and person.enabled,
            fidelity=person.fidelity if own.fidelity is None else own.fidelity,
            strength=person.strength if own.strength is None else own.strength,
        )


@dataclass(frozen=True, eq=False)
class Tracks:
    """Every face of a video, and where its shots begin."""

    source: TracksSource
    """Where the faces were found."""
    shots: tuple[int, ...]
    """Index of each shot's first frame; the first is 0."""
    tracks: tuple[FaceTrack, ...]
    """In order of appearance."""
    path: Path = Path("tracks")
    """File they were read from, for messages."""

    @cached_property
    def _by_frame(self) -> dict[int, list[tuple[FaceTrack, Appearance]]]:
        """The faces of each frame that has any, in the order in which `track` gives them."""
        frames: dict[int, list[tuple[FaceTrack, Appearance]]] = {}
        for track in self.tracks:
            for appearance in track.appearances:
                frames.setdefault(appearance.frame, []).append((track, appearance))
        for faces in frames.values():
            faces.sort(key=lambda item: place(item[1].face))
        return frames

    @cached_property
    def _shots(self) -> frozenset[int]:
        return frozenset(self.shots) | {0}

    @property
    def sets_fidelity(self) -> bool:
        """Whether a track asks for a fidelity of its own."""
        return any(track.fidelity is not None for track in self.tracks)

    def faces_of(self, index: int) -> list[tuple[FaceTrack, Appearance]]:
        """Returns the faces of frame number `index`, in the order of `frame_faces`."""
        return self._by_frame.get(index, [])

    def frame_faces(self, frame: Frame) -> FrameFaces[TrackedFace]:
        """Returns the faces of one frame, linked to those of the frame before.

        Raises:
            InputError: there is no such frame in the video in which the faces were found.
        """
        if frame.index >= self.source.frame_count:
            raise self.other_clip(f"{self.source.frame_count} frames", "more")
        here = self.faces_of(frame.index)
        new_shot = frame.index in self._shots
        before = [] if new_shot else self.faces_of(frame.index - 1)
        positions = {track.id: position for position, (track, _) in enumerate(before)}
        return FrameFaces(
            frame,
            tuple(
                TrackedFace(
                    appearance.face,
                    positions.get(track.id),
                    filled=appearance.filled,
                    skip=None if track.enabled else SkipReason.DISABLED,
                    fidelity=track.fidelity,
                    strength=track.strength,
                )
                for track, appearance in here
            ),
            new_shot,
        )

    def check_picture(self, width: int, height: int, display: Display) -> None:
        """Raises InputError where pictures of this size cannot be those of the source."""
        source = self.source
        if (width, height) != (source.width, source.height):
            raise self.other_clip(f"{source.width}×{source.height}", f"{width}×{height}")
        if display != source.display:
            raise self.other_clip(f"shown {_shown(source.display)}", f"shown {_shown(display)}")

    def check_count(self, frame_count: int) -> None:
        """Raises InputError where a video of this length is not the source."""
        if frame_count != self.source.frame_count:
            raise self.other_clip(f"{self.source.frame_count} frames", f"{frame_count}")

    def check_claim(self, frame_count_from_header: int | None) -> None:
        """Raises InputError where the container claims another length than the source's did.

        Claims are compared with claims, so that a wrong one does no harm.
        """
        before, now = self.source.frame_count_from_header, frame_count_from_header
        if before is not None and now is not None and before != now:
            raise self.other_clip(f"{before} frames by its header", f"{now}")

    def other_clip(self, was: str, now: str) -> InputError:
        """Returns the error that says these tracks belong to another video."""
        return InputError(
            f"{self.path}: these are the tracks of {self.source.name}, which has {was}, but this "
            f"video has {now}; find its own with `vqfr-media tracks`"
        )


def by_fields(tracks: Tracks) -> Tracks:
    """Returns the tracks of the fields of interlaced pictures in which faces were found.

    A face in a woven picture lies between those of its two fields: it is put half of its motion
    from one field to the next earlier and later.
    """
    source = replace(tracks.source, frame_count=2 * tracks.source.frame_count)
    shots = tuple(2 * shot for shot in tracks.shots)
    doubled = (
        replace(track, appearances=tuple(_in_fields(track.appearances, tracks.shots)))
        for track in tracks.tracks
    )
    return replace(tracks, source=source, shots=shots, tracks=tuple(doubled))


def _in_fields(appearances: tuple[Appearance, ...], shots: tuple[int, ...]) -> list[Appearance]:
    at = {one.frame: one for one in appearances}
    made = []
    for one in appearances:
        before = at.get(one.frame - 1, one) if one.frame not in shots else one
        after = at.get(one.frame + 1, one) if one.frame + 1 not in shots else one
        fields = 2 * max(after.frame - before.frame, 1)
        box = (after.face.box - before.face.box) / fields
        landmarks = (after.face.landmarks - before.face.landmarks) / fields
        for number, half in ((0, -0.5), (1, 0.5)):
            face = replace(
                one.face,
                box=one.face.box + half * box,
                landmarks=one.face.landmarks + half * landmarks,
            )
            made.append(replace(one, frame=2 * one.frame + number, face=face))
    return made


def collect(
    items: Iterable[FrameFaces[TrackedFace]],
) -> tuple[int, tuple[int, ...], tuple[FaceTrack, ...]]:
    """Collects number of frames, shots and tracks from what `track` gave, in order."""
    count = 0
    shots: list[int] = []
    chains: list[list[Appearance]] = []
    numbers: list[int] = []
    for frame_faces in items:
        index = frame_faces.frame.index
        count += 1
        if frame_faces.new_shot:
            shots.append(index)
        links = [tracked.previous for tracked in frame_faces.faces]
        numbers = number_tracks(links, numbers, new_shot=frame_faces.new_shot, count=len(chains))
        for tracked, number in zip(frame_faces.faces, numbers, strict=True):
            if number == len(chains):
                chains.append([])
            chains[number].append(Appearance(index, tracked.face, tracked.filled))
    return (
        count,
        tuple(shots),
        tuple(FaceTrack(number, tuple(chain)) for number, chain in enumerate(chains)),
    )


def _shown(display: Display) -> str:
    return f"at {display.sample_aspect_ratio} turned {90 * display.quarter_turns}°"
