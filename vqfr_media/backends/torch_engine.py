"""PyTorch, eagerly, on a CPU or an NVIDIA GPU; in exact float32 it is the reference."""

import copy
import logging
from dataclasses import replace

import torch
from torch import Tensor

from vqfr_media.backends.batching import channels_last, run_in_batches, spec_of
from vqfr_media.backends.cuda_driver import has_driver
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.nvidia_gpu import check_bfloat16, lacks_code, why_no_gpu
from vqfr_media.errors import BackendError
from vqfr_media.manifest import Precision
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """Returns the device that `name` (auto, cpu, cuda, cuda:N) stands for on this machine.

    `auto` is the CPU where PyTorch cannot use the GPU; the log says why, if there is a driver.

    Raises:
        BackendError: there is no such device here, or PyTorch cannot use it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            reason = lacks_code(torch.device("cuda:0"))
        else:
            reason = why_no_gpu() if has_driver() else "none"
        if not reason:
            return torch.device("cuda:0")
        if reason != "none":
            logger.warning("the CPU does the work, slowly: %s", reason)
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise BackendError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise BackendError(f"device {name!r} is not here: {why_no_gpu()}")
    count = torch.cuda.device_count()
    device = torch.device("cuda", device.index or 0)
    if device.index >= count:
        raise BackendError(f"device {name!r} is not here: PyTorch sees {count} CUDA devices")
    if reason := lacks_code(device):
        raise BackendError(f"{reason}: use --device cpu, or a PyTorch that has")
    return device


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

        Raises:
            BackendError: the GPU does not compute in `precision`.
        """
        if device.type == "cuda" and precision == "bfloat16":
            check_bfloat16(
                torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
            )
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
            [torch.full((1,), fidelity, device=self.spec.device)] if self.spec.has_fidelity else []
        )
        with exact_float32(self._device):
            return run_in_batches(
                lambda part, codes: self._decoder(channels_last(part), codes, *fidelity_input),
                self.spec,
                crops,
                latents,
            )
