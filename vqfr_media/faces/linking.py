"""Which face of one frame is which of another: a pure function of the faces around them.

A face is followed from frame to frame by its motion: where it comes from and where it goes on to
say more than how near it is, so that a face that swings by most of its own size, or two that cross,
keep their tracks. Only a face without a successor may be lost, and only one without a predecessor
may be found again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqfr_media.values import Face

# A face may be this share of its size away from where it is expected in the next frame, and a bit
# more after each further frame; its size may change by this factor, and a bit more.
_MOVE, _MOVE_PER_FRAME, _MOVE_LIMIT = 0.5, 0.1, 0.8
_GROW, _GROW_PER_FRAME, _GROW_LIMIT = 1.5, 0.1, 2.0
# A face whose motion is known may move by this share of its size from frame to frame.
_FAST = 1.25

# Gives what links a frame's faces to those before it, by the frame's number: computed, or kept.
type Known = Callable[[int, Callable[[], tuple[int | None, ...]]], tuple[int | None, ...]]


@dataclass(frozen=True)
class Gap:
    """A face that is lost after one frame and found again in another."""

    before: tuple[int, int]
    """Frame and position of the last face before the gap."""
    after: tuple[int, int]
    """Frame and position of the first face after it."""


@dataclass(frozen=True)
class Links:
    """How the faces of a few consecutive frames belong together."""

    previous: tuple[tuple[int | None, ...], ...]
    """For each frame, for each face, the position of the same face in the frame before."""
    gaps: tuple[Gap, ...]
    """Where tracks go on after a few frames without the face; no face ends or begins two."""

    def before(self, at: int, position: int) -> tuple[int, int] | None:
        """Returns frame and position of the same face where it was seen last, or None."""
        previous = _linked(self.previous, at, position, at - 1)
        if previous is not None:
            return at - 1, previous
        return next((gap.before for gap in self.gaps if gap.after == (at, position)), None)

    def after(self, at: int, position: int) -> tuple[int, int] | None:
        """Returns frame and position of the same face where it is seen next, or None."""
        later = _linked(self.previous, at, position, at + 1)
        if later is not None:
            return at + 1, later
        return next((gap.after for gap in self.gaps if gap.before == (at, position)), None)


def link(earlier: Sequence[Face], later: Sequence[Face], *, gap: int = 1) -> tuple[int | None, ...]:
    """Finds for each face of `later` the position of the same face in `earlier`, or None.

    Two faces are the same where each is the other's nearest, by the mean distance of the landmarks
    relative to the faces' size, within what a head moves and grows in `gap` frames. No face of
    `earlier` is given twice. What is known of the motion is not used: see `link_frames`.
    """
    if not earlier or not later:
        return (None,) * len(later)
    return _mutual(_distance(_marks(earlier), _marks(later), _scale(earlier, later, gap)), gap)


def link_frames(
    frames: Sequence[Sequence[Face]],
    *,
    pts: Sequence[int],
    max_gap: int,
    known: Known | None = None,
) -> Links:
    """Links the faces of consecutive frames of one shot.

    Two faces of neighbouring frames are the same where each fits the other best: the distance from
    where the motion out of the frame before, and into the frame after, puts them; of what is left,
    the nearest. A link into a frame depends on the two frames before it and the one after; a gap on
    what lies between its ends and on two frames to each side.

    Args:
        frames: The faces of each frame, in a fixed order.
        pts: Each frame's time, in any unit, ascending.
        max_gap: A face that is missing in at most so many frames on end is found again.
        known: Given the number of a frame and what links it, returns that or what it has given for
            the same frames before; changes no result.

    Raises:
        ValueError: there is not one time for each frame.
    """
    if len(pts) != len(frames):
        raise ValueError(f"{len(frames)} frames and {len(pts)} times")
    marks = [_marks(faces) for faces in frames]
    previous: list[tuple[int | None, ...]] = [(None,) * len(frames[0])] if frames else []
    for at in range(1, len(frames)):
        if not frames[at - 1] or not frames[at]:
            previous.append((None,) * len(frames[at]))
            continue

        def linked(at: int = at) -> tuple[int | None, ...]:
            return _linked_to_previous(frames, marks, pts, at)

        previous.append(linked() if known is None else known(at, linked))
    return Links(tuple(previous), tuple(_gaps(frames, marks, pts, previous, max_gap)))


def _linked_to_previous(
    frames: Sequence[Sequence[Face]],
    marks: Sequence[npt.NDArray[np.float64]],
    pts: Sequence[int],
    at: int,
) -> tuple[int | None, ...]:
    """Links the faces of frame `at` by those of the two frames before it and of the one after."""
    scale = _scale(frames[at - 1], frames[at], 1)
    plain = _distance(marks[at - 1], marks[at], scale)
    within = plain <= _FAST
    costs = []
    if at > 1 and frames[at - 2]:
        speed = (pts[at] - pts[at - 1]) / (pts[at - 1] - pts[at - 2])
        known = _distance(marks[at - 2], marks[at - 1], _scale(frames[at - 2], frames[at - 1], 1))
        costs.append(_forward(marks[at - 2 : at + 1], scale, known, speed))
    if at + 1 < len(frames) and frames[at + 1]:
        speed = (pts[at] - pts[at - 1]) / (pts[at + 1] - pts[at])
        known = _distance(marks[at], marks[at + 1], _scale(frames[at], frames[at + 1], 1))
        turned = [marks[at + 1], marks[at], marks[at - 1]]
        costs.append(_forward(turned, scale.T, known.T, speed).T)
    # Where no motion is known on a side, the face is expected where it is.
    fits = [np.where(np.isfinite(cost), cost, plain) for cost in costs] or [plain]
    by_motion = np.where(within, np.mean(fits, axis=0), np.inf)
    return _best(by_motion, plain, 1)


def _gaps(
    frames: Sequence[Sequence[Face]],
    marks: Sequence[npt.NDArray[np.float64]],
    pts: Sequence[int],
    previous: Sequence[tuple[int | None, ...]],
    max_gap: int,
) -> list[Gap]:
    """Yields the shortest gaps first; of equally long ones each is decided by itself."""
    ends = [
        {
            position
            for position in range(len(faces))
            if at + 1 < len(frames) and position not in previous[at + 1]
        }
        for at, faces in enumerate(frames)
    ]
    starts = [
        {position for position in range(len(faces)) if at and previous[at][position] is None}
        for at, faces in enumerate(frames)
    ]
    found = []
    for length in range(2, max_gap + 2):
        for a in range(len(frames) - length):
            b = a + length
            open_ends, open_starts = sorted(ends[a]), sorted(starts[b])
            if not open_ends or not open_starts:
                continue
            lost = [frames[a][position] for position in open_ends]
            seen = [frames[b][position] for position in open_starts]
            scale = _scale(lost, seen, length)
            fits = _distance(marks[a][open_ends], marks[b][open_starts], scale)
            onward = _carried(marks, pts, previous, a, open_ends, by=a - 1, until=pts[b])
            back = _carried(marks, pts, previous, b, open_starts, by=b + 1, until=pts[a])
            moved = [
                _distance(onward, marks[b][open_starts], scale),
                _distance(marks[a][open_ends], back, scale),
            ]
            known = [np.where(np.isnan(one), fits, one) for one in moved]
            for later, earlier in enumerate(_best(np.mean(known, axis=0), fits, length)):
                if earlier is not None:
                    found.append(Gap((a, open_ends[earlier]), (b, open_starts[later])))
                    ends[a].discard(open_ends[earlier])
                    starts[b].discard(open_starts[later])
    return found


def velocity(
    links: Links,
    frames: Sequence[Sequence[Face]],
    pts: Sequence[int],
    place: tuple[int, int],
    *,
    to: int,
) -> npt.NDArray[np.float64] | None:
    """Returns the (7, 2) motion of a face per unit of `pts`, or None where it is unknown.

    Args:
        links: How the faces of `frames` belong together.
        frames: The faces of each frame.
        pts: Each frame's time.
        place: Frame and position of the face.
        to: The neighbouring frame between which and the face's own the motion is measured.
    """
    at, position = place
    other = _linked(links.previous, at, position, to)
    if other is None:
        return None
    step = corners_and_landmarks(frames[at][position]) - corners_and_landmarks(frames[to][other])
    return step / (pts[at] - pts[to])


def corners_and_landmarks(face: Face) -> npt.NDArray[np.float64]:
    """Returns (7, 2): the box's two corners, then the five landmarks."""
    return np.concatenate([face.box.reshape(2, 2), face.landmarks])


