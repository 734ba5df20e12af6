"""Runs engines made by PyTorch's compiler; on NVIDIA GPUs as CUDA graphs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision.ops  # noqa: F401  # its operators are what a CPU package calls
from torch import Tensor

from vqfr_media.backends.batching import channels_last, run_in_batches
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.nvidia_gpu import gpu_facts
from vqfr_media.backends.rebuild_hint import rebuild_hint
from vqfr_media.backends.torch_engine import resolve_device
from vqfr_media.errors import EngineError, EngineFileError
from vqfr_media.files import first_line
from vqfr_media.values import EngineSpec

# Kernels are loaded in the first run; the second is then free of what a capture forbids.
_WARM_UP_RUNS = 3


class InductorEngine:
    """Runs AOTInductor packages; see `vqfr_media.engine.Engine` for the contract.

    One thread at a time. On a GPU encoder and decoder are each captured once as a CUDA graph, with
    input buffers of its own; a result is a copy, so that the next call does not change it.
    """

    def __init__(self, folder: Path, spec: EngineSpec) -> None:
        """Loads `encoder.pt2` and `decoder.pt2`, and captures them where there is a GPU.

        Raises:
            BackendError: `spec.device` is not here.
            EngineFileError: a file is absent, damaged, or of another PyTorch, processor or GPU.
            EngineError: it loads and does not run.
        """
        self.spec = spec
        device = resolve_device(spec.device)
        crops = torch.zeros(spec.batch_size, 3, spec.size, spec.size, device=device)
        crops = channels_last(crops)
        latents = torch.zeros(spec.batch_size, *spec.latent_shape, device=device)
        fidelity_input = [torch.zeros(1, device=device)] if spec.has_fidelity else []
        self._encoder = _runner(folder / "encoder.pt2", spec, [crops])
        self._decoder = _runner(folder / "decoder.pt2", spec, [crops, latents, *fidelity_input])

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        # A package takes strides as given and does not look at them: they are those of the export.
        return run_in_batches(lambda part: self._encoder(channels_last(part)), self.spec, crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""
        fidelity_input = (
            [torch.full((1,), fidelity, device=self.spec.device)] if self.spec.has_fidelity else []
        )
        return run_in_batches(
            lambda part, codes: self._decoder(
                channels_last(part), codes.contiguous(), *fidelity_input
            ),
            self.spec,
            crops,
            latents,
        )


def _runner(path: Path, spec: EngineSpec, inputs: list[Tensor]) -> Callable[..., Tensor]:
    device = inputs[0].device
    program = _load(path, spec, device)
    if device.type == "cpu":
        return program
    try:
        return _GraphedProgram(program, inputs)
    except RuntimeError as error:  # PyTorch raises nothing narrower, out of memory included
        reason = first_line(error)
        raise EngineError(
            f"{path.stem} of {spec.model} cannot be captured on {spec.device} with "
            f"{spec.batch_size} faces of {spec.size} px: {reason}; use --backend torch, or "
            "build an engine of a smaller batch size"
        ) from error


def _load(path: Path, spec: EngineSpec, device: torch.device) -> Callable[..., Tensor]:
    if not path.is_file():
        raise EngineFileError(f"{path} is absent; {_told(path.parent, spec, device)}")
    try:
        # Without this the loader synchronises by events, which a capture forbids.
        program: Any = torch._inductor.aoti_load_package(
            str(path),
            run_single_threaded=True,
            device_index=-1 if device.index is None else device.index,
        )
    except Exception as error:  # a damaged archive or library raises nearly anything
        reason = first_line(error)
        raise EngineFileError(
            f"{path} does not load ({reason}); {_told(path.parent, spec, device)}"
        ) from error
    runner: Callable[..., Tensor] = program
    return runner


class _GraphedProgram:
    """A program captured as a CUDA graph with inputs and output at fixed places."""

    def __init__(self, program: Callable[..., Tensor], inputs: list[Tensor]) -> None:
        self._inputs = [torch.empty_like(given) for given in inputs]
        for buffer, given in zip(self._inputs, inputs, strict=True):
            buffer.copy_(given)
        self._program = program  # owns kernels and weights that the graph uses
        self._graph = torch.cuda.CUDAGraph()
        device = inputs[0].device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(device), exact_float32(device):
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_RUNS):
                    program(*self._inputs)
            stream.synchronize()
            # Other threads read and write video on the GPU or elsewhere meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._output = program(*self._inputs)

    def __call__(self, *given: Tensor) -> Tensor:
        for buffer, value in zip(self._inputs, given, strict=True):
            buffer.copy_(value)
        self._graph.replay()
        return self._output.clone()


def _told(folder: Path, spec: EngineSpec, device: torch.device) -> str:
    here = {"torch": str(torch.__version__)}
    if device.type == "cuda":
        here |= gpu_facts(device)
    return rebuild_hint(folder, spec, backend="inductor", here=here)
