"""The losses of both stages, each a function of tensors. Images are (N, 3, H, W) in [-1, 1]."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vqfr_media.network.bands import luma, smooth, split_bands


def weighted_l1(output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns mean absolute difference (paper, 3.3, L_pix).

    `weight` (H, W) of mean 1 stresses places.
    """
    difference = (output - target).abs()
    return difference.mean() if weight is None else (difference * weight).mean()


def gradient_l1(
    output: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    scales: tuple[int, ...] = (1, 2, 4),
) -> Tensor:
    """Returns L1 between horizontal and vertical differences, mean over means of s × s pixels.

    Not in the paper: it stands in for the perceptual loss where no VGG is at hand, and keeps
    edges sharp at several sizes.
    """
    error = output - target  # every step below is linear, so one pyramid serves for both images
    total = error.new_zeros(())
    for scale in scales:
        if scale > 1:
            small = F.avg_pool2d(error, scale)
            place = None if weight is None else F.avg_pool2d(weight[None, None], scale)[0, 0]
        else:
            small, place = error, weight
        across = (small[..., :, 1:] - small[..., :, :-1]).abs()
        down = (small[..., 1:, :] - small[..., :-1, :]).abs()
        if place is not None:
            across, down = across * place[:, 1:], down * place[1:, :]
        total = total + across.mean() + down.mean()
    return total / len(scales)


def missing_detail(output: Tensor, target: Tensor, *, finest: int = 3) -> Tensor:
    """Returns by how many dB the finest bands of `output`'s luma have less energy than `target`'s.

    The mean over bands and images; a band that has more counts as one that has as much. Not in the
    paper.
    """
    energies = [
        torch.cat(split_bands(smooth(luma(images)))[:finest], dim=1).square().mean(dim=(2, 3))
        + 1e-6
        for images in (target, output)
    ]
    return (10 * (energies[0] / energies[1]).log10()).clamp_min(0).mean()


def codebook_loss(latent: Tensor, quantized: Tensor, *, beta: float = 0.25) -> Tensor:
    """Returns ‖sg[E(x)] − z_q‖² + β ‖sg[z_q] − E(x)‖² (paper, Eq. 3), means over all elements."""
    return F.mse_loss(quantized, latent.detach()) + beta * F.mse_loss(latent, quantized.detach())


def code_alignment_loss(latent: Tensor, code: Tensor) -> Tensor:
    """Returns ‖z_d − z_h‖² (paper, 3.3, L_code).

    The low-quality face's latent to the high-quality face's code.
    """
    return F.mse_loss(latent, code.detach())


def code_cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Returns −log p of the high-quality face's codes (N, h, w) under `logits` (N, h·w, K).

    V2's code loss.
    """
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten())


def straight_through(latent: Tensor, quantized: Tensor) -> Tensor:
    """Returns `quantized` going forward, the identity to `latent` going backward (paper, 3.1)."""
    return latent + (quantized - latent).detach()


def face_weight(size: int, *, peak: float) -> Tensor:
    """Returns (size, size) weights of mean 1.

    `peak` times the rim's weight over eyes, nose and mouth.

    The centre and radii are those of the features in the FFHQ template, with room for the
    augmentation's shifts.
    """
    if peak < 1:
        raise ValueError(f"peak must be at least 1, got {peak}")
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = ((x - 0.5) / 0.24) ** 2 + ((y - 0.6) / 0.26) ** 2
    weight = 1 + (peak - 1) * torch.exp(-0.5 * distance**2)
    return weight / weight.mean()
