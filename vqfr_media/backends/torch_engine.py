"""PyTorch, eagerly, on a CPU or an NVIDIA GPU; in exact float32 it is the reference."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vqfr_media.backends.batching import channels_last, run_in_batches, spec_of
from vqfr_media.errors import BackendError
from vqfr_media.manifest import Precision
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2


def resolve_device(name: str) -> torch.device:
    """Returns the device that `name` (auto, cpu, cuda, cuda:N) stands for on this machine.

    Raises:
        BackendError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise BackendError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise BackendError(f"device {name!r} is not here: PyTorch sees {count} CUDA devices")
    return torch.device("cuda", device.index or 0)


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Keeps products on `device` from being rounded to TensorFloat-32 while this lasts.

    It has 10 bits of significand, as many as float16: too few for the choice of codes and for
    coordinates, and cuDNN takes it from Ampere on unless told otherwise. cuDNN also does not try
    out algorithms, so that a run can be resumed with the same bits. On a CPU nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class TorchEngine:
    """Runs a network eagerly; see `vqfr_media.engine.Engine` for the contract."""

    def __init__(
        self,
        network: VqfrV1 | VqfrV2,
        *,
        model: str,
        device: torch.device,
        batch_size: int,
        precision: Precision = "float32",
    ) -> None:
        """Moves `network` to `device` and takes possession of it.

        Args:
            network: float32.
            model: its name.
            device: that is here.
            batch_size: faces in one run.
            precision: arithmetic of all but the layers that `to_mixed_precision` keeps in float32.
        """
        # Two calls: the overload that takes both at once is not in PyTorch's type stubs.
        self._device = device
        network = to_mixed_precision(network.eval(), precision)
        network = network.to(device).to(memory_format=torch.channels_last)
        self._encoder, self._decoder = EncoderModule(network), DecoderModule(network)
        self.spec = spec_of(
            network, model=model, batch_size=batch_size, precision=precision, device=str(device)
        )

    def with_batch_size(self, batch_size: int) -> "TorchEngine":
        """Returns the same network, not copied, for runs of `batch_size` faces."""
        other = copy.copy(self)
        other.spec = replace(self.spec, batch_size=batch_size)
        return other

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        with exact_float32(self._device):
            return run_in_batches(lambda part: self._encoder(channels_last(part)), self.spec, crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""
        fidelity_input = (
            [torch.tensor([fidelity], device=self.spec.device)] if self.spec.has_fidelity else []
        )
        with exact_float32(self._device):
            return run_in_batches(
                lambda part, codes: self._decoder(channels_last(part), codes, *fidelity_input),
                self.spec,
                crops,
                latents,
            )
