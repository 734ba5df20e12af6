"""How many faces plain PyTorch runs at once on a GPU: an estimate, then a trial."""

import logging

import torch
from torch import Tensor

from vqfr_media.backends.batching import full_batch
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.errors import EngineMemoryError
from vqfr_media.manifest import Precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.options import DEFAULT_FIDELITY

# Of what is free: the rest is for cuDNN's workspaces and the allocator's gaps, which no count sees.
_USABLE = 0.7

logger = logging.getLogger(__name__)


def run_bytes(network: VqfrV1 | VqfrV2, *, precision: Precision, batch_size: int) -> int:
    """Estimates what the decoder holds beside the weights at its fullest, in bytes.

    Counted from every live storage of lite, v1 and v2 at 1 to 16 faces: each face takes 9 to 12
    (float32) or 6 to 9 (float16, bfloat16) times one feature of the finest level in float32; the
    deformable convolution of one image at a time takes nine more.

    Args:
        network: with its configuration.
        precision: arithmetic inside.
        batch_size: faces in one run.
    """
    feature = 4 * network.config.image_size**2 * network.config.channels[0]
    return feature * (9 + batch_size * (12 if precision == "float32" else 9))


def batch_that_fits(
    network: VqfrV1 | VqfrV2, *, precision: Precision, free_bytes: int, most: int
) -> int:
    """Chooses how many faces run at once: `most`, or halves of it until they fit, at least 1.

    Args:
        network: float32, not yet on the GPU: its weights come out of `free_bytes`.
        precision: arithmetic inside.
        free_bytes: of the GPU's memory (`free_bytes`).
        most: faces, at least 1.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
    usable = _USABLE * free_bytes - weights
    batch_size = most
    while (
        batch_size > 1 and run_bytes(network, precision=precision, batch_size=batch_size) > usable
    ):
        batch_size //= 2
    return batch_size


def free_bytes(gpu: torch.device) -> int:
    """Counts the bytes that this process can still have of a GPU's memory.

    What PyTorch's allocator has taken from the driver and not given out is free too.
    """
    kept = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
    return int(torch.cuda.mem_get_info(gpu)[0] + kept)


def fitting_engine(engine: TorchEngine, crops: Tensor, *, may_halve: bool) -> TorchEngine:
    """Runs a full batch before the first result; the engine, or one for half as many faces.

    Args:
        engine: to try out.
        crops: (N, 3, S, S) RGB in [0, 1], any N >= 1; repeated to fill the batch.
        may_halve: whether half the batch is tried, once, where the memory does not hold the whole.

    Raises:
        EngineMemoryError: it does not fit all the same.
        EngineError: the network failed.
    """
    batch_size = engine.spec.batch_size
    try:
        _run(engine, crops)
        return engine
    except EngineMemoryError:
        if not (may_halve and batch_size > 1):
            raise
    # Behind the handler: until its end the error's traceback holds the tensors of the run.
    if engine.spec.device.startswith("cuda"):
        torch.cuda.empty_cache()
    smaller = engine.with_batch_size(batch_size // 2)
    logger.warning(
        "%d faces at once do not fit into the memory of %s: %d are run (or name --batch-size)",
        batch_size,
        engine.spec.device,
        smaller.spec.batch_size,
    )
    _run(smaller, crops)
    return smaller


def gives_finite(engine: TorchEngine, crops: Tensor) -> bool:
    """Tells whether latents and pictures of a full batch are finite; float16 ends at 65,504.

    Args:
        engine: to try out.
        crops: (N, 3, S, S) RGB in [0, 1], any N >= 1; repeated to fill the batch.

    Raises:
        EngineError: the network failed.
    """
    return all(bool(values.isfinite().all()) for values in _run(engine, crops))


def _run(engine: TorchEngine, crops: Tensor) -> tuple[Tensor, Tensor]:
    full = full_batch(crops, engine.spec.batch_size).to(engine.spec.device)
    latents = engine.encode(full)
    return latents, engine.decode(full, latents, fidelity=DEFAULT_FIDELITY)
