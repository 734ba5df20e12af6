"""The columns of the paper's tables for a folder of restored faces.

A metric that cannot be measured here is reported as missing, with the reason; nothing is fetched
unless that is asked for.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vqfr_training.data.picture_files import (
    Picture,
    list_pictures,
    match_files,
    read_picture,
    size_of,
)
from vqfr_training.detector.protocols import FaceDetector
from vqfr_training.evaluation.face_networks import Embedder, LandmarkFinder, angle
from vqfr_training.evaluation.landmarks import five_landmark_distance, load_face_detector
from vqfr_training.evaluation.metric_weights import Missing, locate
from vqfr_training.evaluation.metrics import (
    Fid,
    Score,
    load_lpips,
    psnr,
    psnr_matched,
    ssim,
    ssim_matched,
)
from vqfr_training.evaluation.niqe import load_pristine, niqe
from vqfr_training.evaluation.report import EvaluationReport, MetricResult, MetricValue

METRICS = (
    "lpips",
    "fid",
    "niqe",
    "deg",
    "lmd",
    "psnr",
    "ssim",
    "psnr_matched",
    "ssim_matched",
    "lmd5",
    "deg_ir50",
)
"""The names that `evaluate_pictures` takes, in the order of the paper's tables."""

WITHOUT_TRUTH = ("fid", "niqe")
"""What can be measured where there is no truth."""

