"""Feeding a network that always runs exactly `batch_size` faces; what all backends share."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqfr_media.errors import EngineError
from vqfr_media.files import first_line
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.values import EngineSpec


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
        (N, ...) on `spec.device`.

    Raises:
        ValueError: `crops` has another shape.
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
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{spec.model} in {spec.precision} does not fit into the memory of {spec.device} with "
            f"{batch} faces of {size} px: {_less_memory(spec)}; {first_line(error)}"
        ) from error
    except RuntimeError as error:  # PyTorch raises nothing narrower
        raise EngineError(
            f"{spec.model} failed on {spec.device} with {batch} faces of {size} px: {error}"
        ) from error
    return torch.cat(results)


def _less_memory(spec: EngineSpec) -> str:
    if spec.batch_size > 1:
        return "use --batch-size 1"
    return "end what else runs there, or use --model lite (--batch-size 1 is the least)"
