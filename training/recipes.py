"""A run is a function: each recipe returns its complete configuration.

A variant calls another recipe and changes fields with `dataclasses.replace`. Those of the paper
are in training/paper_recipes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from training import paper_recipes as paper
from training.configs import DetectorRecipe, Recipe, Series, Stage1, Stage2, VqRecipe
from training.data import Augmentation
from training.degradation import Degradation
from training.discriminators import Critic
from training.multibox import MultiBox
from training.perceptual import Perceptual
from training.scenes import SceneBatch, SceneConfig
from vqfr_media.network.config import VqfrV1Config, lite_config


def video_degradation() -> Degradation:
    """The paper's damage, leaning to what real low-resolution video has.

    As many faces at half as at an eighth of the template's size, harder compression with shifted
    blocks, luma noise, several resampling kernels, a little good input so that it is not harmed.
    """
    return Degradation(
        reduction=(1.5, 8.0),
        reduction_log_uniform=True,
        down_kernels=("area", "linear", "cubic"),
        up_kernels=("linear", "cubic"),
        grey_noise=0.5,
        jpeg_quality=(30, 95),
        block_shift=0.8,
        recompressed=0.3,
        nearly_clean=0.04,
    )


def lite_stage1() -> Recipe[VqfrV1Config]:
    """The codebook of the lite edition: a quarter of an hour on one CPU core.

    Colours and backgrounds vary little here: 512 codes are few, and are to be spent on eyes, mouths
    and hair. The main branch takes colour and background from its input.
    """
    return Recipe(
        name="lite_stage1",
        network=lite_config(),
        stage=Stage1(unquantised_steps=300, reestimate_at=(300, 450, 650), reservoir=20480),
        augmentation=Augmentation(
            background=0.0,
            occluded=0.05,
            light=0.2,
            colour=0.03,
            gamma=0.15,
            contrast=0.08,
            saturation=(0.8, 1.2),
        ),
        degradation=video_degradation(),
        steps=1200,
        batch=4,
        learning_rate=1e-3,
        warmup_steps=50,
        validate_every=200,
    )


def lite_stage2() -> Recipe[VqfrV1Config]:
    """The lite edition itself: 90 minutes on two CPU cores, beginning from `lite_stage1`."""
    return replace(
        lite_stage1(),
        name="lite_stage2",
        stage=Stage2(),
        augmentation=Augmentation(),
        steps=2500,
        learning_rate=1e-3,
        seed=1,
        validate_every=200,
    )


def lite_longer() -> Recipe[VqfrV1Config]:
    """The lite edition's second course: 90 minutes on one CPU core, from `lite_stage2`'s weights.

    As `lite_stage2`, begun again at a lower rate; a third of the faces have been through H.264, as
    those of films have.
    """
    return replace(
        lite_stage2(),
        name="lite_longer",
        degradation=replace(video_degradation(), h264=0.3),
        steps=2000,
        learning_rate=6e-4,
        seed=3,
    )


def lite_adversarial() -> Recipe[VqfrV1Config]:
    """The lite edition's last course: ten minutes on one CPU core, from `lite_longer`'s weights.

    Critics on both branches, and the stage-1 encoder's features as the perceptual term (no VGG is
    at hand). Short on purpose: what these critics can teach a network this small is sharpness, and
    soon it draws dark lines along lids and contours. So what is exported is half of this course's
    weights and half of those it began with. Blends of two people are rare here: their double
    contours would teach the critics that ghosts are good.
    """
    local = Critic(
        branch="main", kind="patch", width=32, norm="spectral", contrast=4.0, weight=0.01, start=60
    )
    whole = Critic(
        branch="main",
        kind="wavelet",
        width=8,
        most=96,
        contrast=4.0,
        weight=0.005,
        start=60,
        rate=5.0,
        r1=1.0,
    )
    return replace(
        lite_stage2(),
        name="lite_adversarial",
        stage=Stage2(
            perceptual=Perceptual(network="stage1", content=0.2, style=0.0),
            critics=(local, replace(local, branch="texture", weight=0.003), whole),
        ),
        augmentation=Augmentation(
            rotation=30.0,
            zoom=(0.8, 1.25),
            blended=0.05,
            background=0.4,
            light=0.4,
            colour=0.08,
            contrast=0.2,
        ),
        batch=2,
        steps=320,
        learning_rate=3e-4,
        betas=(0.5, 0.99),
        critic_learning_rate=4e-4,
        ema=0.99,
        blend=0.5,
        seed=2,
        validate_every=80,
    )


def smoke_stage1() -> Recipe[VqfrV1Config]:
    """Stage 1 of a toy network in seconds: shows that everything runs and learns."""
    network = replace(
        lite_config(),
        image_size=64,
        channels=(16, 16, 32),
        encoder_blocks=(0, 1, 1),
        texture_blocks=(1, 1, 1),
        codebook_size=16,
        code_channels=16,
        offset_channels=(0, 8, 8),
    )
    return replace(
        lite_stage1(),
        name="smoke_stage1",
        network=network,
        stage=Stage1(
            unquantised_steps=10,
            reestimate_at=(10, 20),
            reservoir=2048,
            critics=(
                Critic(branch="texture", kind="wavelet", width=2, most=16, start=20, r1_every=4),
            ),
        ),
        steps=30,
        batch=2,
        learning_rate=2e-3,
        warmup_steps=3,
        ema=0.9,
        log_every=1,
        validate_every=15,
    )


def smoke_stage2() -> Recipe[VqfrV1Config]:
    """Stage 2 of the same toy network, with a local critic on each branch."""
    local = Critic(
        branch="texture",
        kind="patch",
        width=8,
        layers=1,
        norm="spectral",
        contrast=8.0,
        weight=0.2,
        adaptive=True,
        learn_from=10,
        start=20,
    )
    return replace(
        smoke_stage1(),
        name="smoke_stage2",
        stage=Stage2(
            perceptual=Perceptual(network="stage1", content=0.1, style=1.0),
            critics=(local, replace(local, branch="main", norm="batch", contrast=None, layers=2)),
        ),
        steps=40,
        seed=1,
    )


def detector() -> DetectorRecipe:
    """The bundled face detector: 90 minutes on one CPU core.

    Faces in the small pictures that are searched (640 px wide) are mostly small; every sixth batch
    has room for large ones.
    """
    small = SceneBatch(count=16, scenes=SceneConfig())
    large = SceneBatch(count=7, scenes=SceneConfig(side=384, size=(14.0, 400.0)))
    return DetectorRecipe(
        name="detector",
        stage=MultiBox(),
        batches=(small,) * 5 + (large,),
        validation=SceneConfig(),
        steps=13500,
        learning_rate=2e-3,
        warmup_steps=200,
        clip_norm=10.0,
        ema=0.999,
        validate_every=1000,
        checkpoint_minutes=2.0,
    )


def smoke_detector() -> DetectorRecipe:
    """The same detector on tiny scenes in seconds: shows that everything runs and learns."""
    scenes = SceneConfig(side=96, size=(24.0, 64.0), faces=2)
    return replace(
        detector(),
        name="smoke_detector",
        batches=(SceneBatch(count=4, scenes=scenes),),
        validation=scenes,
        validation_scenes=4,
        steps=80,
        learning_rate=1e-2,
        warmup_steps=3,
        ema=0.9,
        log_every=1,
        validate_every=40,
    )


def smoke() -> Series:
    """Both stages of the toy network, critics and all: shows in a minute that everything runs."""
    return Series(name="smoke", recipes=(smoke_stage1(), smoke_stage2()))


type AnyRecipe = VqRecipe | DetectorRecipe | Series


def _table() -> dict[str, Callable[[], AnyRecipe]]:
    return {
        "vqgan_v1": paper.vqgan_v1,
        "vqfr_v1": paper.vqfr_v1,
        "vqgan_v2": paper.vqgan_v2,
        "vqfr_v2": paper.vqfr_v2,
        "simvqfr": paper.simvqfr,
        "single_branch": paper.single_branch,
        "no_warp": paper.no_warp,
        **{f"vqgan_f{f}": partial(paper.vqgan_v1, patch=f) for f in (8, 16, 64)},
        **{f"simvqfr_f{f}": partial(paper.simvqfr, patch=f) for f in (8, 16, 64)},
        "lite_stage1": lite_stage1,
        "lite_stage2": lite_stage2,
        "lite_longer": lite_longer,
        "lite_adversarial": lite_adversarial,
        "smoke": smoke,
        "smoke_stage1": smoke_stage1,
        "smoke_stage2": smoke_stage2,
        "detector": detector,
        "smoke_detector": smoke_detector,
    }


RECIPES = tuple(_table())
"""The names the command takes."""


def find_recipe(name: str) -> AnyRecipe:
    """The recipe called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return _table()[name]()
