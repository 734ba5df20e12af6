"""What this machine can do, and what is missing: facts for `vqfr-media doctor`."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, get_args

import torch

from vqfr_media import weights
from vqfr_media.backends.nvidia_gpu import lacks_code, why_no_gpu
from vqfr_media.backends.torch_engine import resolve_device
from vqfr_media.choices import ChosenDetector, ChosenModel, choose_detector, choose_model
from vqfr_media.engines_folder import engines_folder
from vqfr_media.errors import BackendError, EngineFileError, VqfrMediaError
from vqfr_media.manifest import BuiltBackend
from vqfr_media.media.write import can_encode
from vqfr_media.options import FaceOptions, ModelOptions

LIBRARIES = ("torch", "torchvision", "av", "numpy", "facexlib", "safetensors")
HASH_DIGITS = 16  # shown of a SHA-256: enough to tell files apart
ENCODERS = ("libx264", "libx264rgb", "libx265", "ffv1", "libsvtav1", "prores_ks")

# Networks that need a GPU in practice.
_FOR_GPUS = ("v1", "v2")


@dataclass(frozen=True)
class DoctorCheck:
    """One line of the report."""

    topic: str
    """What was looked at."""
    verdict: Literal["ok", "missing", "info"]
    """`missing` is something that can be had, and that this machine could use."""
    detail: str
    """What was found, and the remedy where something is missing."""


def examine() -> list[DoctorCheck]:
    """Looks at this machine; reads the weights files that are here, and fetches nothing."""
    checks = [
        DoctorCheck("python", "info", f"{platform.python_version()} on {platform.platform()}"),
        DoctorCheck("processor", "info", f"{os.cpu_count()} cores, {torch.get_num_threads()} used"),
        DoctorCheck(
            "libraries", "info", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        ),
        *_devices(),
        *(_backend(backend) for backend in get_args(BuiltBackend)),
        _engines(),
        *_encoders(),
        *_weights(),
    ]
    has_gpu = resolve_device("auto").type == "cuda"
    return [
        *checks,
        _chosen(
            "--model auto", lambda: choose_model(ModelOptions(), has_gpu=has_gpu, offline=True)
        ),
        _chosen("--detector auto", lambda: choose_detector(FaceOptions(), offline=True)),
    ]


def _chosen(option: str, choose: Callable[[], ChosenModel | ChosenDetector]) -> DoctorCheck:
    try:
        chosen = choose()
    except VqfrMediaError as error:
        return DoctorCheck(option, "missing", str(error))
    return DoctorCheck(option, "ok", f"{chosen.name}: {chosen.why}")


def _devices() -> list[DoctorCheck]:
    if not torch.cuda.is_available():
        return [DoctorCheck("gpu", "info", f"none: {why_no_gpu()}; everything runs on the CPU")]
    found = []
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = card.total_memory / 2**30
        text = f"cuda:{index} {card.name}, {memory:.0f} GiB"
        reason = lacks_code(torch.device("cuda", index))
        state: Literal["ok", "missing"] = "missing" if reason else "ok"
        found.append(DoctorCheck("gpu", state, f"{text}; {reason}" if reason else text))
    return found


def _backend(backend: BuiltBackend) -> DoctorCheck:
    """Tells whether engines of this backend can be built and run on the best device here."""
    from vqfr_engines.request import builder_of

    topic = f"backend {backend}"
    if backend == "tensorrt" and not torch.cuda.is_available():
        return DoctorCheck(topic, "info", "for NVIDIA GPUs, and there is none here")
    builder = builder_of(backend)
    on_gpu = backend != "openvino" and torch.cuda.is_available()
    try:
        device = "cuda:0" if on_gpu else "cpu"
        builder.check(device)
        if backend == "inductor":
            from vqfr_engines.inductor import check_compiler

            check_compiler(device)
        versions = builder.versions()
    except BackendError as error:
        return DoctorCheck(topic, "missing", str(error))
    text = ", ".join(f"{name} {number}" for name, number in versions.items())
    return DoctorCheck(topic, "ok", f"{text}, on the {'GPU' if on_gpu else 'CPU'}")


def _engines() -> DoctorCheck:
    """Says where engines are kept and how many: whether they are sound, `engine list` says."""
    from vqfr_engines.store import engine_folders

    try:
        kept = engine_folders()
    except EngineFileError as error:
        return DoctorCheck("engines", "missing", str(error))
    return DoctorCheck("engines", "info", f"{len(kept)} in {engines_folder()}")


def _encoders() -> list[DoctorCheck]:
    here = [name for name in ENCODERS if can_encode(name)]
    missing = [name for name in ENCODERS if name not in here]
    checks = [DoctorCheck("encoders", "ok", ", ".join(here))]
    if missing:
        detail = f"{', '.join(missing)} (not in this build of PyAV)"
        checks.append(DoctorCheck("encoders", "info", f"without {detail}"))
    return checks


def _weights() -> list[DoctorCheck]:
    """Lists every model file: where it is, which bytes it has, and under which licence."""
    try:
        return [_weight(state) for state in weights.status()]
    except VqfrMediaError as error:  # the variable names a place that is not there
        return [DoctorCheck("weights", "missing", str(error))]


def _weight(state: weights.WeightStatus) -> DoctorCheck:
    known = state.file.sha256
    match state.published:
        case None if state.sha256 is None:
            hashed = f"sha256 {known[:HASH_DIGITS]}" if known else "sha256 not known"
        case False:
            hashed = f"sha256 {(state.sha256 or '')[:HASH_DIGITS]}, not the published file"
        case _:
            hashed = f"sha256 {(state.sha256 or '')[:HASH_DIGITS]}"
    text = f"{state.state}, {hashed}, {state.licence}, {state.path}"
    topic = f"weights {state.name}"
    if state.state not in ("missing", "damaged"):
        return DoctorCheck(topic, "ok", text)
    remedy = f"`vqfr-media weights fetch {state.name}` gets it"
    if state.file.url is None:
        remedy = "install vqfr-media again"
    if state.name in _FOR_GPUS and state.state == "missing" and not torch.cuda.is_available():
        return DoctorCheck(topic, "info", f"{text}; {remedy}, but it takes seconds a face here")
    return DoctorCheck(topic, "missing", f"{text}; {remedy}")
