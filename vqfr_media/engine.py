"""The seam between the pipeline and whatever runs the network."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, assert_never

import torch
from torch import Tensor

from vqfr_media import weights
from vqfr_media.backends.gpu_memory import batch_that_fits, fitting_engine, free_bytes, gives_finite
from vqfr_media.backends.nvidia_gpu import has_tensor_cores
from vqfr_media.backends.torch_engine import TorchEngine, resolve_device
from vqfr_media.choices import ChosenModel, check_fidelity, choose_model
from vqfr_media.errors import BackendError, EngineError, OptionError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_model
from vqfr_media.options import ModelOptions
from vqfr_media.values import EngineSpec

if TYPE_CHECKING:
    from vqfr_engines.load import LoadedEngine
    from vqfr_engines.request import EngineRequest

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs the encoder and the decoder of a network; latents are smoothed between them.

    A face's result must not depend on what else is in the batch: the same crop gives the same bits,
    alone or with others. An engine may be used by one thread at a time.
    """

    spec: EngineSpec

    def encode(self, crops: Tensor) -> Tensor:
        """Maps (N, 3, S, S) RGB in [0, 1] on `spec.device` to (N, C, h, w) float32 latents.

        Raises:
            EngineError: the network failed.
        """
        ...

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """Maps crops and their (smoothed) latents to (N, 3, S, S) RGB in [0, 1], float32.

        Raises:
            EngineError: the network failed.
        """
        ...


def load_engine(
    options: ModelOptions | None = None,
    *,
    offline: bool = False,
    progress: weights.Progress | None = None,
) -> tuple[Engine, ChosenModel]:
    """Finds or builds the engine that `options` ask for, and says what runs and why.

    Backend `auto` is openvino on a CPU; it is built where it is not here yet. On a GPU, where that
    takes minutes, it is an engine that somebody has built, tensorrt before inductor, else torch.
    Where the precision is left open and an engine in float16 is refused, it is built in bfloat16.
    Where precision and batch size are left open, they are those of the newest engine that is kept
    and fits. A stale or damaged engine is built again. Where `auto` cannot have an engine, torch
    does the work, and the log says why; on a CPU in float32, and another precision is refused then.

    Args:
        options: Model, backend, device, precision and batch size, or an engine's directory.
        offline: Never fetch weights.
        progress: Called with bytes done and bytes in all while weights are fetched.

    Raises:
        OptionError: options that contradict each other.
        WeightsError: weights that cannot be had.
        CheckpointError: weights that do not fit.
        BackendError: no such backend, device or precision here.
        EngineFileError: `options.engine` is damaged, or of another machine or version.
        EngineError: the engine cannot be built, or does not compute what PyTorch does.
        OutputError: there is no room for an engine.
    """
    options = options or ModelOptions()
    if options.engine is not None:
        return _load_directory(options, options.engine)
    device = _device(options)
    on_gpu = device.type == "cuda"
    chosen = choose_model(options, has_gpu=on_gpu, offline=offline, progress=progress)
    match options.backend:
        case "auto":
            return _load_automatically(options, chosen, device)
        case "torch":
            return _load_torch(options, chosen, device, why="asked for")
        case "openvino" | "tensorrt" | "inductor":
            from vqfr_engines.load import in_exact_precision, load_built

            request = request_for(options, options.backend, chosen, device)
            loaded = in_exact_precision(
                request, is_open=options.precision == "auto", work=load_built
            )
            changed = loaded.manifest.identity.precision != request.precision
            why = "asked for; bfloat16, as float16 is not exact enough" if changed else "asked for"
            return _described(loaded, chosen, why=why)
        case _:
            assert_never(options.backend)


def request_for(
    options: ModelOptions, backend: BuiltBackend, chosen: ChosenModel, device: torch.device
) -> "EngineRequest":
    """Returns what to build for `options`; what they leave open is decided by the device."""
    from vqfr_engines.request import EngineRequest

    return EngineRequest(
        backend=backend,
        model=chosen.name,
        weights=chosen.weights,
        precision=_precision(options, device),
        batch_size=_batch_size(options, device),
        device=str(device),
    )


def request_engine(
    options: ModelOptions, backend: BuiltBackend, *, progress: weights.Progress | None = None
) -> "EngineRequest":
    """Returns what `load_engine` would build with `backend`; takes and raises what it does."""
    device = _device(replace(options, backend=backend))
    on_gpu = device.type == "cuda"
    chosen = choose_model(options, has_gpu=on_gpu, offline=False, progress=progress)
    return request_for(options, backend, chosen, device)


def _device(options: ModelOptions) -> torch.device:
    """Decides where the network runs; OpenVINO's is the CPU, whatever else there is.

    A backend that was named is checked here, before weights are fetched for it.
    """
    backend = options.backend
    device = resolve_device("cpu" if backend == "openvino" else options.device)
    match backend:
        case "openvino" | "tensorrt" | "inductor":
            from vqfr_engines.request import check_backend

            # Where nobody chose the CPU, it is not to blame: TensorRT says that there is no GPU.
            is_open = backend == "tensorrt" and options.device == "auto"
            place = "cuda" if is_open else str(device)
            check_backend(backend, precision=_precision(options, device), device=place)
        case "auto" | "torch":
            pass
        case _:
            assert_never(backend)
    return device


def _precision(options: ModelOptions, device: torch.device) -> Precision:
    if options.precision != "auto":
        return options.precision
    return "float16" if device.type == "cuda" else "float32"


def _batch_size(options: ModelOptions, device: torch.device) -> int:
    return options.batch_size or (8 if device.type == "cuda" else 1)