# With fewer pictures than features the covariance is singular, and FID far too large.
_ENOUGH_FOR_FID = 2048


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is measured, and with what."""

    metrics: tuple[str, ...] = METRICS
    """Names out of `METRICS`."""
    fetch: bool = False
    """Whether weights that are not here may be fetched from their publishers."""
    fid_reference: Path | None = None
    """A folder of good faces or a file of statistics for FID; the truth where None."""
    pristine: Path | None = None
    """Parameters of NIQE; those that come with this package where None."""
    device: str = "cpu"
    """Where the networks run, as PyTorch names it."""

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}")
        if not self.metrics:
            raise ValueError(f"metrics needs at least one of {', '.join(METRICS)}")


@dataclass
class _Column:
    """One metric while pictures go by."""

    score: Score
    """Measures one pair."""
    note: str = ""
    """What a reader must know."""
    each: dict[str, float] = field(default_factory=dict)
    """Values by picture."""
    fault: Missing | None = None
    """Why the metric could not be measured after all."""


def evaluate_pictures(
    restored: Path,
    truth: Path | None,
    options: EvaluationOptions,
    *,
    detector: FaceDetector | None = None,
) -> EvaluationReport:
    """Measures the pictures in `restored` beside those of the same names in `truth`.

    Args:
        restored: folder, searched through with all its folders.
        truth: the same for the truth; None leaves `WITHOUT_TRUTH` only.
        options: what to measure.
        finder: finds faces for lmd5; RetinaFace where None.

    Raises:
        ValueError: no pictures, unreadable ones, ones without a counterpart or of another size.
    """
    pairs = match_files(restored, truth)
    results: dict[str, MetricResult] = {}
    columns: dict[str, _Column] = {}
    fid: Fid | None = None
    for name in options.metrics:
        if truth is None and name not in WITHOUT_TRUTH:
            results[name] = Missing("needs the truth: --truth")
        elif name == "fid":
            fid = _load_fid(truth, options, results)
        elif isinstance(made := _load(name, options, detector), Missing):
            results[name] = made
        else:
            columns[name] = made
    for name, (path, true_path) in tqdm(pairs.items(), desc=restored.name, mininterval=5):
        picture = read_picture(path)
        true = picture if true_path is None else read_picture(true_path)
        if picture.shape != true.shape:
            raise ValueError(f"{path} is {size_of(picture)}, {true_path} is {size_of(true)}")
        for metric, column in columns.items():
            _add(column, metric, name, picture, true)
        if fid is not None:
            fid.add(picture, reference=False)
            if options.fid_reference is None:
                fid.add(true, reference=True)
    results |= {name: _result(column) for name, column in columns.items()}
    if fid is not None:
        results["fid"] = _measure_fid(fid, len(pairs), options)
    ordered = {name: results[name] for name in options.metrics}
    return EvaluationReport(
        str(restored), None if truth is None else str(truth), len(pairs), ordered
    )


def _load(
    name: str, options: EvaluationOptions, detector: FaceDetector | None
) -> _Column | Missing:
    """Returns what measures the metric called `name`, or why it cannot be."""
    device = torch.device(options.device)
    simple: dict[str, Score] = {
        "psnr": psnr,
        "ssim": ssim,
        "psnr_matched": psnr_matched,
        "ssim_matched": ssim_matched,
    }
    match name:
        case "niqe":
            pristine = load_pristine(options.pristine)
            return _Column(lambda restored, _: niqe(restored, pristine))
        case "lmd5":
            found, which = (detector, "given") if detector is not None else load_face_detector()
            note = f"five landmarks by RetinaFace ({which}), not the paper's 98"
            return _Column(five_landmark_distance(found), note)
        case "lpips":
            path = locate("vgg16", fetch=options.fetch)
            return path if isinstance(path, Missing) else _Column(load_lpips(path, device))
        case "deg" | "deg_ir50" | "lmd":
            return _load_faces(name, options, device)
    return _Column(simple[name])


def _load_faces(name: str, options: EvaluationOptions, device: torch.device) -> _Column | Missing:
    from vqfr_training.evaluation import face_networks

    file, load = {
        "deg": ("arcface_resnet18", face_networks.load_resnet18),
        "deg_ir50": ("arcface_ir_se50", face_networks.load_ir_se50),
        "lmd": ("awing", face_networks.load_awing),
    }[name]
    path = locate(file, fetch=options.fetch)
    if isinstance(path, Missing):
        return path
    network = load(path, device)
    return _Column(_landmark_distance(network) if name == "lmd" else _identity(network))


def _load_fid(
    truth: Path | None, options: EvaluationOptions, results: dict[str, MetricResult]
) -> Fid | None:
    """Returns FID with its reference, or None and the reason in `results`."""
    if truth is None and options.fid_reference is None:
        results["fid"] = Missing("needs the truth, or --fid-reference")
        return None
    path = locate("inception", fetch=options.fetch)
    if isinstance(path, Missing):
        results["fid"] = path
        return None
    fid = Fid(path, torch.device(options.device))
    reference = options.fid_reference
    if reference is not None and reference.is_dir():
        for each in tqdm(list_pictures(reference).values(), desc=reference.name, mininterval=5):
            fid.add(read_picture(each), reference=True)
    elif reference is not None:
        fid.set_reference(reference)
    return fid


def _identity(embed: Embedder) -> Score:
    return lambda restored, truth: angle(embed(restored), embed(truth))


def _landmark_distance(find: LandmarkFinder) -> Score:
    def score(restored: Picture, truth: Picture) -> float:
        return float(np.linalg.norm(find(restored) - find(truth), axis=1).mean())

    return score


def _add(column: _Column, metric: str, name: str, picture: Picture, true: Picture) -> None:
    if column.fault is not None:
        return
    try:
        column.each[name] = column.score(picture, true)
    except ValueError as error:
        if metric != "niqe":
            raise
        column.fault = Missing(f"{name}: {error}")  # too small or flat: the rest can be measured


def _result(column: _Column) -> MetricResult:
    if column.fault is not None:
        return column.fault
    values = [value for value in column.each.values() if not math.isnan(value)]
    if not values:
        return Missing("no face was found in any pair")
    return MetricValue(float(np.mean(values)), len(values), dict(column.each), column.note)


def _measure_fid(fid: Fid, count: int, options: EvaluationOptions) -> MetricResult:
    if count < 2:
        return Missing("needs two pictures at least")
    against = options.fid_reference or "the truth"
    few = f", of only {count} pictures: biased upwards" if count < _ENOUGH_FOR_FID else ""
    return MetricValue(fid.compute(), count, {}, f"against {against}{few}")
