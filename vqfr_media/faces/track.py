"""Follows faces from frame to frame: pure functions of a finite window, with no running state.

Whoever asks for frames in whatever order gets the same tracks: `track` depends on
`TrackLimits.radius` frames to each side of the one it is about, and not on frames beyond that,
or beyond a cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vqfr_media.faces.cuts import CutMemo, is_cut
from vqfr_media.faces.linking import (
    Gap,
    Links,
    corners_and_landmarks,
    link_frames,
    velocity,
)
from vqfr_media.options import FaceOptions
from vqfr_media.values import (
    AlignedFace,
    Detected,
    EncodedFace,
    Face,
    FrameFaces,
    RestoredFace,
    SkipReason,
    TrackedFace,
)
from vqfr_media.weak_memo import WeakMemo
from vqfr_media.windows import Window

# How a frame's faces are linked to those before it, by what decides that: the frame, the one before
# it, the one before that and the one after it; where one of these is beyond the shot, the frame.
LinkMemo = WeakMemo[
    Detected,
    WeakMemo[Detected, WeakMemo[Detected, WeakMemo[Detected, tuple[int | None, ...]]]],
]

# A face that ends where another begins in the next frame, within so many of its sizes, may be that
# one: it moved too far to be linked.
_BROKEN = 3.0

# A filled face nearer than this share of its size to a real one is that one.
_SAME = 0.5


@dataclass(frozen=True, kw_only=True)
class TrackLimits:
    """How long a track may be lost, and how long it has to last, in frames."""

    max_gap: int
    """A face that is missing in at most this many frames on end is filled in there."""
    fewest: int = 1
    """A track that begins and ends within the shot, in fewer frames than this from the first to the
    last, is no face but a sleeve or a print, unless it may be part of another that moved too far to
    be linked. 1 keeps all."""

    def __post_init__(self) -> None:
        if self.max_gap < 0:
            raise ValueError(f"max_gap must not be negative, got {self.max_gap}")
        if self.fewest < 1:
            raise ValueError(f"fewest must be at least 1, got {self.fewest}")

    @property
    def radius(self) -> int:
        """The frames to each side on which `track` depends.

        From the frame before the centre a track is followed through `fewest` - 2 further frames
        and, from there, across a gap, whose far end depends on two more frames.
        """
        return self.max_gap + self.fewest + 2


def track(
    window: Window[Detected],
    limits: TrackLimits,
    *,
    score: float,
    known_cuts: CutMemo | None = None,
    known_links: LinkMemo | None = None,
) -> FrameFaces[TrackedFace]:
    """Completes the faces of the centre frame from its neighbours and links them backwards.

    Args:
        window: `limits.radius` frames to each side, fewer at the ends of the video.
        limits: How long tracks may be lost, and have to last.
        score: Faces from this score on count by themselves. Weaker ones count where their track has
            such a face at most `limits.max_gap` frames away.
        known_cuts: Spares overlapping windows from looking for the same cuts; changes no result.
        known_links: Spares them from linking the same frames; changes no result.

    Returns:
        Faces ordered by place; `previous` is a position among the faces that this function returns
        for the frame before.
    """
    items, centre = window.items, window.centre
    known = CutMemo() if known_cuts is None else known_cuts
    first, last = _shot(items, centre, limits.radius, known)
    shot = items[first : last + 1]
    frames = [_ordered(item.faces) for item in shot]
    pts = [item.frame.pts for item in shot]
    links = link_frames(
        frames,
        pts=pts,
        max_gap=limits.max_gap,
        known=None if known_links is None else partial(_known, known_links, shot),
    )
    at = centre - first
    rules = _Rules(limits, score)
    faces = _complete(frames, pts, links, at, rules)
    before = _complete(frames, pts, links, at - 1, rules) if at > 0 else []
    # No face of the frame before has the key None, which says that there was none.
    positions: dict[object, int] = {found.key: place for place, found in enumerate(before)}
    return FrameFaces(
        items[centre].frame,
        tuple(
            TrackedFace(found.face, positions.get(found.key_before), filled=found.filled)
            for found in faces
        ),
        at == 0,
    )


def choose(
    window: Window[FrameFaces[TrackedFace]], *, options: FaceOptions
) -> FrameFaces[TrackedFace]:
    """Returns the centre frame with `skip` set on the faces to be left alone; none is taken out.

    So `previous` stays right, and landmarks are smoothed along a track that is restored only in
    part. Sizes and places are means over the window's part of each track: a face near a threshold,
    or one of two that are equally large, does not flicker between restored and not.
    """
    frame_faces = window.items[window.centre]
    width, height = frame_faces.frame.display_size
    boxes, sizes = [], []
    for index in range(len(frame_faces.faces)):
        track = [window.items[at].faces[face].face for at, face in follow(window, index)]
        boxes.append(np.mean([face.box for face in track], axis=0))
        sizes.append(float(np.mean([face.size for face in track])))
    reasons = [
        tracked.skip
        or (SkipReason.DAMAGED if frame_faces.frame.damaged else None)
        or (SkipReason.TOO_SMALL if size < options.min_face else None)
        or (SkipReason.TOO_LARGE if size > options.max_face else None)
        for tracked, size in zip(frame_faces.faces, sizes, strict=True)
    ]
    eligible = [index for index, reason in enumerate(reasons) if reason is None]
    if options.faces != "all" and eligible:
        middle = np.array([(width - 1) / 2, (height - 1) / 2])

        def rank(index: int) -> float:
            if options.faces == "largest":
                return -sizes[index]
            return float(np.linalg.norm(boxes[index].reshape(2, 2).mean(0) - middle))

        best = min(eligible, key=rank)
        reasons = [
            SkipReason.NOT_CHOSEN if reason is None and index != best else reason
            for index, reason in enumerate(reasons)
        ]
    faces = tuple(
        replace(tracked, skip=reason)
        for tracked, reason in zip(frame_faces.faces, reasons, strict=True)
    )
    return replace(frame_faces, faces=faces)


def follow[F: (TrackedFace, AlignedFace, EncodedFace, RestoredFace)](
    window: Window[FrameFaces[F]], face: int
) -> list[tuple[int, int]]:
    """Follows the centre frame's face number `face`: (item, position) in the window, in order.

    The track is followed to both sides until a cut, a lost link or the end of the window.

    Raises:
        IndexError: the centre frame has no such face.
    """
    items, centre = window.items, window.centre
    if not 0 <= face < len(items[centre].faces):
        raise IndexError(f"face {face} of {len(items[centre].faces)}")
    chain = [(centre, face)]
    at, position = centre, face
    while at > 0 and not items[at].new_shot:
        previous = items[at].faces[position].previous
        if previous is None:
            break
        at, position = at - 1, previous
        chain.insert(0, (at, position))
    at, position = centre, face
    while at + 1 < len(items) and not items[at + 1].new_shot:
        links = [later.previous for later in items[at + 1].faces]
        if position not in links:
            break
        at, position = at + 1, links.index(position)
        chain.append((at, position))
    return chain


type _Place = tuple[int, int]
"""A face: its frame and its position there."""

type _Key = _Place | Gap
"""A face of a frame: its place, or the gap that it was filled into."""


@dataclass(frozen=True)
class _Rules:
    """What makes a track count; see `track`."""

    limits: TrackLimits
    score: float


@dataclass(frozen=True)
class _Found:
    """A face of one frame, detected or filled in."""

    face: Face
    key: _Key
    """Which face it is among those of its frame."""
    key_before: _Key | None
    """Which face of the frame before is the same, whether or not that one counts."""

    @property
    def filled(self) -> bool:
        """Whether it lies in a gap."""
        return isinstance(self.key, Gap)


def _known(
    memo: LinkMemo, shot: Sequence[Detected], at: int, compute: Callable[[], tuple[int | None, ...]]
) -> tuple[int | None, ...]:
    """Returns how frame `at` of a shot is linked to the one before it; see `link_frames`."""
    here, before = shot[at], shot[at - 1]
    before_that = shot[at - 2] if at > 1 else here
    after = shot[at + 1] if at + 1 < len(shot) else here
    of_pair = memo.get(here, WeakMemo).get(before, WeakMemo)
    return of_pair.get(before_that, WeakMemo).get(after, compute)


def _shot(items: Sequence[Detected], centre: int, radius: int, known: CutMemo) -> tuple[int, int]:
    """Finds the first and last item within `radius` that belong to the centre's shot."""

    def begins(at: int) -> bool:
        before, here = items[at - 1], items[at]
        return known.get(here, WeakMemo).get(before, lambda: is_cut(before, here))

    first = last = centre
    while first > max(0, centre - radius) and not begins(first):
        first -= 1
    while last < min(len(items) - 1, centre + radius) and not begins(last + 1):
        last += 1
    return first, last


