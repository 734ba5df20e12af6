"""The machine and the libraries, as a report of a fault has to begin."""

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vqfr_media.backends.cuda_driver import driver_version
from vqfr_media.errors import VqfrMediaError

_LIBRARIES = ("vqfr-media", "torch", "torchvision", "triton", "tensorrt", "torch-tensorrt")
# Where NVIDIA's kernel module says its version; absent in some containers and on Windows.
_DRIVER = Path("/proc/driver/nvidia/version")


def machine_facts(device: str) -> dict[str, Any]:
    """Tells what there is here, as plain values; nothing that is missing is an error.

    On a GPU this makes a CUDA context, which takes some hundred megabytes of its memory until the
    process ends.

    Args:
        device: cpu or cuda:N.
    """
    facts: dict[str, Any] = {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "cuda_of_torch": torch.version.cuda,
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }
    if device.startswith("cuda") and torch.cuda.is_available():
        facts |= _gpu(torch.device(device))
    return facts


def _gpu(device: torch.device) -> dict[str, Any]:
    major, minor = torch.cuda.get_device_capability(device)
    facts: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(device),
        "compute_capability": f"{major}.{minor}",
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }
    try:
        facts["driver"] = driver_version()
    except VqfrMediaError as error:
        facts["driver"] = f"unknown ({error})"
    if _DRIVER.is_file():
        facts["driver_module"] = _DRIVER.read_text().splitlines()[0]
    free, total = torch.cuda.mem_get_info(device)
    facts["free_gib"], facts["memory_gib"] = round(free / 2**30, 2), round(total / 2**30, 2)
    return facts


def facts_line(facts: dict[str, Any]) -> str:
    """Returns the facts as the one line that a report of a fault begins with."""
    if "fault" in facts:
        return f"nothing is known of this machine: {facts['fault']}"
    if "gpu" in facts:
        place = (
            f"{facts['gpu']} (compute capability {facts['compute_capability']}), driver "
            f"{facts['driver']}, {facts['free_gib']:g} of {facts['memory_gib']:g} GiB free"
        )
    else:
        place = f"no NVIDIA GPU, {facts['cores']} cores ({facts['threads']} threads)"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    cuda = f" with CUDA {facts['cuda_of_torch']}" if facts["cuda_of_torch"] else " without CUDA"
    return f"{place}; {versions} (torch{cuda}); Python {facts['python']}, {facts['system']}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        found = importlib.util.find_spec(name.replace("-", "_"))
        return None if found is None else "from a folder"
