"""Takes crops to the engine's device and its results back, in as few copies as it can.

On an NVIDIA GPU both ways go through page-locked memory, which the GPU reads and writes by itself,
and what is arithmetic (limits, order of channels, whether all is finite) happens there.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqfr_media.errors import EngineError

type Row = npt.NDArray[np.float32]
"""What the engine gives for one face."""


def crops_to(device: str, crops: Sequence[Row]) -> Tensor:
    """Puts crops where the engine wants them.

    Args:
        device: of the engine, as PyTorch names it.
        crops: (S, S, 3) float32 RGB each, at least one, about 0 to 1.

    Returns:
        (N, 3, S, S) within 0 to 1 on `device`.
    """
    size = crops[0].shape[0]
    if _is_gpu(device):
        together = _page_locked((len(crops), size, size, 3))
        np.stack(crops, out=together.numpy())
        moved = together.to(device, non_blocking=True)
        return moved.clamp_(0, 1).permute(0, 3, 1, 2)
    batch = torch.empty((len(crops), 3, size, size))
    for crop, place in zip(crops, batch, strict=True):
        np.clip(crop.transpose(2, 0, 1), 0, 1, out=place.numpy())
    return batch


def latents_to(device: str, latents: Sequence[Row]) -> Tensor:
    """Puts latents (C, h, w), at least one, where the engine wants them: (N, C, h, w)."""
    shape = (len(latents), *latents[0].shape)
    batch = _page_locked(shape) if _is_gpu(device) else torch.empty(shape)
    np.stack(latents, out=batch.numpy())
    return batch.to(device, non_blocking=True)


def latents_from(result: Tensor, frames: Sequence[int]) -> list[Row]:
    """Returns the rows (C, h, w) of what the engine encoded.

    Args:
        result: (N, C, h, w) float32.
        frames: whose faces they are, one index for each row.

    Raises:
        EngineError: there are more or fewer rows than faces, or a value is not finite.
    """
    if result.is_cuda:
        return _from_gpu(result, frames)
    rows = np.ascontiguousarray(result.detach().float().numpy())
    return _checked(list(rows), frames)


def images_from(result: Tensor, frames: Sequence[int]) -> list[Row]:
    """Returns the rows (S, S, 3) of the (N, 3, S, S) that the engine drew; see `latents_from`."""
    if result.is_cuda:
        return _from_gpu(result.permute(0, 2, 3, 1), frames)
    # OpenCV interleaves three planes six times as fast as a strided copy does.
    rows = [
        np.asarray(cv2.merge(tuple(image)), np.float32) for image in result.detach().float().numpy()
    ]
    return _checked(rows, frames)


def _from_gpu(result: Tensor, frames: Sequence[int]) -> list[Row]:
    on_gpu = result.detach().float().contiguous()
    finite = on_gpu.isfinite().flatten(1).all(dim=1)
    here = _page_locked(tuple(on_gpu.shape))
    here.copy_(on_gpu, non_blocking=True)
    # Reading `finite` waits for all that was asked of the GPU before, the copy too. The rows are
    # copied, as windows keep them long, and page-locked memory is taken from the whole system.
    good = finite.tolist()
    return _all_finite([row.copy() for row in here.numpy()], good, frames)


def _checked(rows: list[Row], frames: Sequence[int]) -> list[Row]:
    return _all_finite(rows, [bool(np.isfinite(row).all()) for row in rows], frames)


def _all_finite(rows: list[Row], finite: Sequence[bool], frames: Sequence[int]) -> list[Row]:
    if len(rows) != len(frames):
        raise EngineError(f"the engine returned {len(rows)} results for {len(frames)} faces")
    for index, good in zip(frames, finite, strict=True):
        if not good:
            raise EngineError(f"the engine returned something that is no number at frame {index}")
    return rows


def _is_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _page_locked(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, pin_memory=True)
