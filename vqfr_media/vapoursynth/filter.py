"""`vqfr`: checks the clips and the options, loads what is needed, and hands over to the graph."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

try:
    import vapoursynth as vs
except ImportError as missing:
    raise ImportError(
        "VapourSynth is not installed in this Python: pip install 'vqfr-media[vapoursynth]'"
    ) from missing

from vqfr_media.engine import Engine
from vqfr_media.errors import InputError, OptionError, VqfrMediaError
from vqfr_media.faces.detect import Detector
from vqfr_media.faces.tracks import Tracks
from vqfr_media.faces.tracks_file import read_tracks
from vqfr_media.options import (
    BackendChoice,
    BlendOptions,
    DetectorChoice,
    FaceChoice,
    FaceOptions,
    LandmarksChoice,
    ModelChoice,
    ModelOptions,
    PrecisionChoice,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.prepare import prepare
from vqfr_media.restoration.concurrency import SharedEngine, shared_detector
from vqfr_media.restoration.restore import Restorer
from vqfr_media.vapoursynth.frames import check_format, display_of, refuse_fields, timing_of
from vqfr_media.vapoursynth.graph import filtered, in_script_words

__all__ = ["vqfr"]


def vqfr(
    clip: vs.VideoNode,
    *,
    model: ModelChoice = ModelOptions.model,
    weights: str | Path | None = None,
    engine: Engine | str | Path | None = None,
    backend: BackendChoice = ModelOptions.backend,
    precision: PrecisionChoice = ModelOptions.precision,
    device_index: int | None = None,
    num_streams: int = 1,
    batch_size: int | None = None,
    fidelity: float | None = None,
    faces: FaceChoice = FaceOptions.faces,
    min_face: float = FaceOptions.min_face,
    max_face: float = FaceOptions.max_face,
    score: float = FaceOptions.score,
    detector: DetectorChoice | Detector = FaceOptions.detector,
    detector_weights: str | Path | None = None,
    proxy: int = FaceOptions.proxy,
    landmarks: LandmarksChoice = TemporalOptions.landmarks,
    landmarks_radius: float = TemporalOptions.landmarks_radius,
    latent_radius: float = TemporalOptions.latent_radius,
    pixel_radius: float = TemporalOptions.pixel_radius,
    search_interval: float = TemporalOptions.search_interval,
    max_gap: float = TemporalOptions.max_gap,
    min_track: float = TemporalOptions.min_track,
    choice_radius: float = TemporalOptions.choice_radius,
    strength: float = BlendOptions.strength,
    grain: float = BlendOptions.grain,
    detail: float = BlendOptions.detail,
    keep_occluders: bool = BlendOptions.keep_occluders,
    upscale: int = RestoreOptions.upscale,
    bg_clip: vs.VideoNode | None = None,
    tracks: str | Path | None = None,
    person: int | Sequence[int] = (),
    preview: bool = False,
    strict: bool = RestoreOptions.strict,
    offline: bool = RestoreOptions.offline,
) -> vs.VideoNode:
    """Restores the faces of a clip, as `vqfr-media restore` does.

    Options that are not listed here are those of the command, by the same names (`options.py`).

    Args:
        clip: YUV, RGB or GRAY of 8 to 16 bits or of floats, constant in format and size.
        model: the network.
        weights: file with the network's weights.
        engine: directory of an engine made by `vqfr-media engine build`, or an engine of your own,
            which streams share; used instead of the one that the options ask for.
        backend: what runs the network.
        precision: arithmetic of the engine.
        device_index: number of the GPU, -1 for the CPU; None takes a GPU where there is one.
        num_streams: frames that are worked on at the same time, each with an engine of its own.
        batch_size: faces in one run of the network.
        fidelity: 0 = most detail, 1 = closest to the input; only v2.
        faces: all, largest or center.
        min_face: smallest face that is restored, in pixels.
        max_face: largest face that is restored, in pixels.
        score: how sure the detector must be of a face, 0.05 to 1.
        detector: auto, bundled, mobilenet, resnet50, or one of your own.
        detector_weights: file with the detector's weights.
        proxy: longer side of the small picture that the detector sees.
        landmarks: five or mesh.
        landmarks_radius: seconds.
        latent_radius: seconds.
        pixel_radius: seconds.
        search_interval: seconds.
        max_gap: seconds.
        min_track: seconds.
        choice_radius: seconds.
        strength: how much of the restored faces shows, 0 to 1.
        grain: how much of the film's grain the restored faces get back, 0 to 1.
        detail: how much of its own finest detail a face that is larger than the network's picture
            keeps, 0 to 1.
        keep_occluders: leaves what stands in front of a face where the network paints over it.
        upscale: enlarges the picture, 1 to 4.
        bg_clip: the same clip, enlarged `upscale` times by other means: the background.
        tracks: file of faces to restore, made by `vqfr-media tracks`.
        person: number of the person to restore, or several, as `tracks` says them.
        preview: smooths nothing over time, for seeking: all radii, search_interval, max_gap,
            min_track and grain are 0.
        strict: makes a face that could not be restored an error.
        offline: never fetches weights.

    Returns:
        The clip with every property it had, and `VqfrFaces`, `VqfrRestored`, `VqfrSkipped` and
        `VqfrModel`.

    Raises:
        vs.Error: a clip or an option is at fault, or weights, backend or device are not here.
    """
    built, own_engine = (engine, None) if isinstance(engine, str | Path) else (None, engine)
    try:
        _check_kinds(
            own_engine, detector,
            device_index=device_index, preview=preview, strict=strict, offline=offline,
            keep_occluders=keep_occluders,
        )  # fmt: skip
        if preview:
            landmarks = "five"
            landmarks_radius = latent_radius = pixel_radius = 0.0
            search_interval = max_gap = min_track = choice_radius = grain = 0.0
        options = RestoreOptions(
            model=ModelOptions(
                model=model,
                weights=_path(weights),
                fidelity=fidelity,
                backend=backend,
                precision=precision,
                engine=_path(built),
                device=_device(device_index),
                batch_size=batch_size,
            ),
            face=FaceOptions(
                faces=faces,
                min_face=min_face,
                max_face=max_face,
                score=score,
                detector=detector if isinstance(detector, str) else FaceOptions.detector,
                detector_weights=_path(detector_weights),
                proxy=proxy,
            ),
            temporal=TemporalOptions(
                landmarks=landmarks,
                landmarks_radius=landmarks_radius,
                latent_radius=latent_radius,
                pixel_radius=pixel_radius,
                search_interval=search_interval,
                max_gap=max_gap,
                min_track=min_track,
                choice_radius=choice_radius,
            ),
            blend=BlendOptions(
                strength=strength, grain=grain, detail=detail, keep_occluders=keep_occluders
            ),
            tracks=_path(tracks),
            upscale=upscale,
            strict=strict,
            offline=offline,
        )
        _check_clips(clip, bg_clip, upscale)
        if not isinstance(num_streams, int) or not 1 <= num_streams <= 32:
            raise OptionError(f"num_streams must be between 1 and 32, got {num_streams!r}")
        with clip.get_frame(0) as frame:
            refuse_fields(frame.props)
        timing = timing_of(clip)
        faces_given = _only(_read_tracks(clip, options.tracks), person)
        own_detector = None if isinstance(detector, str) else detector
        engines, detectors, name = _shared(options, own_engine, own_detector, num_streams)
        restorer = Restorer(
            engines,
            detectors,
            options,
            timing.time_base,
            timing.frame_rate,
            faces_given,
        )
    except VqfrMediaError as error:
        # The script's author needs its line, not our insides.
        raise vs.Error(f"vqfr: {in_script_words(error)}") from None
    vs.core.log_message(vs.MESSAGE_TYPE_INFORMATION, f"vqfr: {name}")
    return filtered(clip, bg_clip, restorer, timing, num_streams, model=name)


def _check_kinds(
    engine: object, detector: object, *, device_index: object, **switches: object
) -> None:
    """Raises OptionError where an argument is of a kind that would only fail in a frame."""
    if engine is not None and not (hasattr(engine, "encode") and hasattr(engine, "decode")):
        raise OptionError(f"engine must be a folder's name or an engine, got {engine!r}")
    if not isinstance(detector, str) and not callable(detector):
        raise OptionError(f"detector must be a name or a detector, got {detector!r}")
    is_number = isinstance(device_index, int) and not isinstance(device_index, bool)
    if device_index is not None and not (is_number and device_index >= -1):  # type: ignore[operator]
        raise OptionError(f"device_index must be None, -1 or a GPU's number, got {device_index!r}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise OptionError(f"{name} must be True or False, got {value!r}")


def _only(tracks: Tracks | None, person: int | Sequence[int]) -> Tracks | None:
    """Returns the tracks with only these persons to be restored; all where none is named."""
    wanted = {person} if isinstance(person, int) else set(person)
    if not wanted:
        return tracks
    if tracks is None:
        raise OptionError("person needs tracks: make them with `vqfr-media tracks`")
    known = {track.person for track in tracks.tracks if track.person is not None}
    for one in wanted - known:
        has = ", ".join(map(str, sorted(known))) or "none; make it again with `vqfr-media tracks`"
        raise OptionError(f"there is no person {one!r} in {tracks.path}, which has {has}")
    chosen = (replace(one, enabled=one.enabled and one.person in wanted) for one in tracks.tracks)
    return replace(tracks, tracks=tuple(chosen))


def _path(value: str | Path | None) -> Path | None:
    if not isinstance(value, str | Path | None):
        raise OptionError(f"a file must be given as a text, got {value!r}")
    return None if value is None else Path(value)


def _device(index: int | None) -> str:
    match index:
        case None:
            return "auto"
        case -1:
            return "cpu"
        case _:
            return f"cuda:{index}"


def _check_clips(clip: vs.VideoNode, background: vs.VideoNode | None, upscale: int) -> None:
    """Raises InputError where the clips are not for us, or not for each other."""
    for name, node in (("clip", clip), ("bg_clip", background)):
        if not isinstance(node, vs.VideoNode) and (node is not None or name == "clip"):
            raise InputError(f"{name} must be a video clip, got {node!r}")
    check_format(clip, "clip")
    if background is None:
        return
    check_format(background, "bg_clip")
    if background.format.id != clip.format.id:
        raise InputError(
            f"bg_clip is {background.format.name}, but clip is {clip.format.name}; convert it"
        )
    wanted = (clip.width * upscale, clip.height * upscale)
    if (background.width, background.height) != wanted:
        raise InputError(
            f"bg_clip is {background.width}×{background.height}; with upscale={upscale} "
            f"it must be {wanted[0]}×{wanted[1]}"
        )
    if background.num_frames != clip.num_frames:
        raise InputError(
            f"bg_clip has {background.num_frames} frames, but clip has {clip.num_frames}"
        )


def _read_tracks(clip: vs.VideoNode, path: Path | None) -> Tracks | None:
    """Reads the tracks, which must be this clip's."""
    if path is None:
        return None
    tracks = read_tracks(path)
    with clip.get_frame(0) as frame:
        tracks.check_picture(clip.width, clip.height, display_of(frame.props))
    tracks.check_count(clip.num_frames)
    return tracks


def _shared(
    options: RestoreOptions, engine: Engine | None, detector: Detector | None, num_streams: int
) -> tuple[SharedEngine, Detector | None, str]:
    """Returns engines and detectors for the streams, or the caller's own, and what runs."""
    engines, detectors = [], []
    for _ in range(num_streams):
        ready = prepare(options, engine, detector)
        engines.append(ready.engine)
        if ready.detector is not None:
            detectors.append(ready.detector)
    if engine is not None:
        engines = [engine]
    if detector is not None:
        detectors = [detector]
    words = (ready.model.name, ready.model.backend, ready.engine.spec.precision)
    name = " ".join([*filter(None, words), f"on {ready.engine.spec.device}"])
    return SharedEngine(engines), shared_detector(detectors) if detectors else None, name
