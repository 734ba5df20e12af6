"""Figures of one restored picture beside its truth, and FID of two sets.

PSNR, SSIM, LPIPS and FID are torchmetrics's (Apache-2.0); pyiqa is not used since its licence
forbids commercial work. Pictures are (H, W, 3) uint8 RGB, both of one size. `docs/evaluation.md`
says how each follows the paper's own scripts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqfr_media.files import first_line
from vqfr_training.data.picture_files import Picture

type Pixels = NDArray[np.uint8] | NDArray[np.float64]
"""(H, W, 3) RGB, 0..255."""
type Score = Callable[[Picture, Picture], float]
"""Of (restored, truth)."""

_FEATURES = 2048
_INCEPTION_SIZE = 299


def psnr(restored: Pixels, truth: Pixels) -> float:
    """Returns peak signal-to-noise ratio over all channels in dB; infinite for equal pictures."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    found: Tensor = peak_signal_noise_ratio(_batch(restored), _batch(truth), data_range=255.0)
    return float(found)


def ssim(restored: Pixels, truth: Pixels) -> float:
    """Returns structural similarity (Wang et al., 2004).

    Gaussian of 1.5 px in 11 × 11, mean of R, G, B.

    Only where the window lies within the picture, as its authors and the paper's script have it.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    # In float32: thirteen times faster on a CPU, and within 3e-5.
    one, other = ((_batch(pixels) / 255).float() for pixels in (restored, truth))
    _, everywhere = structural_similarity_index_measure(
        one, other, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    return float(everywhere[..., 5:-5, 5:-5].double().mean())


def match_colours(restored: Pixels, truth: Pixels) -> NDArray[np.float64]:
    """Returns `restored` with each channel's mean and deviation brought to the truth's.

    The paper's script does so, twice, before PSNR and SSIM; a flat channel keeps its deviation.
    """
    pixels = restored.astype(np.float64)
    wanted, spread = truth.mean(axis=(0, 1)), truth.std(axis=(0, 1))
    for _ in range(2):
        pixels = pixels - pixels.mean(axis=(0, 1)) + wanted
        own = pixels.std(axis=(0, 1))
        pixels = pixels * np.where(own > 0, spread / np.where(own > 0, own, 1), 1)
    return pixels


def psnr_matched(restored: Picture, truth: Picture) -> float:
    """Returns PSNR after `match_colours`: what the paper's tables hold."""
    return psnr(match_colours(restored, truth), truth.astype(np.float64))


def ssim_matched(restored: Picture, truth: Picture) -> float:
    """Returns SSIM after `match_colours`: what the paper's tables hold."""
    return ssim(match_colours(restored, truth), truth.astype(np.float64))


def load_lpips(vgg: Path, device: torch.device) -> Score:
    """Returns LPIPS 0.1 on VGG-16 (Zhang et al., 2018), the linear layers from torchmetrics.

    Args:
        vgg: torchvision's weights of VGG-16.
        device: where the network runs.

    Raises:
        CheckpointError: the file holds something else.
    """
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    from vqfr_media.errors import CheckpointError

    network = _NoTrainLpips(net="vgg", pnet_rand=True)
    own = network.net.state_dict()  # slice2.5.weight is features.5.weight
    wanted = {name: f"features.{name.partition('.')[2]}" for name in own}
    try:
        state = torch.load(vgg, map_location="cpu", weights_only=True)
        network.net.load_state_dict({name: state[theirs] for name, theirs in wanted.items()})
    except Exception as error:
        reason = first_line(error)
        raise CheckpointError(
            f"{vgg} does not hold torchvision's VGG-16: {reason}; remove it and use --fetch"
        ) from error
    network.to(device)

    @torch.inference_mode()
    def score(restored: Picture, truth: Picture) -> float:
        one, other = (_batch(p).float().to(device) / 127.5 - 1 for p in (restored, truth))
        return float(network(one, other))

    return score


class Fid:
    """Fréchet Inception distance (Heusel et al., 2017) of the restored to a reference.

    Pictures are brought to 299 px by the plain bilinear filter with which the published FFHQ
    statistics were made.
    """

    def __init__(self, inception: Path | torch.nn.Module, device: torch.device) -> None:
        """Returns the weights as torch-fidelity has them, or another network (uint8 → (N, C))."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._device = device
        if isinstance(inception, Path):
            self._distance = FrechetInceptionDistance(
                _FEATURES, feature_extractor_weights_path=str(inception), antialias=False
            ).to(device)
        else:
            self._distance = FrechetInceptionDistance(inception).to(device)

    def add(self, picture: Picture, *, reference: bool) -> None:
        """Counts one more picture to the reference or to the restored."""
        size = (_INCEPTION_SIZE, _INCEPTION_SIZE)
        resized = torch.nn.functional.interpolate(
            _batch(picture).float(), size, mode="bilinear", align_corners=False
        )
        self._distance.update(resized.round().byte().to(self._device), real=reference)

    def set_reference(self, path: Path) -> None:
        """Takes the reference's statistics from a file: `mu` and `sigma` (.npz), or a .pth.

        Raises:
            ValueError: the file holds no statistics of 2048 features.
        """
        mean, covariance = read_statistics(path)
        state = self._distance
        if mean.shape != state.real_features_sum.shape:
            raise ValueError(f"{path} has statistics of {len(mean)} features, not of {_FEATURES}")
        # The state from which torchmetrics computes exactly this mean and this covariance.
        count = 2
        outer = torch.outer(mean, mean)
        state.real_features_num_samples.fill_(count)
        state.real_features_sum.copy_(count * mean)
        state.real_features_cov_sum.copy_((count - 1) * covariance + count * outer)
        state.orig_dtype = torch.float64

    def compute(self) -> float:
        """Returns the distance; needs two pictures on either side."""
        return float(self._distance.compute())


def read_statistics(path: Path) -> tuple[Tensor, Tensor]:
    """Returns mean (C,) and covariance (C, C): .npz with mu and sigma, or .pth with mean and cov.

    Raises:
        ValueError: the file holds neither.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                mean, covariance = arrays["mu"], arrays["sigma"]
        else:
            # NumPy arrays in a pickle, as the authors' inception_FFHQ_512.pth has them.
            pieces = [np.ndarray, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
            rebuild: list[Any] = [value.__reduce__()[0] for value in (np.zeros(1), np.float64(0))]
            # Before NumPy 2 their home was numpy.core.
            old = [(each, f"numpy.core.multiarray.{each.__name__}") for each in rebuild]
            with torch.serialization.safe_globals([*pieces, *rebuild, *old]):
                found = torch.load(path, map_location="cpu", weights_only=True)
            mean, covariance = found["mean"], found["cov"]
    except Exception as error:
        reason = first_line(error)
        raise ValueError(
            f"{path} holds no FID statistics (.npz with mu and sigma, .pth with mean and cov): "
            f"{reason}"
        ) from error
    return tuple(torch.as_tensor(np.asarray(a), dtype=torch.float64) for a in (mean, covariance))  # type: ignore[return-value]


def _batch(picture: Pixels) -> Tensor:
    """Returns (1, 3, H, W) float64, 0..255."""
    return torch.from_numpy(np.array(picture, np.float64)).permute(2, 0, 1)[None]