def _linked(
    previous: Sequence[tuple[int | None, ...]], at: int, position: int, to: int
) -> int | None:
    """Finds the same face's position in frame `to`, one before or after `at`, or None."""
    if to < at:
        return previous[at][position]
    if to < len(previous) and position in previous[to]:
        return previous[to].index(position)
    return None


def _carried(
    marks: Sequence[npt.NDArray[np.float64]],
    pts: Sequence[int],
    previous: Sequence[tuple[int | None, ...]],
    at: int,
    positions: Sequence[int],
    *,
    by: int,
    until: int,
) -> npt.NDArray[np.float64]:
    """Moves landmarks (N, 5, 2) of frame `at` on as between it and frame `by` to time `until`.

    nan where no motion is known.
    """
    carried = np.full((len(positions), 5, 2), np.nan)
    for row, position in enumerate(positions):
        other = _linked(previous, at, position, by)
        if other is not None:
            step = marks[at][position] - marks[by][other]
            share = (until - pts[at]) / (pts[at] - pts[by])
            carried[row] = marks[at][position] + share * step
    return carried


def _forward(
    marks: Sequence[npt.NDArray[np.float64]],
    scale: npt.NDArray[np.float64],
    known: npt.NDArray[np.float64],
    speed: float,
) -> npt.NDArray[np.float64]:
    """Measures (middle, last) distances of each last face from where a middle one was going.

    The best over the first faces within `_FAST` of the middle one (`known`); inf where none is.
    """
    first, middle, last = marks
    expected = middle[None] + speed * (middle[None] - first[:, None])
    missed = np.linalg.norm(last[None, None] - expected[:, :, None], axis=4).mean(3)
    missed = _relative(missed, scale)
    missed[known > _FAST] = np.inf
    return np.asarray(missed.min(0), np.float64)


