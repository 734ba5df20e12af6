"""How well a detector finds faces: against the exact truth of scenes, and against another's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.multibox import overlaps
from vqfr_training.detector.protocols import DetectedFace, FaceDetector
from vqfr_training.detector.scenes import Scene

SIZE_BANDS = ((10, 16), (16, 24), (24, 32), (32, 48), (48, 96), (96, 192), (192, 1000))
"""Longer side of a face's true box, pixels."""
ROTATION_BANDS = ((0, 10), (10, 20), (20, 30), (30, 46))
"""Turn in the picture, degrees."""
SAME_FACE = 0.5
"""Overlap (intersection over union) from which two boxes mean one face."""


@dataclass(frozen=True)
class FaceMatches:
    """Every true face that counts, and what a detector made of it; and its false alarms."""

    size: NDArray[np.float64]
    """(F,) longer side of the true box, pixels."""
    rotation: NDArray[np.float64]
    """(F,) degrees."""
    score: NDArray[np.float64]
    """(F,) of the face that was found there; 0 where none was."""
    error: NDArray[np.float64]
    """(F,) mean distance of the landmarks in eye distances; NaN where none was found."""
    overlap: NDArray[np.float64]
    """(F,) of the box found with the true one; 0 where none was."""
    false_scores: NDArray[np.float64]
    """(G,) scores of faces found where none is."""
    scenes: int
    """How many were searched."""


@dataclass(frozen=True)
class Band:
    """Part of the faces, and how they were found."""

    name: str
    """What its faces have in common, for the table."""
    faces: int
    """How many there are."""
    recall: float
    """Share of them found."""
    error: float
    """Mean landmark distance of those found, in eye distances."""


def measure(
    detector: FaceDetector, scenes: Sequence[Scene], *, smallest: float = 10.0
) -> FaceMatches:
    """Compares what `detector` finds with the truth.

    A face found is right if it overlaps an unclaimed true face enough, neither right nor wrong if
    it overlaps one that does not count, else wrong. The best score chooses first.
    """
    rows: list[tuple[float, float, float, float, float]] = []
    wrong: list[float] = []
    for scene in scenes:
        faces = sorted(detector(scene.image), key=lambda face: -face.score)
        sizes = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1, initial=0)
        counted = scene.counted & (sizes >= smallest)
        claimed: dict[int, tuple[float, float, float]] = {}
        for face in faces:
            shared = overlaps(np.asarray(face.box, np.float32)[None], scene.boxes)[0]
            free = [k for k in np.argsort(-shared) if int(k) not in claimed]
            best = int(free[0]) if free else -1
            if best >= 0 and shared[best] >= SAME_FACE:
                truth = scene.landmarks[best]
                distance = np.linalg.norm(np.asarray(face.landmarks) - truth, axis=1).mean()
                eyes = max(1e-6, float(np.linalg.norm(truth[0] - truth[1])))
                claimed[best] = (face.score, float(distance) / eyes, float(shared[best]))
            elif not (len(shared) and (shared[~counted] > 0.2).any()):
                wrong.append(face.score)
        for k in np.flatnonzero(counted):
            score, error, overlap = claimed.get(int(k), (0.0, np.nan, 0.0))
            rows.append((float(sizes[k]), float(scene.rotation[k]), score, error, overlap))
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    sizes, turns, scores, errors, shares = columns
    false_scores = np.array(sorted(wrong, reverse=True), np.float64)
    return FaceMatches(sizes, turns, scores, errors, shares, false_scores, len(scenes))


def threshold_for(truths: FaceMatches, *, false_a_scene: float) -> float:
    """Finds the lowest score at which a scene has at most so many false faces on average."""
    allowed = int(false_a_scene * truths.scenes)
    if len(truths.false_scores) <= allowed:
        return 0.0
    return float(np.nextafter(truths.false_scores[allowed], 1))


def bands(truths: FaceMatches, *, threshold: float, smallest: float) -> list[Band]:
    """Returns recall and landmark error.

    Overall, by size, and by rotation of faces from `smallest` on.
    """
    enough = truths.size >= smallest
    turned = np.abs(truths.rotation)
    parts = [(f"all from {smallest:g} px", enough)]
    parts += [(f"{a}–{b} px", (truths.size >= a) & (truths.size < b)) for a, b in SIZE_BANDS]
    parts += [
        (f"turned {a}–{b}°", enough & (turned >= a) & (turned < b)) for a, b in ROTATION_BANDS
    ]
    return [_band(name, truths, part, threshold) for name, part in parts]


