"""From a path to a session: the film is opened, its faces are found, the network is loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vqfr_media.choices import ChosenDetector
from vqfr_media.errors import InputError
from vqfr_media.faces.tracks import Tracks
from vqfr_media.faces.tracks_file import read_tracks
from vqfr_media.files import check_place, refuse_same
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.restoration.persons import find_persons, load_describer
from vqfr_media.studio.film import Film, open_film
from vqfr_media.studio.session import StudioFiles, StudioSession
from vqfr_media.weights import Progress


def open_session(
    source: Path,
    tracks_file: Path,
    options: RestoreOptions,
    *,
    ready: Prepared | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    on_look: Callable[[Frame], None] | None = None,
    on_detector: Callable[[ChosenDetector], None] | None = None,
    on_fetch: Progress | None = None,
) -> StudioSession:
    """Opens a film for the page.

    Args:
        source: video or image.
        tracks_file: what the page's button writes; nothing is written before.
        options: how faces are found and restored; with `tracks` they are read instead.
        ready: what `prepare` gave for these options.
        on_start: called once, with what is known of the film, before faces are looked for.
        on_frame: called with each frame in which they are looked for.
        on_look: called with each frame that is read for telling persons apart.
        on_detector: called once with which detector was chosen.
        on_fetch: called while weights are fetched.

    Raises:
        InputError: the source is no video or image, has no face, or an option is at fault.
        MachineError: the file cannot be written, or weights, backend or device are not here.
    """
    refuse_same(tracks_file, source)
    check_place(tracks_file)
    film = open_film(source, replace(options, tracks=tracks_file))
    # The page's faces are those of a tracks file, so the network needs no detector.
    ready = ready or prepare(replace(options, tracks=tracks_file), None, None, on_fetch=on_fetch)
    if options.tracks is not None:
        tracks = read_tracks(options.tracks)
        _check_belongs(tracks, film)
    else:
        tracks = find_tracks(
            source, options, on_start=on_start, on_frame=on_frame, on_detector=on_detector
        )
        tracks = find_persons(source, tracks, load_describer(), on_frame=on_look)
    if not any(track.appearances for track in tracks.tracks):
        raise InputError(
            f"{source}: no face was found in it; a lower --score finds more, --min-track 0 keeps "
            "those of a moment"
        )
    restored = Path(f"{source.stem}.restored{source.suffix}")
    files = StudioFiles(source=source, tracks=tracks_file, restored=restored)
    return StudioSession(files, film, tracks, options, ready)


def _check_belongs(tracks: Tracks, film: Film) -> None:
    info = film.info
    tracks.check_picture(info.width, info.height, info.display)
    tracks.check_count(film.count)