def _load_torch(
    options: ModelOptions, chosen: ChosenModel, device: torch.device, *, why: str
) -> tuple[Engine, ChosenModel]:
    if device.type == "cuda":
        return _load_torch_on_gpu(options, chosen, device, why=why)
    precision: Precision = "float32" if options.precision == "auto" else options.precision
    engine = TorchEngine(
        load_model(chosen.weights, model=chosen.name),
        model=chosen.name,
        device=device,
        batch_size=_batch_size(options, device),
        precision=precision,
    )
    return engine, replace(chosen, backend="torch", backend_why=why)


def _load_torch_on_gpu(
    options: ModelOptions, chosen: ChosenModel, gpu: torch.device, *, why: str
) -> tuple[Engine, ChosenModel]:
    """Sees before the first result that a full batch fits, and that its numbers are finite."""
    from vqfr_engines.parity import fixed_crops

    precisions = torch_precisions(
        options,
        name=torch.cuda.get_device_name(gpu),
        capability=torch.cuda.get_device_capability(gpu),
    )
    for precision, because in precisions:
        network = load_model(chosen.weights, model=chosen.name)
        batch_size = options.batch_size or batch_that_fits(
            network,
            precision=precision,
            free_bytes=free_bytes(gpu),
            most=_batch_size(options, gpu),
        )
        engine = TorchEngine(
            network, model=chosen.name, device=gpu, batch_size=batch_size, precision=precision
        )
        crops = fixed_crops(engine.spec.size)
        engine = fitting_engine(engine, crops, may_halve=options.batch_size is None)
        if gives_finite(engine, crops):
            backend_why = "; ".join(clause for clause in (why, because) if clause)
            return engine, replace(chosen, backend="torch", backend_why=backend_why)
        logger.warning("%s in %s gives values that are not finite", chosen.name, precision)
        del engine, network  # or they would take the next one's room
    raise EngineError(
        f"{chosen.name} gives values that are not finite on {gpu} in "
        f"{' and in '.join(precision for precision, _ in precisions)}: use --precision float32"
    )


def torch_precisions(
    options: ModelOptions, *, name: str, capability: tuple[int, int]
) -> tuple[tuple[Precision, str], ...]:
    """Lists the precisions in which plain PyTorch is tried on a GPU, each with why (or nothing).

    Args:
        options: only their precision counts.
        name: of the GPU.
        capability: compute capability of the GPU.
    """
    if options.precision != "auto":
        return ((options.precision, ""),)
    if not has_tensor_cores(name, capability):
        return (("float32", "float32, as this GPU has no tensor cores"),)
    wider: Precision = "bfloat16" if capability >= (8, 0) else "float32"
    return (
        ("float16", "float16, as this GPU has tensor cores"),
        (wider, f"{wider}, as this network's values are too large for float16"),
    )


def _described(
    loaded: "LoadedEngine", chosen: ChosenModel, *, why: str
) -> tuple[Engine, ChosenModel]:
    identity = loaded.manifest.identity
    return loaded.engine, replace(
        chosen,
        backend=identity.backend,
        backend_why=why,
        engine=loaded.folder,
        identity=identity.sha256,
    )


def _load_automatically(
    options: ModelOptions, chosen: ChosenModel, device: torch.device
) -> tuple[Engine, ChosenModel]:
    """Loads an engine without surprises: a CPU's is built in passing, a GPU's only on demand."""
    from vqfr_engines.load import LoadedEngine, load_automatically

    backends: tuple[BuiltBackend, ...] = ("openvino",)
    why = "the fastest on CPUs"
    if device.type == "cuda":
        backends, why = ("tensorrt", "inductor"), "an engine that was built for it is here"
    found = load_automatically(
        [request_for(options, backend, chosen, device) for backend in backends],
        any_precision=options.precision == "auto",
        any_batch_size=options.batch_size is None,
    )
    if isinstance(found, LoadedEngine):
        return _described(found, chosen, why=why)
    if device.type == "cpu" and options.precision not in ("auto", "float32"):
        raise BackendError(
            f"--precision {options.precision} cannot be had: {found}; or leave out --precision, "
            "then PyTorch computes in float32"
        )
    logger.warning("%s; PyTorch does the work, slower (--backend torch: no more of this)", found)
    return _load_torch(options, chosen, device, why=found)


def _load_directory(options: ModelOptions, folder: Path) -> tuple[Engine, ChosenModel]:
    from vqfr_engines.request import open_engine
    from vqfr_engines.store import named_manifest, trusted

    manifest = named_manifest(folder)
    identity = manifest.identity
    if options.model not in ("auto", identity.model):
        raise OptionError(
            f"--model {options.model} is not what the engine in {folder} holds: {identity.model}"
        )
    check_fidelity(options, identity.model, why=f"the engine in {folder}")
    device = resolve_device(
        "cpu" if options.device == "auto" and manifest.spec.device == "cpu" else options.device
    )
    if device.type != torch.device(manifest.spec.device).type:
        raise OptionError(
            f"the engine in {folder} is for {manifest.spec.device}, not for {device}; "
            "leave out --device, or build one for it"
        )
    trusted(folder, device=str(device))
    engine = open_engine(folder, identity.backend, replace(manifest.spec, device=str(device)))
    chosen = ChosenModel(
        identity.model,
        Path(manifest.weights),
        f"what the engine in {folder} holds",
        backend=identity.backend,
        backend_why="asked for",
        engine=folder,
        identity=identity.sha256,
    )
    return engine, chosen
