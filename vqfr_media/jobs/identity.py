"""What a piece of finished work depends on, so that it is never taken for another's."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqfr_media.choices import ChosenDetector, ChosenModel
from vqfr_media.errors import MediaError, WeightsError
from vqfr_media.files import file_sha256
from vqfr_media.options import RestoreOptions
from vqfr_media.weights import find

if TYPE_CHECKING:
    from vqfr_media.prepare import Prepared

_LIBRARIES = ("vqfr-media", "torch", "torchvision", "numpy", "opencv-python", "av", "openvino")
# What changes no bit of the result, or is told by the content of what it names.
_WITHOUT_EFFECT = {
    "offline",
    "segment_seconds",
    "strict",
    "tracks",
    "model.weights",
    "model.device",
    "face.detector_weights",
    "encode.image_quality",
}


def content_of(source: Path) -> str:
    """Returns what tells a source from another: the SHA-256 of all its bytes.

    Raises:
        MediaError: the source cannot be read.
    """
    try:
        return file_sha256(source)
    except OSError as error:
        raise MediaError(f"{source}: cannot be read: {error.strerror or error}") from error


def identity_of_settings(options: RestoreOptions, ready: "Prepared") -> dict[str, str]:
    """Returns all that decides the bits of a restoration but its source, by name.

    An engine or a detector that the caller made is known by its kind only.

    Raises:
        WeightsError: a file of weights cannot be read.
    """
    import torch

    identity = identity_of_choice(options, ready.model, ready.chosen_detector)
    identity |= {f"engine.{n}": str(v) for n, v in asdict(ready.engine.spec).items()}
    identity["engine.device"] = ready.engine.spec.device.split(":")[0]  # not which of equal ones
    identity["engine.kind"] = type(ready.engine).__name__
    if ready.model.identity:  # of an engine that was built: its files may have come without weights
        identity["engine.identity"] = ready.model.identity
    identity["processor"] = torch.backends.cpu.get_cpu_capability()
    if ready.model.backend in ("torch", "inductor") and ready.engine.spec.device == "cpu":
        # Sums are split among the threads; OpenVINO's results do not depend on their number.
        identity["engine.threads"] = str(torch.get_num_threads())
    if ready.engine.spec.device.startswith("cuda"):
        identity["gpu"] = torch.cuda.get_device_name(ready.engine.spec.device)
    return identity


def identity_of_choice(
    options: RestoreOptions, model: ChosenModel, detector: ChosenDetector
) -> dict[str, str]:
    """Returns the part of `identity_of_settings` that is known before anything is loaded.

    Raises:
        WeightsError: a file of weights cannot be read.
    """
    chosen = {
        name: str(value)
        for name, value in flattened(asdict(options)).items()
        if name not in _WITHOUT_EFFECT
    }
    identity = {f"options.{name}": value for name, value in chosen.items()}
    identity["detector"] = detector.name
    files = {
        "model.weights": model.weights,
        "detector.weights": detector.weights,
        "tracks": options.tracks or Path(),
    }
    if options.temporal.landmarks == "mesh":
        files["mesh.weights"] = find("mesh", offline=True)
    for name, path in files.items():
        if path.is_file():
            try:
                identity[name] = file_sha256(path)
            except OSError as error:
                raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return identity | {f"version.{name}": number for name, number in library_versions().items()}


def library_versions() -> dict[str, str]:
    """Returns the versions, by name, of what decides bits."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue  # an extra that is not here decides nothing
    return versions


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens {"a": {"b": 1}} to {"a.b": 1}."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flattened(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result
