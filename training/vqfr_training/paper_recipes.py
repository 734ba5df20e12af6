"""The paper's recipes, v1 and v2, and its ablations (tables 2 and 7, figures 2 and 7).

Numbers the paper leaves out (delayed starts, Adam's betas, weights of the discriminators, the
codebook's re-estimation) are those of the published code's configurations."""

from dataclasses import replace
from typing import Literal

from vqfr_media.network.config import (
    VqfrV1Config,
    VqfrV2Config,
    vqfr_v1_config,
    vqfr_v2_config,
)
from vqfr_training.configs import Recipe, Stage1, Stage2
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.degradation import Degradation
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig


def vqgan_v1(*, patch: int = 32) -> Recipe[VqfrV1Config]:
    """Trains stage 1 of v1: 800 000 steps of 16 faces of 512 px (paper, 4.1).

    `patch` is the compression patch size f (figure 2): 8, 16, 32 or 64.
    """
    name = "vqgan_v1" if patch == 32 else f"vqgan_f{patch}"
    return _stage1(name, _with_patch(patch), kind="wavelet")


def vqfr_v1() -> Recipe[VqfrV1Config]:
    """Trains stage 2 of v1: 200 000 steps (paper, 3.3 and 4.1), from `vqgan_v1`."""
    return replace(
        vqgan_v1(),
        name="vqfr_v1",
        stage=Stage2(
            main=0.0,
            gradient=0.0,
            face_peak=1.0,
            perceptual=PerceptualConfig(network="vgg16"),
            discriminators=(
                *_discriminator_pair("texture", start=0),
                *_discriminator_pair("main", start=5_000),
            ),
        ),
        steps=200_000,
        learning_rate=1e-5,
        halve_at=(),
        betas=(0.5, 0.9),
        discriminator_learning_rate=1e-5,
        discriminator_betas=(0.5, 0.9),
        seed=1,
    )


def vqgan_v2() -> Recipe[VqfrV2Config]:
    """Trains stage 1 of v2: as v1's, with StyleGAN2's discriminator, and codes from the start."""
    return _stage1("vqgan_v2", vqfr_v2_config(), kind="stylegan2", unquantised_steps=0)


def vqfr_v2() -> Recipe[VqfrV2Config]:
    """Trains stage 2 of v2, from `vqgan_v2`: codes predicted, the texture decoder as it is."""
    whole = DiscriminatorConfig(
        branch="main", kind="stylegan2", weight=1.0, learn_from=5_000, start=5_000
    )
    local = replace(whole, kind="patch", layers=4, weight=0.5, adaptive=True)
    return replace(
        vqgan_v2(),
        name="vqfr_v2",
        stage=Stage2(
            cross_entropy=1.0,
            texture=None,
            gradient=0.0,
            face_peak=1.0,
            perceptual=_content(),
            discriminators=(whole, local),
            main_rate=0.2,
            main_betas=(0.5, 0.9),
            freeze_texture=True,
            balance="perceptual",
        ),
        degradation=Degradation(
            blur_sigma=(1.0, 15.0), reduction=(1.0, 30.0), noise=(0.0, 20.0), jpeg_quality=(30, 90)
        ),
        steps=200_000,
        halve_at=(),
        discriminator_learning_rate=2e-5,
        discriminator_betas=(0.5, 0.9),
        seed=1,
    )


def simvqfr(*, patch: int = 32) -> Recipe[VqfrV1Config]:
    """Returns the codes alone (paper, 3.1 and table 7).

    From `vqgan_v1` or `vqgan_f…` of the same patch.
    """
    full = vqfr_v1()
    return replace(
        full,
        name="simvqfr" if patch == 32 else f"simvqfr_f{patch}",
        network=_with_patch(patch),
        stage=_texture_only(full.stage, "simple"),
    )


def single_branch() -> Recipe[VqfrV1Config]:
    """Trains variant 1 of table 7: one decoder, fed with features of the input at every level."""
    full = vqfr_v1()
    network = replace(full.network, input_pyramid=True)
    return replace(
        full, name="single_branch", network=network, stage=_texture_only(full.stage, "single")
    )


def no_warp() -> Recipe[VqfrV1Config]:
    """Trains variant 2 of table 7: the parallel decoder concatenates and does not warp."""
    full = vqfr_v1()
    plain = (0,) * len(full.network.channels)
    network = replace(full.network, offset_channels=plain, input_pyramid=True)
    return replace(full, name="no_warp", network=network)


def _stage1[Network: (VqfrV1Config, VqfrV2Config)](
    name: str,
    network: Network,
    *,
    kind: Literal["wavelet", "stylegan2"],
    unquantised_steps: int = 10_000,
) -> Recipe[Network]:
    discriminator = DiscriminatorConfig(
        branch="texture", kind=kind, weight=1.0, learn_from=50_000, start=50_000
    )
    return Recipe(
        name=name,
        network=network,
        stage=Stage1(
            gradient=0.0,
            face_peak=1.0,
            unquantised_steps=unquantised_steps,
            reestimate_at=tuple(range(2_000, 30_000, 2_000)) if unquantised_steps else (),
            reservoir=16_384 if unquantised_steps else 0,
            perceptual=_content(),
            discriminators=(discriminator,),
        ),
        augmentation=flips_only(),
        degradation=Degradation(),
        steps=800_000,
        batch=16,
        recompute=True,
        learning_rate=1e-4,
        halve_at=(500_000, 650_000),
        betas=(0.9, 0.96),
        discriminator_learning_rate=1e-4,
        discriminator_betas=(0.9, 0.96),
        warmup_steps=0,
        clip_norm=None,
        ema=0.999,
        log_every=100,
        validate_every=5_000,
        checkpoint_minutes=30.0,
    )


def _content() -> PerceptualConfig:
    return PerceptualConfig(network="vgg16", style=0.0)


def _discriminator_pair(
    branch: Literal["texture", "main"], *, start: int
) -> tuple[DiscriminatorConfig, DiscriminatorConfig]:
    """Returns the paper's pair on one branch (3.3): global, and local with the adaptive weight."""
    whole = DiscriminatorConfig(branch=branch, kind="wavelet", learn_from=start, start=start)
    return whole, replace(whole, kind="patch", adaptive=True)


def _texture_only(stage: Stage1 | Stage2, variant: Literal["simple", "single"]) -> Stage2:
    if not isinstance(stage, Stage2):
        raise ValueError("only stage 2 has variants")
    discriminators = tuple(
        discriminator for discriminator in stage.discriminators if discriminator.branch == "texture"
    )
    return replace(stage, variant=variant, main=None, discriminators=discriminators)


def _with_patch(patch: int) -> VqfrV1Config:
    """Builds v1 with levels from full size down to `patch`, the coarsest as wide as v1's.

    The paper does not say how wide its other networks are.
    """
    full = vqfr_v1_config()
    widths = {
        8: (128, 128, 256, 512),
        16: (128, 128, 256, 256, 512),
        32: full.channels,
        64: (128, 128, 256, 256, 256, 256, 512),
    }
    if patch not in widths:
        raise ValueError(f"patch must be 8, 16, 32 or 64, got {patch}")
    channels = widths[patch]
    return replace(
        full,
        channels=channels,
        offset_channels=channels,
        encoder_blocks=(2,) * len(channels),
        texture_blocks=(3,) * len(channels),
    )
