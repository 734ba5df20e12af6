"""A run is a function: each recipe returns its complete configuration.

A variant calls another recipe and changes fields with `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from training.data import Augmentation
from training.degradation import Degradation
from training.multibox import MultiBox
from training.scenes import SceneBatch, SceneConfig
from vqfr_media.network.vqfr_v1 import VqfrV1Config, lite_config

RECIPES = (
    "lite_stage1",
    "lite_stage2",
    "smoke_stage1",
    "smoke_stage2",
    "detector",
    "smoke_detector",
)
"""The names the command takes."""


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """The codebook (paper, 3.1): good faces through encoder, look-up and texture decoder."""

    commitment: float = 0.25
    """β of Eq. 3."""
    gradient: float = 0.5
    """Weight of the gradient L1."""
    face_peak: float = 3.0
    """How much more a pixel between eyes and mouth counts than one at the rim."""
    unquantised_steps: int
    """First steps that decode the latents themselves: latents settle before codes exist."""
    reestimate_at: tuple[int, ...]
    """Steps before which the codebook is set to the k-means centres of recent latents."""
    reservoir: int
    """How many latent vectors k-means sees."""

    def __post_init__(self) -> None:
        if self.unquantised_steps > 0 and self.unquantised_steps not in self.reestimate_at:
            raise ValueError("the codebook must be estimated when quantisation begins")


@dataclass(frozen=True, kw_only=True)
class Stage2:
    """Restoration (paper, 3.3) with the codebook frozen."""

    code: float = 1.0
    """Weight of the code alignment loss."""
    texture: float = 1.0
    """Weight of the texture branch's image losses."""
    main: float = 1.0
    """Weight of the main branch's image losses. The paper leaves L1 out; without GAN it stays."""
    gradient: float = 0.5
    """Weight of the gradient L1 within the image losses."""
    face_peak: float = 3.0
    """How much more a pixel between eyes and mouth counts than one at the rim."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the loop itself needs to know of a run."""

    name: str
    steps: int
    learning_rate: float
    """Adam's, after warm-up; falls to 0 along a half cosine at the last step."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int
    clip_norm: float = 1.0
    """Largest norm of the whole gradient."""
    ema: float = 0.995
    """Decay a step of the averaged weights; lower at the very beginning."""
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    log_every: int = 20
    validate_every: int
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps must be within 0..{self.steps - 1}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be within [0, 1), got {self.ema}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True, kw_only=True)
class Recipe(Course):
    """Everything that decides a VQFR run's numbers, besides its data and its initial weights."""

    network: VqfrV1Config
    stage: Stage1 | Stage2
    augmentation: Augmentation
    degradation: Degradation
    batch: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe(Course):
    """Everything that decides a detector run's numbers, besides its photographs."""

    stage: MultiBox
    batches: tuple[SceneBatch, ...]
    """What the steps see, in turn."""
    validation: SceneConfig
    """The kind of scene, made of other people, that watches over the run."""
    validation_scenes: int = 48

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.batches:
            raise ValueError("batches must name at least one kind of scene")
        if self.validation_scenes < 1:
            raise ValueError(f"validation_scenes must be at least 1, got {self.validation_scenes}")


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


def lite_stage1() -> Recipe:
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


def lite_stage2() -> Recipe:
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


def smoke_stage1() -> Recipe:
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
        stage=Stage1(unquantised_steps=10, reestimate_at=(10, 20), reservoir=2048),
        steps=30,
        batch=2,
        learning_rate=2e-3,
        warmup_steps=3,
        ema=0.9,
        log_every=1,
        validate_every=15,
    )


def smoke_stage2() -> Recipe:
    """Stage 2 of the same toy network."""
    return replace(smoke_stage1(), name="smoke_stage2", stage=Stage2(), steps=40, seed=1)


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


def find_recipe(name: str) -> Recipe | DetectorRecipe:
    """The recipe called `name`.

    Raises:
        ValueError: there is none.
    """
    match name:
        case "lite_stage1":
            return lite_stage1()
        case "lite_stage2":
            return lite_stage2()
        case "smoke_stage1":
            return smoke_stage1()
        case "smoke_stage2":
            return smoke_stage2()
        case "detector":
            return detector()
        case "smoke_detector":
            return smoke_detector()
    raise ValueError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
