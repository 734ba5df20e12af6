"""Figures of a restored video beside its truth, on the faces and in time.

Faces are found and followed in the truth and aligned by the truth's landmarks, so that every
candidate is judged on the same pixels: crops of 256 px, of which the inner 200 count. Lengths are
in pixels of the truth as it is displayed, levels are of 8 bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.evaluation.face_networks import Embedder, angle
from vqfr_training.evaluation.flow import WARPING, WarpingError
from vqfr_training.evaluation.metric_weights import Missing
from vqfr_training.evaluation.metrics import psnr, ssim
from vqfr_training.evaluation.report import EvaluationReport, MetricResult, MetricValue
from vqfr_training.evaluation.steadiness import MeshPair, mesh_pair, mesh_tremble

if TYPE_CHECKING:
    from vqfr_media.faces.detect import Detector
    from vqfr_media.frames import Frame
    from vqfr_media.values import Detected, Face

SIZE = 256
INNER = slice(28, 228)
# Where faces are looked for, and which count; larger pictures are searched at this size.
_PROXY, _SCORE = 1280, 0.8

IDENTITY = ("identity", "identity_drift", "identity_drift_truth")
"""What needs a recogniser."""
DRIFT = ("dlib_drift", "dlib_drift_truth")
"""What needs dlib's face network."""
METRICS = (
    "psnr",
    "ssim",
    "sharpness",
    "lmd5",
    "lost",
    "flicker",
    "tlme",
    "jitter",
    "jitter_truth",
    *WARPING,
    "mesh_tremble",
    "mesh_tremble_truth",
    *DRIFT,
    *IDENTITY,
)
"""What `evaluate_video` measures, in the order of its report."""

type Crop = NDArray[np.uint8]
type Landmarks = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _FaceObservation:
    """A face of the truth in one frame, and what the candidate shows there."""

    track: int
    """Number of the person's track."""
    face: "Face"
    """As found in the truth."""
    true_crop: Crop
    """(256, 256, 3) of the truth."""
    crop: Crop
    """(256, 256, 3) of the candidate, from the same place."""
    own: Landmarks | None
    """The landmarks found in the candidate itself."""
    identities: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """Of the candidate and the truth."""
    descriptors: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """By dlib's network, of the candidate and the truth."""
    mesh: MeshPair | None
    """Of the candidate and the truth; None where the truth's face is covered."""
    before: "_FaceObservation | None"
    """The same face one frame earlier."""


@dataclass
class _Track:
    """The values of one person's face, frame by frame."""

    values: dict[str, list[float]] = field(default_factory=dict)
    """By metric."""

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


def evaluate_video(
    restored: Path,
    truth: Path,
    *,
    detector: "Detector",
    detector_name: str,
    recogniser: Embedder | Missing,
    descriptor: Embedder | Missing,
) -> EvaluationReport:
    """Measures `restored` beside `truth`.

    Args:
        restored: a video of the truth's size and number of frames.
        truth: a video.
        detector: finds the faces, of which those from a score of 0.8 on count.
        detector_name: for the report; figures by different detectors cannot be compared.
        recogniser: embeds aligned faces, or why there is none.
        descriptor: dlib's network, or why it is not here.

    Raises:
        ValueError: the videos differ in size or length, or the truth shows no face.
        MediaError: a file is not a video, or damaged.
        MachineError: OpenVINO, which runs the face mesh, is missing.
    """
    tracks: list[_Track] = []
    warping = WarpingError()
    embed, describe = (
        None if isinstance(network, Missing) else network for network in (recogniser, descriptor)
    )
    before: list[_FaceObservation] = []
    last: Detected | None = None
    count = 0
    for true, made in _pairs(restored, truth):
        detected, shown_true = _detect(true, detector)
        found, shown = _detect(made, detector)
        cut = last is None or _is_cut(last, detected)
        now = []
        previous = [] if cut else before
        for face, at in zip(detected.faces, _links(previous, detected), strict=True):
            earlier = None if at is None else previous[at]
            if earlier is None:
                tracks.append(_Track())
            number = len(tracks) - 1 if earlier is None else earlier.track
            observed = _observe(
                face, shown, shown_true, found.faces, number, earlier, embed, describe
            )
            _measure(tracks[number], observed)
            now.append(observed)
        warping.add(shown, shown_true, [observed.face.box for observed in now], cut=cut)
        before, last = now, detected
        count += 1
    if not tracks:
        raise ValueError(f"no faces in {truth}")
    results = _results(tracks, recogniser, descriptor, f"faces by {detector_name}")
    results |= warping.results()
    return EvaluationReport(
        str(restored), str(truth), count, {name: results[name] for name in METRICS}
    )


def _pairs(restored: Path, truth: Path) -> "Iterator[tuple[Frame, Frame]]":
    from vqfr_media.media.read import open_video

    with open_video(truth) as true_reader, open_video(restored) as reader:
        ours, theirs = iter(reader), iter(true_reader)
        number = 0
        while True:
            true, made = next(theirs, None), next(ours, None)
            if true is None and made is None:
                return
            if true is None or made is None:
                longer, shorter = (truth, restored) if made is None else (restored, truth)
                raise ValueError(f"{longer} has more frames than {shorter}, which has {number}")
            if true.display_size != made.display_size:
                sizes = ["{:g}x{:g}".format(*frame.display_size) for frame in (made, true)]
                raise ValueError(f"{restored} is {sizes[0]}, {truth} is {sizes[1]}")
            yield true, made
            number += 1


