"""Stage 1 of v2: encoder and texture decoder with attention at the code grid, and the codebook.

Names are those of the published checkpoint, so that a stage-1 state dict loads into the restoration
network's `encoder`, `quantizer` and `decoder` as it is.
"""

from typing import cast

from torch import Tensor, nn

from vqfr_media.network.blocks import (
    Attention,
    NearestUp,
    ResidualBlock,
    StridedDown,
    group_norm,
)
from vqfr_media.network.config import VqfrV2Config
from vqfr_media.network.vqgan import embed, nearest_codes


def _level(
    first: nn.Module | None,
    in_channels: int,
    out_channels: int,
    *,
    blocks: int,
    attention: bool,
    groups: int,
) -> nn.Sequential:
    """Stacks a resampling layer if any, then residual blocks, each with attention if asked for."""
    layers: list[nn.Module] = [] if first is None else [first]
    for index in range(blocks):
        before = in_channels if index == 0 else out_channels
        layers.append(ResidualBlock(before, out_channels, groups=groups))
        if attention:
            layers.append(Attention(out_channels, groups=groups))
    return nn.Sequential(*layers)


def _middle(channels: int, *, groups: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(channels, channels, groups=groups),
        Attention(channels, groups=groups),
        ResidualBlock(channels, channels, groups=groups),
    )


def _finish(in_channels: int, out_channels: int, *, groups: int) -> nn.Sequential:
    return nn.Sequential(
        group_norm(in_channels, groups=groups),
        nn.SiLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
    )


class EncoderV2(nn.Module):
    """Image to latent."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        coarsest = len(channels) - 1
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.Sequential()
        for level, count in enumerate(channels):
            before = channels[max(level - 1, 0)]
            self.blocks.append(
                _level(
                    StridedDown(before) if level else None,
                    before,
                    count,
                    blocks=config.encoder_blocks[level],
                    attention=level == coarsest,
                    groups=groups,
                )
            )
        self.mid_blocks = _middle(channels[-1], groups=groups)
        self.conv_out = _finish(channels[-1], config.code_channels, groups=groups)

    def forward(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` in [-1, 1] to latent `(N, C, S/f, S/f)`."""
        latent: Tensor = self.conv_out(self.mid_blocks(self.blocks(self.conv_in(image))))
        return latent


class TextureDecoderV2(nn.Module):
    """Code vectors to an image, its features on the way kept."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        coarsest = len(channels) - 1
        self.conv_in = nn.Conv2d(config.code_channels, channels[-1], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            before = channels[min(level + 1, coarsest)]
            self.blocks.append(
                _level(
                    NearestUp(before, before) if level < coarsest else None,
                    before,
                    channels[level],
                    blocks=config.texture_blocks[level],
                    attention=level == coarsest,
                    groups=groups,
                )
            )
        self.mid_blocks = _middle(channels[-1], groups=groups)
        self.conv_out = _finish(channels[0], 3, groups=groups)

    def forward(self, quantized: Tensor) -> list[Tensor]:
        """Maps code vectors `(N, C, h, w)` to each level's feature, coarsest first."""
        feature: Tensor = self.mid_blocks(self.conv_in(quantized))
        features = []
        for level in self.blocks:
            feature = level(feature)
            features.append(feature)
        return features

    def to_image(self, feature: Tensor) -> Tensor:
        """Maps the full-size feature `(N, channels[0], S, S)` to an image `(N, 3, S, S)`."""
        image: Tensor = self.conv_out(feature)
        return image


class Codebook(nn.Module):
    """The code vectors."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codebook_size, config.code_channels)
        bound = 1.0 / config.codebook_size
        nn.init.uniform_(self.embedding.weight, -bound, bound)

    @property
    def codebook(self) -> nn.Parameter:
        """The code vectors, `(K, C)`."""
        return cast(nn.Parameter, self.embedding.weight)


class VqganV2(nn.Module):
    """The stage-1 autoencoder of v2, built from the restoration network's config."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = EncoderV2(config)
        self.decoder = TextureDecoderV2(config)
        self.quantizer = Codebook(config)

    def encode(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` RGB in [-1, 1] to latents before the look-up, `(N, C, S/f, S/f)`."""
        latent: Tensor = self.encoder(image)
        return latent

    def codes(self, latent: Tensor) -> Tensor:
        """Finds the nearest codes `(N, h, w)` int64 of a latent `(N, C, h, w)`."""
        return nearest_codes(latent, self.quantizer.codebook)

    def quantize(self, latent: Tensor) -> Tensor:
        """Finds the nearest code vectors `(N, C, h, w)`, without straight-through gradients."""
        return embed(self.codes(latent), self.quantizer.codebook)

    def decode_quantized(self, quantized: Tensor) -> Tensor:
        """Maps code vectors `(N, C, h, w)` to an image `(N, 3, S, S)`, about [-1, 1]."""
        return self.decoder.to_image(self.decoder(quantized)[-1])

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs `(N, 3, S, S)` in [-1, 1] through the codebook."""
        return self.decode_quantized(self.quantize(self.encode(image)))
