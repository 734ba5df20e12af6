"""The reference backend: PyTorch in float32, on a CPU or an NVIDIA GPU."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqfr_media.errors import BackendError, EngineError
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.values import EngineSpec


def resolve_device(name: str) -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N) stands for on this machine.

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


class TorchEngine:
    """Runs a network eagerly; see `vqfr_media.engine.Engine` for the contract."""

    def __init__(
        self, network: VqfrV1 | VqfrV2, *, model: str, device: torch.device, batch_size: int
    ) -> None:
        """Moves `network` to `device` and takes possession of it."""
        # Two calls: the overload that takes both at once is not in PyTorch's type stubs.
        self._network = network.eval().to(device).to(memory_format=torch.channels_last)
        self._device = device
        config = network.config
        with torch.inference_mode():
            blank = torch.zeros(1, 3, config.image_size, config.image_size, device=device)
            latent_shape = tuple(self._network.encode(blank).shape[1:])
        self.spec = EngineSpec(
            model=model,
            size=config.image_size,
            latent_shape=(latent_shape[0], latent_shape[1], latent_shape[2]),
            max_batch=batch_size,
            precision="float32",
            device=str(device),
            has_fidelity=isinstance(network, VqfrV2),
        )

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        return self._run(self._encode, crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""

        def work(images: Tensor, codes: Tensor) -> Tensor:
            if isinstance(self._network, VqfrV2):
                branches = self._network.decode(images, codes, fidelity=fidelity)
            else:
                branches = self._network.decode(images, codes)
            image: Tensor = branches.main.float() / 2 + 0.5
            return image.clamp(0, 1)

        return self._run(work, crops, latents)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self._network.encode(images)
        return latents.float()

    def _run(self, work: Callable[..., Tensor], crops: Tensor, *more: Tensor) -> Tensor:
        """Works in runs of exactly `max_batch`; the last one is filled up with blanks."""
        size, batch = self.spec.size, self.spec.max_batch
        if crops.ndim != 4 or crops.shape[1:] != (3, size, size) or not len(crops):
            raise ValueError(
                f"crops must be (N, 3, {size}, {size}) with N >= 1, got {tuple(crops.shape)}"
            )
        results = []
        try:
            with torch.inference_mode():
                for start in range(0, len(crops), batch):
                    parts = [x[start : start + batch].to(self._device) for x in (crops, *more)]
                    count = len(parts[0])
                    if count < batch:
                        parts = [
                            torch.cat([x, x.new_zeros(batch - count, *x.shape[1:])]) for x in parts
                        ]
                    images = (parts[0] * 2 - 1).contiguous(memory_format=torch.channels_last)
                    results.append(work(images, *parts[1:])[:count])
        except RuntimeError as error:  # PyTorch raises nothing narrower, out of memory included
            raise EngineError(
                f"{self.spec.model} failed on {self.spec.device} "
                f"with {batch} faces of {size} px: {error}"
            ) from error
        return torch.cat(results)
