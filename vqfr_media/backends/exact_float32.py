"""Float32 that is not rounded on a GPU, for as long as somebody computes with it."""

import contextlib
import functools
from collections.abc import Iterator

import torch

from vqfr_media.shared_settings import SharedSettings


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Keeps products on `device` from being rounded to TensorFloat-32 while this lasts.

    It has 10 bits of significand, as many as float16: too few for the choice of codes and for
    coordinates, and cuDNN takes it from Ampere on unless told otherwise. cuDNN also does not try
    out algorithms, so that a run can be resumed with the same bits. PyTorch has these settings
    once for all threads: they come back when the last thread has left. On a CPU nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    with _settings().held():
        yield


@functools.cache
def _settings() -> SharedSettings:
    """Returns the one of this process, as PyTorch has one set of settings."""
    return SharedSettings(_changed)


@contextlib.contextmanager
def _changed() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
