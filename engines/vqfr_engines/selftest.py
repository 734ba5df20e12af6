"""What a person with the hardware runs once: does a backend hold here what its design assumes.

For TensorRT these are the seven points that no machine without a GPU can settle
(docs/tensorrt.md); for the other backends, building, exactness, determinism and speed.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vqfr_media import weights
from vqfr_media.errors import BackendError
from vqfr_media.manifest import BuiltBackend

type Point = tuple[str, Callable[[], str]]
"""A point's name, and what checks it: it returns what it saw, and raises where that is bad."""

logger = logging.getLogger(__name__)


class CheckFailedError(Exception):
    """A point does not hold; the message says what was seen."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The outcome of one point."""

    number: int
    """From 1, in the order in which points build on each other."""
    name: str
    """What is claimed."""
    outcome: Literal["passed", "failed", "skipped"]
    """Skipped: this machine lacks what the point needs."""
    detail: str
    """What was seen or measured, or why not; one line."""
    seconds: float
    """How long it took, builds included."""


def run(backend: BuiltBackend, *, device: str, model: str = "lite") -> Iterator[CheckResult]:
    """Checks `backend` on `device`, one point at a time, as they are asked for.

    A point that fails does not stop those after it.

    Args:
        backend: openvino, tensorrt or inductor.
        device: cpu or cuda:N.
        model: network that is built for it; lite takes minutes, v1 and v2 take long.

    Raises:
        WeightsError: the model's weights are not on this machine.
    """
    path = weights.find(model, offline=True)
    with tempfile.TemporaryDirectory(prefix="vqfr-media-selftest-") as folder:
        points = _points(backend, Path(folder), device=device, model=model, path=path)
        for number, (name, check) in enumerate(points, start=1):
            yield _result(number, name, check)


def _points(
    backend: BuiltBackend, folder: Path, *, device: str, model: str, path: Path
) -> Sequence[Point]:
    if backend == "tensorrt":
        from vqfr_engines.selftest_tensorrt import TensorrtChecks

        return TensorrtChecks(folder, device=device, model=model, weights=path).points()
    from vqfr_engines.selftest_engine import EngineChecks

    return EngineChecks(folder, backend=backend, device=device, model=model, weights=path).points()


def _result(number: int, name: str, check: Callable[[], str]) -> CheckResult:
    started = time.perf_counter()
    outcome: Literal["passed", "failed", "skipped"]
    try:
        detail, outcome = check(), "passed"
    except BackendError as error:
        detail, outcome = str(error), "skipped"
    except CheckFailedError as error:
        detail, outcome = str(error), "failed"
    except Exception as error:  # whatever it is, it is the outcome, and the next point goes on
        logger.debug("point %d", number, exc_info=True)
        detail, outcome = f"{type(error).__name__}: {error}", "failed"
    return CheckResult(
        number=number,
        name=name,
        outcome=outcome,
        detail=" ".join(detail.split()),
        seconds=time.perf_counter() - started,
    )
