"""`python -m vqfr_training RECIPE --data DIR --out DIR [--init RUN] [--resume] [--threads N]`.

`python -m vqfr_training restore` restores a folder with what was trained, `evaluate` measures
restored faces, `pack` makes tar shards, `evaluate-detector` and `label-faces` serve the detector.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from vqfr_media.errors import MachineError
from vqfr_training.configs import Series
from vqfr_training.data.sources import find_pieces, write_shards
from vqfr_training.detector.finding import Finder
from vqfr_training.detector.labels import write_labels
from vqfr_training.detector.report import Contender, write_report
from vqfr_training.evaluation import command as evaluate_command
from vqfr_training.recipes import RECIPES, detector, find_recipe
from vqfr_training.scale import joined
from vqfr_training.vqfr import restore_command

logger = logging.getLogger("training")

_EXTRA = (
    "lightning_fabric",
    "scipy",
    "skimage",
    "sklearn",
    "tensorboard",
    "torch_fidelity",
    "torchmetrics",
)
"""Modules that come with the extra `train`."""


def make_parser() -> argparse.ArgumentParser:
    """The whole command line: a recipe's name and where things lie, no recipe's fields."""
    parser = argparse.ArgumentParser(prog="python -m vqfr_training", description="Train VQFR.")
    parser.add_argument("recipe", choices=RECIPES, help="what to train, see recipes.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and val/ photographs"
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--init", type=Path, help="stage-1 run folder or checkpoint, for stage 2")
    parser.add_argument(
        "--start-from", type=Path, help="run of the same stage whose weights to go on with"
    )
    parser.add_argument("--vgg", type=Path, help="VGG-16 weights, where they cannot be fetched")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder")
    parser.add_argument("--threads", type=int, help="CPU threads of the network [all]")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare samples [1]")
    return parser


def make_evaluation_parser() -> argparse.ArgumentParser:
    """Of `evaluate-detector`."""
    parser = argparse.ArgumentParser(
        prog="python -m vqfr_training evaluate-detector", description="Measure a face detector."
    )
    parser.add_argument("--weights", type=Path, required=True, help="the detector in question")
    parser.add_argument("--beside", type=Path, help="RetinaFace weights to compare with")
    parser.add_argument("--data", type=Path, required=True, help="folder with val/ photographs")
    parser.add_argument("--out", type=Path, required=True, help="where report.md goes")
    parser.add_argument("--scenes", type=int, default=500, help="scenes with faces [500]")
    parser.add_argument("--empty", type=int, default=200, help="scenes without faces [200]")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="video; repeatable")
    parser.add_argument("--threads", type=int, help="CPU threads of the network [all]")
    return parser


def make_label_parser() -> argparse.ArgumentParser:
    """Of `label-faces`."""
    parser = argparse.ArgumentParser(
        prog="python -m vqfr_training label-faces",
        description="Write detector/labels.json: where the faces of the photographs are.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and val/ photographs"
    )
    parser.add_argument("--weights", type=Path, required=True, help="RetinaFace weights")
    return parser


def make_pack_parser() -> argparse.ArgumentParser:
    """Of `pack`."""
    parser = argparse.ArgumentParser(
        prog="python -m vqfr_training pack",
        description="Pack a data set's pictures into tar shards, for file systems slow with many.",
    )
    parser.add_argument("--data", type=Path, required=True, help="what --data takes otherwise")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--each", type=int, default=1000, help="pictures a shard [1000]")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake of the caller's, 3 for what this machine lacks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "evaluate": evaluate_command.run,
        "evaluate-detector": _evaluate,
        "label-faces": _label,
        "pack": _pack,
        "restore": restore_command.run,
    }
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)  # samples are prepared side by side already
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:]) or 0
        _train(arguments)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    except MachineError as error:
        logger.error("%s", error)
        return 3
    except ModuleNotFoundError as error:
        # torchmetrics says what it lacks in a sentence, without a name.
        if error.name is not None and error.name.partition(".")[0] not in _EXTRA:
            raise
        logger.error("%s: pip install 'vqfr-media[train]'", error)
        return 3
    return 0


def _train(arguments: list[str]) -> None:
    from vqfr_training.loop import run  # here, for it needs the extra
    from vqfr_training.series import run_series

    options = make_parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipe = find_recipe(options.recipe)
    if isinstance(recipe, Series) and (options.init, options.start_from) != (None, None):
        raise ValueError(f"{recipe.name} begins from nothing: --init and --start-from are idle")
    with joined() as team:
        if not team.leads:
            logging.getLogger().setLevel(logging.WARNING)
        if isinstance(recipe, Series):
            run_series(
                recipe,
                data=options.data,
                out=options.out,
                vgg=options.vgg,
                resume=options.resume,
                workers=options.workers,
                team=team,
            )
            return
        run(
            recipe,
            data=options.data,
            out=options.out,
            init=options.init,
            start_from=options.start_from,
            vgg=options.vgg,
            resume=options.resume,
            workers=options.workers,
            team=team,
        )


def _evaluate(arguments: list[str]) -> None:
    options = make_evaluation_parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    paths = [options.weights, *([options.beside] if options.beside else [])]
    report = write_report(
        [Contender(path.stem, _finder(path)) for path in paths],
        detector(),
        data=options.data,
        out=options.out,
        scenes=options.scenes,
        empty=options.empty,
        clips=options.clip,
    )
    logger.info("%s", report)


def _label(arguments: list[str]) -> None:
    options = make_label_parser().parse_args(arguments)
    count = write_labels(options.data, _finder(options.weights), made_by=options.weights.name)
    logger.info("%d photographs labelled", count)


def _pack(arguments: list[str]) -> None:
    options = make_pack_parser().parse_args(arguments)
    if options.out.resolve().is_relative_to(options.data.resolve()):
        raise ValueError(f"{options.out} lies in {options.data}: name a folder outside of it")
    found = {part: find_pieces(options.data / part) for part in ("train", "val")}
    for part, pieces in found.items():
        shards = write_shards(pieces, options.out, name=part, each=options.each)
        logger.info("%s: %d pictures in %d shards", part, len(pieces), len(shards))


def _finder(weights: Path) -> Finder:
    """The package's own detector with these weights, down to a score of 0.05."""
    from vqfr_media.faces.detect import RetinaFaceDetector

    return RetinaFaceDetector(weights, backbone="mobilenet", score=0.1, backend="torch")


if __name__ == "__main__":
    sys.exit(main())
