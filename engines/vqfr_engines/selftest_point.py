"""The process of one point of the self-test; `selftest` starts it with `in_own_process`."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, assert_never

from vqfr_engines.engine_checks import CheckFailedError, Findings, Point
from vqfr_engines.machine_facts import machine_facts
from vqfr_engines.own_process import answer_request
from vqfr_media.errors import BackendError

type SelftestBackend = Literal["torch", "openvino", "tensorrt", "inductor"]
"""What a self-test is of."""

logger = logging.getLogger(__name__)


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
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, as plain values."""
    log: tuple[str, ...] = ()
    """The last lines that its process wrote, where it failed."""


@dataclass(frozen=True, kw_only=True)
class PointRequest:
    """Which point of which self-test."""

    backend: SelftestBackend
    """What is tested."""
    device: str
    """cpu or cuda:N."""
    model: str
    """v1, v2 or lite."""
    weights: str
    """File of its weights."""
    folder: str
    """Where the points of one self-test leave their engines for each other."""
    number: int
    """From 1; 0 asks for `machine_facts`."""


def points_of(
    backend: SelftestBackend, folder: Path, *, device: str, model: str, weights: Path
) -> Sequence[Point]:
    """Lists the points of a backend; nothing is done yet."""
    match backend:
        case "torch":
            from vqfr_engines.selftest_torch import TorchChecks

            return TorchChecks(device=device, model=model, weights=weights).points()
        case "tensorrt":
            from vqfr_engines.selftest_tensorrt import TensorrtChecks

            return TensorrtChecks(folder, device=device, model=model, weights=weights).points()
        case "openvino" | "inductor":
            from vqfr_engines.selftest_engine import EngineChecks

            return EngineChecks(
                folder, backend=backend, device=device, model=model, weights=weights
            ).points()
        case _:
            assert_never(backend)


def checked(number: int, name: str, check: Callable[[], str | Findings]) -> CheckResult:
    """Does what a point checks; whatever it raises is its outcome."""
    started = time.perf_counter()
    outcome: Literal["passed", "failed", "skipped"]
    figures: Mapping[str, Any] = {}
    try:
        found, outcome = check(), "passed"
        detail = found if isinstance(found, str) else found.detail
        figures = {} if isinstance(found, str) else found.figures
    except BackendError as error:
        detail, outcome = str(error), "skipped"
    except CheckFailedError as error:
        detail, outcome = str(error), "failed"
    except Exception as error:  # whatever it is, it is the outcome, and the next point goes on
        logger.exception("point %d", number)
        detail, outcome = f"{type(error).__name__}: {error}", "failed"
    return CheckResult(
        number=number,
        name=name,
        outcome=outcome,
        detail=" ".join(detail.split()),
        seconds=time.perf_counter() - started,
        figures=figures,
    )


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Answers with the outcome of the point that is asked for, as plain values."""
    request = PointRequest(**asked)
    if request.number == 0:
        return machine_facts(request.device)
    points = points_of(
        request.backend,
        Path(request.folder),
        device=request.device,
        model=request.model,
        weights=Path(request.weights),
    )
    return asdict(checked(request.number, *points[request.number - 1]))


if __name__ == "__main__":
    answer_request(answer)
