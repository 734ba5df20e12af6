"""The simpler networks the paper compares with (figure 4, table 7), on v1's layers.

Both return one image, given as both branches, so that everything else treats them as VQFR.
"""

import torch
from torch import Tensor, nn

from vqfr_media.network.blocks import Branches, ResidualBlock
from vqfr_media.network.config import VqfrV1Config
from vqfr_media.network.vqfr_v1 import InputPyramid
from vqfr_media.network.vqgan import Encoder, NearestCoder, Quantizer, TextureDecoder


class SimVqfr(NearestCoder):
    """Encoder, codes and texture decoder: nothing of the input but its codes (figure 4b)."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = TextureDecoder(config)
        self.quantizer = Quantizer(config)

    def decode_quantized(self, image: Tensor, quantized: Tensor) -> Branches:
        """Decodes code vectors (N, C, h, w); `image` (N, 3, S, S) is not looked at."""
        del image
        drawn, _ = self.decoder(self.quantizer.after(quantized))
        return Branches(drawn, drawn)


class SingleBranch(NearestCoder):
    """One decoder in which features of the input join the textures at every level (figure 4c)."""

    def __init__(self, config: VqfrV1Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = TextureDecoder(config)
        self.quantizer = Quantizer(config)
        self.input_pyramid = InputPyramid(config)
        self.fusion_dict = nn.ModuleDict()
        for level, count in enumerate(config.channels):
            block = ResidualBlock(count + count // 2, count, groups=config.norm_groups)
            self.fusion_dict[f"Level_{2**level}"] = block

    def decode_quantized(self, image: Tensor, quantized: Tensor) -> Branches:
        """Decodes code vectors (N, C, h, w) beside their input (N, 3, S, S) in [-1, 1]."""
        feature = self.quantizer.after(quantized)
        given = self.input_pyramid(image)[::-1]
        for (name, blocks), seen in zip(self.decoder.decoder_dict.items(), given, strict=True):
            if name in self.decoder.pre_upsample_dict:
                feature = self.decoder.pre_upsample_dict[name](feature)
            feature = self.fusion_dict[name](torch.cat((blocks(feature), seen), dim=1))
        drawn: Tensor = self.decoder.conv_out(feature)
        return Branches(drawn, drawn)