def _complete(
    frames: Sequence[Sequence[Face]],
    pts: Sequence[int],
    links: Links,
    at: int,
    rules: _Rules,
) -> list[_Found]:
    """Returns the faces of frame `at` that count, those of gaps included, by place."""
    own = frames[at]
    found = [
        _Found(face, (at, position), _key_before(links, at, position))
        for position, face in enumerate(own)
        if _counts(frames, links, ((at, position),) * 2, at, rules)
    ]
    for gap in links.gaps:
        ends, (a, b) = (gap.before, gap.after), (gap.before[0], gap.after[0])
        if a < at < b and _counts(frames, links, ends, at, rules):
            face = _between(frames, pts, links, gap, at)
            if not any(_within(_SAME, face, other.face) for other in found):
                found.append(_Found(face, gap, gap if at - 1 > a else gap.before))
    return sorted(found, key=lambda one: place(one.face))


def _key_before(links: Links, at: int, position: int) -> _Key | None:
    previous = links.previous[at][position]
    if previous is not None:
        return at - 1, previous
    return next((gap for gap in links.gaps if gap.after == (at, position)), None)


def _counts(
    frames: Sequence[Sequence[Face]],
    links: Links,
    ends: tuple[_Place, _Place],
    centre: int,
    rules: _Rules,
) -> bool:
    """Tells whether a track has a strong face near enough to `centre`, and lasts long enough.

    It is followed back from the first of `ends` and on from the second.
    """
    return _is_sure(frames, links, ends, centre, rules) and _lasts(frames, links, ends, rules)


