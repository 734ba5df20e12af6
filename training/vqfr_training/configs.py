"""What a run is made of: frozen, checked configurations; recipes.py fills them in."""

from dataclasses import dataclass
from typing import Literal

from vqfr_media.network.config import VqfrV1Config, VqfrV2Config
from vqfr_training.data.degradation import Degradation
from vqfr_training.data.large_faces import CLOSER
from vqfr_training.data.photographs import Augmentation
from vqfr_training.detector.multibox import MultiBox
from vqfr_training.detector.scenes import SceneBatch, SceneConfig
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """The codebook (paper, 3.1).

    High-quality faces through encoder, look-up and texture decoder.
    """

    commitment: float = 0.25
    """β of Eq. 3."""
    gradient: float = 0.5
    """Weight of the gradient L1."""
    face_peak: float = 3.0
    """How much more a pixel between eyes and mouth counts than one at the rim."""
    unquantised_steps: int
    """First steps that decode the latents themselves: latents become stable before codes exist."""
    reestimate_at: tuple[int, ...]
    """Steps before which the codebook is set to the k-means centres of the latents since the last
    of them; before quantisation begins, that only forgets what an early encoder made."""
    reservoir: int = 0
    """How many latent vectors k-means sees: drawn evenly from all since it was last done."""
    perceptual: PerceptualConfig | None = None
    """Compared features; None: no perceptual term."""
    discriminators: tuple[DiscriminatorConfig, ...] = ()
    """Of the texture branch: there is no other."""

    def __post_init__(self) -> None:
        if self.unquantised_steps > 0 and self.unquantised_steps not in self.reestimate_at:
            raise ValueError("the codebook must be estimated when quantisation begins")


@dataclass(frozen=True, kw_only=True)
class Stage2:
    """Restoration (paper, 3.3) with the codebook frozen."""

    variant: Literal["parallel", "simple", "single"] = "parallel"
    """VQFR, or what the paper compares it with (figure 4): "simple" (SimVQFR) draws from the codes
    alone, "single" has one decoder with features of the input. Both have a texture branch only."""
    code: float = 1.0
    """Weight of the code alignment loss."""
    cross_entropy: float = 0.0
    """Weight of the cross-entropy of v2's predicted codes."""
    texture: float | None = 1.0
    """Weight of the texture branch's pixel losses; None: nothing asks what this branch draws."""
    main: float | None = 1.0
    """Weight of the main branch's pixel losses, 0 in the paper; None as above."""
    gradient: float = 0.5
    """Weight of the gradient L1 within the pixel losses; not in the paper."""
    face_peak: float = 3.0
    """How much more a pixel between eyes and mouth counts than one at the rim."""
    perceptual: PerceptualConfig | None = None
    """Compared features; None: no perceptual term."""
    identity: float = 0.0
    """Weight of the squared distance of dlib's descriptors; not in the paper."""
    compared: tuple[Literal["texture", "main"], ...] = ("texture", "main")
    """Branches that the perceptual and the identity term look at."""
    discriminators: tuple[DiscriminatorConfig, ...] = ()
    """On either branch, each with its own weight and start."""
    main_rate: float = 1.0
    """Learning rate of the main branch, relative to the encoder's."""
    main_betas: tuple[float, float] | None = None
    """Adam's for the main branch; None: those of the rest."""
    freeze_texture: bool = False
    """Keep the texture decoder as stage 1 left it."""
    balance: Literal["all", "perceptual"] = "all"
    """What of a branch's losses an adaptive discriminator is weighed against; v2: the features
    alone."""

    def __post_init__(self) -> None:
        if self.variant != "parallel" and self.main is not None:
            raise ValueError(f"variant {self.variant!r} has no main branch: main must be None")
        if self.balance == "perceptual" and self.perceptual is None:
            raise ValueError("balance 'perceptual' without a perceptual term")
        weights = {"texture": self.texture, "main": self.main}
        for discriminator in self.discriminators:
            if weights[discriminator.branch] is None:
                raise ValueError(f"{discriminator.name} scores a branch that has no losses")


