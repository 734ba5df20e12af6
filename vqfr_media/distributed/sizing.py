"""How many workers a cluster has room for, and what each of them gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqfr_media.distributed.options import RayOptions
from vqfr_media.errors import BackendError, OptionError
from vqfr_media.options import ModelOptions

# More workers a machine than this share its memory and its disk rather than its cores.
_MOST_ON_A_MACHINE = 8


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """The workers that are asked for."""

    workers: int
    """How many."""
    room: int
    """Of these, how many can start now."""
    cpus: int
    """Cores, and threads, of each."""
    gpus: float
    """GPUs of each."""


def sizing(
    options: RayOptions, model: ModelOptions, machines: Sequence[Mapping[str, float]]
) -> Sizing:
    """What to ask of a cluster.

    Args:
        options: what the user says.
        model: says whether GPUs are wanted.
        machines: what each has in all, by Ray's names: CPU, GPU.

    Raises:
        OptionError: a device that no worker can have.
        BackendError: the cluster has not what one worker needs.
    """
    gpus = _gpus(options, model, machines)
    fit = [machine for machine in machines if not gpus or machine.get("GPU", 0) >= gpus]
    cpus = options.cpus_per_worker or _cpus(gpus, fit)
    room = sum(_room(machine, cpus, gpus) for machine in fit)
    if not room:
        wanted = f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        there = "; ".join(
            f"{machine.get('CPU', 0):g} CPUs, {machine.get('GPU', 0):g} GPUs"
            for machine in machines
        )
        raise BackendError(
            f"no machine of the Ray cluster has {wanted} for a worker (there are: {there}); "
            "ask for less with --cpus-per-worker and --gpus-per-worker"
        )
    workers = options.workers or room
    return Sizing(workers=workers, room=min(workers, room), cpus=cpus, gpus=gpus)


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
    """So many that no GPU lies idle for want of cores, or that no machine has too many workers.

    Without GPUs, machines much smaller than the largest, such as one that only directs the others,
    then have no room for a worker.
    """
    if gpus:
        shares = [machine.get("CPU", 0) / (machine["GPU"] // gpus) for machine in machines]
        return max(1, math.floor(min(shares, default=1)))
    largest = max((machine.get("CPU", 0) for machine in machines), default=1)
    return max(1, math.floor(largest / _MOST_ON_A_MACHINE))


def _room(machine: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(machine.get("CPU", 0) // cpus)
    return min(by_cpu, int(machine.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpu
