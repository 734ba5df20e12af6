"""Builds TensorRT engines: network -> exported modules -> `encoder.plan` and `decoder.plan`.

Networks of TensorRT 11 are strongly typed: a plan computes in the types that its graph shows, so
precision is set by `network.precision` before the export, and checked after it.
"""

import contextlib
import gc
import hashlib
import logging
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vqfr_engines.source_hash import DEFORM_CONV, DEFORM_CONV_TENSORRT, code_sha256
from vqfr_engines.tensorrt_graph import ExportedModule, exported_modules
from vqfr_media.backends import tensorrt_library
from vqfr_media.backends.nvidia_gpu import check_capability
from vqfr_media.backends.tensorrt_library import (
    collected_errors,
    cuda_device,
    import_torch_tensorrt,
)
from vqfr_media.errors import EngineError
from vqfr_media.files import first_line
from vqfr_media.manifest import Precision
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

# Where torch_tensorrt puts what TensorRT says.
_TENSORRT_LOG = "torch_tensorrt [TensorRT Conversion Context]"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """What the builder is told. All of it decides what a plan computes or where it runs."""

    optimization_level: int = 3
    """0 to 5: how long it looks for faster kernels."""
    workspace_bytes: int = 0
    """Scratch memory that a kernel may take; 0 is all there is."""
    allow_tf32: bool = False
    """Whether float32 products may be rounded to 10 bits of mantissa, as many as float16 has: that
    would undo what keeping layers in float32 is for, the choice of the codes."""
    hardware_compatible: bool = False
    """Whether a plan runs on every GPU from Ampere on, not on this model alone; slower."""
    version_compatible: bool = False
    """Whether later TensorRT versions can run the plan."""

    def compiler(self) -> dict[str, Any]:
        """Says the same in the words of torch_tensorrt's compiler."""
        return {
            "require_full_compilation": True,
            "min_block_size": 1,
            "immutable_weights": True,
            # Its attention layer wants four dimensions and several heads; ours is small.
            "decompose_attention": True,
            "optimization_level": self.optimization_level,
            "workspace_size": self.workspace_bytes,
            "disable_tf32": not self.allow_tf32,
            "hardware_compatible": self.hardware_compatible,
            "version_compatible": self.version_compatible,
        }


def check(device: str) -> None:
    """Checks that an engine can be built here for `device` (cuda, cuda:N).

    Raises:
        BackendError: the libraries or a GPU that can run the engine are missing; says the way out.
    """
    tensorrt_library.versions()
    check_capability(cuda_device(device), engine="TensorRT", instead="torch")


def versions() -> dict[str, str]:
    """Names the libraries that build an engine and run it.

    Raises:
        BackendError: one of them is absent.
    """
    return tensorrt_library.versions()


def machine(device: str) -> dict[str, str]:
    """Names the GPU, its compute capability, and the driver's CUDA.

    Raises:
        BackendError: `device` is no GPU of this machine.
    """
    return tensorrt_library.machine(device)


def settings(precision: Precision) -> dict[str, Any]:
    """Returns what decides the outcome beside network, code and versions."""
    del precision  # the same for all
    return asdict(BuilderOptions())


def build(
    network: VqfrV1 | VqfrV2, folder: Path, *, precision: Precision, batch_size: int, device: str
) -> None:
    """Writes `encoder.plan` and `decoder.plan`; takes minutes.

    Args:
        network: float32, on the CPU, in eval mode; used up.
        folder: exists and is empty.
        precision: arithmetic of all but the layers kept in float32.
        batch_size: faces in one run.
        device: the GPU it is built on and for.

    Raises:
        BackendError: TensorRT or the GPU is not here.
        EngineError: TensorRT cannot build it.
        OSError: `folder` cannot be written.
    """
    check(device)
    write_plans(
        to_mixed_precision(network, precision),
        folder,
        batch_size=batch_size,
        device=cuda_device(device),
        options=BuilderOptions(),
    )


def write_plans(
    network: VqfrV1 | VqfrV2,
    folder: Path,
    *,
    batch_size: int,
    device: torch.device,
    options: BuilderOptions,
    check_float32: bool = True,
) -> None:
    """Builds from a network of its final precision; `check_float32` as for `exported_modules`."""
    modules = exported_modules(
        network, batch_size=batch_size, device=device, check_float32=check_float32
    )
    with timing_cache(device) as cache, torch.cuda.device(device):
        for module in modules:
            logger.info("TensorRT builds the %s for %d faces", module.name, batch_size)
            plan = plan_of(module, device=device, options=options, timing_cache=cache)
            (folder / f"{module.name}.plan").write_bytes(plan)
            logger.info("%s.plan: %.1f MB", module.name, len(plan) / 1e6)
            del module, plan
            gc.collect()
            torch.cuda.empty_cache()


def plan_of(
    module: ExportedModule, *, device: torch.device, options: BuilderOptions, timing_cache: Path
) -> bytes:
    """Builds the serialised engine of one module, the deformable convolution's kernels inside.

    Where a build with measured kernel times fails, they may be damaged: it is tried without them.

    Args:
        module: on `device`.
        device: a CUDA device.
        options: what the builder is told.
        timing_cache: read if it is there, and written.

    Raises:
        BackendError: torch_tensorrt does not load.
        EngineError: an operator has no converter, or TensorRT cannot build the network.
    """
    try:
        return _plan_of(module, device=device, options=options, timing_cache=timing_cache)
    except EngineError as error:
        if not timing_cache.is_file():
            raise
        logger.warning("%s; once more, without the kernel times of earlier builds", error)
        timing_cache.unlink()
    return _plan_of(module, device=device, options=options, timing_cache=timing_cache)


