"""`python -m vqfr_training evaluate --restored A --truth B`: two folders, or two videos."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from vqfr_training.evaluation.evaluate import METRICS, EvaluationOptions, evaluate_pictures
from vqfr_training.evaluation.report import Report

logger = logging.getLogger(__name__)

INCOMPLETE = 3
"""Exit code where metrics that were asked for by name could not be measured."""


def make_parser() -> argparse.ArgumentParser:
    """Of `evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m vqfr_training evaluate",
        description="Measure restored faces (two folders of aligned pictures) or a restored video.",
    )
    parser.add_argument("--restored", type=Path, required=True, help="folder or video")
    parser.add_argument("--truth", type=Path, help="the same of the truth; FID and NIQE need none")
    parser.add_argument(
        "--metrics",
        type=lambda text: tuple(text.split(",")),
        help=f"out of {','.join(METRICS)} [all]; for folders",
    )
    parser.add_argument("--fetch", action="store_true", help="fetch weights that are not here")
    parser.add_argument(
        "--fid-reference", type=Path, help="folder, or statistics (.npz, .pth), for FID [the truth]"
    )
    parser.add_argument("--niqe-parameters", type=Path, help=".npz for NIQE [the authors']")
    parser.add_argument("--out", type=Path, help="JSON with the value of every picture")
    parser.add_argument("--threads", type=int, help="CPU threads of the networks [all]")
    return parser


def run(arguments: list[str]) -> int:
    """Measure and report; returns the exit code.

    Raises:
        ValueError: what was given cannot be measured.
    """
    options = make_parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    report = _report(options)
    logger.info("%s", report.to_text())
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(report.to_json())
    return INCOMPLETE if options.metrics and report.missing else 0


def _report(options: argparse.Namespace) -> Report:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for path in (options.restored, options.truth):
        if path is not None and not path.exists():
            raise ValueError(f"{path} does not exist")
    if options.restored.is_dir():
        return evaluate_pictures(
            options.restored,
            options.truth,
            EvaluationOptions(
                metrics=options.metrics or METRICS,
                fetch=options.fetch,
                fid_reference=options.fid_reference,
                pristine=options.niqe_parameters,
                device=device,
            ),
        )
    if options.truth is None or options.truth.is_dir():
        raise ValueError(f"{options.restored} is a file: give a video as --truth as well")
    if options.metrics is not None:
        raise ValueError("--metrics chooses among those of folders; a video's are all measured")
    from vqfr_training.evaluation.face_networks import load_ir_se50
    from vqfr_training.evaluation.landmarks import load_finder
    from vqfr_training.evaluation.metric_weights import Missing, locate
    from vqfr_training.evaluation.video_metrics import evaluate_video

    path = locate("arcface_ir_se50", fetch=options.fetch)
    recogniser = path if isinstance(path, Missing) else load_ir_se50(path, torch.device(device))
    detector, name = load_finder()
    return evaluate_video(
        options.restored,
        options.truth,
        detector=detector,
        detector_name=f"RetinaFace ({name})",
        recogniser=recogniser,
    )
