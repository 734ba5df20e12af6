"""One film on the page: what the page is told, its pictures, and the file that it writes."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2

from vqfr_media.errors import OptionError, OutputError
from vqfr_media.faces.tracks import FaceTrack, Tracks
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.frames import Frame
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.options import DEFAULT_FIDELITY, RestoreOptions
from vqfr_media.prepare import Prepared
from vqfr_media.restoration.resize import upscale
from vqfr_media.review.contact_sheet import aligned_crop, best_appearance
from vqfr_media.review.film_preview import clock
from vqfr_media.review.pairs import display_size
from vqfr_media.review.picture import upright, upright_size
from vqfr_media.studio.command_line import as_typed, restore_words
from vqfr_media.studio.film import Film
from vqfr_media.studio.frame_restorer import FrameRestorer
from vqfr_media.studio.reasons import reasons_by_track
from vqfr_media.studio.settings import StudioSettings
from vqfr_media.summary import counted
from vqfr_media.values import SkipReason

# Pixels of a crop's side.
_CROP = 160


@dataclass(frozen=True, kw_only=True)
class StudioFiles:
    """The files that a studio names or writes."""

    source: Path
    """The film."""
    tracks: Path
    """Written by the page's button."""
    restored: Path
    """What the command line on the page calls the restored film; the studio does not write it."""


