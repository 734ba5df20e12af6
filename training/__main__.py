"""`python -m training RECIPE --data DIR --out DIR [--init RUN] [--resume] [--threads N]`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import cv2
import torch

from training.loop import run
from training.recipes import RECIPES, find_recipe


def make_parser() -> argparse.ArgumentParser:
    """The whole command line: a recipe's name and where things lie, no recipe's fields."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train VQFR.")
    parser.add_argument("recipe", choices=RECIPES, help="what to train, see training/recipes.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and val/ photographs"
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--init", type=Path, help="stage-1 run folder or checkpoint, for stage 2")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder")
    parser.add_argument("--threads", type=int, help="CPU threads of the network [all]")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare samples [1]")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake of the caller's."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)  # samples are prepared side by side already
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        run(
            find_recipe(options.recipe),
            data=options.data,
            out=options.out,
            init=options.init,
            resume=options.resume,
            workers=options.workers,
        )
    except ValueError as error:
        logging.getLogger("training").error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
