"""The seam between the pipeline and whatever runs the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from torch import Tensor

from vqfr_media import weights
from vqfr_media.errors import OptionError, WeightsError
from vqfr_media.options import ModelOptions
from vqfr_media.values import EngineSpec


class Engine(Protocol):
    """Runs the two halves of a network; the temporal rule works between them.

    A face's result must not depend on what else is in the batch: the same crop gives the same bits,
    alone or in company. An engine may be used by one thread at a time.
    """

    spec: EngineSpec

    def encode(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [0, 1] on `spec.device` -> (N, C, h, w) float32 latents.

        Raises:
            EngineError: the network failed.
        """
        ...

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """Crops and their (settled) latents -> (N, 3, S, S) RGB in [0, 1], float32.

        Raises:
            EngineError: the network failed.
        """
        ...


@dataclass(frozen=True)
class ChosenModel:
    """The outcome of `--model auto`, or of an explicit choice."""

    name: str
    """v1, v2 or lite."""
    weights: Path
    """File that holds its weights."""
    why: str
    """One clause for the summary."""


def choose_model(
    options: ModelOptions,
    *,
    has_gpu: bool,
    offline: bool,
    progress: weights.Progress | None = None,
) -> ChosenModel:
    """Settles which network runs and where its weights are; fetches them where allowed.

    Raises:
        OptionError: `weights` without a model they belong to, or fidelity without the knob.
        WeightsError: the chosen model's weights cannot be had.
    """
    if options.model == "auto":
        if options.weights is not None:
            raise OptionError("--weights needs to know the network: add --model v1, v2 or lite")
        chosen = _choose_automatically(has_gpu=has_gpu, offline=offline, progress=progress)
        _check_knob(options, chosen.name, why=chosen.why)
        return chosen
    _check_knob(options, options.model, why="asked for")  # before anything is fetched
    path = weights.find(options.model, explicit=options.weights, offline=offline, progress=progress)
    return ChosenModel(options.model, path, "asked for")


def _check_knob(options: ModelOptions, model: str, *, why: str) -> None:
    if options.fidelity is not None and model != "v2":
        raise OptionError(
            f"--fidelity {options.fidelity:g} has no effect on {model} ({why}): "
            "only v2 has this knob; add --model v2 or leave it out"
        )


def _choose_automatically(
    *, has_gpu: bool, offline: bool, progress: weights.Progress | None
) -> ChosenModel:
    lite = weights.find("lite", offline=True)
    if not has_gpu:
        return ChosenModel("lite", lite, "no GPU here, and v2 takes seconds per face on a CPU")
    try:
        path = weights.find("v2", offline=offline, progress=progress)
    except WeightsError as error:  # told to the user in the summary: the other model does the work
        return ChosenModel("lite", lite, f"v2 is not to be had: {error}")
    return ChosenModel("v2", path, "a GPU is here and so are v2's weights")


def load_engine(
    options: ModelOptions | None = None,
    *,
    offline: bool = False,
    progress: weights.Progress | None = None,
) -> tuple[Engine, ChosenModel]:
    """Builds the engine that `options` ask for, and says which model it runs and why.

    Args:
        options: Model, backend, device and batch size.
        offline: Never fetch weights.
        progress: Called with bytes done and bytes in all while weights are fetched.

    Raises:
        OptionError: options that contradict each other.
        WeightsError: weights that cannot be had.
        CheckpointError: weights that do not fit.
        BackendError: no such backend or device here.
    """
    from vqfr_media.backends.torch_engine import TorchEngine, resolve_device
    from vqfr_media.network.checkpoint import load_model

    options = options or ModelOptions()
    device = resolve_device(options.device)
    on_gpu = device.type == "cuda"
    chosen = choose_model(options, has_gpu=on_gpu, offline=offline, progress=progress)
    batch_size = options.batch_size or (8 if on_gpu else 1)
    match options.backend:
        case "auto" | "torch":
            network = load_model(chosen.weights, model=chosen.name)
            engine = TorchEngine(network, model=chosen.name, device=device, batch_size=batch_size)
        case _:
            assert_never(options.backend)
    return engine, chosen
