"""Runs an engine that TensorRT built: static buffers on the GPU, one CUDA graph for encoder and
decoder each.

PyTorch's tensors are TensorRT's buffers, so nothing passes through the host; a run is a copy into
the input buffers, one launch of the captured graph, and a copy of the result.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqfr_media.backends.batching import run_in_batches
from vqfr_media.backends.rebuild_hint import rebuild_hint
from vqfr_media.backends.tensorrt_library import (
    collected_errors,
    cuda_device,
    import_tensorrt,
    last_reasons,
    log_bridge,
    machine,
    versions,
)
from vqfr_media.errors import EngineError, EngineFileError
from vqfr_media.values import EngineSpec

ENCODER, DECODER = "encoder.plan", "decoder.plan"
# A first run makes what later ones reuse, compiling the plugin's PTX included; none of it may
# happen while a graph is captured.
_WARM_UP_RUNS = 2

logger = logging.getLogger(__name__)


class TensorrtEngine:
    """Runs one engine folder; see `vqfr_media.engine.Engine` for the contract.

    It owns one execution context each for encoder and decoder, so it serves one thread at a time.
    """

    def __init__(self, folder: Path, spec: EngineSpec) -> None:
        """Loads both plans and captures their graphs.

        Raises:
            BackendError: TensorRT or the GPU is not here.
            EngineFileError: a plan is absent, damaged, of another TensorRT or another GPU.
            EngineError: the GPU's memory does not suffice.
        """
        import_tensorrt()  # what is missing is said before any file is read
        device = cuda_device(spec.device)
        self.spec = spec
        try:
            self._encoder, self._decoder = (
                TensorrtPlan(
                    folder / name, device=device, inputs=tensors.inputs, outputs=tensors.outputs
                )
                for name, tensors in plan_tensors(spec).items()
            )
        except UnusablePlanError as error:
            here = versions() | machine(spec.device)
            raise EngineFileError(
                f"{folder} is no TensorRT engine for this machine: {error}; "
                f"{rebuild_hint(folder, spec, backend='tensorrt', here=here)}"
            ) from error

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        return run_in_batches(lambda part: self._encoder(crops=part), self.spec, crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""
        fidelity_input = {}
        if self.spec.has_fidelity:
            fidelity_input["fidelity"] = torch.full((1,), fidelity, device=self.spec.device)
        return run_in_batches(
            lambda part, codes: self._decoder(crops=part, latents=codes, **fidelity_input),
            self.spec,
            crops,
            latents,
        )


@dataclass(frozen=True)
class PlanTensors:
    """Names and shapes of what a plan reads and writes; all float32."""

    inputs: Mapping[str, tuple[int, ...]]
    """By name, in the order of the module's arguments."""
    outputs: Mapping[str, tuple[int, ...]]
    """By name; there is one."""


def plan_tensors(spec: EngineSpec) -> dict[str, PlanTensors]:
    """Lists what the encoder's and the decoder's plan read and write, by file name."""
    crops = (spec.batch_size, 3, spec.size, spec.size)
    latents = (spec.batch_size, *spec.latent_shape)
    fidelity_input: dict[str, tuple[int, ...]] = {"fidelity": (1,)} if spec.has_fidelity else {}
    return {
        ENCODER: PlanTensors({"crops": crops}, {"latents": latents}),
        DECODER: PlanTensors(
            {"crops": crops, "latents": latents, **fidelity_input}, {"output": crops}
        ),
    }


class UnusablePlanError(Exception):
    """A plan that TensorRT does not take, or that holds another network; says why."""


