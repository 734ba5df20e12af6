"""A restoration network's encoder and decoder, as the engine calls them and as exporters see them.

Both take and give what the engine's contract says (RGB in [0, 1], float32 at the borders), so that
scaling and clamping are part of every exported graph and no backend repeats them. Inside, the
arithmetic is that of the network's own parameters.
"""

from torch import Tensor, nn

from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2


class EncoderModule(nn.Module):
    """Crops to latents, before the look-up."""

    def __init__(self, network: VqfrV1 | VqfrV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        """Maps `(N, 3, S, S)` RGB in [0, 1] float32 to latents `(N, C, h, w)` float32."""
        latents: Tensor = self.network.encode(crops * 2 - 1)
        return latents.float()


class DecoderModule(nn.Module):
    """Crops and their latents to restored crops; v2 has a third input, the fidelity."""

    def __init__(self, network: VqfrV1 | VqfrV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor, latents: Tensor, fidelity: Tensor | None = None) -> Tensor:
        """Decodes.

        Args:
            crops: `(N, 3, S, S)` RGB in [0, 1] float32.
            latents: `(N, C, h, w)` float32.
            fidelity: one float32 value `(1,)` in [0, 1] for v2; v1 and lite have no such input.

        Returns:
            `(N, 3, S, S)` RGB in [0, 1] float32.

        Raises:
            ValueError: v2 without a fidelity.
        """
        images = crops * 2 - 1
        if isinstance(self.network, VqfrV2):
            if fidelity is None:
                raise ValueError("v2 needs a fidelity, a tensor of one value in [0, 1]")
            branches = self.network.decode(images, latents, fidelity=fidelity)
        else:
            branches = self.network.decode(images, latents)
        restored: Tensor = branches.main.float() / 2 + 0.5
        return restored.clamp(0, 1)
