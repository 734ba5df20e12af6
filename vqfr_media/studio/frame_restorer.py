"""Single frames restored by settings that change: the stages by random access, and what is kept.

Of an interlaced film the stages see fields, as in `restoration/fields.py`: a frame has two parts.
The network sees the same for every strength and grain, and for fewer faces; so a slider that was
moved or a box that was unticked costs no more than mixing the kept faces in again.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock

from vqfr_media.errors import OptionError
from vqfr_media.faces.tracks import FaceTrack, Tracks
from vqfr_media.frames import Frame
from vqfr_media.media.fields import weave
from vqfr_media.options import DEFAULT_FIDELITY, BlendOptions, RestoreOptions
from vqfr_media.prepare import Prepared
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.restore import Restorer
from vqfr_media.studio.film import Film
from vqfr_media.studio.reasons import Reasons, reasons_in_frame
from vqfr_media.studio.settings import StudioSettings
from vqfr_media.time_range import TimeRange
from vqfr_media.values import FrameFaces, RestoredFace

# Choices of faces and fidelities whose windows are kept, and frames with their restored faces.
_KEPT_CHOICES = 3
_KEPT_FRAMES = 12


@dataclass(frozen=True, eq=False)
class _Done:
    """A frame that went through the network."""

    frame: Frame
    """As it is in the film."""
    choice: tuple[tuple[int, float], ...]
    """Tracks of the whole film that were to be restored, with their fidelities."""
    restored: Mapping[int, float]
    """Fidelity of each track of the frame that was to be restored, by the track's number."""
    parts: tuple[FrameFaces[RestoredFace], ...]
    """The frame, or its two fields, with restored faces."""


