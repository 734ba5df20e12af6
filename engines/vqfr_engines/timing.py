"""How long a piece of work takes, the GPU's part included."""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
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
