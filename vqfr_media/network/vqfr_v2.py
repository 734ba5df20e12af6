"""VQFR's second edition: predicted codes, attention, and a choice between quality and fidelity."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.blocks import Branches, ResidualBlock, full_precision, shrink
from vqfr_media.network.config import VqfrV2Config, vqfr_v2_config
from vqfr_media.network.deform import TextureWarp
from vqfr_media.network.vqgan import embed, nearest_codes
from vqfr_media.network.vqgan_v2 import Codebook, EncoderV2, TextureDecoderV2

__all__ = ["VqfrV2", "VqfrV2Config", "vqfr_v2_config"]


class MainBranch(nn.Module):
    """Warps the textures level by level, coarsest first, and fuses them into one feature."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        channels = config.channels
        coarsest = len(channels) - 1
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        self.align_func_dict = nn.ModuleDict()
        for level in reversed(range(len(channels))):
            name, count = f"Level_{2**level}", channels[level]
            self.align_func_dict[name] = TextureWarp(
                count,
                input_channels=config.input_channels,
                offset_channels=count,
                coarser_channels=channels[level + 1] if level < coarsest else 0,
                offset_groups=config.offset_groups,
                norm_groups=config.norm_groups,
            )
            if level < coarsest:
                self.pre_upsample_dict[name] = nn.Sequential(
                    nn.Upsample(scale_factor=2.0, mode="nearest"),
                    nn.Conv2d(channels[level + 1], count, 3, padding=1),
                )
                self.decoder_dict[name] = ResidualBlock(2 * count, count, groups=config.norm_groups)

    def forward(self, textures: list[Tensor], given: Tensor) -> Tensor:
        """Fuses.

        Args:
            textures: the texture decoder's features, coarsest first.
            given: the input's feature `(N, input_channels, S, S)`.

        Returns:
            The full-size main feature `(N, channels[0], S, S)`.
        """
        carried: list[Tensor] = []  # the level below's output; nothing comes to the coarsest
        offsets: Tensor | None = None
        for level, texture in zip(reversed(range(len(textures))), textures, strict=True):
            name = f"Level_{2**level}"
            seen = shrink(given, factor=2**level)
            warped, offsets = self.align_func_dict[name](texture, seen, offsets)
            for coarser in carried:
                larger = self.pre_upsample_dict[name](coarser)
                warped = self.decoder_dict[name](torch.cat((larger, warped), dim=1))
            carried = [warped]
        return carried[0]


class VqfrV2(nn.Module):
    """Face restoration network v2."""

    def __init__(self, config: VqfrV2Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = EncoderV2(config)
        if config.look_up == "predict":
            self.feat2index = nn.Sequential(
                nn.LayerNorm(config.code_channels),
                nn.Linear(config.code_channels, config.codebook_size),
            )
        self.decoder = TextureDecoderV2(config)
        self.main_branch = MainBranch(config)
        self.inpfeat_extraction = nn.Conv2d(3, config.input_channels, 3, padding=1)
        self.quantizer = Codebook(config)

    def encode(self, image: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` RGB in [-1, 1] to latents before the look-up, `(N, C, S/f, S/f)`."""
        latent: Tensor = self.encoder(image)
        return latent

    def logits(self, latent: Tensor) -> Tensor:
        """Returns the classifier's scores of a latent `(N, C, h, w)`: `(N, h * w, K)` float32.

        Raises:
            ValueError: the network looks codes up by distance and has no classifier.
        """
        if self.config.look_up != "predict":
            raise ValueError(f'look_up is {self.config.look_up!r}: only "predict" has logits')
        norm = cast(nn.LayerNorm, self.feat2index[0])
        linear = cast(nn.Linear, self.feat2index[1])
        with full_precision(latent):
            places = latent.float().flatten(2).transpose(1, 2)
            scale, shift = norm.weight.float(), norm.bias.float()
            normed = F.layer_norm(places, places.shape[-1:], scale, shift, norm.eps)
            return F.linear(normed, linear.weight.float(), linear.bias.float())

    def codes(self, latent: Tensor) -> Tensor:
        """Chooses codes `(N, h, w)` int64 of a latent `(N, C, h, w)`; lowest index of equals."""
        if self.config.look_up == "predict":
            batch, _, height, width = latent.shape
            return self.logits(latent).argmax(dim=-1).view(batch, height, width)
        return nearest_codes(latent, self.quantizer.codebook)

    def quantize(self, latent: Tensor) -> Tensor:
        """Returns code vectors `(N, C, h, w)`, without straight-through gradients."""
        return embed(self.codes(latent), self.quantizer.codebook)

    def decode_quantized(
        self, image: Tensor, quantized: Tensor, *, fidelity: float | Tensor
    ) -> Branches:
        """Decodes code vectors beside their input.

        Args:
            image: `(N, 3, S, S)` in [-1, 1].
            quantized: `(N, C, h, w)`.
            fidelity: 0 (the main output is the texture output) to 1 (the full main branch). A
                tensor of one value is not checked; an exported graph then has it as an input.

        Raises:
            ValueError: `fidelity` is a number outside [0, 1].
        """
        if not isinstance(fidelity, Tensor) and not 0.0 <= fidelity <= 1.0:
            raise ValueError(f"fidelity must be in [0, 1], not {fidelity!r}")
        textures = self.decoder(quantized)
        main = self.main_branch(textures, self.inpfeat_extraction(image))
        return Branches(
            self.decoder.to_image(textures[-1]),
            self.decoder.to_image(textures[-1].float() + fidelity * main.float()),
        )

    def decode(self, image: Tensor, latent: Tensor, *, fidelity: float | Tensor) -> Branches:
        """Runs `decode_quantized` after the look-up of `latent` `(N, C, h, w)`."""
        return self.decode_quantized(image, self.quantize(latent), fidelity=fidelity)

    def forward(self, image: Tensor, *, fidelity: float | Tensor) -> Branches:
        """Restores `(N, 3, S, S)` RGB in [-1, 1], S a multiple of `config.downsampling`."""
        return self.decode(image, self.encode(image), fidelity=fidelity)
