"""Measures a restoration: both clips at once, frame by frame, in memory that does not grow."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import apply, invert
from vqfr_media.faces.align import align
from vqfr_media.faces.detect import Detector, detect
from vqfr_media.faces.linking import link
from vqfr_media.faces.track import choose
from vqfr_media.faces.tracks import Tracks
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.restoration.find_tracks import follow_faces
from vqfr_media.restoration.radii import frames_within
from vqfr_media.restoration.smoothing import smooth_landmarks
from vqfr_media.review.figures import Sum, figures_of, no_sums
from vqfr_media.review.measurement import Clip, MeasuredRestoration, MeasuredTrack
from vqfr_media.review.pairs import Pair, Pairing, display_size, open_pair
from vqfr_media.review.picture import upright_size
from vqfr_media.review.steadiness import FaceJudge, Look
from vqfr_media.review.track_accumulator import CROP, Sighting, TrackAccumulator
from vqfr_media.values import Face, FrameFaces, SkipReason, TrackedFace, number_tracks
from vqfr_media.windows import sliding

# Faces of both clips are cut out at landmarks smoothed over this radius in seconds, as a
# restoration does by default: else the detector's jitter would count as the pictures' flicker.
SMOOTHING_RADIUS = 0.1


def measure(
    source: Path,
    restored: Path,
    options: RestoreOptions,
    *,
    detector: Detector,
    detector_description: str,
    tracks: Tracks | None = None,
    chosen: FaceOptions | None = None,
    judge: FaceJudge | None = None,
    max_tracks: int = 40,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> MeasuredRestoration:
    """Follows the faces of `source` and compares them with the same places in `restored`.

    Args:
        source: video or image before.
        restored: the same moments after, at any size.
        options: how faces are found.
        detector: finds the faces in the result, and in the source unless `tracks` has them.
        detector_description: what `detector` is, for the reader.
        tracks: faces of the source.
        chosen: which faces the restoration left alone; None where that is not known.
        judge: looks at every face in both clips; None looks at none.
        max_tracks: tracks of which series and pictures are kept, the longest ones.
        on_start: called once, with what is known of the source.
        on_frame: called with each frame of the source, for progress.

    Raises:
        ValueError: max_tracks is negative.
        InputError: what `open_pair` raises, or the tracks are another video's.
    """
    if max_tracks < 0:
        raise ValueError(f"max_tracks must not be negative, got {max_tracks}")
    with open_pair(source, restored) as pairing:
        info = pairing.before
        if tracks is not None:
            tracks.check_picture(info.width, info.height, info.display)
        if on_start is not None:
            on_start(info)
        measuring = _Measuring(options, detector, tracks, max_tracks, judge)
        for followed in _followed(pairing, options, detector, tracks, chosen):
            measuring.add(followed)
            if on_frame is not None:
                on_frame(followed.pair.before)
        if tracks is not None:
            tracks.check_count(measuring.pairs)
        clips = (
            _clip(source, pairing.before, pairing.images),
            _clip(restored, pairing.after, pairing.images),
        )
    return measuring.finished(*clips, detector_description)


def _clip(path: Path, info: VideoInfo, image: bool) -> Clip:
    width, height = upright_size(display_size(info))
    return Clip(
        name=path.name,
        size_bytes=path.stat().st_size,
        width=width,
        height=height,
        bits=info.format.bits,
        frame_rate=float(info.frame_rate),
        image=image,
    )


@dataclass(frozen=True, eq=False)
class _Followed:
    """A moment in both clips, and the faces of the first."""

    pair: Pair
    stage: FrameFaces[TrackedFace]
    smoothed: Sequence[npt.NDArray[np.float64]]


def _followed(
    pairing: Pairing,
    options: RestoreOptions,
    detector: Detector,
    tracks: Tracks | None,
    chosen: FaceOptions | None,
) -> Iterator[_Followed]:
    """Yields every moment with its faces; those left alone are marked, as far as is known."""
    waiting: dict[int, Pair] = {}
    info = pairing.before

    def frames_before() -> Iterator[Frame]:
        for pair in pairing.pairs:
            waiting[pair.before.index] = pair
            yield pair.before

    found: Iterable[FrameFaces[TrackedFace]]
    if tracks is None:
        found = follow_faces(frames_before(), info, detector, options)
    else:
        found = map(tracks.frame_faces, frames_before())
    if chosen is not None:
        windows = sliding(found, frames_within(options.temporal.choice_radius, info.frame_rate))
        found = (choose(window, options=chosen) for window in windows)
    for window in sliding(found, max(1, frames_within(SMOOTHING_RADIUS, info.frame_rate))):
        stage = window.items[window.centre]
        smoothed = smooth_landmarks(window, radius=SMOOTHING_RADIUS, time_base=info.time_base)
        yield _Followed(waiting.pop(stage.frame.index), stage, smoothed)


class _Measuring:
    """Folds moments, in order, into the figures of every track."""

    def __init__(
        self,
        options: RestoreOptions,
        detector: Detector,
        tracks: Tracks | None,
        max_tracks: int,
        judge: FaceJudge | None,
    ) -> None:
        self.pairs = 0
        self._options = options
        self._detector = detector
        self._tracks = tracks
        self._max_tracks = max_tracks
        self._judge = judge
        self._seconds = 0.0
        self._shots = 0
        self._total = no_sums()
        self._reasons: Counter[SkipReason] = Counter()
        self._active: dict[int, TrackAccumulator] = {}
        self._ids: list[int] = []
        self._num_tracks = 0
        self._done: list[MeasuredTrack] = []
        self._last = {t.id: t.appearances[-1].frame for t in tracks.tracks} if tracks else {}

    def add(self, followed: _Followed) -> None:
        """Counts one moment."""
        pair, stage = followed.pair, followed.stage
        self.pairs += 1
        self._seconds = pair.seconds
        self._shots += stage.new_shot
        ids = self._numbers(stage)
        for number in set(self._active) - set(ids):
            if self._last.get(number, -1) < stage.frame.index:
                self._finish(number)
        others = self._in_after(pair, [tracked.face for tracked in stage.faces])
        for number, tracked, points, other in zip(
            ids, stage.faces, followed.smoothed, others, strict=True
        ):
            if number not in self._active:
                self._active[number] = TrackAccumulator(number, max(0, self._shots - 1))
            self._active[number].add(
                self._sighting(pair, tracked, points, other),
                linked=tracked.previous is not None and not stage.new_shot,
            )
        self._ids = ids

    def finished(
        self, source: Clip, restored: Clip, detector_description: str
    ) -> MeasuredRestoration:
        """Returns what is known when all moments are counted."""
        for number in list(self._active):
            self._finish(number)
        return MeasuredRestoration(
            source=source,
            restored=restored,
            pairs=self.pairs,
            seconds=self._seconds,
            shots=self._shots,
            figures=figures_of(self._total) if self._total[Sum.FACES] else None,
            reasons=dict(self._reasons),
            tracks=tuple(sorted(self._done, key=lambda track: (track.first_frame, track.id))),
            detector=detector_description,
        )

    def _numbers(self, stage: FrameFaces[TrackedFace]) -> list[int]:
        """Returns the numbers of the tracks of a frame's faces."""
        if self._tracks is not None:
            return [track.id for track, _ in self._tracks.faces_of(stage.frame.index)]
        links = [tracked.previous for tracked in stage.faces]
        ids = number_tracks(links, self._ids, new_shot=stage.new_shot, count=self._num_tracks)
        self._num_tracks = max([self._num_tracks, *(number + 1 for number in ids)])
        return ids

    def _in_after(self, pair: Pair, faces: Sequence[Face]) -> list[npt.NDArray[np.float64] | None]:
        """Returns the same faces' landmarks in the result, in the source's display coordinates."""
        if not faces:
            return []
        face = self._options.face
        seen = detect(pair.after, self._detector, proxy=face.proxy, score=face.score).faces
        back = invert(pair.to_after())
        moved = [
            Face(apply(back, f.box.reshape(2, 2)).reshape(4), apply(back, f.landmarks), f.score)
            for f in seen
        ]
        return [None if at is None else moved[at].landmarks for at in link(moved, faces)]

    def _sighting(
        self,
        pair: Pair,
        tracked: TrackedFace,
        points: npt.NDArray[np.float64],
        other: npt.NDArray[np.float64] | None,
    ) -> Sighting:
        before = align(pair.before, tracked, landmarks=points, size=CROP)
        to_after = pair.to_after()
        there = apply(to_after, points)
        looks: tuple[Look | None, Look | None] = (None, None)
        if self._judge is not None:
            looks = (
                self._judge.look(pair.before, points, np.eye(2, 3)),
                self._judge.look(pair.after, there, invert(to_after)),
            )
        after = align(pair.after, tracked, landmarks=there, size=CROP)
        return Sighting(
            frame=pair.before.index,
            seconds=pair.seconds,
            size=tracked.face.size,
            score=tracked.face.score,
            landmarks_before=None if tracked.filled else tracked.face.landmarks,
            landmarks_after=other,
            before=before.crop,
            after=after.crop,
            reason=tracked.skip,
            look_before=looks[0],
            look_after=looks[1],
        )

    def _finish(self, number: int) -> None:
        accumulator = self._active.pop(number)
        self._total += accumulator.total
        self._reasons.update(accumulator.reasons)
        self._done.append(accumulator.finished())
        shown = [at for at, track in enumerate(self._done) if track.moments]
        if len(shown) > self._max_tracks:
            shortest = min(shown, key=lambda at: (self._done[at].frames, -at))
            self._done[shortest] = replace(self._done[shortest], series=(), moments=())
