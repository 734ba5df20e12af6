"""The recipes of the bundled `lite` model's band gains, behind `lite_people_crisp`."""

from dataclasses import replace

from vqfr_media.network.config import lite_config
from vqfr_training.configs import GainRecipe, Gains
from vqfr_training.lite_recipes import footage_degradation, lite_people_crisp


def lite_gains() -> GainRecipe:
    """Trains the band gains behind `lite_people_crisp`'s main branch.

    Of the faces 44 % have good footage's damage (a fifth is soft; of the rest, 55 %), for there the
    main branch softens what it should leave alone.
    """
    first = lite_people_crisp()
    return GainRecipe(
        name="lite_gains",
        network=replace(lite_config(), directed_gains=False, fine_gains=False),
        stage=Gains(faces=6000, crop=128),
        augmentation=first.augmentation,
        degradation=replace(footage_degradation(), mild=0.55),
        name_weights=(("_s", 0.1), ("_m", 0.8)),
        batch=16,
        steps=3200,
        learning_rate=1.5e-3,
        betas=(0.9, 0.99),
        warmup_steps=50,
        clip_norm=5.0,
        ema=0.998,
        seed=18,
        validate_every=800,
        checkpoint_minutes=3.0,
    )


def lite_gains_directed() -> GainRecipe:
    """Goes on from `lite_gains` with other faces, and weighs detail by its direction too.

    More of the faces are badly damaged: those that are not were restored well already.
    """
    first = lite_gains()
    return replace(
        first,
        name="lite_gains_directed",
        network=replace(lite_config(), fine_gains=False),
        degradation=replace(first.degradation, mild=0.3),
        batch=32,
        steps=2200,
        learning_rate=1.2e-3,
        seed=20,
        validate_every=550,
    )


def lite_gains_detail() -> GainRecipe:
    """Goes on from `lite_gains_directed`, with its faces, and asks for detail.

    The error alone took a tenth of the sharpness of heavily damaged faces.
    """
    return replace(
        lite_gains_directed(),
        name="lite_gains_detail",
        stage=Gains(faces=6000, crop=128, detail=0.3),
        batch=16,
        steps=600,
        learning_rate=1e-3,
        warmup_steps=20,
        validate_every=600,
    )


def lite_gains_longer() -> GainRecipe:
    """Goes on from `lite_gains_directed`, whose error still fell, with other faces.

    A little more of them are hardly damaged: those had lost 0.2 dB. The directions of coarse bands
    are measured over half the distance that `lite_gains_directed` knew.
    """
    first = lite_gains_directed()
    return replace(
        first,
        name="lite_gains_longer",
        degradation=replace(first.degradation, mild=0.4),
        steps=3000,
        learning_rate=1e-3,
        seed=22,
        validate_every=500,
    )


def lite_gains_crisp() -> GainRecipe:
    """Goes on from `lite_gains_longer`, with its faces, and asks for detail as `lite_gains_detail`
    does."""
    longer = lite_gains_longer()
    return replace(
        lite_gains_detail(),
        name="lite_gains_crisp",
        degradation=longer.degradation,
        seed=longer.seed,
    )


def lite_gains_fine() -> GainRecipe:
    """Goes on from the sixth edition, with the faces of `lite_gains_longer`, and corrects luma's
    gains in squares of 4 px."""
    return replace(
        lite_gains_crisp(),
        name="lite_gains_fine",
        network=lite_config(),
        batch=32,
        steps=2600,
        warmup_steps=50,
        validate_every=650,
    )


def lite_gains_single() -> GainRecipe:
    """Goes on from `lite_gains_fine` with other faces, half of which have one kind of damage alone.

    All faces before had been through JPEG, so that noise alone, or next to nothing, was taken for
    worse damage.
    """
    first = lite_gains_fine()
    return replace(
        first,
        name="lite_gains_single",
        stage=replace(first.stage, faces=4000),
        degradation=replace(first.degradation, single=0.5, soft=0.144, mild=0.168),
        steps=1600,
        learning_rate=8e-4,
        seed=24,
        validate_every=800,
    )


def lite_gains_single_longer() -> GainRecipe:
    """Goes on from `lite_gains_single`, whose error still fell, with more and other faces."""
    first = lite_gains_single()
    return replace(
        first,
        name="lite_gains_single_longer",
        stage=replace(first.stage, faces=6000),
        steps=2800,
        seed=26,
        validate_every=700,
    )


def lite_gains_film() -> GainRecipe:
    """Goes on from `lite_gains_single_longer` with other faces, four tenths of which come out of
    H.264.

    Before it was one in eight, and on films sharpness cost twice the error that it does elsewhere.
    """
    first = lite_gains_single_longer()
    return replace(
        first,
        name="lite_gains_film",
        degradation=replace(
            first.degradation, single=0.25, soft=0.15, mild=0.3, h264=0.8, h264_frames=(2, 6)
        ),
        seed=28,
    )


def lite_gains_large() -> GainRecipe:
    """Goes on from `lite_gains_film` with other faces, a third of which are damaged at 400 px and
    cut out by the filter of `restore`.

    That filter leaves faces softer than the training's reduction by areas, and what was only a
    little soft was sharpened.
    """
    first = lite_gains_film()
    return replace(
        first,
        name="lite_gains_large",
        stage=replace(first.stage, large=0.35),
        steps=2400,
        seed=30,
        validate_every=600,
    )


def lite_gains_sharp() -> GainRecipe:
    """As `lite_gains_large`, from the same start and with the same faces, but asks for twice the
    detail. Weights between those of both runs are as sharp as one likes."""
    first = lite_gains_large()
    return replace(
        first,
        name="lite_gains_sharp",
        stage=replace(first.stage, detail=0.6),
        steps=1800,
    )
