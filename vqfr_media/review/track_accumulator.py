"""One face while it is measured: sums, a window of three frames, and the moments worth showing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.review.figures import (
    FigureSeries,
    Sum,
    detail,
    figures_of,
    flicker,
    jitter,
    luma_of,
    no_sums,
)
from vqfr_media.review.measurement import MeasuredTrack, Moment
from vqfr_media.review.picture import to_8_bits
from vqfr_media.review.steadiness import Look, unsteadiness
from vqfr_media.values import SkipReason

CROP = 256
"""Side of the aligned faces that are compared, in pixels."""
INNER = slice(28, 228)
"""Their part without the edges, which show hair and background."""
STRETCHES = 240
"""Stretches of time of which a track has figures at most."""
_JPEG_QUALITY = 88


@dataclass(frozen=True, eq=False, kw_only=True)
class Sighting:
    """A face in one frame, in both clips."""

    frame: int
    """Number of the frame."""
    seconds: float
    """Since the first frame."""
    size: float
    """Of the face, display pixels of the source."""
    score: float
    """Of the detector, in the source."""
    landmarks_before: npt.NDArray[np.float64] | None
    """(5, 2) as detected in the source, display pixels; None where they were filled in."""
    landmarks_after: npt.NDArray[np.float64] | None
    """(5, 2) as detected in the result, in the source's display pixels; None where it was not."""
    before: npt.NDArray[np.float32]
    """(256, 256, 3) aligned RGB of 0 to 1, of the source."""
    after: npt.NDArray[np.float32]
    """The same of the result, cut out at the same place."""
    reason: SkipReason | None
    """Why the face was left alone, if it was and that is known."""
    look_before: Look | None = None
    """What networks see of it in the source; None where nobody looked."""
    look_after: Look | None = None
    """The same of the result."""


@dataclass(frozen=True, eq=False)
class _SightingLuma:
    """A sighting, and its luma in both clips."""

    sighting: Sighting
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


@dataclass
class TrackAccumulator:
    """Adds up one face's sightings, in order; holds three of them, and two more to show."""

    id: int
    shot: int
    reasons: Counter[SkipReason] = field(default_factory=Counter)
    _series: FigureSeries = field(default_factory=lambda: FigureSeries(STRETCHES))
    _window: list[_SightingLuma] = field(default_factory=list)
    _first: Sighting | None = None
    _surest: Sighting | None = None
    _worst: tuple[float, Sighting] | None = None
    _size: float = 0.0
    _score: float = 0.0
    _count: int = 0

    @property
    def count(self) -> int:
        """Sightings so far."""
        return self._count

    @property
    def total(self) -> npt.NDArray[np.float64]:
        """The sums over all sightings."""
        return self._series.total

    def add(self, sighting: Sighting, *, linked: bool) -> None:
        """Counts the face's next frame; `linked` says that it was there in the frame before."""
        self._first = self._first or sighting
        self._count += 1
        self._size += sighting.size
        self._score += sighting.score
        if sighting.reason is not None:
            self.reasons[sighting.reason] += 1
        seen = _SightingLuma(sighting, *(luma_of(p) for p in (sighting.before, sighting.after)))
        self._series.add(self._place(sighting), _sums_of(seen))
        if self._surest is None or _rank(sighting) > _rank(self._surest):
            self._surest = sighting
        self._window = [*(self._window[-2:] if linked else []), seen]
        if len(self._window) > 1:
            self._series.add(self._place(sighting), _changes(*self._window[-2:]))
        if len(self._window) == 3:
            self._add_changes(self._window)

    def finished(self) -> MeasuredTrack:
        """Returns what is known of the track; its pictures are encoded now.

        Raises:
            ValueError: there was no sighting.
        """
        if self._first is None or self._surest is None:
            raise ValueError("a track needs at least one sighting")
        last = self._window[-1].sighting
        moments = [_moment("surest", self._surest)]
        if self._worst is not None and self._worst[1].frame != self._surest.frame:
            moments.append(_moment("most flicker", self._worst[1]))
        return MeasuredTrack(
            id=self.id,
            shot=self.shot,
            first_frame=self._first.frame,
            last_frame=last.frame,
            first_seconds=self._first.seconds,
            last_seconds=last.seconds,
            mean_size=self._size / self._count,
            mean_score=self._score / self._count,
            figures=figures_of(self.total),
            reasons=dict(self.reasons),
            series=self._series.figures(),
            moments=tuple(moments),
        )

    def _place(self, sighting: Sighting) -> int:
        assert self._first is not None  # noqa: S101 - add sets it
        return sighting.frame - self._first.frame

    def _add_changes(self, window: Sequence[_SightingLuma]) -> None:
        """Counts jitter, of landmarks and mesh, and flicker of the middle one of three frames."""
        sums = no_sums()
        sightings = [seen.sighting for seen in window]
        seconds = (sightings[0].seconds, sightings[1].seconds, sightings[2].seconds)
        before, after = (
            [getattr(sighting, f"landmarks_{when}") for sighting in sightings]
            for when in ("before", "after")
        )
        if all(points is not None for points in (*before, *after)):
            sums[Sum.JITTERS] = 1
            sums[Sum.JITTER_BEFORE] = jitter((before[0], before[1], before[2]), seconds)
            sums[Sum.JITTER_AFTER] = jitter((after[0], after[1], after[2]), seconds)
        meshes = [
            tuple(look.mesh for s in sightings if (look := getattr(s, f"look_{when}")) is not None)
            for when in ("before", "after")
        ]
        if all(len(points) == 3 and all(p is not None for p in points) for points in meshes):
            sums[Sum.MESHES] = 1
            sums[Sum.MESH_JITTER_BEFORE] = jitter(meshes[0], seconds)
            sums[Sum.MESH_JITTER_AFTER] = jitter(meshes[1], seconds)
        sums[Sum.FLICKERS] = 1
        for column, values in (
            (Sum.FLICKER_BEFORE, [seen.before for seen in window]),
            (Sum.FLICKER_AFTER, [seen.after for seen in window]),
        ):
            sums[column] = flicker((values[0], values[1], values[2]), seconds, INNER)
        self._series.add(self._place(sightings[1]), sums)
        if sums[Sum.FLICKER_AFTER] > (self._worst[0] if self._worst is not None else 0):
            self._worst = (float(sums[Sum.FLICKER_AFTER]), sightings[1])


