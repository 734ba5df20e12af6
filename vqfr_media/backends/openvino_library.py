"""OpenVINO as the rest of the package gets it: imported late, and without its telemetry."""

import importlib
import importlib.metadata
import logging
import sys
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vqfr_media.errors import BackendError

_TELEMETRY = "openvino_telemetry"


def openvino() -> ModuleType:
    """Imports the library.

    Importing it sends events over the network unless `openvino_telemetry` is absent; from here on
    it is, as far as imports can see. Where a caller has imported that before, nothing is changed.

    Raises:
        BackendError: it is not installed, or does not load.
    """
    # For good: modules of OpenVINO that are imported later look for it again, and what it starts
    # are forked processes that keep all open files of this one.
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    try:
        import openvino as library  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendError(
            f"the openvino backend needs OpenVINO, which does not load here ({error}): "
            "pip install openvino, or use --backend torch"
        ) from error
    module: ModuleType = library
    return module


def convert_model(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Converts a module that is traced with `inputs`; in the model their sizes stay open.

    Args:
        module: in eval mode, its parameters without gradients; run once.
        inputs: what it is called with, on its device.

    Raises:
        Exception: one of `failures()`.
    """
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters.copy(), root.handlers.copy()
    try:
        return openvino().convert_model(_traced(module, inputs))
    finally:
        # The library quietens the program's own log meanwhile, and where it fails leaves it so.
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Traces `module` as one function, so that its parameters become constants.

    Of a module, PyTorch describes every part for scripts, twice, which takes longer than all the
    rest; and what is to replace tracing, torch.export with its decompositions, takes five times as
    long in all, to the same bits.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        # A size that decides something is that of `inputs` from then on, as in what is exported.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        return torch.jit.trace(  # type: ignore[no-untyped-call]
            lambda *given: module(*given), inputs, check_trace=False
        )


def version() -> str:
    """Returns the installed library's version."""
    return importlib.metadata.version("openvino")


def failures() -> tuple[type[Exception], ...]:
    """Lists what its calls raise; its front ends' errors derive from nothing but Exception."""
    openvino()
    front_ends = vars(importlib.import_module("openvino.frontend")).values()
    own = (kind for kind in front_ends if isinstance(kind, type) and issubclass(kind, Exception))
    # A damaged file can hold sizes that no number of its own type takes.
    return (RuntimeError, OverflowError, *own)


def reason_of(error: Exception) -> str:
    """Says in one line what `error` says, without the places in OpenVINO's source.

    A conversion's summary names the operators; it is taken where there is one.
    """
    lines = [line.strip().removeprefix("-- ") for line in str(error).splitlines()]
    if "Summary:" in lines:
        return "; ".join(line for line in lines[lines.index("Summary:") + 1 :] if line)
    told = [line for line in lines if line and not _is_place(line)]
    return told[0] if told else type(error).__name__


def _is_place(line: str) -> bool:
    """Tells whether a line of an error only says where in the source it comes from."""
    return line.startswith(("Exception from ", "FrontEnd API failed with ")) or (
        line.startswith("Check '") and " failed at " in line
    )


def compile_settings(precision: str) -> dict[str, Any]:
    """Says how the CPU plugin runs a model: one request at a time, with PyTorch's threads.

    Args:
        precision: arithmetic inside, float32 or bfloat16.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        # One setting for both libraries: OMP_NUM_THREADS, or torch.set_num_threads.
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        # Pinned threads of two processes, or of decoder and network, would share one core.
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
    }
