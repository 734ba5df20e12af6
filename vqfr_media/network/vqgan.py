"""Stage 1: encoder, codebook and texture decoder, the parts that the restoration network keeps.

Paper, section 3.1. The names of the parts are those of the published checkpoints, so that a stage-1
state dict loads into the restoration network's `encoder`, `quantizer` and `decoder` as it is.
"""

from typing import cast

import torch
from torch import Tensor, nn

from vqfr_media.network.blocks import (
    BilinearDown,
    BilinearUp,
    ResidualBlock,
    full_precision,
    group_norm,
)
from vqfr_media.network.config import VqfrV1Config


def nearest_codes(latent: Tensor, codebook: Tensor) -> Tensor:
    """Finds the nearest code of each position (equation 1), the lowest index of equally near ones.

    Distances are computed in float32, whatever the types given and whether or not autocast is on.

    Args:
        latent: `(N, C, h, w)`.
        codebook: `(K, C)`.

    Returns:
        `(N, h, w)` int64 in [0, K).

    Raises:
        ValueError: the channels differ.
    """
    if latent.ndim != 4 or codebook.ndim != 2 or latent.shape[1] != codebook.shape[1]:
        raise ValueError(
            f"latent {tuple(latent.shape)} and codebook {tuple(codebook.shape)} do not fit: "
            "(N, C, h, w) and (K, C) wanted"
        )
    with full_precision(latent):
        codes = codebook.float()
        places = latent.float().permute(0, 2, 3, 1)
        # |z|^2 is the same for every code; leaving it out also keeps digits.
        distances = codes.square().sum(dim=1) - 2.0 * torch.matmul(places, codes.t())
        return distances.argmin(dim=-1)


def embed(codes: Tensor, codebook: Tensor) -> Tensor:
    """Looks up the code vectors `(N, C, h, w)` of `codes` `(N, h, w)` int64 in [0, K).

    Gradients reach `codebook` `(K, C)`.
    """
    return nn.functional.embedding(codes, codebook).permute(0, 3, 1, 2).contiguous()


class CodeLayers(nn.Module):
    """The codebook and the 1x1 convs before and after it."""

    def __init__(self, channels: int, *, codebook_size: int, code_channels: int) -> None:
        super().__init__()
        self.quant_conv = nn.Conv2d(channels, code_channels, 1)
        self.post_quant_conv = nn.Conv2d(code_channels, channels, 1)
        self.embedding = nn.Embedding(codebook_size, code_channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / codebook_size, 1.0 / codebook_size)


class Quantizer(nn.Module):
    """v1's quantiser: one level, at the coarsest feature."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        layers = CodeLayers(
            config.channels[-1],
            codebook_size=config.codebook_size,
            code_channels=config.code_channels,
        )
        self._level = f"Level_{config.downsampling}"
        self.quantize_dict = nn.ModuleDict({self._level: layers})

    @property
    def layers(self) -> CodeLayers:
        """The one level's layers."""
        return cast(CodeLayers, self.quantize_dict[self._level])

    @property
    def codebook(self) -> nn.Parameter:
        """The code vectors, `(K, C)`."""
        return cast(nn.Parameter, self.layers.embedding.weight)

    def before(self, feature: Tensor) -> Tensor:
        """Maps the encoder's feature `(N, channels, h, w)` to the latent `(N, C, h, w)`."""
        latent: Tensor = self.layers.quant_conv(feature)
        return latent

    def after(self, quantized: Tensor) -> Tensor:
        """Maps code vectors `(N, C, h, w)` to the texture decoder's input `(N, channels, h, w)`."""
        feature: Tensor = self.layers.post_quant_conv(quantized)
        return feature


class Encoder(nn.Module):
    """v1's encoder: residual blocks at every level, from full size to the code grid."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.encoder_dict = nn.ModuleDict()
        self.pre_downsample_dict = nn.ModuleDict()
        for level, (count, blocks) in enumerate(zip(channels, config.encoder_blocks, strict=True)):
            name = f"Level_{2**level}"
            if level:
                self.pre_downsample_dict[name] = BilinearDown(channels[level - 1], count)
            self.encoder_dict[name] = nn.Sequential(
                *(ResidualBlock(count, count, groups=groups) for _ in range(blocks))
            )
        last = channels[-1]
        self.enc_convout_dict = nn.ModuleDict(
            {
                f"Level_{config.downsampling}": nn.Sequential(
                    group_norm(last, groups=groups),
                    nn.SiLU(),
                    nn.Conv2d(last, last, 3, padding=1),
                )
            }
        )

    def forward(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` in [-1, 1] to `(N, channels[-1], S/f, S/f)`."""
        feature: Tensor = self.conv_in(image)
        for name, blocks in self.encoder_dict.items():
            if name in self.pre_downsample_dict:
                feature = self.pre_downsample_dict[name](feature)
            feature = blocks(feature)
        for finish in self.enc_convout_dict.values():
            feature = finish(feature)
        return feature


class TextureDecoder(nn.Module):
    """v1's texture decoder: code vectors to an image, its features on the way kept."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        for level in reversed(range(len(channels))):
            name, count = f"Level_{2**level}", channels[level]
            if level < len(channels) - 1:
                self.pre_upsample_dict[name] = BilinearUp(channels[level + 1], count)
            self.decoder_dict[name] = nn.Sequential(
                *(
                    ResidualBlock(count, count, groups=groups)
                    for _ in range(config.texture_blocks[level])
                )
            )
        self.conv_out = nn.Sequential(
            group_norm(channels[0], groups=groups),
            nn.SiLU(),
            nn.Conv2d(channels[0], 3, 3, padding=1),
        )

    def forward(self, feature: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Decodes `(N, channels[-1], h, w)`.

        Returns:
            The image `(N, 3, S, S)`, about [-1, 1], and each level's feature, coarsest first.
        """
        features = []
        for name, blocks in self.decoder_dict.items():
            if name in self.pre_upsample_dict:
                feature = self.pre_upsample_dict[name](feature)
            feature = blocks(feature)
            features.append(feature)
        image: Tensor = self.conv_out(feature)
        return image, features


class NearestCoder(nn.Module):
    """What the stage-1 network and v1 share: an encoder and the look-up of the nearest codes."""

    encoder: Encoder
    quantizer: Quantizer

    def encode(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` RGB in [-1, 1] to latents before the look-up, `(N, C, S/f, S/f)`."""
        return self.quantizer.before(self.encoder(image))

    def codes(self, latent: Tensor) -> Tensor:
        """Finds the nearest codes `(N, h, w)` int64 of a latent `(N, C, h, w)` (equation 1)."""
        return nearest_codes(latent, self.quantizer.codebook)

    def quantize(self, latent: Tensor) -> Tensor:
        """Finds the nearest code vectors `(N, C, h, w)`, without straight-through gradients."""
        return embed(self.codes(latent), self.quantizer.codebook)


class Vqgan(NearestCoder):
    """The stage-1 autoencoder of v1 (equation 2), built from the restoration network's config."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = TextureDecoder(config)
        self.quantizer = Quantizer(config)

    def decode_quantized(self, quantized: Tensor) -> Tensor:
        """Maps code vectors `(N, C, h, w)` to an image `(N, 3, S, S)`, about [-1, 1]."""
        image: Tensor
        image, _ = self.decoder(self.quantizer.after(quantized))
        return image

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs `(N, 3, S, S)` in [-1, 1] through the codebook."""
        return self.decode_quantized(self.quantize(self.encode(image)))