class TensorrtPlan:
    """One plan on a GPU: its context, its buffers, its stream and its captured graph.

    Args:
        path: the serialised plan.
        device: a CUDA device.
        inputs, outputs: names and static shapes of its float32 tensors; there is one output.
        capture: whether to make a CUDA graph of its run.

    Raises:
        UnusablePlanError: the file cannot be read, TensorRT refuses it, or its tensors differ.
        EngineError: the context or its buffers do not fit into the GPU's memory.
    """

    engine: Any
    """TensorRT's own."""
    context: Any
    """TensorRT's execution context of it."""
    is_captured: bool
    """Whether runs replay a CUDA graph."""

    def __init__(
        self,
        path: Path,
        *,
        device: torch.device,
        inputs: Mapping[str, tuple[int, ...]],
        outputs: Mapping[str, tuple[int, ...]],
        capture: bool = True,
    ) -> None:
        tensorrt = import_tensorrt()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnusablePlanError(
                f"{path.name} cannot be read ({error.strerror or error})"
            ) from error
        if not content:
            raise UnusablePlanError(f"{path.name} is empty")
        (self._output,) = outputs
        self._device = device
        with torch.cuda.device(device), collected_errors() as errors:
            # TensorRT wants the runtime alive as long as the engine.
            self._runtime = tensorrt.Runtime(log_bridge(tensorrt))
            self.engine = self._runtime.deserialize_cuda_engine(content)
            if self.engine is None:
                reason = last_reasons(errors, "TensorRT gives no reason")
                raise UnusablePlanError(f"{path.name}: {reason}")
            check_tensors(tensorrt, self.engine, inputs, outputs, path.name)
            self.context = self.engine.create_execution_context()
            if self.context is None:
                raise EngineError(
                    f"{path.name} does not fit into the memory of {device}, build it for fewer "
                    f"faces at once (--batch-size): {last_reasons(errors, 'no execution context')}"
                )
            self._buffers = {
                name: torch.zeros(shape, dtype=torch.float32, device=device)
                for name, shape in {**inputs, **outputs}.items()
            }
            for name, buffer in self._buffers.items():
                if not self.context.set_tensor_address(name, buffer.data_ptr()):
                    reason = last_reasons(errors, f"{name} has no address")
                    raise EngineError(f"{path.name}: {reason}")
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._graph = self._captured(path.name) if capture else None
        self.is_captured = self._graph is not None

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Runs once on the plan's own stream, ordered with the caller's.

        Args:
            inputs: every input by name, shaped as the plan was built, on any CUDA stream.

        Returns:
            The output, in memory of its own.

        Raises:
            EngineError: TensorRT refused the run.
        """
        callers = torch.cuda.current_stream(self._device)
        callers.wait_stream(self._stream)  # the run before may have been another stream's
        for name, value in inputs.items():
            self._buffers[name].copy_(value, non_blocking=True)
        self._stream.wait_stream(callers)
        with torch.cuda.stream(self._stream):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._enqueue()
        callers.wait_stream(self._stream)
        return self._buffers[self._output].clone()

    def _enqueue(self) -> None:
        stream = torch.cuda.current_stream(self._device)
        with collected_errors() as errors:
            started = self.context.execute_async_v3(stream.cuda_stream)
        if not started:
            reason = last_reasons(errors, "it gives no reason")
            raise EngineError(f"TensorRT refused to run: {reason}")

    def _captured(self, name: str) -> torch.cuda.CUDAGraph | None:
        """Captures the run as a graph; None, and a warning, where this plan cannot be captured."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                self._enqueue()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads beside this one decode and detect meanwhile: only its own calls may disturb.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._enqueue()
        except RuntimeError as error:
            logger.warning(
                "%s runs without a CUDA graph, a little slower: %s", name, str(error).split("\n")[0]
            )
            return None
        return graph


def check_tensors(
    tensorrt: Any,
    engine: Any,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    name: str,
) -> None:
    """Compares what the plan reads and writes with what it should."""
    found = {}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(tensor) == tensorrt.TensorIOMode.INPUT
        found[tensor] = (
            "input" if is_input else "output",
            str(engine.get_tensor_dtype(tensor)).rpartition(".")[2],
            tuple(engine.get_tensor_shape(tensor)),
        )
    wanted = {tensor: ("input", "FLOAT", shape) for tensor, shape in inputs.items()}
    wanted |= {tensor: ("output", "FLOAT", shape) for tensor, shape in outputs.items()}
    if found != wanted:
        raise UnusablePlanError(f"{name} has the tensors {found}, not {wanted}")
