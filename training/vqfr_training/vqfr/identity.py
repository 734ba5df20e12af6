"""The identity term: descriptors of drawn faces by dlib's network."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vqfr_media.errors import WeightsError
from vqfr_media.faces.align import TEMPLATE_512
from vqfr_media.network.dlib_identity import LANDMARKS, SIDE, load_dlib_identity

type Identity = Callable[[Tensor], Tensor]
"""Aligned faces (N, 3, S, S) RGB in [-1, 1] to descriptors (N, 128)."""


def load_identity(path: Path | None, device: torch.device) -> Identity:
    """Returns dlib's network, looking at FFHQ-aligned faces of any size.

    Raises:
        ValueError: there are no weights at `path`.
    """
    if path is None:
        raise ValueError("an identity loss needs dlib's face network: give --identity PATH")
    try:
        network = load_dlib_identity(path).to(device)
    except WeightsError as error:
        raise ValueError(f"{error}: give --identity PATH") from error
    network.to(memory_format=torch.channels_last)
    window = template_window()

    def identity(image: Tensor) -> Tensor:
        found: Tensor = network(cut(image, window))
        return found

    return identity


def template_window() -> tuple[float, float, float]:
    """Returns the square of an FFHQ-aligned face that dlib's network looks at.

    Left, top and side, over the face's side; by least squares over the landmarks of both, without
    a turn.
    """
    theirs, ours = (
        torch.tensor(points, dtype=torch.float64) for points in (LANDMARKS, TEMPLATE_512)
    )
    ours = ours / 512
    a, b = theirs - theirs.mean(0), ours - ours.mean(0)
    scale = float((a * b).sum() / (a * a).sum())
    left, top = (ours.mean(0) - scale * theirs.mean(0)).tolist()
    return left, top, scale * SIDE


def cut(image: Tensor, window: tuple[float, float, float]) -> Tensor:
    """Returns `window` of images (N, 3, S, S) in [-1, 1] as (N, 3, 150, 150) in [0, 1]."""
    side = image.shape[-1]
    left, top, size = (round(part * side) for part in window)
    inside = image[..., max(0, top) : top + size, max(0, left) : left + size]
    small = F.interpolate(
        inside, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=size > 1.5 * SIDE
    )
    return (small + 1) / 2