def _is_sure(
    frames: Sequence[Sequence[Face]],
    links: Links,
    ends: tuple[_Place, _Place],
    centre: int,
    rules: _Rules,
) -> bool:
    for end, step in zip(ends, (links.before, links.after), strict=True):
        at: _Place | None = end
        while at is not None and abs(at[0] - centre) <= rules.limits.max_gap:
            if frames[at[0]][at[1]].score >= rules.score:
                return True
            at = step(*at)
    return False


def _lasts(
    frames: Sequence[Sequence[Face]],
    links: Links,
    ends: tuple[_Place, _Place],
    rules: _Rules,
) -> bool:
    """Tells whether a track is long enough from its first frame to its last, gaps included, or may
    be: it goes on to the shot's end, or broke."""
    steps = rules.limits.fewest - 1  # from a track's first frame to its last
    first, last = ends
    while last[0] - first[0] < steps and (before := links.before(*first)) is not None:
        first = before
    while last[0] - first[0] < steps and (after := links.after(*last)) is not None:
        last = after
    if last[0] - first[0] >= steps or first[0] == 0 or last[0] == len(frames) - 1:
        return True
    return _is_broken(frames, links, first, last)


def _is_broken(frames: Sequence[Sequence[Face]], links: Links, first: _Place, last: _Place) -> bool:
    """Tells whether another track ends right before `first`, or begins right after `last`, near."""
    (begin, position), (end, place_there) = first, last
    lost = [
        face for number, face in enumerate(frames[begin - 1]) if number not in links.previous[begin]
    ]
    found = [
        face
        for face, previous in zip(frames[end + 1], links.previous[end + 1], strict=True)
        if previous is None
    ]
    return any(_within(_BROKEN, frames[begin][position], other) for other in lost) or any(
        _within(_BROKEN, frames[end][place_there], other) for other in found
    )


def _between(
    frames: Sequence[Sequence[Face]], pts: Sequence[int], links: Links, gap: Gap, at: int
) -> Face:
    """Places the gap's face at frame `at`: on the smooth path through its ends and motions.

    A cubic (Hermite) in time, not in frames: at a variable rate these differ. Where no motion is
    known at either end it is the straight line.
    """
    (a, earlier), (b, later) = gap.before, gap.after
    start, end = (corners_and_landmarks(frames[i][j]) for i, j in (gap.before, gap.after))
    length = pts[b] - pts[a]
    share = (pts[at] - pts[a]) / length
    straight = end - start
    leaving = velocity(links, frames, pts, gap.before, to=a - 1)
    arriving = velocity(links, frames, pts, gap.after, to=b + 1)
    path = start + share * straight
    for motion, weight in (
        (leaving, share * (1 - share) ** 2),
        (arriving, -(share**2) * (1 - share)),
    ):
        if motion is not None:
            path = path + weight * (length * motion - straight)
    scores = frames[a][earlier].score, frames[b][later].score
    return Face(path[:2].ravel(), path[2:], min(scores))


def _within(sizes: float, one: Face, other: Face) -> bool:
    """Tells whether two faces lie at most so many times the larger one's size apart."""
    distance = np.linalg.norm(one.landmarks.mean(0) - other.landmarks.mean(0))
    return bool(distance <= sizes * max(one.size, other.size))


def place(face: Face) -> tuple[float, ...]:
    """Returns what faces of one frame are ordered by."""
    return (*face.box.tolist(), *face.landmarks.ravel().tolist(), face.score)


def _ordered(faces: Sequence[Face]) -> list[Face]:
    """Orders by place: the detector's order decides nothing, not even between equals."""
    return sorted(faces, key=place)
