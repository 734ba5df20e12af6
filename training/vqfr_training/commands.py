"""The training commands: what a user can type after `python -m vqfr_training`, and what it does.

Each command is a frozen dataclass, from which tyro makes the flags, and a function. What is heavy
is imported inside the functions, so that help and mistakes are shown at once.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vqfr_training.recipe_names import RecipeName

if TYPE_CHECKING:
    from vqfr_training.detector.protocols import FaceDetector
    from vqfr_training.evaluation.report import EvaluationReport

logger = logging.getLogger("training")

INCOMPLETE = 3
"""Exit code where metrics that were asked for by name could not be measured."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train VQFR or the face detector by a recipe.

    Other commands: restore, evaluate, pack, evaluate-detector, label-faces; each has a --help.
    """

    recipe: tyro.conf.Positional[RecipeName]
    """What to train, see recipes.py."""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Folder with train/ and val/ photographs; required, repeatable."""
    out: Path
    """Run folder."""
    init: Path | None = None
    """Stage-1 run folder or checkpoint, for stage 2."""
    start_from: Path | None = None
    """Run of the same stage whose weights to go on with."""
    vgg: Path | None = None
    """VGG-16 weights, where they cannot be fetched."""
    identity: Path | None = None
    """dlib's face network, for recipes that compare identities."""
    minutes: float | None = None
    """Leave with a checkpoint after so long; --resume goes on from there."""
    resume: bool = False
    """Go on from the run folder."""
    threads: int | None = None
    """CPU threads of the network; all where not given."""
    workers: int | None = None
    """Threads that prepare samples; half the cores but at most 8 where not given."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the forward passes; the recipe's where not given."""
    accumulate: int | None = None
    """Compute each batch in so many parts: less memory; the recipe's where not given."""


@dataclass(frozen=True, kw_only=True)
class RestoreFolderCommand:
    """Restore a folder of aligned faces with a run's averaged weights."""

    recipe: tyro.conf.Positional[RecipeName]
    """What the run trained."""
    run: Path
    """Run folder, checkpoint or network.safetensors."""
    data: Path
    """Folder of faces of the recipe's size."""
    out: Path
    """New folder of PNGs."""
    threads: int | None = None
    """CPU threads of the network; all where not given."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure restored faces (two folders of aligned pictures) or a restored video."""

    restored: Path
    """Folder or video."""
    truth: Path | None = None
    """The same of the truth; FID and NIQE need none."""
    metrics: str | None = None
    """Names with commas between them, all where not given; for folders: lpips, fid, niqe, deg, lmd,
    psnr, ssim, psnr_matched, ssim_matched, lmd5, deg_ir50."""
    fetch: bool = False
    """Fetch weights that are not here."""
    fid_reference: Path | None = None
    """Folder, or statistics (.npz, .pth), for FID; the truth where not given."""
    niqe_parameters: Path | None = None
    """.npz for NIQE; the authors' where not given."""
    out: Path | None = None
    """JSON with the value of every picture."""
    threads: int | None = None
    """CPU threads of the networks; all where not given."""


@dataclass(frozen=True, kw_only=True)
class PackCommand:
    """Pack a data set's pictures into tar shards, for file systems slow with many files."""

    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """What --data takes otherwise; required, with --side repeatable."""
    out: Path
    """Folder of the shards."""
    each: int = 1000
    """Pictures in a shard."""
    side: int | None = None
    """Pack JPEG copies of so many pixels a side instead, of all --data as one data set."""
    quality: int = 92
    """Of the JPEG copies, 1 to 100."""


@dataclass(frozen=True, kw_only=True)
class EvaluateDetectorCommand:
    """Measure a face detector."""

    weights: Path
    """The detector to be measured."""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Folder with val/ photographs; required, repeatable."""
    out: Path
    """Where report.md goes."""
    beside: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """RetinaFace weights to compare with; repeatable, clips with the last."""
    scenes: int = 500
    """Scenes with faces."""
    empty: int = 200
    """Scenes without faces."""
    clip: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Video; repeatable."""
    threads: int | None = None
    """CPU threads of the network; all where not given."""


