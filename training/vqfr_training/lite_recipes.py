"""The recipes of the bundled `lite` model up to its main branch.

For photographs by the hundred and one CPU core.
"""

from dataclasses import replace

from vqfr_media.network.config import VqfrV1Config, lite_config
from vqfr_training.configs import Recipe, Stage1, Stage2
from vqfr_training.data.degradation import Degradation
from vqfr_training.data.photographs import Augmentation
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig


def lite_backbone() -> VqfrV1Config:
    """Describes `lite` without the band gains, which are trained last and alone."""
    return replace(lite_config(), gain_channels=0, directed_gains=False, fine_gains=False)


def video_degradation() -> Degradation:
    """Returns the paper's damage, leaning to what real low-resolution video has.

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
    """Returns the codebook of the lite edition: a quarter of an hour on one CPU core.

    Colours and backgrounds vary little here: 512 codes are few, and are to be spent on eyes, mouths
    and hair. The main branch takes colour and background from its input.
    """
    return Recipe(
        name="lite_stage1",
        # The first and second edition had a quarter of the third's codes.
        network=replace(lite_backbone(), codebook_size=512),
        stage=Stage1(unquantised_steps=300, reestimate_at=(250, 300, 450, 650), reservoir=20480),
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
    """Returns the lite edition itself.

    90 minutes on two CPU cores, beginning from `lite_stage1`.
    """
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
    """Returns the lite edition's second run.

    70 minutes on one CPU core, from `lite_stage2`'s weights.

    As `lite_stage2`, started again at a lower rate; a third of the faces have been through H.264,
    as those of films have."""
    return replace(
        lite_stage2(),
        name="lite_longer",
        degradation=replace(video_degradation(), h264=0.3),
        steps=1700,
        learning_rate=6e-4,
        seed=3,
    )


def lite_adversarial() -> Recipe[VqfrV1Config]:
    """Returns the lite edition's last run.

    Ten minutes on one CPU core, from `lite_longer`'s weights.

    Discriminators on both branches, and the stage-1 encoder's features as the perceptual term (no
    VGG is at hand). Short on purpose: what these discriminators can teach a network this small is
    sharpness, and soon it draws dark lines along lids and contours. So what is exported is half of
    this run's weights and half of those it started with. Blends of two people are rare here: their
    double contours would teach the discriminators that ghosts are good."""
    local = DiscriminatorConfig(
        branch="main", kind="patch", width=32, norm="spectral", contrast=4.0, weight=0.01, start=60
    )
    whole = DiscriminatorConfig(
        branch="main",
        kind="wavelet",
        norm="equalised",
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
            perceptual=PerceptualConfig(network="stage1", content=0.2, style=0.0),
            discriminators=(local, replace(local, branch="texture", weight=0.003), whole),
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
        discriminator_learning_rate=4e-4,
        ema=0.99,
        blend=0.5,
        seed=2,
        validate_every=80,
    )


def footage_degradation() -> Degradation:
    """Adds to `video_degradation` what real footage has: soft lenses, fields, running colours.

    A fifth of the faces is mildly blurred and little else, for such faces have to become crisp too.
    """
    return replace(
        video_degradation(),
        h264=0.25,
        soft=0.2,
        defocused=0.15,
        halos=0.15,
        one_field=0.06,
        chroma_bleed=0.2,
        grain=0.1,
    )


def lite_people_stage1() -> Recipe[VqfrV1Config]:
    """Trains the third edition's codebook: on from the second's encoder and decoder.

    The codes are learned anew, and there are more of them: those of the second edition had seen
    studio portraits alone, and could draw nobody else.
    """
    return replace(
        lite_stage1(),
        name="lite_people_stage1",
        network=lite_backbone(),
        stage=Stage1(unquantised_steps=60, reestimate_at=(60, 160, 280), reservoir=65536),
        name_weights=(("_s", 0.4), ("_m", 0.8)),
        steps=440,
        learning_rate=6e-4,
        warmup_steps=30,
        seed=11,
        validate_every=125,
    )


def lite_people_stage2() -> Recipe[VqfrV1Config]:
    """Trains the third edition: `lite_people_stage1`'s codes, the second's main branch.

    VGG-16's features of the middle of the face, whose channels weigh one each, and a weak identity
    term ask the main branch for detail.
    """
    return replace(
        lite_people_stage1(),
        name="lite_people_stage2",
        stage=_people_losses(content=0.06),
        augmentation=Augmentation(blended=0.04, background=0.2, occluded=0.1, grey=0.06),
        degradation=footage_degradation(),
        name_weights=(("_s", 0.25), ("_m", 0.8)),
        steps=560,
        learning_rate=6e-4,
        warmup_steps=30,
        seed=12,
        validate_every=100,
        checkpoint_minutes=3.0,
    )


def lite_people_longer() -> Recipe[VqfrV1Config]:
    """Trains the third edition's second course: on from `lite_people_stage2`, begun again lower."""
    first = lite_people_stage2()
    return replace(
        first,
        name="lite_people_longer",
        stage=_people_losses(content=0.08),
        augmentation=replace(first.augmentation, blended=0.02),
        steps=440,
        learning_rate=5e-4,
        warmup_steps=15,
        seed=13,
    )


