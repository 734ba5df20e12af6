"""What engines for NVIDIA GPUs are bound to and ask for, whatever builds them."""

import re
from collections.abc import Sequence

import torch

from vqfr_media.backends.cuda_driver import driver_version
from vqfr_media.errors import BackendError, VqfrMediaError

# The kernels' PTX is made for this architecture, and the driver compiles it for every later one.
_LEAST_CAPABILITY = (8, 0)


def gpu_facts(gpu: torch.device) -> dict[str, str]:
    """Names what an engine is bound to: the GPU, its compute capability, the driver's CUDA.

    Raises:
        BackendError: there is no driver.
        EngineError: the driver does not say its version.
    """
    major, minor = torch.cuda.get_device_capability(gpu)
    return {
        "gpu": torch.cuda.get_device_name(gpu),
        "compute_capability": f"{major}.{minor}",
        "driver": driver_version(),
    }


def has_tensor_cores(name: str, capability: tuple[int, int]) -> bool:
    """Tells whether a GPU multiplies float16 several times faster than float32.

    Volta (7.0) and later have tensor cores, the GTX 16 among them excepted.

    Args:
        name: as `torch.cuda.get_device_name` gives it.
        capability: compute capability.
    """
    return capability >= (7, 0) and "GTX 16" not in name


def check_bfloat16(name: str, capability: tuple[int, int]) -> None:
    """Checks that a GPU computes in bfloat16: before Ampere cuDNN has no convolution in it.

    Args:
        name: of the GPU.
        capability: compute capability.

    Raises:
        BackendError: it does not.
    """
    if capability < _LEAST_CAPABILITY:
        raise BackendError(
            f"{name} (compute capability {capability[0]}.{capability[1]}) does not compute in "
            "bfloat16, which begins with 8.0 (Ampere): use --precision float16 or float32"
        )


def lacks_code(gpu: torch.device) -> str:
    """Says that this PyTorch has no code for `gpu`, a CUDA device; empty where it has."""
    capability = torch.cuda.get_device_capability(gpu)
    known = torch.cuda.get_arch_list()
    if has_code(capability, known):
        return ""
    return (
        f"PyTorch {torch.__version__} has no code for {torch.cuda.get_device_name(gpu)} (compute "
        f"capability {capability[0]}.{capability[1]}; it knows {', '.join(known)})"
    )


def has_code(capability: tuple[int, int], known: Sequence[str]) -> bool:
    """Tells whether a GPU of `capability` runs code that was compiled for `known` ones.

    Machine code (sm_86) runs on the same major version from that minor one on, with a letter
    behind it (sm_90a) on that one alone; PTX (compute_80) on everything newer.

    Args:
        capability: compute capability of the GPU.
        known: as `torch.cuda.get_arch_list` gives them; none is taken for all.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", each) for each in known]
    for each in filter(None, found):
        version = int(each[2]), int(each[3])
        if each[4]:
            fits = version == capability
        elif each[1] == "compute":
            fits = version <= capability
        else:
            fits = version[0] == capability[0] and version <= capability
        if fits:
            return True
    return not any(found)


def why_no_gpu() -> str:
    """Says why PyTorch sees no GPU here, and the way out where there is a driver; one clause."""
    try:
        driver: str | None = driver_version()
    except VqfrMediaError:
        driver = None
    return missing_gpu(built=torch.version.cuda, driver=driver)


def missing_gpu(*, built: str | None, driver: str | None) -> str:
    """Says why PyTorch sees no GPU.

    Args:
        built: the CUDA that PyTorch was built with, such as "13.0", or None.
        driver: the newest CUDA that the driver knows, such as "CUDA 12.4"; None without a driver.
    """
    if built is None:
        way = "" if driver is None else ", and NVIDIA's driver is here: install one with CUDA"
        return f"this PyTorch is built without CUDA{way}"
    if driver is None:
        return "no NVIDIA GPU or driver"
    if int(driver.removeprefix("CUDA ").partition(".")[0]) < int(built.partition(".")[0]):
        return (
            f"NVIDIA's driver knows {driver} and this PyTorch is built with CUDA {built}: update "
            f"the driver, or install a PyTorch for {driver}"
        )
    return "NVIDIA's driver is here, but PyTorch sees no GPU: nvidia-smi must list it"


def check_capability(gpu: torch.device, *, engine: str, instead: str) -> None:
    """Checks that our kernel runs on `gpu`.

    Args:
        gpu: a CUDA device that is here.
        engine: whose engine it is, for the message.
        instead: backends that do run there, likewise.

    Raises:
        BackendError: it is too old.
    """
    capability = torch.cuda.get_device_capability(gpu)
    if capability < _LEAST_CAPABILITY:
        raise BackendError(
            f"{torch.cuda.get_device_name(gpu)} has compute capability "
            f"{capability[0]}.{capability[1]}, and the {engine} engine needs 8.0 (Ampere): "
            f"use --backend {instead}"
        )