def _best(
    by_motion: npt.NDArray[np.float64], by_place: npt.NDArray[np.float64], gap: int
) -> tuple[int | None, ...]:
    """Finds for each later face the earlier one that its motion leads to, else the nearest.

    A camera that shakes, and a head at its turning point, do not go on as they went.
    """
    found = _mutual(by_motion, gap)
    left = by_place.copy()
    left[[row for row in found if row is not None]] = np.inf
    left[:, [column for column, row in enumerate(found) if row is not None]] = np.inf
    return tuple(
        place if motion is None else motion
        for motion, place in zip(found, _mutual(left, gap), strict=True)
    )


def _mutual(cost: npt.NDArray[np.float64], gap: int) -> tuple[int | None, ...]:
    """Finds for each column the row that fits best, where both fit best and well enough."""
    move = min(_MOVE + _MOVE_PER_FRAME * (gap - 1), _MOVE_LIMIT)
    nearest, chosen = cost.argmin(0), cost.argmin(1)
    return tuple(
        int(i) if chosen[i] == j and cost[i, j] <= move else None for j, i in enumerate(nearest)
    )


def _marks(faces: Sequence[Face]) -> npt.NDArray[np.float64]:
    """Stacks the landmarks, (N, 5, 2)."""
    return np.stack([f.landmarks for f in faces]) if faces else np.zeros((0, 5, 2))


def _scale(earlier: Sequence[Face], later: Sequence[Face], gap: int) -> npt.NDArray[np.float64]:
    """Returns (earlier, later) sizes to measure distances by; 0 where no head grows like that."""
    sizes = [np.array([max(face.size, 1e-6) for face in faces]) for faces in (earlier, later)]
    growth = np.abs(np.log(sizes[0][:, None] / sizes[1][None]))
    grow = min(_GROW + _GROW_PER_FRAME * (gap - 1), _GROW_LIMIT)
    return np.where(growth > np.log(grow), 0.0, np.sqrt(np.outer(*sizes)))


def _relative(
    distance: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distances as shares of the faces' size; out of every reach where the scale is 0."""
    scale = np.broadcast_to(scale, distance.shape)
    shares = np.full(distance.shape, np.inf)
    np.divide(distance, scale, out=shares, where=scale > 0)
    return shares


def _distance(
    earlier: npt.NDArray[np.float64],
    later: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Measures (earlier, later) mean distances of the landmarks, as shares of the faces' size."""
    return _relative(np.linalg.norm(earlier[:, None] - later[None], axis=3).mean(2), scale)