def _sums_of(seen: _SightingLuma) -> npt.NDArray[np.float64]:
    sums = no_sums()
    sums[Sum.FACES] = 1
    sums[Sum.SECONDS] = seen.sighting.seconds
    sums[Sum.DETAIL_BEFORE] = detail(seen.before[INNER, INNER])
    sums[Sum.DETAIL_AFTER] = detail(seen.after[INNER, INNER])
    sums[Sum.CHANGE] = float(np.abs(seen.after - seen.before)[INNER, INNER].mean())
    sums[Sum.SKIPPED] = seen.sighting.reason is not None
    sums[Sum.LOST] = seen.sighting.landmarks_after is None
    return sums


def _changes(then: _SightingLuma, now: _SightingLuma) -> npt.NDArray[np.float64]:
    """Counts what two neighbouring frames tell."""
    sums = no_sums()
    unrest = unsteadiness((then.before, now.before), (then.after, now.after), INNER)
    if unrest is not None:
        sums[Sum.MOTIONS] = 1
        sums[Sum.UNSTEADINESS_BEFORE], sums[Sum.UNSTEADINESS_AFTER] = unrest
    one, other = then.sighting, now.sighting
    looks = (one.look_before, other.look_before, one.look_after, other.look_after)
    known = [look.descriptor for look in looks if look is not None]
    if len(known) == len(looks):
        sums[Sum.DRIFTS] = 1
        sums[Sum.DRIFT_BEFORE] = np.linalg.norm(known[1] - known[0])
        sums[Sum.DRIFT_AFTER] = np.linalg.norm(known[3] - known[2])
    return sums


def _rank(sighting: Sighting) -> tuple[bool, bool, float, float]:
    restored, detected = sighting.reason is None, sighting.landmarks_before is not None
    return restored, detected, round(sighting.score, 2), sighting.size


def _moment(what: str, sighting: Sighting) -> Moment:
    return Moment(
        what=what,
        frame=sighting.frame,
        seconds=sighting.seconds,
        before=_jpeg(sighting.before),
        after=_jpeg(sighting.after),
    )


def _jpeg(rgb: npt.NDArray[np.float32]) -> bytes:
    picture = cv2.cvtColor(to_8_bits(rgb), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