@dataclass(frozen=True, kw_only=True)
class Gains:
    """The band gains behind a trained main branch; nothing else learns."""

    faces: int
    """How many different samples are prepared; the steps draw from them again and again."""
    crop: int
    """Side of the square of each that a step sees, in pixels, a multiple of 8. A part of a face
    shows the damage too; with smaller squares a step sees more faces for the same work."""
    detail: float = 0.0
    """Weight of what the three finest bands of luma lack in energy, in dB, beside the error in dB:
    the error alone leaves heavily damaged faces softer than the main branch draws them."""
    large: float = 0.0
    """Share of faces that are damaged at a larger size and then cut out as `restore` cuts faces out
    of frames: the filter of that leaves them, and the truth, a little soft."""
    large_size: int = 400
    """Side of those before they are cut out, in pixels: at most the template's in a photograph."""

    def __post_init__(self) -> None:
        if self.faces < 1:
            raise ValueError(f"faces must be at least 1, got {self.faces}")
        if self.crop < 8 or self.crop % 8:
            raise ValueError(f"crop must be a multiple of 8 above 0, got {self.crop}")
        if self.detail < 0:
            raise ValueError(f"detail must not be negative, got {self.detail:g}")
        if not 0 <= self.large <= 1:
            raise ValueError(f"large is a share within 0..1, got {self.large:g}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the loop itself needs to know of a run."""

    name: str
    """The recipe's, in the run's record."""
    steps: int
    """How many there are in all."""
    learning_rate: float
    """Adam's, after warm-up; falls to 0 along a half cosine at the last step, or as `halve_at`
    says."""
    halve_at: tuple[int, ...] | None = None
    """Steps from which on the learning rate is half of what it was; None: the half cosine."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's."""
    warmup_steps: int
    """First steps, in which the learning rate rises from 0."""
    clip_norm: float | None = 1.0
    """Largest norm of the whole gradient; None: any."""
    ema: float = 0.995
    """Decay a step of the averaged weights; lower at the very beginning."""
    discriminator_learning_rate: float = 1e-4
    """The discriminators' Adam's; follows the same schedule."""
    discriminator_betas: tuple[float, float] = (0.5, 0.9)
    """The discriminators' Adam's."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward passes; weights and losses are float32 always."""
    seed: int = 0
    """Of initial weights and samples."""
    log_every: int = 20
    """Steps from one line of losses to the next."""
    validate_every: int
    """Steps from one validation to the next."""
    checkpoint_minutes: float = 5.0
    """Minutes from one checkpoint to the next."""

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
class FaceRecipe[Network: (VqfrV1Config, VqfrV2Config)](RunConfig):
    """What all runs on aligned faces are told."""

    network: Network
    """The architecture."""
    augmentation: Augmentation
    """How samples differ from their photographs."""
    degradation: Degradation
    """How low-quality faces are made; stage 1 needs none."""
    batch: int
    """Faces in a step, over all ranks."""
    accumulate: int = 1
    """In how many equal parts, one after the other, a rank computes its share of the batch: the
    gradients are those of the whole, the memory is that of a part."""
    name_weights: tuple[tuple[str, float], ...] = ()
    """How often photographs are drawn, by the end of their names without suffix; others weigh 1."""
    validation_faces: int = 128
    """Photographs of `val` on which the run is validated, evenly spaced.

    They are held in memory.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise ValueError(
                f"a batch of {self.batch} cannot be accumulated in {self.accumulate} equal parts"
            )
        if self.validation_faces < 1:
            raise ValueError(f"validation_faces must be at least 1, got {self.validation_faces}")


@dataclass(frozen=True, kw_only=True)
class Recipe[Network: (VqfrV1Config, VqfrV2Config)](FaceRecipe[Network]):
    """Everything that decides a VQFR run's numbers, besides its data and its initial weights."""

    stage: Stage1 | Stage2
    """What is trained, and by which losses."""
    blend: float = 1.0
    """Share of this run's averaged weights in the exported network; the rest are those of the run
    it started from (network interpolation, ESRGAN 2018, 3.4): sharpness against artefacts."""
    recompute: bool = False
    """Compute blocks again going back rather than keep what is inside: less memory, more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.blend <= 1:
            raise ValueError(f"blend must be above 0 and at most 1, got {self.blend}")


@dataclass(frozen=True, kw_only=True)
class GainRecipe(FaceRecipe[VqfrV1Config]):
    """Everything that decides a run of the band gains, besides its data and the trained network."""

    stage: Gains
    """What is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.gain_channels == 0:
            raise ValueError(f"{self.name} trains band gains: gain_channels must be above 0")
        if self.precision != "float32":
            raise ValueError(f"{self.name} computes in float32 alone, not {self.precision}")
        if self.stage.crop > self.network.image_size:
            raise ValueError(
                f"crop must be at most the {self.network.image_size} px of a face, "
                f"got {self.stage.crop}"
            )
        if self.stage.large and self.stage.large_size < CLOSER * self.network.image_size:
            raise ValueError(
                f"large_size must be at least {CLOSER:g} times the {self.network.image_size} px "
                f"of a face, got {self.stage.large_size}"
            )


type VqRecipe = Recipe[VqfrV1Config] | Recipe[VqfrV2Config]


@dataclass(frozen=True, kw_only=True)
class RecipeSeries:
    """Stage 1 and what is built on it: each recipe starts from the weights of the run before it."""

    name: str
    """What the command takes."""
    recipes: tuple[VqRecipe, ...]
    """In the order in which they are trained."""


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe(RunConfig):
    """Everything that decides a detector run's numbers, besides its photographs."""

    stage: MultiBox
    """The loss."""
    batches: tuple[SceneBatch, ...]
    """What the steps see, in turn."""
    validation: SceneConfig
    """The kind of scene, made of other people, on which the run is validated."""
    validation_scenes: int = 48
    """How many there are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.batches:
            raise ValueError("batches must name at least one kind of scene")
        if self.validation_scenes < 1:
            raise ValueError(f"validation_scenes must be at least 1, got {self.validation_scenes}")


type SingleRecipe = VqRecipe | GainRecipe | DetectorRecipe
"""What one run trains."""
