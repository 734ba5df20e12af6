"""Follows faces from frame to frame: pure functions of a finite window, with no running state.

Whoever asks for frames in whatever order gets the same tracks: `track` needs `max_gap` + 1 frames
to each side of the one it is about, and frames beyond that, or beyond a cut, change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

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
from vqfr_media.windows import Window

# Thumbnails are compared at every shift up to these shares of their width and height: a pan of a
# tenth of the picture between two frames is no cut.
_PAN = 0.1
# Correlation below which two pictures are two shots: the first where their histograms agree, the
# second where they have nothing in common. duo_lq: two portraits framed alike 0.49, no cut 0.94.
_CUT_CORRELATION = (0.6, 0.85)
# Standard deviation, in 8-bit codes, below which a thumbnail shows noise rather than structure.
_FLAT = 3.0

# A face may move by this share of its size from one frame to the next, and by a bit more over each
# further frame; its size may change by this factor, and a bit more.
_MOVE, _MOVE_PER_FRAME, _MOVE_LIMIT = 0.5, 0.1, 0.8
_GROW, _GROW_PER_FRAME, _GROW_LIMIT = 1.5, 0.1, 2.0
# A filled face nearer than this share of its size to a real one is that one.
_SAME = 0.5


def is_cut(previous: Detected, current: Detected) -> bool:
    """Returns whether a shot begins at `current`: the source says it, else the two thumbnails.

    They are compared by their structure, best over small shifts of the camera, which neither a
    flash nor a fade changes; histograms that differ make the test stricter.
    """
    said = (previous.frame.cuts[1], current.frame.cuts[0])
    if True in said or False in said:
        return True in said
    one, other = previous.thumbnail, current.thumbnail
    if one.shape != other.shape:
        return True
    flat = (float(one.std()) < _FLAT, float(other.std()) < _FLAT)
    if all(flat):
        # Black, white or fog: noise does not correlate, so only the level can tell.
        return abs(float(one.mean()) - float(other.mean())) > 8 * _FLAT
    if any(flat):
        return True
    rows, columns = one.shape
    y, x = max(1, round(_PAN * rows)), max(1, round(_PAN * columns))
    # Half a cell of blur: a shift by a fraction of a cell is no difference.
    soft = [cv2.GaussianBlur(picture, (3, 3), 0.7) for picture in (one, other)]
    middle = soft[1][y : rows - y, x : columns - x]
    correlation = float(cv2.matchTemplate(soft[0], middle, cv2.TM_CCOEFF_NORMED).max())
    histograms = [np.bincount(p.ravel() >> 4, minlength=16) / p.size for p in (one, other)]
    difference = float(np.abs(histograms[0] - histograms[1]).sum()) / 2
    low, high = _CUT_CORRELATION
    return correlation < low + (high - low) * difference


def link(earlier: Sequence[Face], later: Sequence[Face], *, gap: int = 1) -> tuple[int | None, ...]:
    """Finds for each face of `later` the position of the same face in `earlier`, or None.

    Two faces are the same where each is the other's nearest, by the mean distance of the landmarks
    relative to the faces' size, within what a head moves and grows in `gap` frames. No face of
    `earlier` is given twice.
    """
    if not earlier or not later:
        return (None,) * len(later)
    points = [np.stack([face.landmarks for face in faces]) for faces in (earlier, later)]
    sizes = [np.array([max(face.size, 1e-6) for face in faces]) for faces in (earlier, later)]
    # Rows: earlier, columns: later.
    distance = np.linalg.norm(points[0][:, None] - points[1][None], axis=3).mean(2)
    distance /= np.sqrt(np.outer(*sizes))
    growth = np.abs(np.log(sizes[0][:, None] / sizes[1][None]))
    move = min(_MOVE + _MOVE_PER_FRAME * (gap - 1), _MOVE_LIMIT)
    grow = min(_GROW + _GROW_PER_FRAME * (gap - 1), _GROW_LIMIT)
    distance[growth > np.log(grow)] = np.inf
    nearest = distance.argmin(0)
    chosen = distance.argmin(1)
    return tuple(
        int(i) if chosen[i] == j and distance[i, j] <= move else None for j, i in enumerate(nearest)
    )


def track(window: Window[Detected], *, score: float, max_gap: int) -> FrameFaces[TrackedFace]:
    """Completes the faces of the centre frame from its neighbours and links them backwards.

    Args:
        window: `max_gap` + 1 frames to each side, fewer at the ends of the video.
        score: Faces from this score on count by themselves. Weaker ones count where they are
            linked to such a face at most `max_gap` frames away.
        max_gap: A face that is missing in at most this many frames on end is filled in there.

    Returns:
        Faces ordered by place; `previous` is a position among the faces that this function returns
        for the frame before.

    Raises:
        ValueError: max_gap is negative.
    """
    if max_gap < 0:
        raise ValueError(f"max_gap must not be negative, got {max_gap}")
    items, centre = window.items, window.centre
    cuts = _cuts(items, centre, max_gap + 1)
    faces = _complete(items, centre, cuts=cuts, score=score, max_gap=max_gap)
    new_shot = centre in cuts
    previous: tuple[int | None, ...] = (None,) * len(faces)
    if not new_shot:
        before = _complete(items, centre - 1, cuts=cuts, score=score, max_gap=max_gap)
        previous = link([face for face, _ in before], [face for face, _ in faces])
    return FrameFaces(
        items[centre].frame,
        tuple(
            TrackedFace(face, at, filled=filled)
            for (face, filled), at in zip(faces, previous, strict=True)
        ),
        new_shot,
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


def _cuts(items: Sequence[Detected], centre: int, radius: int) -> frozenset[int]:
    """Items within `radius` of the centre at which a shot begins; item 0 always counts as one."""
    first, last = max(1, centre - radius + 1), min(len(items) - 1, centre + radius)
    return frozenset([0]) | {
        at for at in range(first, last + 1) if is_cut(items[at - 1], items[at])
    }


def _complete(
    items: Sequence[Detected],
    centre: int,
    *,
    cuts: frozenset[int],
    score: float,
    max_gap: int,
) -> list[tuple[Face, bool]]:
    """Returns the faces of item `centre`, by place, and whether each is filled in."""
    before = []
    for at in range(centre - 1, max(centre - max_gap, 0) - 1, -1):
        if at + 1 in cuts:
            break
        before.append(at)
    after = []
    for at in range(centre + 1, min(centre + max_gap, len(items) - 1) + 1):
        if at in cuts:
            break
        after.append(at)
    around = {at: _ordered(items[at].faces) for at in (*before, centre, *after)}
    own = around[centre]

    kept = {index for index, face in enumerate(own) if face.score >= score}
    links = {at: link(around[at], own, gap=abs(at - centre)) for at in (*before, *after)}
    for at, linked in links.items():
        kept |= {
            index
            for index, other in enumerate(linked)
            if other is not None and around[at][other].score >= score
        }
    faces = [(own[index], False) for index in sorted(kept)]

    # Faces of the neighbours that are not here.
    lost = {}
    for at, linked in links.items():
        here = {linked[index] for index in kept}
        lost[at] = [face for other, face in enumerate(around[at]) if other not in here]
    # Nearest pairs first: the shortest gap, and of equal ones that with the earlier end nearest.
    pairs = sorted(
        (b - a, centre - a, a, b)
        for a in before
        for b in after
        if b - a <= max_gap + 1 and lost[a] and lost[b]
    )
    for gap, _, a, b in pairs:
        # In time, not in frames: at a variable rate these differ.
        pts = [items[at].frame.pts for at in (a, centre, b)]
        share = (pts[1] - pts[0]) / (pts[2] - pts[0])
        for face in _between(lost[a], lost[b], gap=gap, share=share, score=score):
            if all(_apart(face, other) for other, _ in faces):
                faces.append((face, True))
    return sorted(faces, key=lambda item: place(item[0]))


def _between(
    earlier: Sequence[Face], later: Sequence[Face], *, gap: int, share: float, score: float
) -> Iterator[Face]:
    """Yields the faces of both, `share` of the way from one to the other."""
    for face, index in zip(later, link(earlier, later, gap=gap), strict=True):
        # One strong end is enough: it vouches for the other.
        if index is not None and max(face.score, earlier[index].score) >= score:
            start = earlier[index]
            yield Face(
                start.box + share * (face.box - start.box),
                start.landmarks + share * (face.landmarks - start.landmarks),
                min(start.score, face.score),
            )


def _apart(one: Face, other: Face) -> bool:
    distance = np.linalg.norm(one.landmarks.mean(0) - other.landmarks.mean(0))
    return bool(distance > _SAME * max(one.size, other.size))


def place(face: Face) -> tuple[float, ...]:
    """Returns what faces of one frame are ordered by."""
    return (*face.box.tolist(), *face.landmarks.ravel().tolist(), face.score)


def _ordered(faces: Sequence[Face]) -> list[Face]:
    """Orders by place: the detector's order decides nothing, not even between equals."""
    return sorted(faces, key=place)
