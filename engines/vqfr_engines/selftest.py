"""What a person with the hardware runs once: does a backend hold here what its design assumes.

Each point runs in a process of its own, so that one that crashes or hangs fails alone. For
TensorRT the points are those that only a machine with a GPU can answer (docs/tensorrt.md).
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vqfr_engines.machine_facts import facts_line as facts_line
from vqfr_engines.own_process import in_own_process
from vqfr_engines.selftest_point import (
    CheckResult,
    PointRequest,
    SelftestBackend,
    points_of,
)
from vqfr_media import weights as weight_files

POINT_SECONDS = 3600.0
"""After so long a point is ended; TensorRT may take half an hour for v1."""
_PROCESS = "vqfr_engines.selftest_point"


def run(
    backend: SelftestBackend,
    *,
    device: str,
    model: str = "lite",
    weights: Path | None = None,
    seconds: float = POINT_SECONDS,
) -> Iterator[CheckResult]:
    """Checks `backend` on `device`, one point at a time, as they are asked for.

    A point that fails or crashes does not stop those after it.

    Args:
        backend: torch, openvino, tensorrt or inductor.
        device: cpu or cuda:N.
        model: network that is tried; lite takes minutes, v1 and v2 take long.
        weights: file of its weights, instead of the known places.
        seconds: that a point may take.

    Raises:
        WeightsError: the model's weights are not on this machine.
    """
    path = weight_files.find(model, explicit=weights, offline=True)
    with tempfile.TemporaryDirectory(prefix="vqfr-media-selftest-") as folder:
        request = PointRequest(
            backend=backend,
            device=device,
            model=model,
            weights=str(path.absolute()),
            folder=folder,
            number=0,
        )
        points = points_of(backend, Path(folder), device=device, model=model, weights=path)
        for number, (name, _) in enumerate(points, start=1):
            yield _in_own_process(replace(request, number=number), name, seconds=seconds)


def machine(device: str) -> dict[str, Any]:
    """Asks for `machine_facts` in a process of its own, which leaves no memory taken.

    Where the process fails, the only fact is the fault.
    """
    request = PointRequest(
        backend="torch", device=device, model="", weights="", folder="", number=0
    )
    ended = in_own_process(_PROCESS, asdict(request), seconds=POINT_SECONDS)
    return {"fault": ended.fault} if ended.answer is None else dict(ended.answer)


def report_json(
    backend: SelftestBackend, facts: dict[str, Any], results: Sequence[CheckResult]
) -> str:
    """Writes the self-test as one JSON document: machine, versions, date and every point."""
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": backend,
        "machine": facts,
        "points": [asdict(result) for result in results],
    }
    return json.dumps(document, indent=1) + "\n"


def _in_own_process(request: PointRequest, name: str, *, seconds: float) -> CheckResult:
    started = time.perf_counter()
    ended = in_own_process(_PROCESS, asdict(request), seconds=seconds)
    if ended.answer is None:
        return CheckResult(
            number=request.number,
            name=name,
            outcome="failed",
            detail=ended.fault,
            seconds=time.perf_counter() - started,
            log=ended.log,
        )
    result = CheckResult(**ended.answer)
    return replace(result, log=ended.log if result.outcome == "failed" else ())
