"""From two paths to a page: what `restore` did to every face, measured and shown."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vqfr_media.choices import choose_detector
from vqfr_media.errors import OptionError
from vqfr_media.faces.mesh import bundled_mesh
from vqfr_media.faces.tracks_file import read_tracks
from vqfr_media.files import check_place, refuse_same, write_bytes
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import load_detector
from vqfr_media.restoration.persons import load_describer
from vqfr_media.review.measure import measure
from vqfr_media.review.measurement import MeasuredRestoration
from vqfr_media.review.page import render
from vqfr_media.review.plots import check_plots_available
from vqfr_media.review.restore_run import RestoreRun, read_restore_run
from vqfr_media.review.steadiness import FaceJudge

FORMAT = "vqfr-media figures"
VERSION = 1


def write_report(
    source: Path,
    restored: Path,
    output: Path,
    options: RestoreOptions | None = None,
    *,
    restore_report: Path | None = None,
    tracks: Path | None = None,
    figures: Path | None = None,
    max_tracks: int = 40,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> MeasuredRestoration:
    """Measures a restoration and writes an HTML page that needs nothing but itself.

    Args:
        source: video or image that went into the restoration.
        restored: what came out.
        output: page to write.
        options: how faces are found; what is left at its default is as the restoration had it,
            where `restore_report` says that.
        restore_report: file that `restore --report` wrote.
        tracks: file of the faces; by default the one that the restoration was given, if it is
            known and still there, else the faces are looked for.
        figures: also write the figures as JSON to this file.
        max_tracks: tracks with plots and pictures, the longest ones.
        on_start: called once, with what is known of the source.
        on_frame: called with each frame of the source, for progress.

    Raises:
        OptionError: an option is out of range, or two files have one name.
        InputError: a file cannot be read, or the two do not show the same moments.
        BackendError: the extra `report` is not installed.
        MachineError: the output cannot be written, or the detector's weights are not here.
    """
    from vqfr_media.backends.torch_engine import resolve_device

    check_plots_available()
    options = options or RestoreOptions()
    if not 0 <= max_tracks <= 1000:
        raise OptionError(f"max_tracks must be between 0 and 1000, got {max_tracks}")
    _check_places(output, figures, (source, restored, restore_report, tracks))
    run = None if restore_report is None else read_restore_run(restore_report)
    notes = [] if run is None else _contradictions(source, restored, tracks, run)
    if tracks is None and run is not None and run.tracks is not None:
        if run.tracks.is_file():
            tracks = run.tracks
        else:
            notes.append(
                f"The restoration was given the tracks in {run.tracks}, which are not there now, "
                "so the faces were looked for again. Give them with --tracks."
            )
    known = None if tracks is None else read_tracks(tracks)
    options = _as_restored(options, run)
    chosen = choose_detector(options.face, offline=options.offline)
    detector = load_detector(
        chosen, device=str(resolve_device(options.model.device)), score=options.face.score
    )
    if run is not None and tracks is None and run.detector not in ("", chosen.name):
        notes.append(
            f"The restoration found its faces with {run.detector}, this page with {chosen.name}, "
            "so they may differ."
        )
    judge = FaceJudge(load_describer(), bundled_mesh() if _has_openvino() else None)
    if judge.mesh is None:
        notes.append(
            "Mesh jitter is not known: the face mesh runs in OpenVINO, which is not installed; "
            "pip install openvino."
        )
    found = f"the {chosen.name} detector ({chosen.why})"
    measured = measure(
        source,
        restored,
        options,
        detector=detector,
        detector_description=found
        if tracks is None
        else f"{tracks.name}, and in the result by {found}",
        tracks=known,
        chosen=None if run is None else run.face,
        judge=judge,
        max_tracks=max_tracks,
        on_start=on_start,
        on_frame=on_frame,
    )
    if known is not None:
        persons = {track.id: track.person for track in known.tracks}
        named = (replace(one, person=persons.get(one.id)) for one in measured.tracks)
        measured = replace(measured, tracks=tuple(named))
    _write(output, render(measured, run, notes=notes))
    if figures is not None:
        values = {"format": FORMAT, "version": VERSION, **measured.to_json()}
        _write(figures, json.dumps(values, indent=1) + "\n")
    return measured


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _contradictions(
    source: Path, restored: Path, tracks: Path | None, run: RestoreRun
) -> list[str]:
    """Says in what the restoration's report is of other files; by names, since files move."""
    notes = []
    there = [Path(run.facts[name]).name for name in ("Source", "Result") if name in run.facts]
    if there and there != [source.name, restored.name][: len(there)]:
        notes.append(
            f"The restoration's report is of {' and '.join(there)}, this page of {source.name} and "
            f"{restored.name}: what it says of options and counts may be another run's."
        )
    if tracks is not None and (run.tracks is None or run.tracks.name != tracks.name):
        had = "no file of tracks" if run.tracks is None else f"the tracks in {run.tracks.name}"
        notes.append(
            f"This page was given the tracks in {tracks.name}, the restoration {had}: what is said "
            "to be left alone may not have been."
        )
    return notes


def _check_places(output: Path, figures: Path | None, inputs: tuple[Path | None, ...]) -> None:
    """Says what is wrong with the outputs' names before the work."""
    places = [path for path in (output, figures) if path is not None]
    for place in places:
        for path in inputs:
            if path is not None:
                refuse_same(place, path)
        check_place(place)
    if figures is not None and figures.resolve() == output.resolve():
        raise OptionError(f"the page and the figures are both {output}; name another for one")


def _as_restored(options: RestoreOptions, run: RestoreRun | None) -> RestoreOptions:
    """Returns the options, with what was left at its default set to what the restoration had."""
    if run is None or run.face is None:
        return options
    defaults = RestoreOptions()
    face, temporal = options.face, options.temporal
    names = ["score", "proxy"]
    if face.detector == defaults.face.detector and face.detector_weights is None:
        names += ["detector", "detector_weights"]
    from_run = {
        name: getattr(run.face, name)
        for name in names
        if getattr(face, name) == getattr(defaults.face, name)
    }
    in_time = {
        name: getattr(run, name)
        for name in ("search_interval", "max_gap", "min_track")
        if getattr(temporal, name) == getattr(defaults.temporal, name)
        and getattr(run, name) is not None
    }
    return replace(options, face=replace(face, **from_run), temporal=replace(temporal, **in_time))


def _write(path: Path, text: str) -> None:
    # A name that is no UTF-8 is escaped: the page is for people to read.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
