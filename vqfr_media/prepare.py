"""What a restoration needs before its first frame: engine, detector and, where given, tracks."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from vqfr_media import weights
from vqfr_media.choices import ChosenDetector, ChosenModel, choose_detector
from vqfr_media.engine import Engine, load_engine
from vqfr_media.errors import BackendError
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.faces.tracks import Tracks
from vqfr_media.faces.tracks_file import read_tracks
from vqfr_media.frames import Display
from vqfr_media.options import RestoreOptions


@dataclass(frozen=True)
class Prepared:
    """What runs, and what was chosen."""

    engine: Engine
    """Runs the network."""
    detector: Detector | None
    """Finds the faces; None where there are tracks."""
    model: ChosenModel
    """The network of `engine`, and why this one."""
    chosen_detector: ChosenDetector
    """The name of `detector`, and why this one."""


def prepare(
    options: RestoreOptions,
    engine: Engine | None,
    detector: Detector | None,
    *,
    on_fetch: weights.Progress | None = None,
) -> Prepared:
    """Takes what the caller gave, or what the options ask for; no detector for tracks.

    Raises:
        InputError: options or weights are at fault.
        MachineError: weights, backend or device are not here.
    """
    if options.temporal.landmarks == "mesh":
        check_mesh()
    if engine is None:
        engine, chosen = load_engine(options.model, offline=options.offline, progress=on_fetch)
    else:
        chosen = ChosenModel(engine.spec.model, Path(), "given by the caller")
    if detector is not None:
        finder = ChosenDetector(type(detector).__name__, Path(), "given by the caller")
    elif options.tracks is not None:
        finder = ChosenDetector.none(options.tracks)
    else:
        finder = choose_detector(options.face, offline=options.offline, progress=on_fetch)
        detector = load_detector(finder, device=engine.spec.device, score=options.face.score)
    return Prepared(engine, detector, chosen, finder)


def check_mesh() -> None:
    """Raises what would stop a restoration that holds faces by their mesh, before its first frame.

    Raises:
        BackendError: OpenVINO, which runs it, is not installed.
        WeightsError: its file is damaged.
    """
    weights.find("mesh", offline=True)
    if importlib.util.find_spec("openvino") is None:
        raise BackendError(
            "the face mesh runs in OpenVINO, which is not installed: pip install openvino, or use "
            "--landmarks five"
        )


def load_detector(chosen: ChosenDetector, *, device: str, score: float) -> RetinaFaceDetector:
    """Loads the detector that was chosen.

    Args:
        chosen: what `choose_detector` gave.
        device: where it runs.
        score: lowest score of a face that counts by itself.

    Raises:
        CheckpointError: its weights are damaged or another network's.
    """
    return RetinaFaceDetector(chosen.weights, backbone=chosen.backbone, device=device, score=score)


def load_tracks(path: Path | None, width: int, height: int, display: Display) -> Tracks | None:
    """Reads the tracks in `path`, if one is given, which must be those of such pictures.

    Raises:
        InputError: the file is not one of tracks, or of a video of another size.
    """
    if path is None:
        return None
    tracks = read_tracks(path)
    tracks.check_picture(width, height, display)
    return tracks