def lite_people_adversarial() -> Recipe[VqfrV1Config]:
    """Trains the third edition's last course: discriminators, on from `lite_people_longer`.

    As in `lite_adversarial` they sharpen, and take fidelity; a small part of it is exported.
    """
    second, first = lite_adversarial(), lite_people_longer()
    return replace(
        second,
        name="lite_people_adversarial",
        network=first.network,
        stage=replace(_people_losses(content=0.08), discriminators=second.stage.discriminators),
        augmentation=replace(second.augmentation, blended=0.01, grey=0.06),
        degradation=first.degradation,
        name_weights=first.name_weights,
        steps=180,
        blend=0.2,
        seed=14,
        checkpoint_minutes=3.0,
    )


def lite_people_stage1_longer() -> Recipe[VqfrV1Config]:
    """Learns the third edition's codebook for longer, on from `lite_people_stage1`.

    The third edition's texture branch draws damaged faces nearly as well as clean ones (25.4 and
    25.5 dB), so the codes are what holds it back. VGG-16's features ask for detail.
    """
    return replace(
        lite_people_stage1(),
        name="lite_people_stage1_longer",
        stage=Stage1(
            unquantised_steps=0,
            reestimate_at=(150, 400),
            reservoir=65536,
            perceptual=_people_features(content=0.04),
        ),
        steps=900,
        warmup_steps=20,
        seed=15,
        validate_every=150,
        checkpoint_minutes=3.0,
    )


def lite_people_recoded() -> Recipe[VqfrV1Config]:
    """Restores with `lite_people_stage1_longer`'s codes; main branch: `lite_people_longer`'s."""
    return replace(
        lite_people_longer(),
        name="lite_people_recoded",
        steps=400,
        learning_rate=6e-4,
        warmup_steps=20,
        seed=16,
    )


def lite_people_crisp() -> Recipe[VqfrV1Config]:
    """Goes on from `lite_people_recoded`, with its codes.

    VGG-16's features and identity weigh more, and more of the faces are soft and little else, for
    what the network still lacks is detail.
    """
    return replace(
        lite_people_recoded(),
        name="lite_people_crisp",
        stage=replace(_people_losses(content=0.12), texture=0.5, identity=0.2),
        degradation=replace(footage_degradation(), soft=0.3),
        steps=720,
        seed=17,
    )


def _people_losses(*, content: float) -> Stage2:
    """Returns stage 2's losses of the third edition; `content` weighs VGG-16's features."""
    return Stage2(
        texture=0.7,
        perceptual=_people_features(content=content),
        identity=0.1,
        compared=("main",),
    )


def _people_features(*, content: float) -> PerceptualConfig:
    """Returns VGG-16's features of the middle of the face, all channels equally weighed."""
    return PerceptualConfig(
        network="vgg16", content=content, style=0.0, channels="equal", levels=3, window=0.4
    )
