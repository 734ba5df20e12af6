"""How exact an engine is: compared with PyTorch in float32 on crops that are always the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqfr_engines.request import BuiltEngine
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.errors import InexactEngineError
from vqfr_media.manifest import Parity, Precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

# Four crops: eager PyTorch takes 19 s for each with v1 on two cores.
CROPS = 4
# Half of the crops each, so that an engine that ignores the fidelity is seen.
FIDELITIES = (0.3, 1.0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused. A flipped code is another texture; it is not half wrong."""

    flipped: float
    """Largest share of codes that may flip."""
    image_max: float
    """Largest error of one restored sample in [0, 1]."""
    psnr_db: float
    """Lowest PSNR, in decibels."""


# The lite network by `network.precision.to_mixed_precision`: float16 flips no code and is 94 dB
# from float32, bfloat16 flips 0.5 % and is at 75 dB. The rest is room for the larger networks.
LIMITS: Mapping[Precision, Limits] = MappingProxyType(
    {
        "float32": Limits(flipped=0.005, image_max=1e-3, psnr_db=80.0),
        "float16": Limits(flipped=0.02, image_max=0.05, psnr_db=50.0),
        "bfloat16": Limits(flipped=0.03, image_max=0.2, psnr_db=40.0),
    }
)


class Reference:
    """What PyTorch makes of the fixed crops in float32."""

    def __init__(self, network: VqfrV1 | VqfrV2, *, model: str, device: str) -> None:
        """Runs `network`, of which it takes possession, on `device`.

        Raises:
            EngineError: the network failed.
        """
        self._network = network
        engine = TorchEngine(network, model=model, device=torch.device(device), batch_size=1)
        self.crops = fixed_crops(engine.spec.size)
        self.latents = engine.encode(self.crops).cpu()
        self.images = _decode(engine, self.crops, self.latents)
        self.codes = self._codes(self.latents)

    def compare(self, engine: BuiltEngine | TorchEngine) -> Parity:
        """Runs `engine` on the same crops.

        Both decoders get PyTorch's latents: a flipped code counts once, as a flip.

        Raises:
            InexactEngineError: it gave values that are not finite.
            EngineError: it failed.
        """
        latents = engine.encode(self.crops.to(engine.spec.device)).cpu()
        images = _decode(engine, self.crops, self.latents)
        for name, values in (("latents", latents), ("images", images)):
            if not bool(values.isfinite().all()):
                raise InexactEngineError(f"{engine.spec.model} gave {name} that are not finite")
        latent_errors = (
            latents - self.latents
        ).double() / self.latents.double().square().mean() ** 0.5
        image_errors = (images - self.images).double().abs()
        mse = max(image_errors.square().mean().item(), 1e-12)
        return Parity(
            crops=len(self.crops),
            latent_max=latent_errors.abs().max().item(),
            latent_rms=latent_errors.square().mean().sqrt().item(),
            flipped=(self._codes(latents) != self.codes).double().mean().item(),
            image_max=image_errors.max().item(),
            image_mean=image_errors.mean().item(),
            psnr_db=-10 * float(np.log10(mse)),
        )

    def _codes(self, latents: Tensor) -> Tensor:
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            return self._network.codes(latents.to(device)).cpu()


def faults(parity: Parity, precision: Precision) -> list[str]:
    """Returns one clause for each limit of `precision` that is passed."""
    limits = LIMITS[precision]
    found = []
    if parity.flipped > limits.flipped:
        found.append(f"{parity.flipped:.2%} of codes flip, {limits.flipped:.2%} may")
    if parity.image_max > limits.image_max:
        found.append(f"a sample is off by {parity.image_max:.1e}, {limits.image_max:.1e} may be")
    if parity.psnr_db < limits.psnr_db:
        found.append(f"{parity.psnr_db:.1f} dB, at least {limits.psnr_db:g} are asked for")
    return found


def _decode(engine: BuiltEngine | TorchEngine, crops: Tensor, latents: Tensor) -> Tensor:
    device = engine.spec.device
    parts = zip(crops.chunk(2), latents.chunk(2), FIDELITIES, strict=True)
    return torch.cat(
        [
            engine.decode(x.to(device), z.to(device), fidelity=fidelity).cpu()
            for x, z, fidelity in parts
        ]
    )


def fixed_crops(size: int) -> Tensor:
    """Draws `CROPS` aligned faces, (N, 3, size, size) RGB in [0, 1]: always the same, of no file.

    Drawn, each lit otherwise, blurred and noisy to another degree, as the network meets them.
    """
    random = np.random.default_rng(20260725)
    crops = []
    for number in range(CROPS):
        face = torch.from_numpy(_drawn_face(random)).permute(2, 0, 1)[None]
        small = F.interpolate(
            face, scale_factor=1 / 2**number, mode="bicubic", antialias=True, align_corners=False
        )
        blurred = F.interpolate(
            small, size=(size, size), mode="bicubic", antialias=True, align_corners=False
        )
        noise = random.normal(0, 0.012 * number, (1, 3, size, size)).astype(np.float32)
        crops.append((blurred + torch.from_numpy(noise)).clamp(0, 1))
    return torch.cat(crops)


def _drawn_face(random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draws a face, (512, 512, 3), with its features where the alignment template puts them."""
    y, x = np.mgrid[0:512, 0:512].astype(np.float64)
    grain = np.zeros((512, 512))
    for cells in (8, 32, 128):
        coarse = torch.from_numpy(random.normal(0, 1, (1, 1, cells, cells)))
        grain += F.interpolate(coarse, size=(512, 512), mode="bicubic")[0, 0].numpy() / cells**0.5
    picture = np.array([0.35, 0.42, 0.5]) + 0.15 * grain[..., None]

    def paint(
        at: tuple[float, float], radii: tuple[float, float], colour: list[float], soft: float
    ) -> None:
        distance = np.hypot((x - at[0]) / radii[0], (y - at[1]) / radii[1])
        cover = 1 / (1 + np.exp(np.clip((distance - 1) / soft, -50, 50)))
        picture[:] += (np.array(colour) - picture) * cover[..., None]

    skin = np.array([0.78, 0.58, 0.47]) * random.uniform(0.6, 1.1)
    paint((256, 250), (190, 255), list(random.uniform(0.05, 0.35, 3)), 0.03)  # hair
    paint((256, 290), (140, 195), list(skin), 0.02)
    for eye in (193, 319):
        paint((eye, 205), (42, 9), list(skin * 0.35), 0.15)  # brow
        paint((eye, 240), (30, 14), [0.9, 0.88, 0.86], 0.08)
        paint((eye, 240), (13, 13), list(random.uniform(0.1, 0.4, 3)), 0.08)
        paint((eye + 4, 236), (3, 3), [1.0, 1.0, 1.0], 0.3)
    paint((262, 275), (16, 60), list(np.minimum(skin * 1.15, 1)), 0.4)
    for nostril in (243, 271):
        paint((nostril, 322), (8, 5), list(skin * 0.4), 0.2)
    paint((256, 372), (56, 17), [0.6, 0.25, 0.25], 0.1)
    paint((256, 372), (50, 3), [0.25, 0.08, 0.08], 0.3)
    light = 1 + random.uniform(-0.35, 0.35) * (x - 256) / 256 + 0.08 * grain
    lit: npt.NDArray[np.float64] = (picture * light[..., None]).clip(0, 1)
    return lit.astype(np.float32)