def _detect(frame: "Frame", detector: "Detector") -> "tuple[Detected, Picture]":
    """Returns a frame with its faces, and as it is displayed."""
    from vqfr_media.faces.detect import detect
    from vqfr_media.media.rgb_clip import picture_of

    found = detect(frame, detector, proxy=_PROXY, score=_SCORE)
    faces = tuple(face for face in found.faces if face.score >= _SCORE)
    picture, matrix = picture_of(frame), frame.to_display()
    if not np.array_equal(matrix, np.eye(3)[:2]):
        columns, rows = frame.display_size
        size = (round(columns), round(rows))
        picture = np.asarray(
            cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
    return replace(found, faces=faces), picture


def _is_cut(last: "Detected", now: "Detected") -> bool:
    from vqfr_media.faces.cuts import is_cut

    return is_cut(last, now)


def _links(previous: list[_FaceObservation], detected: "Detected") -> tuple[int | None, ...]:
    from vqfr_media.faces.linking import link

    return link([observed.face for observed in previous], detected.faces)


def _observe(
    face: "Face",
    shown: Picture,
    shown_true: Picture,
    own: "Sequence[Face]",
    track: int,
    before: _FaceObservation | None,
    embed: Embedder | None,
    describe: Embedder | None,
) -> _FaceObservation:
    from vqfr_media.faces.affine import warp
    from vqfr_media.faces.align import similarity

    matrix = similarity(face.landmarks, SIZE)
    crop, true_crop = (
        np.rint(warp(picture, matrix, shape=(SIZE, SIZE)).clip(0, 255)).astype(np.uint8)
        for picture in (shown, shown_true)
    )
    near = min(own, key=lambda f: _apart(f.landmarks, face.landmarks), default=None)
    found = near is not None and _apart(near.landmarks, face.landmarks) < 0.25 * face.size
    identities, descriptors = (
        None if network is None else (network(crop), network(true_crop))
        for network in (embed, describe)
    )
    landmarks = near.landmarks if found and near is not None else None
    return _FaceObservation(
        track,
        face,
        true_crop,
        crop,
        landmarks,
        identities,
        descriptors,
        mesh_pair(shown, shown_true, face.landmarks),
        _without_older(before),
    )


def _without_older(observed: _FaceObservation | None) -> _FaceObservation | None:
    """With one predecessor at most: two frames back are looked at, and memory stays flat."""
    if observed is None or observed.before is None:
        return observed
    return replace(observed, before=replace(observed.before, before=None))


def _apart(one: Landmarks, other: Landmarks) -> float:
    return float(np.linalg.norm(one - other, axis=1).mean())


def _measure(track: _Track, observed: _FaceObservation) -> None:
    """Adds what one face in one frame, and its two predecessors, tell."""
    crop, true = (c[INNER, INNER] for c in (observed.crop, observed.true_crop))
    track.add("psnr", psnr(crop, true))
    track.add("ssim", ssim(crop, true))
    track.add("sharpness", _energy(observed.crop) / max(_energy(observed.true_crop), 1e-6))
    track.add("lost", float(observed.own is None))
    if observed.own is not None:
        track.add("lmd5", _apart(observed.own, observed.face.landmarks))
    if observed.identities is not None:
        track.add("identity", angle(*observed.identities))
    before = observed.before
    if before is None:
        return
    change, true_change = (
        now[INNER, INNER].astype(np.float64) - then[INNER, INNER]
        for now, then in ((observed.crop, before.crop), (observed.true_crop, before.true_crop))
    )
    track.add("flicker", float(np.abs(change - true_change).mean()))
    if observed.own is not None and before.own is not None:
        moved = observed.face.landmarks - before.face.landmarks
        track.add("tlme", _apart(observed.own - before.own, moved))
    if observed.identities is not None and before.identities is not None:
        for name, now_, then_ in zip(
            IDENTITY[1:], observed.identities, before.identities, strict=True
        ):
            track.add(name, angle(now_, then_))
    if observed.descriptors is not None and before.descriptors is not None:
        for name, now_, then_ in zip(DRIFT, observed.descriptors, before.descriptors, strict=True):
            track.add(name, float(np.linalg.norm(now_ - then_)))
    first = before.before
    if first is None:
        return
    meshes = [one.mesh for one in (first, before, observed) if one.mesh is not None]
    if len(meshes) == 3:
        made, of_truth = mesh_tremble(meshes)
        track.add("mesh_tremble", made)
        track.add("mesh_tremble_truth", of_truth)
    track.add(
        "jitter_truth",
        _jitter(first.face.landmarks, before.face.landmarks, observed.face.landmarks),
    )
    if observed.own is not None and before.own is not None and first.own is not None:
        track.add("jitter", _jitter(first.own, before.own, observed.own))


def _jitter(first: Landmarks, second: Landmarks, third: Landmarks) -> float:
    """Returns mean length of the landmarks' second difference: what no steady motion explains."""
    return _apart(third - second, second - first)


def _energy(crop: Crop) -> float:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 1)).mean())


def _results(
    tracks: list[_Track], recogniser: Embedder | Missing, descriptor: Embedder | Missing, note: str
) -> dict[str, MetricResult]:
    """Means over all values, with the mean of each track beside them."""
    results: dict[str, MetricResult] = {}
    for name in METRICS:
        each = {
            f"track {number}": float(np.mean(track.values[name]))
            for number, track in enumerate(tracks)
            if name in track.values
        }
        values = [value for track in tracks for value in track.values.get(name, [])]
        if values:
            results[name] = MetricValue(float(np.mean(values)), len(values), each, note)
        elif name in IDENTITY and isinstance(recogniser, Missing):
            results[name] = recogniser
        elif name in DRIFT and isinstance(descriptor, Missing):
            results[name] = descriptor
        else:
            results[name] = Missing("no face was followed for long enough")
    return results
