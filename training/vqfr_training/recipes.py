"""A run is a function: each recipe returns its complete configuration.

A variant calls another recipe and changes fields with `dataclasses.replace`. Those of the paper
are in paper_recipes.py, those of the bundled model in lite_recipes.py and gain_recipes.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from vqfr_media.network.config import VqfrV1Config
from vqfr_training import gain_recipes as gains
from vqfr_training import gpu_recipes as gpu
from vqfr_training import lite_recipes as lite
from vqfr_training import paper_recipes as paper
from vqfr_training.configs import (
    DetectorRecipe,
    GainRecipe,
    Gains,
    Recipe,
    RecipeSeries,
    SingleRecipe,
    Stage1,
    Stage2,
)
from vqfr_training.detector.multibox import MultiBox
from vqfr_training.detector.scenes import SceneBatch, SceneConfig
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig


def smoke_stage1() -> Recipe[VqfrV1Config]:
    """Trains stage 1 of a toy network in seconds: shows that everything runs and learns."""
    network = replace(
        lite.lite_backbone(),
        image_size=64,
        channels=(16, 16, 32),
        encoder_blocks=(0, 1, 1),
        texture_blocks=(1, 1, 1),
        codebook_size=16,
        code_channels=16,
        offset_channels=(0, 8, 8),
    )
    return replace(
        lite.lite_stage1(),
        name="smoke_stage1",
        network=network,
        stage=Stage1(
            unquantised_steps=10,
            reestimate_at=(10, 20),
            reservoir=2048,
            discriminators=(
                DiscriminatorConfig(
                    branch="texture",
                    kind="wavelet",
                    norm="equalised",
                    width=2,
                    most=16,
                    start=20,
                    r1_every=4,
                ),
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
    """Trains stage 2 of the same toy network, with a local discriminator on each branch."""
    local = DiscriminatorConfig(
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
            perceptual=PerceptualConfig(network="stage1", content=0.1, style=1.0),
            discriminators=(
                local,
                replace(local, branch="main", norm="published", contrast=None, layers=2),
            ),
        ),
        steps=40,
        seed=1,
    )


def smoke_gains() -> GainRecipe:
    """Trains band gains behind the same toy network."""
    second = smoke_stage2()
    return replace(
        gains.lite_gains(),
        name="smoke_gains",
        network=replace(second.network, gain_channels=8, directed_gains=True, fine_gains=True),
        stage=Gains(faces=12, crop=32),
        degradation=second.degradation,
        name_weights=(),
        batch=2,
        steps=12,
        learning_rate=2e-3,
        warmup_steps=3,
        ema=0.9,
        log_every=1,
        seed=2,
        validate_every=6,
    )


def detector() -> DetectorRecipe:
    """Returns the bundled face detector's first edition: 90 minutes on one CPU core.

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


def detector_people() -> DetectorRecipe:
    """Returns the detector's second edition: on from the first, with people of all kinds."""
    return replace(
        detector(), name="detector_people", steps=4000, learning_rate=1e-3, warmup_steps=100, seed=2
    )


def detector_people_longer() -> DetectorRecipe:
    """Returns the detector's third edition: on from the second, with other scenes.

    The second had learned too little rather than too much: it found fewer faces of the people whom
    it learned from than of those kept back.
    """
    return replace(detector_people(), name="detector_people_longer", steps=5500, seed=3)


def smoke_detector() -> DetectorRecipe:
    """Returns the same detector on tiny scenes in seconds.

    Shows that everything runs and learns.
    """
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


def smoke() -> RecipeSeries:
    """Returns both stages of the toy network, discriminators and all: shows in a minute that
    everything runs."""
    return RecipeSeries(name="smoke", recipes=(smoke_stage1(), smoke_stage2()))


type AnyRecipe = SingleRecipe | RecipeSeries


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
        "lite_stage1": lite.lite_stage1,
        "lite_stage2": lite.lite_stage2,
        "lite_longer": lite.lite_longer,
        "lite_adversarial": lite.lite_adversarial,
        "lite_people_stage1": lite.lite_people_stage1,
        "lite_people_stage2": lite.lite_people_stage2,
        "lite_people_longer": lite.lite_people_longer,
        "lite_people_adversarial": lite.lite_people_adversarial,
        "lite_people_stage1_longer": lite.lite_people_stage1_longer,
        "lite_people_recoded": lite.lite_people_recoded,
        "lite_people_crisp": lite.lite_people_crisp,
        "lite_gains": gains.lite_gains,
        "lite_gains_directed": gains.lite_gains_directed,
        "lite_gains_detail": gains.lite_gains_detail,
        "lite_gains_longer": gains.lite_gains_longer,
        "lite_gains_crisp": gains.lite_gains_crisp,
        "lite_gains_fine": gains.lite_gains_fine,
        "lite_gains_single": gains.lite_gains_single,
        "lite_gains_single_longer": gains.lite_gains_single_longer,
        "lite_gains_film": gains.lite_gains_film,
        "lite_gains_large": gains.lite_gains_large,
        "lite_gains_sharp": gains.lite_gains_sharp,
        "lite_gpu": gpu.lite_gpu,
        "lite_gpu_stage1": gpu.lite_gpu_stage1,
        "lite_gpu_stage2": gpu.lite_gpu_stage2,
        "smoke": smoke,
        "smoke_stage1": smoke_stage1,
        "smoke_stage2": smoke_stage2,
        "smoke_gains": smoke_gains,
        "detector": detector,
        "detector_people": detector_people,
        "detector_people_longer": detector_people_longer,
        "smoke_detector": smoke_detector,
    }


RECIPES = tuple(_table())
"""The names the command takes."""


def find_recipe(name: str) -> AnyRecipe:
    """Returns the recipe called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return _table()[name]()


def in_precision(recipe: AnyRecipe, precision: Literal["float32", "bfloat16"]) -> AnyRecipe:
    """Returns the recipe, or every recipe of a series, with forward passes in `precision`."""
    if isinstance(recipe, RecipeSeries):
        recipes = tuple(replace(one, precision=precision) for one in recipe.recipes)
        return replace(recipe, recipes=recipes)
    return replace(recipe, precision=precision)


def in_parts(recipe: AnyRecipe, accumulate: int) -> AnyRecipe:
    """Returns the recipe, or every recipe of a series, with each batch computed in so many parts.

    Raises:
        ValueError: it has no batch that can be taken apart so.
    """
    match recipe:
        case RecipeSeries():
            recipes = tuple(replace(one, accumulate=accumulate) for one in recipe.recipes)
            return replace(recipe, recipes=recipes)
        case DetectorRecipe():
            raise ValueError(f"{recipe.name}: --accumulate is for VQFR's recipes")
        case _:
            return replace(recipe, accumulate=accumulate)