def _plan_of(
    module: ExportedModule, *, device: torch.device, options: BuilderOptions, timing_cache: Path
) -> bytes:
    torch_tensorrt = import_torch_tensorrt()
    from vqfr_deform_conv.converter import register
    from vqfr_deform_conv.tensorrt_plugin import LOG as PLUGIN_LOG
    from vqfr_deform_conv.tensorrt_plugin import PLUGIN_FAULT

    register()
    with (
        quiet_torch_tensorrt(PLUGIN_LOG),
        # In this order: a logger's handlers that were there before are put aside.
        collected_errors(_TENSORRT_LOG) as logged,
        collected_errors(PLUGIN_LOG) as all_logged,
    ):
        try:
            plan: bytes = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                module.program,
                arg_inputs=list(module.arguments),
                arg_input_binding_names=module.inputs,  # a tuple, as the program takes it
                output_binding_names=module.output,
                device=device,
                timing_cache_path=str(timing_cache),
                offload_module_to_cpu=True,
                **options.compiler(),
            )
        except Exception as error:  # lowering passes and converters raise anything
            of_plugin = [said for said in all_logged if said.startswith(PLUGIN_FAULT)]
            raise EngineError(
                f"TensorRT cannot build the {module.name} on {device}: "
                f"{build_failure(error, logged, of_plugin)}"
            ) from error
    return plan


@contextlib.contextmanager
def quiet_torch_tensorrt(*more: str) -> Iterator[None]:
    """Keeps what torch_tensorrt and TensorRT's builder log off the terminal while this lasts.

    A failed build writes hundreds of lines. All of it is still to be had from our own logger, at
    level debug; the reason for a failure is in the error.

    Args:
        more: names of further loggers.
    """

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.debug("%s: %s", record.name, record.getMessage())

    forward = Forward()
    loggers = [
        logging.getLogger(name)
        for name in (*logging.root.manager.loggerDict, "torch_tensorrt", _TENSORRT_LOG, *more)
        if name in (_TENSORRT_LOG, *more) or name.partition(".")[0] == "torch_tensorrt"
    ]
    before = [(each, each.propagate, list(each.handlers)) for each in dict.fromkeys(loggers)]
    try:
        for each, _, handlers in before:
            for handler in handlers:
                each.removeHandler(handler)
            each.propagate = False
            each.addHandler(forward)
        yield
    finally:
        for each, propagate, handlers in before:
            each.removeHandler(forward)
            each.propagate = propagate
            for handler in handlers:
                each.addHandler(handler)


def build_failure(error: Exception, logged: Sequence[str], of_plugin: Sequence[str] = ()) -> str:
    """Tells in one line what our plugin failed on, then `error`, then what TensorRT said last."""
    told = first_line(error)
    last = " ".join(logged[-1].split()) if logged else ""
    if last not in told:
        told = f"{told.rstrip(': ')}: {last}"
    first = "; ".join(dict.fromkeys(" ".join(reason.split()) for reason in of_plugin))
    return f"{first}; {told}" if first else told


@contextlib.contextmanager
def timing_cache(device: torch.device) -> Iterator[Path]:
    """Gives a working copy of the measured kernel times of this TensorRT on this GPU model.

    The copy is put back after a build that went well, whole or not at all, so that two builds at
    once or a killed one cannot damage it. Where the user's cache cannot be written, the next build
    measures again, and that is all.
    """
    from platformdirs import user_cache_path

    facts = tensorrt_library.machine(str(device))
    version = tensorrt_library.versions()["tensorrt"]
    name = timing_cache_name(version, facts["gpu"], plugin=plugin_version())
    kept = user_cache_path("vqfr-media") / "tensorrt" / name
    with tempfile.TemporaryDirectory(prefix="vqfr-media-timing-") as folder:
        copy = Path(folder, kept.name)
        try:
            shutil.copyfile(kept, copy)
        except FileNotFoundError:
            logger.debug("no kernel times are kept at %s yet", kept)
        yield copy
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            arriving = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}")
            shutil.copyfile(copy, arriving)
            arriving.replace(kept)
        except OSError as error:
            logger.info("TensorRT's timing cache is not kept at %s: %s", kept, error)


def timing_cache_name(version: str, gpu: str, *, plugin: str) -> str:
    """Makes the file name for a TensorRT version, a GPU's name and a `plugin_version`.

    Times of one are wrong for others: TensorRT would take the tile that was the fastest of an
    earlier plugin.
    """
    return f"timing-{version}-{re.sub('[^0-9A-Za-z]+', '-', gpu)}-{plugin}.cache"


def plugin_version() -> str:
    """Returns twelve digits that change with the code of the plugin and with the
    Triton that compiles it."""
    code = code_sha256((*DEFORM_CONV, *DEFORM_CONV_TENSORRT))
    compiled = f"{code} {tensorrt_library.versions()['triton']}"
    return hashlib.sha256(compiled.encode()).hexdigest()[:12]
