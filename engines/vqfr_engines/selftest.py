"""What a person with the hardware runs once: does a backend hold here what its design assumes.

For TensorRT these are the seven points that only a machine with a GPU can answer
(docs/tensorrt.md); for the other backends, building, exactness, determinism and speed.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from vqfr_engines.engine_checks import (
    CheckFailedError,
    Point,
    check_batch_invariance,
    check_parity,
    milliseconds_per_face,
)
from vqfr_engines.request import BuiltEngine, builder_of, open_engine
from vqfr_media import weights
from vqfr_media.backends.batching import spec_of
from vqfr_media.errors import BackendError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_model

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


class EngineChecks:
    """Builds one engine into a folder and looks at it from all sides."""

    def __init__(
        self, folder: Path, *, backend: BuiltBackend, device: str, model: str, weights: Path
    ) -> None:
        self._folder, self._backend, self._device = folder, backend, device
        self._model, self._weights = model, weights
        self._precision: Precision = "float32" if device == "cpu" else "float16"

    def points(self) -> Sequence[Point]:
        """Lists the points, in order."""
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


def _points(
    backend: BuiltBackend, folder: Path, *, device: str, model: str, path: Path
) -> Sequence[Point]:
    if backend == "tensorrt":
        from vqfr_engines.selftest_tensorrt import TensorrtChecks

        return TensorrtChecks(folder, device=device, model=model, weights=path).points()
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
