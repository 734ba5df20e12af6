"""What plain PyTorch must hold on this machine, and what v2 takes of a GPU's memory."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from vqfr_engines.activations import FLOAT16_MAX, largest_activations
from vqfr_engines.engine_checks import (
    FIDELITY,
    CheckFailedError,
    Findings,
    Point,
    check_batch_invariance,
    milliseconds_per_face,
)
from vqfr_engines.parity import Reference, faults, fixed_crops
from vqfr_engines.random_networks import published_config, random_network
from vqfr_media.backends.batching import is_out_of_memory
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.gpu_memory import batch_that_fits, fitting_engine, free_bytes, run_bytes
from vqfr_media.backends.torch_engine import TorchEngine, resolve_device
from vqfr_media.errors import BackendError, EngineMemoryError
from vqfr_media.manifest import Precision
from vqfr_media.network.checkpoint import load_model
from vqfr_media.network.config import VqfrV1Config, VqfrV2Config
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

_MOST_FACES = 256

logger = logging.getLogger(__name__)


class TorchChecks:
    """Runs a network by plain PyTorch and looks at it from all sides."""

    def __init__(self, *, device: str, model: str, weights: Path) -> None:
        self._device, self._model, self._weights = device, model, weights

    def points(self) -> Sequence[Point]:
        """Lists the points, in order."""
        return (
            ("how large the values inside the network become", self.largest_values),
            ("float16 computes what float32 does", lambda: self.is_exact("float16")),
            ("bfloat16 computes what float32 does", lambda: self.is_exact("bfloat16")),
            ("a face's bits do not depend on its batch", self.is_batch_invariant),
            ("how long a face takes", self.takes),
            ("v2 in its default batch, and the largest that fits", self.v2_fits),
        )

    def largest_values(self) -> Findings:
        """Records the largest |activation| of every layer in float32."""
        network = self._network().to(self._place)
        crops = fixed_crops(network.config.image_size).to(self._place)
        with exact_float32(self._place):
            largest = largest_activations(network, crops, fidelity=FIDELITY)
        name, value = next(iter(largest.items()))
        if value == float("inf"):
            raise CheckFailedError(f"{name} gives values that are not finite in float32")
        return Findings(
            detail=f"{value:.4g} in {name}: {value / FLOAT16_MAX:.2%} of what float16 holds",
            figures=largest,
        )

    def is_exact(self, precision: Precision) -> str:
        """Compares half precision with float32."""
        reference = Reference(self._network(), model=self._model, device=self._device)
        parity = reference.compare(self._engine(precision))
        if beyond := faults(parity, precision):
            raise CheckFailedError(f"{'; '.join(beyond)}: {parity.line()}")
        return parity.line()

    def is_batch_invariant(self) -> str:
        """Runs crops alone, in a batch and again."""
        return check_batch_invariance(self._engine(self._usual))

    def takes(self) -> Findings:
        """Times encoder and decoder."""
        encode, decode = milliseconds_per_face(self._engine(self._usual))
        return Findings(
            detail=f"{self._usual}: encode {encode:.2f} ms, decode {decode:.2f} ms per face",
            figures={"encode_ms": encode, "decode_ms": decode},
        )

    def v2_fits(self) -> Findings:
        """Runs v2 with random weights in the batch that `restore` takes, then in larger ones."""
        if self._place.type != "cuda":
            raise BackendError("only a GPU's memory is filled by batches")
        return gpu_batches(published_config("v2"), device=self._place, precision="float16")

    @cached_property
    def _place(self) -> torch.device:
        return resolve_device(self._device)

    @property
    def _usual(self) -> Literal["float16", "float32"]:
        return "float16" if self._place.type == "cuda" else "float32"

    def _network(self) -> VqfrV1 | VqfrV2:
        return load_model(self._weights, model=self._model).eval()

    def _engine(self, precision: Precision) -> TorchEngine:
        return TorchEngine(
            self._network(),
            model=self._model,
            device=self._place,
            batch_size=2,
            precision=precision,
        )


def gpu_batches(
    config: VqfrV1Config | VqfrV2Config, *, device: torch.device, precision: Precision
) -> Findings:
    """Finds by trial, with random weights, how many faces a GPU's memory holds at once.

    Args:
        config: of the network.
        device: a CUDA device.
        precision: arithmetic inside.

    Raises:
        EngineError: not even the default batch or half of it fits.
    """
    network = random_network(config)
    free = free_bytes(device)
    default = batch_that_fits(network, precision=precision, free_bytes=free, most=8)
    engine = TorchEngine(
        network, model="v2", device=device, batch_size=default, precision=precision
    )
    crops = fixed_crops(config.image_size)
    torch.cuda.reset_peak_memory_stats(device)
    engine = fitting_engine(engine, crops, may_halve=True)
    taken = engine.spec.batch_size
    peak = torch.cuda.max_memory_allocated(device)
    reserved = torch.cuda.max_memory_reserved(device)
    encode, decode = milliseconds_per_face(engine)
    largest = largest_batch(engine, start=taken)
    figures = {
        "precision": precision,
        "free_gib": free / 2**30,
        "default_batch": default,
        "batch": taken,
        "peak_gib": peak / 2**30,
        "reserved_gib": reserved / 2**30,
        "estimated_gib": run_bytes_gib(config, precision=precision, batch_size=taken),
        "encode_ms": encode,
        "decode_ms": decode,
        "largest_batch": largest,
    }
    return Findings(
        detail=f"{precision}, {taken} faces at once: {peak / 2**30:.1f} GiB at the most "
        f"({reserved / 2**30:.1f} reserved), {encode + decode:.1f} ms a face; {largest} faces fit",
        figures=figures,
    )


def run_bytes_gib(
    config: VqfrV1Config | VqfrV2Config, *, precision: Precision, batch_size: int
) -> float:
    """Gives `gpu_memory.run_bytes` for a configuration, in GiB."""
    with torch.device("meta"):
        network = VqfrV1(config) if isinstance(config, VqfrV1Config) else VqfrV2(config)
    return run_bytes(network, precision=precision, batch_size=batch_size) / 2**30


def largest_batch(engine: TorchEngine, *, start: int, most: int = _MOST_FACES) -> int:
    """Finds the largest of `start`, twice `start` and so on, up to `most`, that fits.

    Args:
        engine: to try out; `start` is known to fit.
        start: faces, at least 1.
        most: faces that are tried at the most.

    Raises:
        EngineError: the network failed for another reason.
    """
    size, fits = engine.spec.size, start
    while fits * 2 <= most:
        trial = engine.with_batch_size(fits * 2)
        try:
            crops = torch.zeros(fits * 2, 3, size, size, device=engine.spec.device)
            latents = trial.encode(crops)
            trial.decode(crops, latents, fidelity=FIDELITY)
        except RuntimeError as error:
            if not (isinstance(error, EngineMemoryError) or is_out_of_memory(error)):
                raise
            break
        finally:
            crops = latents = torch.empty(0)
            if engine.spec.device.startswith("cuda"):
                torch.cuda.empty_cache()
        fits *= 2
    return fits
