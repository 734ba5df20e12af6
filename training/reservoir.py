"""Codes drawn anew by k-means from a reservoir of recent latents."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor


def remember(reservoir: Tensor, latent: Tensor) -> Tensor:
    """The reservoir (R, C) with a step's latent vectors (N, C, h, w) in front; the oldest go."""
    vectors = latent.detach().float().permute(0, 2, 3, 1).flatten(0, 2).cpu()
    return torch.cat((vectors, reservoir))[: len(reservoir)]


def reestimate_codebook(reservoir: Tensor, *, size: int, seed: int) -> tuple[Tensor, float]:
    """The `size` k-means centres (size, C) of the reservoir (R, C), whose empty rows are NaN.

    Codes that are never nearest never learn, so all are drawn anew from what the encoder now
    produces. Also returns the mean squared distance per element.

    Raises:
        ValueError: fewer latents than codes.
    """
    latents = reservoir[~reservoir.isnan().any(dim=1)].numpy()
    if len(latents) < size:
        raise ValueError(f"{len(latents)} latents are too few for {size} codes")
    means = MiniBatchKMeans(size, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    means.fit(latents)
    centres = torch.from_numpy(means.cluster_centers_.astype(np.float32))
    return centres, float(means.inertia_) / latents.size
