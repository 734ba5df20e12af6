"""Builds engines with PyTorch's own compiler, AOTInductor: `encoder.pt2` and `decoder.pt2`.

Such a package holds compiled code and weights and needs no compiler to run. On NVIDIA
GPUs the deformable convolution's Triton kernel is compiled into it.
"""

import contextlib
import importlib.util
import logging
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqfr_engines.toolchain import (
    check_cxx,
    check_toolchain,
    cuda_homes,
    cxx_compiler,
    driver_library,
    find_cuda_home,
    first_error_line,
    installed_toolchain,
    linkable_driver,
)
from vqfr_media.backends.batching import channels_last
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.nvidia_gpu import check_capability, gpu_facts
from vqfr_media.backends.torch_engine import resolve_device
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.manifest import Precision
from vqfr_media.network.deform import use_operator
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

logger = logging.getLogger(__name__)


def check(device: str) -> None:
    """Checks that an engine can run on `device` (auto, cpu, cuda, cuda:N).

    Raises:
        BackendError: it is not here, or an NVIDIA GPU without Triton or too old; says the way out.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        return
    if importlib.util.find_spec("triton") is None:
        raise BackendError(
            "triton is not installed, and the inductor backend compiles with it for NVIDIA GPUs: "
            "pip install triton, or use --backend torch"
        )
    check_capability(place, engine="inductor", instead="torch")


def check_compiler(device: str) -> str:
    """Checks that there is what compiles an engine for `device`; running one does without it.

    For a GPU this compiles three lines.

    Returns:
        What compiles, in a few words.

    Raises:
        BackendError: something is missing; names it, and what brings it.
    """
    if resolve_device(device).type == "cuda":
        return check_toolchain(installed_toolchain())
    check_cxx(cxx_compiler())
    return cxx_compiler()


def versions() -> dict[str, str]:
    """Names the libraries that build an engine and run it."""
    found = {"torch": torch.__version__, "torchvision": metadata.version("torchvision")}
    if importlib.util.find_spec("triton") is not None:
        found["triton"] = metadata.version("triton")
    return found


def machine(device: str) -> dict[str, str]:
    """Names the processor, its vector instructions and the threads used of it, or the GPU.

    On a CPU the number of threads is compiled in.

    Raises:
        BackendError: `device` is not here.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        return {
            "cpu": _processor(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()),
        }
    return gpu_facts(place)


def settings(precision: Precision) -> dict[str, Any]:
    """Returns what decides the outcome beside network, code and versions."""
    return {
        "precision": precision,
        "format": "AOTInductor, channels last",
        "compiler": _compiler_options(),
    }


def build(
    network: VqfrV1 | VqfrV2, folder: Path, *, precision: Precision, batch_size: int, device: str
) -> None:
    """Writes `encoder.pt2` and `decoder.pt2`; takes minutes.

    Args:
        network: float32, on the CPU, in eval mode; used up.
        folder: exists and is empty.
        precision: arithmetic of all but the layers kept in float32.
        batch_size: faces in one run.
        device: cpu, cuda or cuda:N; built on it and for it.

    Raises:
        BackendError: a compiler or the device is not here.
        EngineError: PyTorch cannot compile the network.
        OSError: `folder` cannot be written.
    """
    check(device)
    check_compiler(device)
    place = resolve_device(device)
    if place.type == "cuda":
        from vqfr_deform_conv.operator import deform_conv2d

        use_operator(network, deform_conv2d)
    config = network.config
    network = to_mixed_precision(network, precision).to(place)
    network.to(memory_format=torch.channels_last)
    crops = torch.zeros(batch_size, 3, config.image_size, config.image_size, device=place)
    crops = channels_last(crops)
    latents = torch.zeros(batch_size, *config.latent_shape, device=place)
    fidelity_input = [torch.zeros(1, device=place)] if isinstance(network, VqfrV2) else []
    _compile(EncoderModule(network), (crops,), folder / "encoder.pt2", place)
    _compile(
        DecoderModule(network), (crops, latents, *fidelity_input), folder / "decoder.pt2", place
    )


def _compile(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, device: torch.device
) -> None:
    try:
        with _cuda_found(device), exact_float32(device), torch.no_grad():
            program = torch.export.export(module, inputs, strict=False)
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(path),
                inductor_configs=_compiler_options() | _threads(device),
            )
    except RuntimeError as error:  # what all errors of torch.export and its compiler derive from
        logger.debug("compiling %s failed", path.stem, exc_info=True)
        reason = first_error_line(str(error))
        raise EngineError(
            f"PyTorch {torch.__version__} cannot compile {path.stem} for {device}: {reason}; "
            "use --backend torch"
        ) from error


def _compiler_options() -> dict[str, Any]:
    # CUDA graphs are captured by the backend, around the whole module.
    return {"triton.cudagraphs": False}


def _threads(device: torch.device) -> dict[str, Any]:
    """Names the threads, or the compiler mixes the number at hand with the one at run time."""
    return {"cpp.threads": torch.get_num_threads()} if device.type == "cpu" else {}


@contextlib.contextmanager
def _cuda_found(device: torch.device) -> Iterator[None]:
    """Lets the compiler find CUDA and the driver where there is no toolkit, while this lasts."""
    if device.type != "cuda":
        yield
        return
    from torch.utils import cpp_extension

    before = cpp_extension.CUDA_HOME
    # No argument of the compiler says where CUDA is, and the variable is read at import.
    cpp_extension.CUDA_HOME = str(find_cuda_home(cuda_homes()))
    try:
        with linkable_driver(driver_library()):
            yield
    finally:
        cpp_extension.CUDA_HOME = before


def _processor() -> str:
    """Returns the processor's name as Linux tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
