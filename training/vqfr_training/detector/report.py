"""The detector's figures as a page: `python -m vqfr_training evaluate-detector`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from vqfr_media.files import write_text
from vqfr_training.configs import DetectorRecipe
from vqfr_training.data.layout import Data, parts
from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.detections import Detections, contact_sheet
from vqfr_training.detector.detector import scenes_of
from vqfr_training.detector.evaluation import (
    Band,
    FaceMatches,
    agreement,
    bands,
    measure,
    table,
    threshold_for,
)
from vqfr_training.detector.portraits import Portraits
from vqfr_training.detector.protocols import FaceDetector
from vqfr_training.detector.scenes import Scene, SceneConfig

_SEED, _EMPTY_SEED = 100, 200
_SMALLEST = 24.0
_FALSE_A_SCENE = 0.05
_SHOWN = 24


@dataclass(frozen=True)
class NamedDetector:
    """A detector and what to call it."""

    name: str
    """For the report."""
    find: FaceDetector
    """Finds faces down to a low score."""


def write_report(
    detectors: Sequence[NamedDetector],
    recipe: DetectorRecipe,
    *,
    data: Data,
    out: Path,
    scenes: int = 500,
    empty: int = 200,
    clips: Sequence[Path] = (),
    score: float = 0.8,
) -> str:
    """Measures detectors and writes `out`/report.md and `out`/scenes.png; returns the report.

    Args:
        detectors: each returns faces down to a low score; the first is the one in
            question, the last the one it is compared with.
        recipe: whose kinds of scenes to make, with the people of `val`.
        data: folder with `val`, or several.
        out: made if absent.
        scenes: how many, damaged and undamaged each (some have no face, as in training).
        empty: how many without any.
        clips: videos, searched in pictures of 640 px.
        score: the threshold that the package uses.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [detector.name for detector in detectors]
    config = _widest(recipe)
    people = Portraits(parts(data, "val"))
    seen = scenes_of(people, config=config, count=scenes, seed=_SEED)
    clear = scenes_of(people, config=replace(config, damaged=0.0), count=scenes, seed=_SEED)
    lines: list[str] = []
    for title, some in (("scenes as in training", seen), ("scenes by a perfect camera", clear)):
        truths = [measure(detector.find, some) for detector in detectors]
        lines += [f"## {len(some)} {title}", "", *_summary(names, truths, score=score), ""]
        lines += [f"At one false face in {1 / _FALSE_A_SCENE:g} scenes:", ""]
        lines += [table(names, [_bands(truth) for truth in truths]), ""]
        lines += [f"At score {score:g}:", ""]
        fixed = [bands(truth, threshold=score, smallest=_SMALLEST) for truth in truths]
        lines += [table(names, fixed), ""]
    lines += [f"## {empty} scenes without a face", ""]
    barren = scenes_of(people, config=replace(config, empty=1.0), count=empty, seed=_EMPTY_SEED)
    for detector in detectors:
        scores = np.array([face.score for scene in barren for face in detector.find(scene.image)])
        found = [f"{(scores >= s).sum()} from score {s:g}" for s in (score, score / 2)]
        lines.append(f"- {detector.name}: {', '.join(found)}")
    for clip in clips:
        lines += ["", f"## {clip.name}", "", *_compare(detectors[0], detectors[-1], clip, score)]
    shown = seen[:_SHOWN]
    sheet = contact_sheet(
        shown, [_strong(detectors[0].find, s, score / 2) for s in shown], columns=4
    )
    if not cv2.imwrite(str(out / "scenes.png"), np.ascontiguousarray(sheet[..., ::-1])):
        raise OSError(f"cannot write {out / 'scenes.png'}")
    report = "\n".join(lines) + "\n"
    write_text(out / "report.md", report)
    return report


def _widest(recipe: DetectorRecipe) -> SceneConfig:
    """Returns scenes with every size of face that the recipe trains on, in its largest frame."""
    kinds = [kind.scenes for kind in recipe.batches]
    side = max(kind.side for kind in kinds)
    low, high = min(kind.size[0] for kind in kinds), max(kind.size[1] for kind in kinds)
    return replace(kinds[0], side=side, size=(low, min(high, side * 0.85)))


def _bands(truth: FaceMatches) -> list[Band]:
    threshold = threshold_for(truth, false_a_scene=_FALSE_A_SCENE)
    return bands(truth, threshold=threshold, smallest=_SMALLEST)


def _summary(names: Sequence[str], truths: Sequence[FaceMatches], *, score: float) -> Iterator[str]:
    for name, truth in zip(names, truths, strict=True):
        threshold = threshold_for(truth, false_a_scene=_FALSE_A_SCENE)
        wrong = [f"{(truth.false_scores >= s).sum()} from {s:g}" for s in (score, score / 2)]
        overlaps = truth.overlap[truth.overlap > 0]
        overlap = overlaps.mean() if overlaps.size else float("nan")
        found = (truth.score >= threshold) & (truth.score > 0) & (truth.size >= _SMALLEST)
        middle = np.median(truth.error[found]) if found.any() else float("nan")
        yield (
            f"- {name}: one false face in {1 / _FALSE_A_SCENE:g} scenes from score "
            f"{threshold:.2f} on; false faces: {', '.join(wrong)}; "
            f"mean overlap of boxes {overlap:.2f}; median landmark error {100 * middle:.1f} %"
        )


def _compare(ours: NamedDetector, theirs: NamedDetector, clip: Path, score: float) -> Iterator[str]:
    frames = list(proxies(clip))
    for smallest in (0.0, 48.0):
        both = agreement(frames, ours.find, theirs.find, score=score, smallest=smallest)
        share = both.found / both.theirs if both.theirs else float("nan")
        yield (
            f"- from {smallest:g} px: of {both.theirs} faces of {theirs.name}, {both.found} "
            f"({100 * share:.1f} %) are found; {ours.name} finds {both.ours}, of which "
            f"{both.unconfirmed} have no counterpart even at a low score; jitter "
            f"{100 * both.jitter:.2f} % against {100 * both.their_jitter:.2f} % of the eye distance"
        )


def proxies(clip: Path, *, side: int = 640) -> Iterator[Picture]:
    """Yields the small pictures in which the faces of a video are searched."""
    from vqfr_media.media.colour import rgb_proxy
    from vqfr_media.media.read import open_video

    with open_video(clip) as reader:
        for frame in reader:
            yield rgb_proxy(frame, side)


def _strong(find: FaceDetector, scene: Scene, score: float) -> Detections:
    faces = [face for face in find(scene.image) if face.score >= score]
    return Detections(
        np.array([face.box for face in faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        np.array([face.score for face in faces], np.float32),
    )
