"""What a restoration needs before its first frame: engine, detector and, where given, tracks."""

from pathlib import Path

from vqfr_media import weights
from vqfr_media.engine import ChosenModel, Engine, load_engine
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.frames import Display
from vqfr_media.options import RestoreOptions
from vqfr_media.tracks import Tracks
from vqfr_media.tracks_file import read_tracks


def prepare(
    options: RestoreOptions,
    engine: Engine | None,
    detector: Detector | None,
    *,
    on_fetch: weights.Progress | None = None,
) -> tuple[Engine, Detector | None, ChosenModel]:
    """What the caller gave, or what the options ask for; no detector where there are tracks.

    Raises:
        InputError: options or weights are at fault.
        MachineError: weights, backend or device are not here.
    """
    if engine is None:
        engine, chosen = load_engine(options.model, offline=options.offline, progress=on_fetch)
    else:
        chosen = ChosenModel(engine.spec.model, Path(), "given by the caller")
    if detector is None and options.tracks is None:
        detector = load_detector(options, engine.spec.device, on_fetch=on_fetch)
    return engine, detector, chosen


def load_detector(
    options: RestoreOptions, device: str, *, on_fetch: weights.Progress | None = None
) -> RetinaFaceDetector:
    """The detector that `options.face` asks for.

    Raises:
        CheckpointError: its weights are damaged or another network's.
        WeightsError: its weights cannot be had.
    """
    face = options.face
    path = weights.find(
        face.detector,
        explicit=face.detector_weights,
        offline=options.offline,
        progress=on_fetch,
    )
    return RetinaFaceDetector(path, backbone=face.detector, device=device, score=face.score)


def load_tracks(path: Path | None, width: int, height: int, display: Display) -> Tracks | None:
    """The tracks in `path`, if one is given, which must be those of such pictures.

    Raises:
        InputError: the file is not one of tracks, or of a video of another size.
    """
    if path is None:
        return None
    tracks = read_tracks(path)
    tracks.check_picture(width, height, display)
    return tracks
