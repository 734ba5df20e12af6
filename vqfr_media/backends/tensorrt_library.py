"""TensorRT's Python packages: found, or missed with one clear line; its messages in `logging`."""

import contextlib
import functools
import importlib
import importlib.util
import io
import logging
from collections.abc import Iterator, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

import torch

from vqfr_media.backends.nvidia_gpu import gpu_facts
from vqfr_media.errors import BackendError
from vqfr_media.files import first_line

EXTRA = "pip install 'vqfr-media[tensorrt]'"

logger = logging.getLogger(__name__)


def import_tensorrt() -> ModuleType:
    """Imports the `tensorrt` package, which runs engines.

    Raises:
        BackendError: it is not installed, or its libraries do not load.
    """
    return _import("tensorrt")


def import_torch_tensorrt() -> ModuleType:
    """Imports the `torch_tensorrt` package, which builds engines.

    Raises:
        BackendError: it is not installed, or its libraries do not load.
    """
    return _import("torch_tensorrt")


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that build an engine and that run it.

    Raises:
        BackendError: one of them is absent.
    """
    tensorrt = import_tensorrt()
    try:  # not imported for this: it takes seconds, and running an engine does without it
        builder = metadata.version("torch-tensorrt")
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: {EXTRA}") from error
    return {
        "tensorrt": str(tensorrt.__version__),
        "torch_tensorrt": builder,
        "torch": torch.__version__,
        "triton": triton,
    }


def machine(device: str) -> dict[str, str]:
    """Names what an engine is bound to: the GPU, its compute capability, the driver's CUDA.

    Raises:
        BackendError: `device` is no NVIDIA GPU of this machine.
    """
    return gpu_facts(cuda_device(device))


def cuda_device(name: str) -> torch.device:
    """Returns the GPU that `name` (cuda, cuda:N) stands for.

    Raises:
        BackendError: it is not an NVIDIA GPU, or not here.
    """
    if not name.startswith("cuda"):
        raise BackendError(
            f"TensorRT runs on NVIDIA GPUs only, not on device {name!r}: "
            "use --device cuda, or --backend openvino on a CPU"
        )
    if not torch.cuda.is_available():
        raise BackendError(
            "TensorRT needs an NVIDIA GPU and PyTorch sees none here: "
            "install NVIDIA's driver, or use --backend openvino"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"unknown device {name!r}; use cuda or cuda:N") from error
    if (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"device {name!r} is not here: PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs"
        )
    return torch.device("cuda", device.index or 0)


@functools.cache
def log_bridge(tensorrt: ModuleType) -> Any:
    """Returns the one TensorRT logger of this process, which hands every message on to `logging`.

    TensorRT keeps the first logger that it is given for ever, whoever gives it, and calls it for
    plans of others too: so there is one, and it is never freed. What a call was told is collected
    by `collected_errors`.
    """
    severity = tensorrt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.CRITICAL,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.INFO,
        severity.VERBOSE: logging.DEBUG,
    }

    class Bridge(tensorrt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)  # pybind11 insists on its own constructor, by name

        def log(self, severity: Any, msg: str) -> None:
            logger.log(levels[severity], "TensorRT: %s", msg)

    return Bridge()


@contextlib.contextmanager
def collected_errors(*more: str) -> Iterator[list[str]]:
    """Collects what TensorRT says of level error while this lasts, oldest first.

    Its calls return None or False on failure, and say why in the log alone.

    Args:
        more: names of further loggers to listen to.
    """
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage().removeprefix("TensorRT: "))

    collector = Collector(logging.ERROR)
    listened = [logging.getLogger(name) for name in (logger.name, *more)]
    for each in listened:
        each.addHandler(collector)
    try:
        yield found
    finally:
        for each in listened:
            each.removeHandler(collector)


def last_reasons(errors: Sequence[str], otherwise: str) -> str:
    """Returns the last two of `errors` in one line, or `otherwise`."""
    return " / ".join(" ".join(error.split()) for error in errors[-2:]) or otherwise


def _import(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        raise BackendError(f"{name} is not installed: {EXTRA}")
    try:
        # torch_tensorrt prints what it misses before it raises.
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(name)
    except (
        Exception
    ) as error:  # a missing library is an ImportError, an OSError or a bare Exception
        reason = first_line(error)
        raise BackendError(
            f"{name} is installed but does not load ({reason}): "
            "install it and its libraries again with "
            "pip install --force-reinstall 'vqfr-media[tensorrt]'"
        ) from error