class StudioSession:
    """What the page shows and does. Nothing of it changes, but what is kept to be quick."""

    def __init__(
        self,
        files: StudioFiles,
        film: Film,
        tracks: Tracks,
        options: RestoreOptions,
        ready: Prepared,
    ) -> None:
        """Takes what a restoration needs.

        Args:
            files: what is read and written.
            film: the opened source.
            tracks: its faces; at least one.
            options: how faces are found and restored.
            ready: what `prepare` gave for them.
        """
        self.files = files
        self.film = film
        self.tracks = tracks
        self.options = options
        self.settings = StudioSettings.of(tracks, options)
        """With which the page begins."""
        self._ready = ready
        self._restorer = FrameRestorer(film, ready, options, tracks)
        self._by_id = {track.id: track for track in tracks.tracks if track.appearances}

    def about(self) -> dict[str, Any]:
        """Returns what the page needs to know once, as JSON has it."""
        info, spec = self.film.info, self._ready.engine.spec
        width, height = upright_size(display_size(info))
        shown = self.film.shown
        words = f"{width} × {height}, {counted(len(shown), 'frame')}"
        if self.film.count > 1:
            words += f", {float(info.frame_rate):.6g} a second"
        if info.first_field:
            words += f", interlaced ({info.first_field} field first)"
        ran = " ".join(filter(None, (self._ready.model.backend, spec.precision)))
        return {
            "name": self.files.source.name,
            "words": words,
            "model": f"{spec.model} ({ran} on {spec.device})",
            "width": width,
            "height": height,
            "first": shown.start,
            "last": shown.stop - 1,
            "begin": self._first_frame(),
            "hasFidelity": self._restorer.has_fidelity,
            "defaultFidelity": DEFAULT_FIDELITY,
            "tracksFile": str(self.files.tracks),
            "settings": self.settings.to_json(),
            "tracks": [
                self._about_track(track, self._reasons.get(track.id, Counter()))
                for track in self.tracks.tracks
                if track.appearances
            ],
        }

    def status(self, settings: StudioSettings) -> dict[str, Any]:
        """Returns the command line for these settings, and whether the tracks file is there.

        Raises:
            OptionError: the network has no fidelity, and the settings ask for one.
        """
        self._restorer.check(settings)
        files = self.files
        words = restore_words(files.source, files.restored, files.tracks, self.options, settings)
        return {"command": as_typed(words), "exists": files.tracks.exists()}

    def save(self, settings: StudioSettings) -> dict[str, Any]:
        """Writes the tracks file; returns what `status` does.

        Raises:
            OptionError: the network has no fidelity, and the settings ask for one.
            OutputError: the file cannot be written.
        """
        self._restorer.check(settings)
        write_tracks(self.files.tracks, settings.own_tracks(self.tracks), settings.persons)
        return self.status(settings)

    def before(self, number: int) -> bytes:
        """Returns a frame of the source, upright, as PNG.

        Raises:
            MediaError: the film cannot be read.
            OptionError: there is no such frame.
        """
        self._check_frame(number)
        frame = self.film.frames(range(number, number + 1))[number]
        return png_of(upright(upscale(frame, self.options.upscale)))

    def after(self, number: int, settings: StudioSettings) -> bytes:
        """Returns the same frame restored, as PNG.

        Raises:
            EngineError: the network failed.
            MediaError: the film cannot be read.
            OptionError: there is no such frame, or the settings do not fit the network.
        """
        return png_of(upright(self.restored(number, settings)))

    def restored(self, number: int, settings: StudioSettings) -> Frame:
        """Returns the same frame restored, before it becomes a picture; errors as of `after`."""
        self._check_frame(number)
        return self._restorer.restore(number, settings)

    def frame(self, number: int, settings: StudioSettings) -> dict[str, Any]:
        """Returns when a frame is shown, and its faces with what is done to each.

        Raises:
            OptionError: there is no such frame, or the settings do not fit the network.
        """
        self._check_frame(number)
        self._restorer.check(settings)
        reasons = self._restorer.reasons(number, settings)
        return {
            "clock": clock(self.film.seconds(number)),
            "faces": [
                {
                    "track": track.id,
                    "person": track.person,
                    "box": one.face.box.tolist(),
                    "size": round(one.face.size),
                    "reason": self._reason_words(reasons[track.id]),
                }
                for track, one in self.tracks.faces_of(number)
            ],
        }

    def crop(self, track: int) -> bytes:
        """Returns a track's face where it is clearest, upright, as PNG.

        Raises:
            MediaError: the film cannot be read.
            OptionError: there is no such track.
        """
        if track not in self._by_id:
            raise OptionError(f"there is no track {track}")
        best = best_appearance(self._by_id[track])
        frame = self.film.frames(range(best.frame, best.frame + 1))[best.frame]
        return png_of(aligned_crop(frame, best, size=_CROP))

    @cached_property
    def _reasons(self) -> dict[int, Counter[SkipReason]]:
        return reasons_by_track(self.film, self.tracks, self.options)

    def _first_frame(self) -> int:
        """Returns the frame with which the page begins: the clearest of the largest face's."""
        shown = self.film.shown
        best = [best_appearance(track) for track in self._by_id.values()]
        here = [one for one in best if one.frame in shown]
        if not here:
            return shown.start
        return max(here, key=lambda one: (one.face.size, -one.frame)).frame

    def _about_track(self, track: FaceTrack, reasons: Counter[SkipReason]) -> dict[str, Any]:
        first, last = track.appearances[0].frame, track.appearances[-1].frame
        sizes = sorted(one.face.size for one in track.appearances)
        best = best_appearance(track).frame
        return {
            "id": track.id,
            "person": track.person,
            "first": first,
            "last": last,
            "from": clock(self.film.seconds(first)),
            "to": clock(self.film.seconds(last)),
            "shot": bisect_right(self.tracks.shots, first),
            "frames": len(track.appearances),
            "size": round(sizes[len(sizes) // 2]),
            "best": min(max(best, self.film.shown.start), self.film.shown.stop - 1),
            "reasons": [
                f"{counted(count, 'frame')}: {self._reason_words(reason)}"
                for reason, count in reasons.items()
            ],
        }

    def _reason_words(self, reason: SkipReason | None) -> str | None:
        """Returns why a face is left alone, with the option that says so."""
        face = self.options.face
        match reason:
            case None:
                return None
            case SkipReason.TOO_SMALL:
                return f"too small (below {face.min_face:g} px; --min-face)"
            case SkipReason.TOO_LARGE:
                return f"too large (above {face.max_face:g} px; --max-face)"
            case SkipReason.NOT_CHOSEN:
                return f"another face is chosen (--faces {face.faces})"
            case SkipReason.DISABLED:
                return "not ticked"
            case SkipReason.DAMAGED:
                return str(reason)

    def _check_frame(self, number: int) -> None:
        shown = self.film.shown
        if number not in shown:
            raise OptionError(
                f"there is no frame {number}; there are {shown.start} to {shown.stop - 1}"
            )


def png_of(picture: Picture) -> bytes:
    """Returns an RGB picture as PNG, without loss."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise OutputError("a picture cannot be made a PNG")
    return data.tobytes()