@dataclass(frozen=True, kw_only=True)
class LabelFacesCommand:
    """Write detector/labels.json: where the faces of the photographs are."""

    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Folder with train/ and val/ photographs; required, repeatable."""
    weights: Path
    """RetinaFace weights."""


type TrainingCommand = (
    TrainCommand
    | RestoreFolderCommand
    | EvaluateCommand
    | PackCommand
    | EvaluateDetectorCommand
    | LabelFacesCommand
)

CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
"""How flags are made of the dataclasses: as the main commands' are."""


def parse(arguments: list[str]) -> TrainingCommand:
    """Returns the command that was typed.

    Raises:
        SystemExit: code 2 for what cannot be parsed, 0 after help.
    """
    commands: dict[str, type[TrainingCommand]] = {
        "restore": RestoreFolderCommand,
        "evaluate": EvaluateCommand,
        "pack": PackCommand,
        "evaluate-detector": EvaluateDetectorCommand,
        "label-faces": LabelFacesCommand,
    }
    prog = "python -m vqfr_training"
    if arguments and (kind := commands.get(arguments[0])) is not None:
        return tyro.cli(kind, prog=f"{prog} {arguments[0]}", args=arguments[1:], config=CONFIG)
    return tyro.cli(TrainCommand, prog=prog, args=arguments, config=CONFIG)


def run_command(command: TrainingCommand) -> int:
    """Runs a command; returns its exit code.

    Raises:
        ValueError: what was given is wrong or does not fit together.
        MachineError: this machine lacks something.
    """
    import cv2

    cv2.setNumThreads(1)  # samples are prepared side by side already
    match command:
        case TrainCommand():
            _train(command)
        case RestoreFolderCommand():
            _restore(command)
        case EvaluateCommand():
            return _evaluate(command)
        case PackCommand():
            _pack(command)
        case EvaluateDetectorCommand():
            _evaluate_detector(command)
        case LabelFacesCommand():
            _label_faces(command)
    return 0


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)


def _train(command: TrainCommand) -> None:
    from vqfr_training.configs import RecipeSeries
    from vqfr_training.distributed import default_workers, distributed_context, fast_on_gpu
    from vqfr_training.loop import run, run_series
    from vqfr_training.recipes import find_recipe, in_parts, in_precision

    _set_threads(command.threads)
    _check_data(command.data)
    recipe = find_recipe(command.recipe)
    if command.precision is not None:
        recipe = in_precision(recipe, command.precision)
    if command.accumulate is not None:
        recipe = in_parts(recipe, command.accumulate)
    if isinstance(recipe, RecipeSeries) and (command.init, command.start_from) != (None, None):
        raise ValueError(
            f"{recipe.name} starts without weights: --init and --start-from have no effect"
        )
    if command.minutes is not None and not command.minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {command.minutes:g}")
    deadline = None if command.minutes is None else time.monotonic() + 60 * command.minutes
    workers = default_workers() if command.workers is None else command.workers
    with distributed_context() as context, fast_on_gpu(context.device):
        if not context.is_main:
            logging.getLogger().setLevel(logging.WARNING)
        if isinstance(recipe, RecipeSeries):
            run_series(
                recipe,
                data=command.data,
                out=command.out,
                vgg=command.vgg,
                identity=command.identity,
                resume=command.resume,
                workers=workers,
                deadline=deadline,
                context=context,
            )
            return
        run(
            recipe,
            data=command.data,
            out=command.out,
            init=command.init,
            start_from=command.start_from,
            vgg=command.vgg,
            identity=command.identity,
            resume=command.resume,
            workers=workers,
            deadline=deadline,
            context=context,
        )


def _restore(command: RestoreFolderCommand) -> None:
    from vqfr_training.configs import GainRecipe, Recipe
    from vqfr_training.recipes import find_recipe
    from vqfr_training.vqfr.restore import load_trained, restore_folder

    _set_threads(command.threads)
    recipe = find_recipe(command.recipe)
    if not isinstance(recipe, Recipe | GainRecipe):
        raise ValueError(f"{recipe.name} trains no single network that draws faces")
    count = restore_folder(load_trained(recipe, command.run), command.data, command.out)
    logger.info("%d pictures in %s", count, command.out)


