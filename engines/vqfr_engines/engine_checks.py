"""What every backend's engines are checked for: exact, the same in any batch, and how fast."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vqfr_engines.bench import run_seconds
from vqfr_engines.parity import LIMITS, Reference, faults, fixed_crops
from vqfr_engines.request import BuiltEngine
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

FIDELITY = 0.7
_TIMED_RUNS = 10


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a check saw, in words and in numbers."""

    detail: str
    """One line."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, for the file of the self-test."""


type Point = tuple[str, Callable[[], str | Findings]]
"""A point's name, and what checks it: it returns what it saw, and raises where that is bad."""


class CheckFailedError(Exception):
    """A point does not hold; the message says what was seen."""


def check_parity(engine: BuiltEngine, network: VqfrV1 | VqfrV2) -> str:
    """Measures how far `engine` is from `network`, which is used up.

    Raises:
        CheckFailedError: further than its precision may be.
    """
    spec = engine.spec
    parity = Reference(network, model=spec.model, device=spec.device).compare(engine)
    precision = next(name for name in LIMITS if name == spec.precision)
    if beyond := faults(parity, precision):
        raise CheckFailedError(f"{'; '.join(beyond)}: {parity.line()}")
    return parity.line()


def check_batch_invariance(engine: BuiltEngine | TorchEngine) -> str:
    """Checks that the same crop gives the same bits alone, in a batch, and again.

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


def milliseconds_per_face(engine: BuiltEngine | TorchEngine) -> tuple[float, float]:
    """Returns the median times of encoding and of decoding one face, in full runs."""
    spec = engine.spec
    crops = torch.rand(spec.batch_size, 3, spec.size, spec.size, device=spec.device)
    latents = engine.encode(crops)
    device = torch.device(spec.device)
    encode = _median_seconds(lambda: engine.encode(crops), device)
    decode = _median_seconds(lambda: engine.decode(crops, latents, fidelity=FIDELITY), device)
    return 1e3 * encode / spec.batch_size, 1e3 * decode / spec.batch_size


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    taken = [run_seconds(work, device) for _ in range(_TIMED_RUNS + 1)]
    return statistics.median(taken[1:])  # the first one warms up
