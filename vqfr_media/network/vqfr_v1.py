"""VQFR as in the paper: codebook textures, warped to the input and fused (figure 3, table 3)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from vqfr_media.network.band_gains import BandGains
from vqfr_media.network.blocks import BilinearUp, Branches, ResidualBlock, group_norm
from vqfr_media.network.config import VqfrV1Config, lite_config, vqfr_v1_config
from vqfr_media.network.deform import TextureWarp
from vqfr_media.network.vqgan import Encoder, NearestCoder, Quantizer, TextureDecoder

__all__ = ["VqfrV1", "VqfrV1Config", "lite_config", "vqfr_v1_config"]


class InputFeature(nn.Module):
    """The degraded input as the published warping sees it: one 3x3 conv at full size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` to `(N, channels, S, S)`."""
        feature: Tensor = self.conv(image)
        return feature


class InputPyramid(nn.Module):
    """Light features of the degraded input at every level, half as wide as the decoder's."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        widths = [count // 2 for count in config.channels]
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, narrow, 3, stride=2, padding=1),
                ResidualBlock(narrow, narrow, groups=config.norm_groups),
            )
            for wide, narrow in pairwise(widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps `(N, 3, S, S)` to each level's feature, full size first."""
        features = [self.conv_in(image)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features


class MainDecoder(nn.Module):
    """Warps the textures level by level, coarsest first, and fuses them into the output."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        coarsest = len(channels) - 1
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        self.align_func_dict = nn.ModuleDict()
        self.merge_dict = nn.ModuleDict()
        for level in reversed(range(len(channels))):
            name, count, offsets = (
                f"Level_{2**level}",
                channels[level],
                config.offset_channels[level],
            )
            given = count // 2 if config.input_pyramid else config.input_channels
            if offsets:
                self.align_func_dict[name] = TextureWarp(
                    count,
                    input_channels=given,
                    input_scale=1 if config.input_pyramid else 2**level,
                    offset_channels=offsets,
                    coarser_channels=config.offset_channels[level + 1] if level < coarsest else 0,
                    offset_groups=config.offset_groups,
                    norm_groups=groups,
                )
            if level < coarsest:
                self.pre_upsample_dict[name] = BilinearUp(channels[level + 1], count)
            if config.input_pyramid:
                # A 1x1 merge first keeps the residual block at the level's own width.
                merged = count + given + (count if level < coarsest else 0)
                self.merge_dict[name] = nn.Conv2d(merged, count, 1)
                self.decoder_dict[name] = ResidualBlock(count, count, groups=groups)
            elif level < coarsest:
                self.decoder_dict[name] = ResidualBlock(2 * count, count, groups=groups)
        self.conv_out_1 = nn.Sequential(group_norm(channels[0], groups=groups), nn.SiLU())
        self.conv_out = nn.Sequential(nn.Conv2d(channels[0] + 3, 3, 3, padding=1))
        self._names = [f"Level_{2**level}" for level in reversed(range(len(channels)))]
        self._predict_residual = config.predict_residual
        if config.predict_residual:
            for parameter in self.conv_out.parameters():
                nn.init.zeros_(parameter)

    def forward(self, textures: list[Tensor], given: list[Tensor], image: Tensor) -> Tensor:
        """Fuses.

        Args:
            textures: the texture decoder's features, coarsest first.
            given: the input's feature for each level, coarsest first.
            image: `(N, 3, S, S)` in [-1, 1].

        Returns:
            `(N, 3, S, S)`, about [-1, 1].
        """
        carried: list[Tensor] = []  # the level below's output; nothing comes to the coarsest
        offsets: Tensor | None = None
        for name, texture, seen in zip(self._names, textures, given, strict=True):
            warped = texture
            if name in self.align_func_dict:
                warped, offsets = self.align_func_dict[name](texture, seen, offsets)
            parts = [self.pre_upsample_dict[name](coarser) for coarser in carried]
            parts.append(warped)
            if name in self.merge_dict:
                parts = [self.merge_dict[name](torch.cat((*parts, seen), dim=1))]
            fused = torch.cat(parts, dim=1)
            if name in self.decoder_dict:
                fused = self.decoder_dict[name](fused)
            carried = [fused]
        (finished,) = carried
        output: Tensor = self.conv_out(torch.cat((self.conv_out_1(finished), image), dim=1))
        return image + output if self._predict_residual else output


class VqfrV1(NearestCoder):
    """Face restoration network v1, the paper's; also our lite edition, by its config."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        self.config = config
        if config.input_pyramid:
            self.input_pyramid = InputPyramid(config)
        else:
            self.inpfeat_extraction = InputFeature(config.input_channels)
        self.encoder = Encoder(config)
        self.decoder = TextureDecoder(config)
        self.main_decoder = MainDecoder(config)
        self.quantizer = Quantizer(config)
        if config.gain_channels:
            self.band_gains = BandGains(
                config.gain_channels, directed=config.directed_gains, fine=config.fine_gains
            )

    def decode_quantized(self, image: Tensor, quantized: Tensor) -> Branches:
        """Decodes code vectors `(N, C, h, w)` beside their input `(N, 3, S, S)` in [-1, 1]."""
        texture, main = self.decode_unweighed(image, quantized)
        if self.config.gain_channels:
            main = self.band_gains(image, main)
        return Branches(texture, main)

    def decode_unweighed(self, image: Tensor, quantized: Tensor) -> Branches:
        """As `decode_quantized`, with the main output as it is before its bands are weighed."""
        texture, features = self.decoder(self.quantizer.after(quantized))
        if self.config.input_pyramid:
            given = self.input_pyramid(image)[::-1]
        else:
            given = [self.inpfeat_extraction(image)] * len(features)
        return Branches(texture, self.main_decoder(features, given, image))

    def decode(self, image: Tensor, latent: Tensor) -> Branches:
        """Runs `decode_quantized` after the look-up of `latent` `(N, C, h, w)`."""
        return self.decode_quantized(image, self.quantize(latent))

    def forward(self, image: Tensor) -> Branches:
        """Restores `(N, 3, S, S)` RGB in [-1, 1], S a multiple of `config.downsampling`."""
        return self.decode(image, self.encode(image))