def _evaluate(command: EvaluateCommand) -> int:
    from vqfr_media.files import write_text

    _set_threads(command.threads)
    report = _measure(command)
    logger.info("%s", report.to_text())
    if command.out is not None:
        command.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(command.out, report.to_json())
    return INCOMPLETE if command.metrics and report.missing else 0


def _measure(command: EvaluateCommand) -> "EvaluationReport":
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for path in (command.restored, command.truth):
        if path is not None and not path.exists():
            raise ValueError(f"{path} does not exist")
    if command.restored.is_dir():
        from vqfr_training.evaluation.evaluate import METRICS, EvaluationOptions, evaluate_pictures

        return evaluate_pictures(
            command.restored,
            command.truth,
            EvaluationOptions(
                metrics=tuple(command.metrics.split(",")) if command.metrics else METRICS,
                fetch=command.fetch,
                fid_reference=command.fid_reference,
                pristine=command.niqe_parameters,
                device=device,
            ),
        )
    if command.truth is None or command.truth.is_dir():
        raise ValueError(f"{command.restored} is a file: give a video as --truth as well")
    if command.metrics is not None:
        raise ValueError("--metrics chooses among those of folders; a video's are all measured")
    from vqfr_training.evaluation.face_networks import load_bundled_dlib, load_ir_se50
    from vqfr_training.evaluation.landmarks import load_face_detector
    from vqfr_training.evaluation.metric_weights import Missing, locate
    from vqfr_training.evaluation.video_metrics import evaluate_video

    found = locate("arcface_ir_se50", fetch=command.fetch)
    recogniser = found if isinstance(found, Missing) else load_ir_se50(found, torch.device(device))
    detector, name = load_face_detector()
    return evaluate_video(
        command.restored,
        command.truth,
        detector=detector,
        detector_name=f"RetinaFace ({name})",
        recogniser=recogniser,
        descriptor=load_bundled_dlib(torch.device(device)),
    )


def _check_data(data: tuple[Path, ...]) -> None:
    """Refuses to go on without a data set: a flag that may be repeated may also be left out."""
    if not data:
        raise ValueError("--data is required: a folder with train/ and val/ photographs")


def _pack(command: PackCommand) -> None:
    from vqfr_training.data.packing import write_copies
    from vqfr_training.data.sources import locate_pictures, write_shards

    _check_data(command.data)
    for data in command.data:
        if command.out.resolve().is_relative_to(data.resolve()):
            raise ValueError(f"{command.out} lies in {data}: name a folder outside of it")
    if command.side is not None:
        counts = write_copies(command.data, command.out, side=command.side, quality=command.quality)
        for part, count in counts.items():
            logger.info("%s: %d pictures", part, count)
        return
    if len(command.data) > 1:
        raise ValueError("several data sets are packed as one with --side only")
    found = {part: locate_pictures(command.data[0] / part) for part in ("train", "val")}
    for part, locations in found.items():
        shards = write_shards(locations, command.out, name=part, each=command.each)
        logger.info("%s: %d pictures in %d shards", part, len(locations), len(shards))


def _evaluate_detector(command: EvaluateDetectorCommand) -> None:
    from vqfr_training.detector.report import NamedDetector, write_report
    from vqfr_training.recipes import detector

    _check_data(command.data)
    _set_threads(command.threads)
    paths = [command.weights, *command.beside]
    report = write_report(
        [NamedDetector(path.stem, _load_detector(path)) for path in paths],
        detector(),
        data=command.data,
        out=command.out,
        scenes=command.scenes,
        empty=command.empty,
        clips=command.clip,
    )
    logger.info("%s", report)


def _label_faces(command: LabelFacesCommand) -> None:
    from vqfr_training.detector.labels import write_labels

    _check_data(command.data)
    detector = _load_detector(command.weights)
    count = write_labels(command.data, detector, made_by=command.weights.name)
    logger.info("%d photographs labelled", count)


def _load_detector(weights: Path) -> "FaceDetector":
    """Returns the package's own detector with these weights, down to a score of 0.05."""
    from vqfr_media.faces.detect import RetinaFaceDetector

    return RetinaFaceDetector(weights, backbone="mobilenet", score=0.1, backend="torch")
