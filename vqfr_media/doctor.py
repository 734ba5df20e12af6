"""What this machine can do, and what is missing: facts for `vqfr-media doctor`."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import torch

from vqfr_media import weights
from vqfr_media.engine import choose_model
from vqfr_media.errors import VqfrMediaError
from vqfr_media.media.write import can_encode
from vqfr_media.options import ModelOptions

LIBRARIES = ("torch", "torchvision", "av", "numpy", "facexlib", "safetensors")
ENCODERS = ("libx264", "libx264rgb", "libx265", "ffv1", "libsvtav1", "prores_ks")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    """What was looked at."""
    verdict: Literal["ok", "missing", "info"]
    """`missing` is something that a user may want and can get."""
    detail: str
    """What was found, and the way out where something is missing."""


def examine() -> list[Finding]:
    """Looks at this machine; reads the weights files that are here, and fetches nothing."""
    findings = [
        Finding("python", "info", f"{platform.python_version()} on {platform.platform()}"),
        Finding("processor", "info", f"{os.cpu_count()} cores, {torch.get_num_threads()} used"),
        Finding("libraries", "info", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
        *_devices(),
        *_encoders(),
        *_weights(),
    ]
    has_gpu = torch.cuda.is_available()
    try:
        chosen = choose_model(ModelOptions(), has_gpu=has_gpu, offline=True)
    except VqfrMediaError as error:
        return [*findings, Finding("--model auto", "missing", str(error))]
    return [*findings, Finding("--model auto", "ok", f"{chosen.name}: {chosen.why}")]


def _devices() -> list[Finding]:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "this PyTorch is built without CUDA" if built is None else "no NVIDIA GPU or driver"
        return [Finding("gpu", "info", f"none: {why}; everything runs on the CPU")]
    found = []
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = card.total_memory / 2**30
        found.append(Finding("gpu", "ok", f"cuda:{index} {card.name}, {memory:.0f} GiB"))
    return found


def _encoders() -> list[Finding]:
    here = [name for name in ENCODERS if can_encode(name)]
    missing = [name for name in ENCODERS if name not in here]
    findings = [Finding("encoders", "ok", ", ".join(here))]
    if missing:
        detail = f"{', '.join(missing)} (not in this build of PyAV)"
        findings.append(Finding("encoders", "missing", detail))
    return findings


def _weights() -> list[Finding]:
    findings = []
    try:
        states = weights.status()
    except VqfrMediaError as error:  # the variable names a place that is not there
        return [Finding("weights", "missing", str(error))]
    for state in states:
        if state.state in ("missing", "damaged"):
            can_fetch = weights.WEIGHTS[state.name].url is not None
            way = f"`vqfr-media weights fetch {state.name}` gets it"
            detail = f"{state.state}; {way if can_fetch else 'install vqfr-media again'}"
            findings.append(Finding(f"weights {state.name}", "missing", detail))
        else:
            detail = f"{state.state}, {state.path} ({state.licence})"
            findings.append(Finding(f"weights {state.name}", "ok", detail))
    return findings
