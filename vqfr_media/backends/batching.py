"""Feeding a network that always runs exactly `batch_size` faces; what all backends share."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqfr_media.errors import EngineError, EngineMemoryError
from vqfr_media.files import first_line
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.values import EngineSpec

_NO_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def channels_last(crops: Tensor) -> Tensor:
    """Lays `crops` out with channels last in memory, in which convolutions are faster."""
    return crops.contiguous(memory_format=torch.channels_last)


def full_batch(crops: Tensor, batch_size: int) -> Tensor:
    """Returns `crops` (N, 3, S, S), N >= 1, repeated until they are `batch_size`."""
    return crops.repeat(-(-batch_size // len(crops)), 1, 1, 1)[:batch_size]


def spec_of(
    network: VqfrV1 | VqfrV2, *, model: str, batch_size: int, precision: str, device: str
) -> EngineSpec:
    """Describes an engine that runs `network`."""
    return EngineSpec(
        model=model,
        size=network.config.image_size,
        latent_shape=network.config.latent_shape,
        batch_size=batch_size,
        precision=precision,
        device=device,
        has_fidelity=isinstance(network, VqfrV2),
    )


def run_in_batches(
    work: Callable[..., Tensor], spec: EngineSpec, crops: Tensor, *more: Tensor
) -> Tensor:
    """Applies `work` to runs of exactly `spec.batch_size` faces; the last is filled with blanks.

    A face's result then does not depend on what else is in the batch.

    Args:
        work: takes `crops` and `more`, cut to one run and on `spec.device`; its result's first
            dimension is that of the run. It must not be reused by the next call.
        spec: of the engine.
        crops: (N, 3, S, S) with N >= 1.
        more: further tensors of N rows.

    Returns:
        (N, ...) on `spec.device`; an inference tensor where there was one run.

    Raises:
        ValueError: `crops` has another shape.
        EngineMemoryError: there is too little memory.
        EngineError: `work` failed.
    """
    size, batch = spec.size, spec.batch_size
    if crops.ndim != 4 or crops.shape[1:] != (3, size, size) or not len(crops):
        raise ValueError(
            f"crops must be (N, 3, {size}, {size}) with N >= 1, got {tuple(crops.shape)}"
        )
    results = []
    try:
        with torch.inference_mode():
            for start in range(0, len(crops), batch):
                parts = [x[start : start + batch].to(spec.device) for x in (crops, *more)]
                count = len(parts[0])
                if count < batch:
                    parts = [
                        torch.cat([x, x.new_zeros(batch - count, *x.shape[1:])]) for x in parts
                    ]
                results.append(work(*parts)[:count])
    except RuntimeError as error:  # PyTorch raises nothing narrower, out of memory included
        if is_out_of_memory(error):
            raise EngineMemoryError(
                f"{spec.model} in {spec.precision} does not fit into the memory of {spec.device} "
                f"with {batch} faces of {size} px: {_less_memory(spec)}; {first_line(error)}"
            ) from error
        raise EngineError(
            f"{spec.model} failed on {spec.device} with {batch} faces of {size} px: "
            f"{first_line(error)}"
        ) from error
    # Copied all the same where blanks are behind it, which nobody should keep.
    return results[0] if len(crops) == batch else torch.cat(results)


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether PyTorch failed for lack of memory.

    Where it is cuDNN's workspace that finds no room, PyTorch tries one algorithm after the other
    and says at last that there is none; cuBLAS has an error of its own for its handle.
    """
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in said for sign in _NO_MEMORY)
    )


def _less_memory(spec: EngineSpec) -> str:
    if spec.batch_size > 1:
        return "use --batch-size 1"
    return "end what else runs there, or use --model lite (--batch-size 1 is the least)"
