"""What an engine is worth: its time per face beside that of eager PyTorch."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import torch

from vqfr_engines.parity import FIDELITIES, fixed_crops
from vqfr_engines.store import trusted
from vqfr_engines.verify import network_of, open_trusted
from vqfr_media.backends.batching import full_batch
from vqfr_media.backends.gpu_memory import batch_that_fits, fitting_engine, free_bytes
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.engine import Engine
from vqfr_media.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class EngineTiming:
    """Milliseconds per face, the median of the runs."""

    part: str
    """encode, decode or both."""
    engine_ms: float
    """The engine's."""
    torch_ms: float
    """Eager PyTorch's in float32, same device, in the same minutes."""

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
    """Times the engine in `folder` and eager PyTorch in float32.

    On a CPU in turns, as a busy machine slows both; on a GPU one after the other, so that its
    memory holds one of them, PyTorch with as many faces at once as fit.

    Args:
        folder: of a sound engine that fits this machine.
        runs: measured runs of each part, at least 1; one more each warms up.

    Raises:
        ValueError: `runs` is less than 1.
        BackendError, EngineFileError, EngineError, WeightsError: as in `verify_engine`.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    manifest = trusted(folder)
    device = torch.device(manifest.spec.device)
    sides: Mapping[str, Callable[[], Engine]] = {
        "torch": lambda: _eager(manifest, device),
        "engine": lambda: open_trusted(folder)[1],
    }
    if device.type == "cuda":
        ms = one_after_another(sides, device=device, runs=runs)
    else:
        ms = _in_turns({side: opened() for side, opened in sides.items()}, device, runs)
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


def one_after_another(
    sides: Mapping[str, Callable[[], Engine]], *, device: torch.device, runs: int
) -> dict[tuple[str, str], float]:
    """Opens, times and drops one engine before the next: a GPU's memory need not hold them all.

    Args:
        sides: what opens each engine, by name.
        device: where they run.
        runs: measured runs of each part, at least 1.

    Returns:
        Milliseconds per face by part (encode, decode) and side.
    """
    ms: dict[tuple[str, str], float] = {}
    for side, opened in sides.items():
        ms |= _in_turns({side: opened()}, device, runs)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return ms


def _in_turns(
    engines: Mapping[str, Engine], device: torch.device, runs: int
) -> dict[tuple[str, str], float]:
    """Times both in turns, run by run: what else a CPU does slows all of them."""
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    size = next(iter(engines.values())).spec.size
    picture = fixed_crops(size)
    for number in range(1 + runs):  # the first warms up
        for side, one in engines.items():
            batch = one.spec.batch_size
            crops = full_batch(picture, batch).to(device)
            latents = one.encode(crops)
            encode = partial(one.encode, crops)
            decode = partial(one.decode, crops, latents, fidelity=FIDELITIES[0])
            for part, work in (("encode", encode), ("decode", decode)):
                seconds = run_seconds(work, device)
                if number:
                    taken[part, side].append(1000 * seconds / batch)
    return {key: median(values) for key, values in taken.items()}


def _eager(manifest: Manifest, device: torch.device) -> TorchEngine:
    """Loads PyTorch in float32; on a GPU for as many faces as fit, at most the engine's."""
    network, spec = network_of(manifest), manifest.spec
    batch_size = spec.batch_size
    if device.type == "cuda":
        batch_size = batch_that_fits(
            network, precision="float32", free_bytes=free_bytes(device), most=batch_size
        )
    engine = TorchEngine(network, model=spec.model, device=device, batch_size=batch_size)
    return fitting_engine(engine, fixed_crops(spec.size), may_halve=device.type == "cuda")


def run_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Times one run of `work`, from an idle `device` to an idle one."""
    _finish(device)
    started = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    """Waits for the device: a GPU's work is done later than it is asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
