"""How many workers a cluster has room for, and what each of them gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqfr_media.distributed.options import RayOptions
from vqfr_media.errors import BackendError, OptionError
from vqfr_media.options import ModelOptions

# With more workers than this on a machine, memory and disk are the limit rather than cores.
_MOST_WORKERS_PER_MACHINE = 8


@dataclass(frozen=True, kw_only=True)
class WorkerResources:
    """The workers to start, and what each of them needs."""

    workers: int
    """Number of workers."""
    capacity: int
    """How many of them the cluster has room for now."""
    cpus: int
    """Cores of each, which is also the number of its threads."""
    gpus: float
    """GPUs of each, also a part of one."""


def choose_resources(
    options: RayOptions, model: ModelOptions, machines: Sequence[Mapping[str, float]]
) -> WorkerResources:
    """Returns what to ask of a cluster.

    Args:
        options: what the user asks for.
        model: decides whether GPUs are needed.
        machines: the resources of each machine, used or not, by Ray's names: CPU, GPU.

    Raises:
        OptionError: the device is one that no worker can have.
        BackendError: no machine has what one worker needs.
    """
    gpus = _gpus(options, model, machines)
    fit = [machine for machine in machines if not gpus or machine.get("GPU", 0) >= gpus]
    cpus = options.cpus_per_worker or _cpus(gpus, fit)
    capacity = sum(_capacity(machine, cpus, gpus) for machine in fit)
    if not capacity:
        wanted = f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        there = "; ".join(
            f"{machine.get('CPU', 0):g} CPUs, {machine.get('GPU', 0):g} GPUs"
            for machine in machines
        )
        raise BackendError(
            f"no machine of the Ray cluster has {wanted} for a worker (there are: {there}); "
            "ask for less with --cpus-per-worker and --gpus-per-worker"
        )
    workers = options.workers or capacity
    return WorkerResources(workers=workers, capacity=min(workers, capacity), cpus=cpus, gpus=gpus)


def _gpus(
    options: RayOptions, model: ModelOptions, machines: Sequence[Mapping[str, float]]
) -> float:
    if model.device not in ("auto", "cpu", "cuda"):
        raise OptionError(
            f"device {model.device} cannot be chosen for workers on Ray, each of which sees only "
            "GPUs of its own; use auto, cuda or cpu"
        )
    on_cpu = model.device == "cpu" or model.backend == "openvino"
    needed = model.device == "cuda" or model.backend in ("tensorrt", "inductor")
    gpus = options.gpus_per_worker
    if gpus is None:
        has_gpus = any(machine.get("GPU", 0) >= 1 for machine in machines)
        return 1.0 if needed or (has_gpus and not on_cpu) else 0.0
    if gpus and on_cpu:
        raise OptionError(f"gpus_per_worker is {gpus:g}, but the network is to run on the CPU")
    if needed and not gpus:
        raise OptionError("gpus_per_worker is 0, but the network is to run on a GPU")
    return float(gpus)


def _cpus(gpus: float, machines: Sequence[Mapping[str, float]]) -> int:
    """Returns as many cores as leave no GPU idle, or no machine with too many workers.

    Without GPUs, machines much smaller than the largest, such as one that only runs the driver,
    then have no room for a worker.
    """
    if gpus:
        shares = [machine.get("CPU", 0) / (machine["GPU"] // gpus) for machine in machines]
        return max(1, math.floor(min(shares, default=1)))
    largest = max((machine.get("CPU", 0) for machine in machines), default=1)
    return max(1, math.floor(largest / _MOST_WORKERS_PER_MACHINE))


def _capacity(machine: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(machine.get("CPU", 0) // cpus)
    return min(by_cpu, int(machine.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpu
