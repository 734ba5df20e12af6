"""The perceptual term: distances between features, and the networks that give them.

Images are (N, 3, H, W) RGB in [-1, 1]; features a list of (N, C, h, w).
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqfr_media.files import first_line
from vqfr_media.network.vqgan import Encoder

type Features = Callable[[Tensor], list[Tensor]]
"""Image to features of several levels."""

VGG_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
"""torchvision's VGG-16 trained on ImageNet."""
_VGG_TAPS = (3, 8, 15, 22, 29)
"""relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 in torchvision's numbering."""


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """Whose features are compared, and how much it counts."""

    network: Literal["vgg16", "stage1"]
    """VGG-16 as in the paper, or our own frozen stage-1 encoder."""
    content: float = 1.0
    """Weight of the distance of features."""
    style: float = 2000.0
    """Weight of the Gram matrices' L1; 0 leaves them out."""
    channels: Literal["lpips", "equal"] = "lpips"
    """What VGG-16's channels weigh: as LPIPS has learned for torchvision's weights, or one each,
    as other weights want it."""
    levels: int = 5
    """How many of VGG-16's five levels are compared; three cost 70 % of all, at 256 px."""
    window: float = 1.0
    """Side of the square that is compared, about the features of the face, over the image's: what
    lies outside costs nothing."""

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= len(_VGG_TAPS):
            raise ValueError(f"levels must be within 1..{len(_VGG_TAPS)}, got {self.levels}")
        if not 0 < self.window <= 1:
            raise ValueError(f"window must be above 0 and at most 1, got {self.window}")


def middle_of_face(image: Tensor, window: float) -> Tensor:
    """Returns the square about eyes, nose and mouth of aligned faces (N, C, S, S).

    Its side is `window` of S.
    """
    if window == 1:
        return image
    side = image.shape[-1]
    size = round(side * window)
    left = (side - size) // 2
    # The features' middle lies below the image's in the FFHQ template.
    top = min(side - size, max(0, round(side * 0.585 - size / 2)))
    return image[..., top : top + size, left : left + size]


def perceptual_losses(
    output: Sequence[Tensor],
    target: Sequence[Tensor],
    config: PerceptualConfig,
    *,
    weights: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Returns the weighted terms by name: "content", and "style" where it counts."""
    losses = {"content": config.content * content_loss(output, target, weights)}
    if config.style > 0:
        losses["style"] = config.style * style_loss(output, target)
    return losses


def content_loss(
    output: Sequence[Tensor], target: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """Returns sum over levels of the mean squared distance of unit feature vectors.

    With each level's learned channel `weights` (C), LPIPS, which is the published code's perceptual
    loss; the paper writes the L1 between features. None: every channel weighs one.
    """
    distances = []
    for level, (a, b) in enumerate(zip(output, target, strict=True)):
        squared = (unit(a) - unit(b)).square()
        if weights is not None:
            squared = squared * weights[level][:, None, None]
        distances.append(squared.sum(dim=1).mean())
    return torch.stack(distances).sum()


def style_loss(output: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Returns sum over levels of the L1 between Gram matrices of unit feature vectors."""
    distances = [
        (gram(unit(a)) - gram(unit(b))).abs().mean() for a, b in zip(output, target, strict=True)
    ]
    return torch.stack(distances).sum()


def unit(feature: Tensor) -> Tensor:
    """Returns every place's feature vector (N, C, h, w) divided by its length."""
    return feature / (feature.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


def gram(feature: Tensor) -> Tensor:
    """Means over places of products of channels, over C: (N, C, h, w) -> (N, C, C)."""
    flat = feature.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def encoder_features(encoder: Encoder) -> Features:
    """Returns the features of each of v1's encoder's levels below full size."""

    def features(image: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        feature: Tensor = encoder.conv_in(image)
        for name, blocks in encoder.encoder_dict.items():
            if name in encoder.pre_downsample_dict:
                feature = encoder.pre_downsample_dict[name](feature)
            feature = blocks(feature)
            found.append(feature)
        return found[1:]

    return features


class Vgg16(nn.Module):
    """torchvision's VGG-16 up to relu5_3, frozen."""

    def __init__(
        self,
        *,
        recompute: bool = False,
        channels: Literal["lpips", "equal"] = "lpips",
        levels: int = len(_VGG_TAPS),
    ) -> None:
        """See `PerceptualConfig` for `channels` and `levels`.

        With `recompute`, keep only the levels' results and compute the rest again going back.
        """
        super().__init__()
        self._recompute = recompute
        self._taps = _VGG_TAPS[:levels]
        self._equal = channels == "equal"
        from torchvision.models.vgg import cfgs, make_layers

        # Not `vgg16`: filling its classifier, eight times as large, with random numbers takes long.
        self.features = make_layers(cfgs["D"])[: self._taps[-1] + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        if not self._equal:
            for level, weight in enumerate(lpips_weights()[:levels]):
                self.register_buffer(f"weight_{level}", weight)
        self.requires_grad_(False)

    mean: Tensor
    deviation: Tensor

    @property
    def channel_weights(self) -> list[Tensor] | None:
        """What LPIPS has learned that each channel counts, (C) a level; None: one each."""
        if self._equal:
            return None
        return [self.get_buffer(f"weight_{level}") for level in range(len(self._taps))]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, or the first of them.

        Of images (N, 3, H, W) in [-1, 1].
        """
        x = ((image + 1) / 2 - self.mean) / self.deviation
        found: list[Tensor] = []
        for first, last in pairwise((-1, *self._taps)):
            level = self.features[first + 1 : last + 1]
            if self._recompute and x.requires_grad:
                x = checkpoint(level, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = level(x)
            found.append(x)
        return found


def lpips_weights() -> list[Tensor]:
    """Loads LPIPS's learned weights of VGG-16's channels, (C) a level, from torchmetrics.

    Raises:
        ValueError: torchmetrics is not installed.
    """
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise ValueError(
            "the perceptual loss weighs channels as LPIPS does, whose weights torchmetrics holds: "
            "pip install 'vqfr-media[train]'"
        )
    path = Path(found.origin).parent / "functional/image/lpips_models/vgg.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return [weights[f"lin{level}.model.1.weight"].flatten() for level in range(len(_VGG_TAPS))]


def load_vgg16(
    path: Path | None = None,
    *,
    recompute: bool = False,
    channels: Literal["lpips", "equal"] = "lpips",
    levels: int = len(_VGG_TAPS),
) -> Vgg16:
    """Returns VGG-16 with ImageNet weights: from `path`, else from torch's cache, else downloaded.

    Raises:
        ValueError: there is none, or the file is another; says both ways out.
    """
    if path is not None and not path.is_file():
        raise ValueError(f"no VGG-16 weights at {path}")
    ways = (
        f"give torchvision's vgg16-397923af.pth with --vgg PATH, or let {VGG_URL} be fetched once"
    )
    try:
        if path is None:
            weights = torch.hub.load_state_dict_from_url(
                VGG_URL, map_location="cpu", check_hash=True, progress=False
            )
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = first_line(error)
        raise ValueError(
            f"VGG-16 for the perceptual loss cannot be had ({reason}): {ways}"
        ) from error
    network = Vgg16(recompute=recompute, channels=channels, levels=levels)
    wanted = network.features.state_dict(prefix="features.")
    if missing := sorted(set(wanted) - set(weights)):
        raise ValueError(f"{path} holds no VGG-16 (no {missing[0]}): {ways}")
    network.features.load_state_dict(
        {name.removeprefix("features."): weights[name].float() for name in wanted}
    )
    return network
