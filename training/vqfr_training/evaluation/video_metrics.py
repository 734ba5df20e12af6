"""Figures of a restored video beside its truth, on the faces and in time.

Faces are found and followed in the truth and aligned by the truth's landmarks, so that every
candidate is judged on the same pixels: crops of 256 px, of which the inner 200 count. Lengths are
in pixels of the truth as it is displayed, levels are of 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.evaluation.face_networks import Embed, Picture, angle
from vqfr_training.evaluation.flow import WarpingError
from vqfr_training.evaluation.metric_weights import Missing
from vqfr_training.evaluation.metrics import psnr, ssim
from vqfr_training.evaluation.report import Measured, Report, Result

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
    "warping",
    "warping_truth",
    "warping_frame",
    *IDENTITY,
)
"""What `evaluate_video` measures, in the order of its report."""

type Crop = NDArray[np.uint8]
type Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A face of the truth in one frame, and what the candidate shows there."""

    track: int
    face: Face
    true_crop: Crop
    crop: Crop
    own: Points | None
    """The landmarks found in the candidate itself."""
    identities: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """Of the candidate and the truth."""
    before: _Seen | None
    """The same face one frame earlier."""


@dataclass
class _Track:
    """The values of one person's face, frame by frame."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


def evaluate_video(
    restored: Path,
    truth: Path,
    *,
    detector: Detector,
    detector_name: str,
    recogniser: Embed | Missing,
) -> Report:
    """Measure `restored` beside `truth`.

    Args:
        restored: a video of the truth's size and number of frames.
        truth: a video.
        detector: finds the faces, of which those from a score of 0.8 on count.
        detector_name: for the report; figures by different detectors cannot be compared.
        recogniser: embeds aligned faces, or why there is none.

    Raises:
        ValueError: the videos differ in size or length, or the truth shows no face.
        MediaError: a file is not a video, or damaged.
    """
    tracks: list[_Track] = []
    warping = WarpingError()
    embed = None if isinstance(recogniser, Missing) else recogniser
    before: list[_Seen] = []
    last: Detected | None = None
    count = 0
    for true, made in _pairs(restored, truth):
        detected, shown_true = _look(true, detector)
        found, shown = _look(made, detector)
        cut = last is None or _is_cut(last, detected)
        now = []
        previous = [] if cut else before
        for face, at in zip(detected.faces, _links(previous, detected), strict=True):
            earlier = None if at is None else previous[at]
            if earlier is None:
                tracks.append(_Track())
            number = len(tracks) - 1 if earlier is None else earlier.track
            seen = _see(face, shown, shown_true, found.faces, number, earlier, embed)
            _measure(tracks[number], seen)
            now.append(seen)
        warping.add(shown, shown_true, [seen.face.box for seen in now], cut=cut)
        before, last = now, detected
        count += 1
    if not tracks:
        raise ValueError(f"no faces in {truth}")
    results = _results(tracks, recogniser, f"faces by {detector_name}")
    results |= warping.results()
    return Report(str(restored), str(truth), count, {name: results[name] for name in METRICS})


def _pairs(restored: Path, truth: Path) -> Iterator[tuple[Frame, Frame]]:
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


def _look(frame: Frame, detector: Detector) -> tuple[Detected, Picture]:
    """A frame with its faces, and as it is displayed."""
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


def _is_cut(last: Detected, now: Detected) -> bool:
    from vqfr_media.faces.track import is_cut

    return is_cut(last, now)


def _links(previous: list[_Seen], detected: Detected) -> tuple[int | None, ...]:
    from vqfr_media.faces.track import link

    return link([seen.face for seen in previous], detected.faces)


def _see(
    face: Face,
    shown: Picture,
    shown_true: Picture,
    own: Sequence[Face],
    track: int,
    before: _Seen | None,
    embed: Embed | None,
) -> _Seen:
    from vqfr_media.faces.affine import warp
    from vqfr_media.faces.align import similarity

    matrix = similarity(face.landmarks, SIZE)
    crop, true_crop = (
        np.rint(warp(picture, matrix, shape=(SIZE, SIZE)).clip(0, 255)).astype(np.uint8)
        for picture in (shown, shown_true)
    )
    near = min(own, key=lambda f: _apart(f.landmarks, face.landmarks), default=None)
    found = near is not None and _apart(near.landmarks, face.landmarks) < 0.25 * face.size
    identities = None if embed is None else (embed(crop), embed(true_crop))
    landmarks = near.landmarks if found and near is not None else None
    return _Seen(track, face, true_crop, crop, landmarks, identities, _shortened(before))


def _shortened(seen: _Seen | None) -> _Seen | None:
    """With one predecessor at most: two frames back are looked at, and memory stays flat."""
    if seen is None or seen.before is None:
        return seen
    return replace(seen, before=replace(seen.before, before=None))


def _apart(one: Points, other: Points) -> float:
    return float(np.linalg.norm(one - other, axis=1).mean())


def _measure(track: _Track, seen: _Seen) -> None:
    """Add what one face in one frame, and its two predecessors, tell."""
    crop, true = (c[INNER, INNER] for c in (seen.crop, seen.true_crop))
    track.add("psnr", psnr(crop, true))
    track.add("ssim", ssim(crop, true))
    track.add("sharpness", _energy(seen.crop) / max(_energy(seen.true_crop), 1e-6))
    track.add("lost", float(seen.own is None))
    if seen.own is not None:
        track.add("lmd5", _apart(seen.own, seen.face.landmarks))
    if seen.identities is not None:
        track.add("identity", angle(*seen.identities))
    before = seen.before
    if before is None:
        return
    change, true_change = (
        now[INNER, INNER].astype(np.float64) - then[INNER, INNER]
        for now, then in ((seen.crop, before.crop), (seen.true_crop, before.true_crop))
    )
    track.add("flicker", float(np.abs(change - true_change).mean()))
    if seen.own is not None and before.own is not None:
        moved = seen.face.landmarks - before.face.landmarks
        track.add("tlme", _apart(seen.own - before.own, moved))
    if seen.identities is not None and before.identities is not None:
        for name, now_, then_ in zip(IDENTITY[1:], seen.identities, before.identities, strict=True):
            track.add(name, angle(now_, then_))
    first = before.before
    if first is None:
        return
    track.add(
        "jitter_truth", _jitter(first.face.landmarks, before.face.landmarks, seen.face.landmarks)
    )
    if seen.own is not None and before.own is not None and first.own is not None:
        track.add("jitter", _jitter(first.own, before.own, seen.own))


def _jitter(first: Points, second: Points, third: Points) -> float:
    """Mean length of the landmarks' second difference: what no steady motion explains."""
    return _apart(third - second, second - first)


def _energy(crop: Crop) -> float:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 1)).mean())


def _results(tracks: list[_Track], recogniser: Embed | Missing, note: str) -> dict[str, Result]:
    """Means over all values, with the mean of each track beside them."""
    results: dict[str, Result] = {}
    for name in METRICS:
        each = {
            f"track {number}": float(np.mean(track.values[name]))
            for number, track in enumerate(tracks)
            if name in track.values
        }
        values = [value for track in tracks for value in track.values.get(name, [])]
        if values:
            results[name] = Measured(float(np.mean(values)), len(values), each, note)
        elif name in IDENTITY and isinstance(recogniser, Missing):
            results[name] = recogniser
        else:
            results[name] = Missing("no face was followed for long enough")
    return results