class FrameRestorer:
    """Restores frames of a film, for any number of threads, one after the other."""

    def __init__(
        self, film: Film, ready: Prepared, options: RestoreOptions, tracks: Tracks
    ) -> None:
        """Takes what a restoration needs.

        Args:
            film: gives the frames.
            ready: what `prepare` gave for these options.
            options: how faces are restored, where the settings do not say.
            tracks: the film's faces, by frames.
        """
        self.film = film
        self._tracks = film.tracks_of_parts(tracks)
        # What has no place here: errors at faces that are left alone, and the range, which says
        # what is written, not what is looked at.
        self.options = replace(
            options,
            strict=False,
            part=TimeRange(),
            tracks=None,
            blend=replace(options.blend, strength=1.0, grain=1.0),
        )
        self._ready = ready
        self._lock = Lock()
        self._choices: OrderedDict[tuple[tuple[int, float], ...], RandomAccess] = OrderedDict()
        self._done: OrderedDict[int, _Done] = OrderedDict()
        self._next_key = 0
        self._applied: tuple[StudioSettings, Tracks] | None = None

    @property
    def has_fidelity(self) -> bool:
        """Whether the network has this setting."""
        return self._ready.engine.spec.has_fidelity

    def check(self, settings: StudioSettings) -> None:
        """Raises OptionError where the network has no fidelity and the settings ask for one."""
        asked = settings.fidelity is not None or self._tracks_with(settings).sets_fidelity
        if asked and not self.has_fidelity:
            raise OptionError(
                f"fidelity has no effect on {self._ready.engine.spec.model}; only v2 has it"
            )

    def restore(self, number: int, settings: StudioSettings) -> Frame:
        """Returns a frame as `vqfr-media restore` with these settings writes it, bit for bit.

        Raises:
            EngineError: the network failed.
            MediaError: the film cannot be read.
            OptionError: the network has no fidelity, and the settings ask for one.
        """
        self.check(settings)
        tracks = self._tracks_with(settings)
        settled = {track.id: track for track in tracks.tracks}
        numbers = self.film.numbers_of_parts(number)
        # Asked of the tracks without settings, which know already what is in which part.
        here = {
            id(one.face): settled[track.id]
            for part in numbers
            for track, one in self._tracks.faces_of(part)
        }
        wanted = {
            track.id: self._fidelity(track, settings) for track in here.values() if track.enabled
        }
        choice = tuple(
            (track.id, self._fidelity(track, settings)) for track in tracks.tracks if track.enabled
        )
        with self._lock:
            found = self._kept(number, choice, wanted)
            if found is None:
                frame, parts = self._through_the_network(number, choice, tracks, settings)
                found = self._keep(_Done(frame, choice, wanted, parts))
        mixing = replace(self.options.blend, strength=settings.strength, grain=settings.grain)
        restorer = self._restorer(tracks, settings, mixing)
        mixed = [restorer.blend(_settled(part, here)) for part in found.parts]
        return weave(found.frame, mixed) if self.film.info.first_field else mixed[0]

    def reasons(self, number: int, settings: StudioSettings) -> Reasons:
        """Returns why each face of a frame is left alone, by its track; None where it is not."""
        return reasons_in_frame(self.film, number, self._tracks_with(settings), self.options)

    def _tracks_with(self, settings: StudioSettings) -> Tracks:
        """Returns the tracks of parts with settings: those of the last time, if they are the same.

        A film's tracks are looked through by part once, which takes long for long films.
        """
        applied = self._applied
        if applied is None or applied[0] != settings:
            applied = self._applied = settings, settings.applied(self._tracks)
        return applied[1]

    def _fidelity(self, track: FaceTrack, settings: StudioSettings) -> float:
        for fidelity in (track.fidelity, settings.fidelity):
            if fidelity is not None:
                return fidelity
        return DEFAULT_FIDELITY

    def _kept(
        self, number: int, choice: tuple[tuple[int, float], ...], wanted: Mapping[int, float]
    ) -> _Done | None:
        """Returns a kept frame with at least the wanted faces, each at its fidelity."""
        for key, done in reversed(self._done.items()):
            enough = done.restored.items() >= wanted.items()
            # Where one face of a frame is chosen, those that are off decide which.
            if done.frame.index == number and (
                enough if self.options.face.faces == "all" else done.choice == choice
            ):
                self._done.move_to_end(key)
                return done
        return None

    def _keep(self, done: _Done) -> _Done:
        self._done[self._next_key] = done
        self._next_key += 1
        while len(self._done) > _KEPT_FRAMES:
            self._done.popitem(last=False)
        return done

    def _through_the_network(
        self,
        number: int,
        choice: tuple[tuple[int, float], ...],
        tracks: Tracks,
        settings: StudioSettings,
    ) -> tuple[Frame, tuple[FrameFaces[RestoredFace], ...]]:
        count = self.film.parts_of_frame
        access = self._choices.get(choice)
        if access is None:
            restorer = self._restorer(tracks, settings, self.options.blend)
            access = RandomAccess(restorer, self.film.count * count, requests=1)
            self._choices[choice] = access
        self._choices.move_to_end(choice)
        while len(self._choices) > _KEPT_CHOICES:
            self._choices.popitem(last=False)
        radius = -(-access.radius // count)
        around = range(max(0, number - radius), min(self.film.count, number + radius + 1))
        frames = self.film.frames(around)

        def source(part: int) -> Frame:
            return self.film.parts(frames[part // count])[part % count]

        numbers = self.film.numbers_of_parts(number)
        return frames[number], tuple(access.frame_faces(part, source) for part in numbers)

    def _restorer(self, tracks: Tracks, settings: StudioSettings, mixing: BlendOptions) -> Restorer:
        options = replace(
            self.options,
            blend=mixing,
            model=replace(self.options.model, fidelity=settings.fidelity),
        )
        info, count = self.film.info, self.film.parts_of_frame
        return Restorer(
            self._ready.engine,
            None,
            options,
            info.time_base / count,
            info.frame_rate * count,
            tracks,
        )


def _settled(
    part: FrameFaces[RestoredFace], tracks: Mapping[int, FaceTrack]
) -> FrameFaces[RestoredFace]:
    """Returns the faces that are wanted, each at its strength; `tracks` are by `id` of faces."""
    faces = []
    for face in part.faces:
        track = tracks[id(face.aligned.tracked.face)]
        if track.enabled:
            tracked = replace(face.aligned.tracked, strength=track.strength)
            faces.append(replace(face, aligned=replace(face.aligned, tracked=tracked)))
    return replace(part, faces=tuple(faces))
