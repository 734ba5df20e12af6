"""Codes estimated by k-means from a reservoir of recent latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor


class Reservoir:
    """An even sample of all latent vectors since it was last emptied (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, channels: int) -> None:
        self._vectors = torch.full((size, channels), torch.nan)
        self._seen = 0

    def add(self, latent: Tensor, generator: np.random.Generator) -> None:
        """Takes a step's latent vectors (N, C, h, w): the n-th is kept with the chance size / n."""
        vectors = latent.detach().permute(0, 2, 3, 1).flatten(0, 2)
        size, numbers = len(self._vectors), np.arange(self._seen, self._seen + len(vectors))
        places = np.where(numbers < size, numbers, generator.integers(0, numbers + 1))
        # Of those that come to one place, the last stays.
        taken = np.flatnonzero(places < size)[::-1]
        slots, first = np.unique(places[taken], return_index=True)
        kept = torch.from_numpy(np.ascontiguousarray(taken[first]))
        self._vectors[torch.from_numpy(slots)] = vectors[kept.to(vectors.device)].float().cpu()
        self._seen += len(vectors)

    def vectors(self) -> Tensor:
        """Returns what it holds, (at most size, C)."""
        return self._vectors[: self._seen]

    def empty(self) -> None:
        """Forgets everything."""
        self._vectors.fill_(torch.nan)
        self._seen = 0

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of it."""
        return {"vectors": self._vectors, "seen": self._seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The opposite."""
        self._vectors, self._seen = state["vectors"], state["seen"]


def reestimate_codebook(latents: Tensor, *, size: int, seed: int) -> tuple[Tensor, float]:
    """Returns the `size` k-means centres (size, C) of latent vectors (R, C).

    Codes that are never nearest never learn, so all are estimated again from what the encoder now
    produces. Also returns the mean squared distance per element.

    Raises:
        ValueError: fewer latents than codes.
    """
    if len(latents) < size:
        raise ValueError(f"{len(latents)} latents are too few for {size} codes")
    means = MiniBatchKMeans(size, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    means.fit(latents.numpy())
    centres = torch.from_numpy(means.cluster_centers_.astype(np.float32))
    return centres, float(means.inertia_) / latents.numel()
