"""What engines for NVIDIA GPUs are bound to and ask for, whatever builds them."""

import torch

from vqfr_media.backends.cuda_driver import driver_version
from vqfr_media.errors import BackendError

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
