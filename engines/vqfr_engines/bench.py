"""What an engine is worth: its time per face beside that of eager PyTorch, taken in turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import torch

from vqfr_engines.parity import FIDELITIES, fixed_crops
from vqfr_engines.verify import network_of, open_trusted
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class EngineTiming:
    """Milliseconds per face, the median of the runs."""

    part: str
    """encode, decode or both."""
    engine_ms: float
    """The engine's."""
    torch_ms: float
    """Eager PyTorch's in float32, same device and batch, in the same minutes."""

    @property
    def speedup(self) -> float:
        """How many times faster the engine is."""
        return self.torch_ms / self.engine_ms


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """The outcome of a measurement."""

    manifest: Manifest
    """Of the engine."""
    runs: int
    """Runs of each part by each side, the unmeasured first one not counted."""
    threads: int
    """Threads that PyTorch used."""
    date: str
    """When it ended: ISO 8601 with the time zone."""
    timings: tuple[EngineTiming, ...]
    """encode, decode, both."""


def bench_engine(folder: Path, *, runs: int) -> BenchResult:
    """Times the engine in `folder` and eager PyTorch in turns: a busy machine slows both.

    Args:
        folder: of a sound engine that fits this machine.
        runs: measured runs of each part, at least 1; one more each warms up.

    Raises:
        ValueError: `runs` is less than 1.
        BackendError, EngineFileError, EngineError, WeightsError: as in `verify_engine`.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    manifest, engine = open_trusted(folder)
    spec = manifest.spec
    device = torch.device(spec.device)
    eager = TorchEngine(
        network_of(manifest), model=spec.model, device=device, batch_size=spec.batch_size
    )
    picture = fixed_crops(spec.size)
    crops = picture.repeat(-(-spec.batch_size // len(picture)), 1, 1, 1)[: spec.batch_size].to(
        device
    )
    latents = eager.encode(crops)  # also its warming up
    engine.encode(crops)
    fidelity = FIDELITIES[0]
    for one in (eager, engine):
        one.decode(crops, latents, fidelity=fidelity)
    taken: dict[tuple[str, str], list[float]] = {
        (part, side): [] for part in ("encode", "decode") for side in ("engine", "torch")
    }
    for _ in range(runs):
        for side, one in (("engine", engine), ("torch", eager)):
            encode = partial(one.encode, crops)
            decode = partial(one.decode, crops, latents, fidelity=fidelity)
            taken["encode", side].append(run_seconds(encode, device))
            taken["decode", side].append(run_seconds(decode, device))
    ms = {key: 1000 * median(values) / spec.batch_size for key, values in taken.items()}
    timings = [
        EngineTiming(part=part, engine_ms=ms[part, "engine"], torch_ms=ms[part, "torch"])
        for part in ("encode", "decode")
    ]
    both = EngineTiming(
        part="both",
        engine_ms=sum(timing.engine_ms for timing in timings),
        torch_ms=sum(timing.torch_ms for timing in timings),
    )
    return BenchResult(
        manifest=manifest,
        runs=runs,
        threads=torch.get_num_threads(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        timings=(*timings, both),
    )


def run_seconds(work: Callable[[], object], device: torch.device) -> float:
    """One run of `work`, from an idle `device` to an idle one."""
    _finish(device)
    started = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    """A GPU's work is done later than it is asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
