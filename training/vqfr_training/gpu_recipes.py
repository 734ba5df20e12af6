"""The bundled model from scratch with an hour of a GPU lent: `lite_gpu`, and its rehearsal."""

from dataclasses import replace

from vqfr_media.network.config import VqfrV1Config
from vqfr_training.configs import Recipe, RecipeSeries, Stage1, Stage2
from vqfr_training.data.photographs import Augmentation
from vqfr_training.lite_recipes import footage_degradation, lite_people_stage1
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig


def lite_gpu_stage1() -> Recipe[VqfrV1Config]:
    """Trains the codebook: VGG-16's features from the start, a local discriminator from a half."""
    return replace(
        lite_people_stage1(),
        name="lite_gpu_stage1",
        stage=Stage1(
            unquantised_steps=1000,
            reestimate_at=(1000, 2000, 4000),
            reservoir=131072,
            perceptual=PerceptualConfig(network="vgg16", content=0.06, style=0.0, channels="equal"),
            discriminators=(
                DiscriminatorConfig(
                    branch="texture",
                    kind="patch",
                    norm="spectral",
                    weight=0.02,
                    learn_from=4000,
                    start=5000,
                ),
            ),
        ),
        steps=10_000,
        batch=32,
        learning_rate=8e-4,
        warmup_steps=200,
        precision="bfloat16",
        ema=0.999,
        seed=21,
        log_every=50,
        validate_every=1000,
        checkpoint_minutes=2.0,
    )


def lite_gpu_stage2() -> Recipe[VqfrV1Config]:
    """Trains the restoration: features, identity, both discriminators; half an hour of an H100."""
    local = DiscriminatorConfig(
        branch="main",
        kind="patch",
        norm="spectral",
        weight=0.02,
        learn_from=4000,
        start=5000,
    )
    whole = DiscriminatorConfig(
        branch="main",
        kind="wavelet",
        norm="equalised",
        width=16,
        most=256,
        weight=0.01,
        learn_from=4000,
        start=5000,
    )
    return replace(
        lite_gpu_stage1(),
        name="lite_gpu_stage2",
        stage=Stage2(
            perceptual=PerceptualConfig(network="vgg16", content=0.06, style=0.0, channels="equal"),
            identity=0.1,
            discriminators=(local, whole, replace(local, branch="texture")),
        ),
        augmentation=Augmentation(blended=0.04, background=0.2, occluded=0.1, grey=0.06),
        degradation=footage_degradation(),
        name_weights=(("_s", 0.25), ("_m", 0.8)),
        steps=20_000,
        learning_rate=6e-4,
        seed=22,
    )


def lite_gpu() -> RecipeSeries:
    """Returns both stages, in calls of minutes: each goes on exactly where the last one stopped."""
    return RecipeSeries(name="lite_gpu", recipes=(lite_gpu_stage1(), lite_gpu_stage2()))


def rehearsed(series: RecipeSeries, *, steps: int, batch: int, size: int) -> RecipeSeries:
    """Makes `series` so small that a CPU does it: everything happens, a little of each.

    Networks keep their depth and lose their width, so that sizes down to 64 px work.
    """

    def small(recipe: Recipe[VqfrV1Config]) -> Recipe[VqfrV1Config]:
        network = replace(
            recipe.network,
            image_size=size,
            channels=(8, 8, 16, 16, 16),
            offset_channels=(0, 8, 8, 8, 8),
            codebook_size=8,
            code_channels=8,
        )
        stage = recipe.stage
        discriminators = tuple(
            replace(discriminator, width=4, most=16, learn_from=1, start=2, layers=1)
            for discriminator in stage.discriminators
        )
        if isinstance(stage, Stage1):
            stage = replace(
                stage,
                unquantised_steps=1,
                reestimate_at=(1, 3),
                reservoir=256,
                discriminators=discriminators,
            )
        else:
            stage = replace(stage, discriminators=discriminators)
        return replace(
            recipe,
            network=network,
            stage=stage,
            steps=steps,
            batch=batch,
            warmup_steps=1,
            log_every=1,
            validate_every=steps,
            validation_faces=2,
        )

    # bfloat16 stays: what is rehearsed is the course as it will be run.
    return RecipeSeries(
        name=f"{series.name}_rehearsal",
        recipes=tuple(small(r) for r in series.recipes if isinstance(r.network, VqfrV1Config)),
    )
