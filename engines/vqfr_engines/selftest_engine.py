"""The points for every backend: an engine builds, is exact, the same in any batch, how fast."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vqfr_engines.parity import LIMITS, Reference, faults, fixed_crops
from vqfr_engines.request import BuiltEngine, builder_of, open_engine
from vqfr_engines.selftest import CheckFailedError, Point
from vqfr_engines.timing import seconds
from vqfr_media.backends.runs import spec_of
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_model
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

FIDELITY = 0.7
_TIMED_RUNS = 10


class EngineChecks:
    """Builds one engine into a folder and looks at it from all sides."""

    def __init__(
        self, folder: Path, *, backend: BuiltBackend, device: str, model: str, weights: Path
    ) -> None:
        self._folder, self._backend, self._device = folder, backend, device
        self._model, self._weights = model, weights
        self._precision: Precision = "float32" if device == "cpu" else "float16"

    def points(self) -> Sequence[Point]:
        """The points, in order."""
        return (
            ("an engine builds and loads", self.loads),
            ("it computes what PyTorch computes", self.is_exact),
            ("a face's bits do not depend on its batch", self.is_batch_invariant),
            ("how long a face takes", self.takes),
        )

    def loads(self) -> str:
        """Builds and opens the engine."""
        started = time.perf_counter()
        spec = self._engine.spec
        files = ", ".join(
            f"{path.name} {path.stat().st_size / 1e6:.1f} MB"
            for path in sorted(self._folder.iterdir())
        )
        return f"{spec.precision}, {time.perf_counter() - started:.0f} s, {files}"

    def is_exact(self) -> str:
        """Compares it with PyTorch in float32."""
        return check_parity(self._engine, load_model(self._weights, model=self._model))

    def is_batch_invariant(self) -> str:
        """Runs crops alone, in a batch and again."""
        return check_batch_invariance(self._engine)

    def takes(self) -> str:
        """Times encoder and decoder."""
        encode, decode = milliseconds_per_face(self._engine)
        return f"encode {encode:.2f} ms, decode {decode:.2f} ms per face"

    @cached_property
    def _engine(self) -> BuiltEngine:
        builder = builder_of(self._backend)
        builder.check(self._device)
        network = load_model(self._weights, model=self._model)
        spec = spec_of(
            network,
            model=self._model,
            batch_size=2,
            precision=self._precision,
            device=self._device,
        )
        builder.build(
            network,
            self._folder,
            precision=self._precision,
            batch_size=spec.batch_size,
            device=self._device,
        )
        return open_engine(self._folder, self._backend, spec)


def check_parity(engine: BuiltEngine, network: VqfrV1 | VqfrV2) -> str:
    """How far `engine` is from `network`, which is used up.

    Raises:
        CheckFailedError: further than its precision may be.
    """
    spec = engine.spec
    parity = Reference(network, model=spec.model, device=spec.device).compare(engine)
    precision = next(name for name in LIMITS if name == spec.precision)
    if beyond := faults(parity, precision):
        raise CheckFailedError(f"{'; '.join(beyond)}: {parity.line()}")
    return parity.line()


def check_batch_invariance(engine: BuiltEngine) -> str:
    """Whether the same crop gives the same bits alone, in a batch, and again.

    Raises:
        CheckFailedError: it does not.
    """
    crops = fixed_crops(engine.spec.size)[:3].to(engine.spec.device)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        latents = engine.encode(x)
        return latents, engine.decode(x, latents, fidelity=FIDELITY)

    batched, again = both(crops), both(crops)
    alone = both(crops[1:2])
    for name, one, other, single in zip(("latents", "images"), batched, again, alone, strict=True):
        if not torch.equal(one, other):
            raise CheckFailedError(f"the same crops give other {name} a second time")
        if not torch.equal(one[1:2], single):
            raise CheckFailedError(f"a crop alone gives other {name} than in a batch")
    return f"{len(crops)} crops, bit for bit"


def milliseconds_per_face(engine: BuiltEngine) -> tuple[float, float]:
    """Median time of encoding and of decoding one face, in full runs."""
    spec = engine.spec
    crops = torch.rand(spec.batch_size, 3, spec.size, spec.size, device=spec.device)
    latents = engine.encode(crops)
    device = torch.device(spec.device)
    encode = _median_seconds(lambda: engine.encode(crops), device)
    decode = _median_seconds(lambda: engine.decode(crops, latents, fidelity=FIDELITY), device)
    return 1e3 * encode / spec.batch_size, 1e3 * decode / spec.batch_size


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    taken = [seconds(work, device) for _ in range(_TIMED_RUNS + 1)]
    return statistics.median(taken[1:])  # the first one warms up