def _band(name: str, truths: FaceMatches, part: NDArray[np.bool_], threshold: float) -> Band:
    found = part & (truths.score >= threshold) & (truths.score > 0)
    count = int(part.sum())
    error = float(truths.error[found].mean()) if found.any() else float("nan")
    return Band(name, count, float(found.sum()) / count if count else float("nan"), error)


def table(names: Sequence[str], measured: Sequence[Sequence[Band]]) -> str:
    """Returns Markdown: one row a band, recall and landmark error of every detector."""
    heads = " | ".join(f"{name}: recall | landmark error" for name in names)
    lines = [f"| faces | number | {heads} |", "|---|---|" + "---|---|" * len(names)]
    for rows in zip(*measured, strict=True):
        cells = " | ".join(f"{row.recall:.3f} | {100 * row.error:.1f} %" for row in rows)
        lines.append(f"| {rows[0].name} | {rows[0].faces} | {cells} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Agreement:
    """How far one detector finds what another finds in the frames of a clip."""

    theirs: int
    """Faces that the other detector finds."""
    found: int
    """Those of them that ours finds as well."""
    ours: int
    """Faces that ours finds."""
    unconfirmed: int
    """Those of ours that the other does not find even at half the score."""
    jitter: float
    """Our landmarks' mean second difference from frame to frame, in eye distances."""
    their_jitter: float
    """The same of the other's."""


def agreement(
    frames: Sequence[Picture],
    ours: FaceDetector,
    theirs: FaceDetector,
    *,
    score: float = 0.8,
    smallest: float = 0.0,
) -> Agreement:
    """Compares two detectors on consecutive frames; faces of `theirs` from `smallest` px count.

    Jitter is measured on faces that both find in three consecutive frames, as the second
    difference: a face that moves evenly has none.
    """
    our_count = their_count = hits = unconfirmed = 0
    tracks: list[list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]] = []
    for frame in frames:
        mine, other = list(ours(frame)), list(theirs(frame))
        strong = [face for face in mine if face.score >= score]
        our_count += len(strong)
        if strong:
            shared = _shared(strong, other)
            unconfirmed += int((shared.max(axis=1, initial=0) < 0.3).sum())
        pairs = []
        for face in other:
            if face.score < score or max(face.box[2:] - face.box[:2]) < smallest:
                continue
            their_count += 1
            shared = _shared([face], strong)[0]
            if shared.max(initial=0) >= SAME_FACE:
                hits += 1
                match = strong[int(shared.argmax())]
                pairs.append((np.array(face.box), match.landmarks, face.landmarks))
        tracks.append(pairs)
    jitters = _jitters(tracks)
    mean = jitters.mean(axis=0) if len(jitters) else np.full(2, np.nan)
    return Agreement(their_count, hits, our_count, unconfirmed, float(mean[0]), float(mean[1]))


def _shared(some: Sequence[DetectedFace], others: Sequence[DetectedFace]) -> NDArray[np.float32]:
    boxes = [
        np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        for faces in (some, others)
    ]
    return overlaps(boxes[0], boxes[1])


def _jitters(
    tracks: Sequence[
        Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]
    ],
) -> NDArray[np.float64]:
    """Returns (N, 2) second differences of (ours, theirs) over all triples of frames."""
    found = []
    for before, now, after in zip(tracks, tracks[1:], tracks[2:], strict=False):
        for box, *points in now:
            eyes = np.linalg.norm(points[1][0] - points[1][1])
            sides = [_nearest(box, others) for others in (before, after)]
            if sides[0] is None or sides[1] is None:
                continue
            found.append(
                [
                    np.linalg.norm(one - 2 * middle + two, axis=1).mean() / eyes
                    for one, middle, two in zip(sides[0][1:], points, sides[1][1:], strict=True)
                ]
            )
    return np.array(found, np.float64).reshape(-1, 2)


def _nearest(
    box: NDArray[np.float64],
    others: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns the one of `others` whose box overlaps `box` most, if it does so clearly."""
    if not others:
        return None
    boxes = np.array([other[0] for other in others], np.float32)
    shared = overlaps(box.astype(np.float32)[None], boxes)[0]
    return others[int(shared.argmax())] if shared.max() > 0.6 else None
