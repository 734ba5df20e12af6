"""Discriminators: networks that say how much an image looks like a photograph.

Wavelet and StyleGAN2 discriminators give one score an image (the paper's global discriminator,
section 3.3, and that of v2); the patch discriminator gives one a patch (the local one). Images are
(N, 3, S, S), RGB in [-1, 1]."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vqfr_training.vqfr.discriminator_layers import (
    GlobalConv,
    ScaledLinear,
    blur_down,
    haar,
    minibatch_deviation,
    strengthen,
)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One discriminator of one branch, and its weight in the loss."""

    branch: Literal["texture", "main"]
    """Whose images it sees."""
    kind: Literal["wavelet", "stylegan2", "patch"]
    """Global, with softplus losses and R1: "wavelet" (SWAGAN) and "stylegan2". Local, with hinge
    losses: "patch" (PatchGAN)."""
    weight: float = 0.5
    """Of its term in the generator's loss."""
    adaptive: bool = False
    """Scale by the ratio of gradient norms at the branch's last layer (VQGAN, equation 7)."""
    start: int = 0
    """First step in which the generator listens; the discriminator learns from `learn_from` on."""
    learn_from: int = 0
    """First step in which the discriminator itself learns."""
    width: int = 64
    """Patch: channels of the first layer. Others: channels of the first layer at 512 px; doubled
    with every halving, up to `most`."""
    most: int = 512
    """Largest number of channels."""
    layers: int = 3
    """Patch: layers of stride 2."""
    norm: Literal["published", "spectral", "equalised"] = "published"
    """What keeps a discriminator in bounds. Published: spectral normalisation of the convolutions'
    weights and, patch, batch normalisation behind them. "spectral": patch without the latter.
    "equalised": the others as StyleGAN2 has them."""
    contrast: float | None = None
    """Look at an image whose details are so many times as strong ("patch": at its Haar bands, so
    that a patch is twice as large). What photographs have and soft images lack is a tenth of what a
    discriminator sees; one that is to learn in a thousand steps must see it at once. None: the
    image."""
    rate: float = 1.0
    """Learning rate relative to the recipe's `discriminator_learning_rate`."""
    r1: float = 10.0
    """Others: weight of the gradient penalty."""
    r1_every: int = 16
    """Steps from one gradient penalty to the next, which counts as many times."""

    def __post_init__(self) -> None:
        for name in ("width", "most", "layers", "r1_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.learn_from <= self.start:
            raise ValueError(f"learn_from must be within 0..start, got {self.learn_from}")
        if self.norm == ("equalised" if self.kind == "patch" else "spectral"):
            raise ValueError(f"a {self.kind} discriminator has no norm {self.norm!r}")

    @property
    def name(self) -> str:
        """Its name in logs and checkpoints."""
        return f"{self.branch}_{self.kind}"


def build_discriminator(discriminator: DiscriminatorConfig, *, image_size: int) -> nn.Module:
    """Returns the network of `discriminator` for images of `image_size`, weights from PyTorch's
    generator."""
    width, most = discriminator.width, discriminator.most
    equalised = discriminator.norm == "equalised"
    match discriminator.kind:
        case "wavelet":
            return WaveletDiscriminator(
                image_size,
                width=width,
                most=most,
                equalised=equalised,
                contrast=discriminator.contrast,
            )
        case "stylegan2":
            return StyleGan2Discriminator(image_size, width=width, most=most, equalised=equalised)
        case "patch":
            return PatchDiscriminator(
                width=width,
                layers=discriminator.layers,
                most=most,
                batch_norm=discriminator.norm == "published",
                contrast=discriminator.contrast,
            )


class _ScoreHead(nn.Module):
    """Minibatch deviation, a convolution and two linear layers: (N, C, 4, 4) -> (N, 1).

    Where not equalised, the linear layers of StyleGAN2's are under spectral normalisation and those
    of SWAGAN's are not, as published.
    """

    def __init__(self, channels: int, *, equalised: bool, spectral: bool) -> None:
        super().__init__()
        self.conv = GlobalConv(channels + 1, channels, 3, equalised=equalised)
        self.first, self.last = (
            _linear(inputs, outputs, equalised=equalised, spectral=spectral)
            for inputs, outputs in ((channels * 16, channels), (channels, 1))
        )
        self._gain = math.sqrt(2) if equalised else 1.0

    def forward(self, feature: Tensor) -> Tensor:
        feature = self.conv(minibatch_deviation(feature)).flatten(1)
        score: Tensor = self.last(F.leaky_relu(self.first(feature), 0.2) * self._gain)
        return score


def _linear(inputs: int, outputs: int, *, equalised: bool, spectral: bool) -> nn.Module:
    if equalised:
        return ScaledLinear(inputs, outputs)
    linear = nn.Linear(inputs, outputs)
    return nn.utils.parametrizations.spectral_norm(linear) if spectral else linear


def _sides(image_size: int) -> list[int]:
    sides = [image_size]
    while sides[-1] > 4:
        sides.append(sides[-1] // 2)
    if image_size != 4 * 2 ** (len(sides) - 1):
        raise ValueError(f"image_size must be 4 times a power of two, got {image_size}")
    return sides


def _channels(side: int, *, width: int, most: int) -> int:
    return min(most, max(1, width * 512 // side))


class WaveletDiscriminator(nn.Module):
    """SWAGAN's discriminator (Gal et al. 2021): every level also sees the image's Haar bands.

    `width` 64 and `most` 512 at 512 px are the published ones.
    """

    def __init__(
        self,
        image_size: int,
        *,
        width: int = 64,
        most: int = 512,
        equalised: bool = False,
        contrast: float | None = None,
    ) -> None:
        super().__init__()
        self._contrast = contrast
        conv = partial(GlobalConv, equalised=equalised)
        sides = _sides(image_size)
        # The transform halves the image before the first layer, so that there is no level of
        # `image_size`; its channels are those of the first.
        channels = [_channels(side, width=width, most=most) for side in [image_size, *sides[2:]]]
        self.from_bands = nn.ModuleList(conv(12, count, 3) for count in channels)
        self.levels = nn.ModuleList(
            nn.Sequential(conv(here, here, 3), conv(here, below, 3, down=True))
            for here, below in pairwise(channels)
        )
        self.score_head = _ScoreHead(channels[-1], equalised=equalised, spectral=False)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, 1) of images (N, 3, S, S)."""
        if self._contrast is not None:
            image = strengthen(image, contrast=self._contrast)
        feature = self.from_bands[0](haar(image))
        for level, from_bands in zip(self.levels, list(self.from_bands)[1:], strict=True):
            image = blur_down(image)
            feature = level(feature) + from_bands(haar(image))
        score: Tensor = self.score_head(feature)
        return score


class _ResidualDown(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, equalised: bool) -> None:
        super().__init__()
        conv = partial(GlobalConv, equalised=equalised)
        self.conv1 = conv(inputs, inputs, 3)
        self.conv2 = conv(inputs, outputs, 3, down=True)
        self.skip = conv(inputs, outputs, 1, down=True, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)
        return halved


class StyleGan2Discriminator(nn.Module):
    """StyleGAN2's residual discriminator (Karras et al. 2020), v2's global discriminator."""

    def __init__(
        self, image_size: int, *, width: int = 64, most: int = 512, equalised: bool = False
    ) -> None:
        super().__init__()
        channels = [_channels(side, width=width, most=most) for side in _sides(image_size)]
        self.from_image = GlobalConv(3, channels[0], 1, equalised=equalised)
        self.levels = nn.Sequential(
            *(_ResidualDown(a, b, equalised=equalised) for a, b in pairwise(channels))
        )
        self.score_head = _ScoreHead(channels[-1], equalised=equalised, spectral=True)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, 1) of images (N, 3, S, S)."""
        score: Tensor = self.score_head(self.levels(self.from_image(image)))
        return score


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): a score for each overlapping patch, 70 px with three layers.

    The weights are under spectral normalisation; batch normalisation besides is the published form.
    With four images it makes a score depend on which others share the batch, and true and drawn
    images never share one; without it each image is treated alone.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        layers: int = 3,
        most: int = 512,
        batch_norm: bool = True,
        contrast: float | None = None,
    ) -> None:
        super().__init__()
        self._contrast = contrast
        channels = [3 if contrast is None else 12] + [
            min(most, width * min(2**n, 8)) for n in range(layers + 1)
        ]
        stack: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(channels)):
            normed = batch_norm and number > 0
            stride = 2 if number < layers else 1
            conv = nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=not normed)
            stack.append(_initial(conv))
            if normed:
                norms = nn.BatchNorm2d(outputs)
                nn.init.normal_(norms.weight, 1.0, 0.02)
                stack.append(norms)
            stack.append(nn.LeakyReLU(0.2))
        last = nn.Conv2d(channels[-1], 1, 4, padding=1)
        self.stack = nn.Sequential(*stack, _initial(last))

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, 1, h, w) of images (N, 3, S, S); h = S/2^layers − 2, with bands half of S."""
        seen = image
        if self._contrast is not None:
            seen = haar(strengthen(image, contrast=self._contrast))
        scores: Tensor = self.stack(seen)
        return scores


def _initial(conv: nn.Conv2d) -> nn.Module:
    nn.init.normal_(conv.weight, 0.0, 0.02)
    return nn.utils.parametrizations.spectral_norm(conv)
