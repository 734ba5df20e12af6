import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.faces.cuts import CutMemo, is_cut
from vqfr_media.faces.linking import Links, link, link_frames
from vqfr_media.faces.track import (
    LinkMemo,
    TrackLimits,
    choose,
    follow,
    track,
)
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.options import FaceOptions
from vqfr_media.values import Detected, Face, FrameFaces, SkipReason, TrackedFace
from vqfr_media.weak_memo import WeakMemo
from vqfr_media.windows import Window, sliding

GREY = PixelFormat(family="gray")
SHOTS = np.random.default_rng(0).integers(30, 220, (5, 9, 16)).astype(np.uint8)


def scene(number: int) -> npt.NDArray[np.uint8]:
    """(36, 64) thumbnail with the structure of shot `number`."""
    return np.kron(SHOTS[number], np.ones((4, 4), np.uint8))


def face(x: float, y: float = 100.0, *, size: float = 40.0, score: float = 0.9) -> Face:
    offsets = np.array([(-0.2, -0.2), (0.2, -0.2), (0, 0), (-0.15, 0.2), (0.15, 0.2)]) * size
    half = size / 2
    return Face(
        np.array([x - half, y - half, x + half, y + half]), offsets + np.array([x, y]), score
    )


def detected(index: int, faces: Sequence[Face], *, shot: int = 0) -> Detected:
    frame = Frame(index, index, (np.zeros((200, 300), np.uint8),), GREY)
    return Detected(frame, tuple(faces), scene(shot))


def clip(frames: Sequence[Sequence[Face]], *, shots: Sequence[int] = ()) -> list[Detected]:
    return [detected(i, faces, shot=shots[i] if shots else 0) for i, faces in enumerate(frames)]


def tracked(
    items: Sequence[Detected], *, max_gap: int = 3, fewest: int = 1, score: float = 0.8
) -> list[FrameFaces[TrackedFace]]:
    limits = TrackLimits(max_gap=max_gap, fewest=fewest)
    return [track(w, limits, score=score) for w in sliding(items, limits.radius)]


def summary(
    results: Sequence[FrameFaces[TrackedFace]],
) -> list[list[tuple[float, int | None, bool]]]:
    """Per frame: place, link, filled."""
    return [
        [(round(float(t.face.landmarks[2, 0]), 3), t.previous, t.filled) for t in frame_faces.faces]
        for frame_faces in results
    ]


def same(one: FrameFaces[TrackedFace], other: FrameFaces[TrackedFace]) -> None:
    assert one.new_shot == other.new_shot
    assert [(t.previous, t.filled, t.face.score) for t in one.faces] == [
        (t.previous, t.filled, t.face.score) for t in other.faces
    ]
    for a, b in zip(one.faces, other.faces, strict=True):
        np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)
        np.testing.assert_array_equal(a.face.box, b.face.box)


def test_a_moving_face_is_one_track() -> None:
    results = tracked(clip([[face(50 + 5 * i)] for i in range(4)]))
    expected = [[(50, None, False)], [(55, 0, False)], [(60, 0, False)], [(65, 0, False)]]
    assert summary(results) == expected
    assert [frame_faces.new_shot for frame_faces in results] == [True, False, False, False]
    assert [frame_faces.frame.index for frame_faces in results] == [0, 1, 2, 3]


def test_faces_that_cross_at_different_heights_keep_their_tracks() -> None:
    frames = [
        [face(50 + 8 * i, 90, score=0.95), face(130 - 8 * i, 125, score=0.9)] for i in range(11)
    ]
    results = tracked(clip(frames))
    chain = follow(Window(tuple(results), 0), 0)
    assert [at for at, _ in chain] == list(range(11))
    assert {float(results[at].faces[f].face.landmarks[2, 1]) for at, f in chain} == {90.0}
    # They change places in the order by x, so a link that is only a position would be wrong.
    assert {f for _, f in chain} == {0, 1}


def test_a_lost_face_is_filled_on_the_straight_line() -> None:
    frames = [[face(50)], [], [], [face(62, 112, size=46)]]
    results = tracked(clip(frames), max_gap=2)
    assert summary(results) == [
        [(50, None, False)],
        [(54, 0, True)],
        [(58, 0, True)],
        [(62, 0, False)],
    ]
    middle = results[1].faces[0].face
    expected = face(54, 104, size=42)
    np.testing.assert_allclose(middle.landmarks, expected.landmarks)
    np.testing.assert_allclose(middle.box, expected.box)
    # One frame more than max_gap is a lost face.
    assert summary(tracked(clip(frames), max_gap=1)) == [
        [(50, None, False)],
        [],
        [],
        [(62, None, False)],
    ]


def test_a_lost_face_is_filled_by_time_where_the_rate_varies() -> None:
    pts = (0, 1, 10)
    items = tuple(
        replace(one, frame=replace(one.frame, pts=time))
        for one, time in zip(
            (detected(0, [face(80)]), detected(1, []), detected(2, [face(90)])), pts, strict=True
        )
    )
    frame_faces = track(Window(items, 1), TrackLimits(max_gap=1), score=0.8)
    assert frame_faces.faces[0].filled
    expected = face(81).landmarks  # a tenth of the way, in time
    np.testing.assert_allclose(frame_faces.faces[0].face.landmarks, expected)


def test_nothing_is_filled_where_another_face_is() -> None:
    frames = [[face(50)], [face(52, size=90)], [face(54)]]
    results = tracked(clip(frames))
    assert [len(frame_faces.faces) for frame_faces in results] == [1, 1, 1]
    assert not results[1].faces[0].filled


def test_a_weak_face_counts_where_a_linked_neighbour_is_strong() -> None:
    scores = [0.5, 0.5, 0.9, 0.5, 0.5, 0.5]
    frames = [[face(50, score=score)] for score in scores]
    frames[1].append(face(200, score=0.5))  # nobody vouches for this one
    assert summary(tracked(clip(frames), max_gap=2)) == [
        [(50, None, False)],
        [(50, 0, False)],
        [(50, 0, False)],
        [(50, 0, False)],
        [(50, 0, False)],
        [],
    ]


def test_flickering_scores_and_holes_leave_no_gap() -> None:
    scores = [0.9, 0.5, 0, 0.5, 0.9, 0, 0.5, 0, 0.9]
    frames = [[face(50, score=s)] if s else [] for s in scores]
    results = tracked(clip(frames), max_gap=3)
    assert [len(frame_faces.faces) for frame_faces in results] == [1] * 9
    assert [frame_faces.faces[0].filled for frame_faces in results] == [s == 0 for s in scores]
    assert [frame_faces.faces[0].previous for frame_faces in results] == [None] + [0] * 8


def test_two_weak_ends_fill_nothing() -> None:
    frames = [[face(50, score=0.5)], [], [face(50, score=0.5)]]
    assert summary(tracked(clip(frames))) == [[], [], []]


def test_a_cut_ends_tracks_fillings_and_vouching() -> None:
    frames = [[face(50)], [], [face(50)], [face(50, score=0.5)]]
    results = tracked(clip(frames, shots=[0, 0, 1, 2]))
    assert summary(results) == [[(50, None, False)], [], [(50, None, False)], []]
    assert [frame_faces.new_shot for frame_faces in results] == [True, False, True, True]


def test_max_gap_of_zero_neither_fills_nor_vouches() -> None:
    frames = [[face(50)], [], [face(50)], [face(50, score=0.5)]]
    results = tracked(clip(frames), max_gap=0)
    assert [len(frame_faces.faces) for frame_faces in results] == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="max_gap must not be negative, got -1"):
        TrackLimits(max_gap=-1)


@pytest.mark.parametrize(
    ("seen", "fewest", "left"),
    [
        ([4], 1, [4]),
        ([4], 2, []),
        ([4], 3, []),
        ([4, 5], 2, [4, 5]),
        ([4, 5], 3, []),
        ([4, 5, 6], 3, [4, 5, 6]),
        ([4, 5, 6], 4, []),
        # A gap is part of a track: from its first frame to its last it is filled in.
        ([4, 6], 3, [4, 5, 6]),
        ([4, 6], 4, []),
        # What goes on to the end of the shot may last longer than it shows.
        ([0], 3, [0]),
        ([1], 3, []),
        ([9], 3, [9]),
        ([8, 9], 4, [8, 9]),
        ([7, 8], 4, []),
    ],
)
def test_what_shows_for_a_moment_is_no_face(seen: list[int], fewest: int, left: list[int]) -> None:
    frames = [[face(200)] + ([face(60, score=0.95)] if i in seen else []) for i in range(10)]
    results = tracked(clip(frames), max_gap=2, fewest=fewest)
    beside = [frame_faces.frame.index for frame_faces in results if len(frame_faces.faces) == 2]
    assert beside == left
    # The one that stays is one track, wherever it stands among the faces of its frame.
    chain = follow(Window(tuple(results), 0), len(results[0].faces) - 1)
    assert [at for at, _ in chain] == list(range(10))
    assert {float(results[at].faces[f].face.landmarks[2, 0]) for at, f in chain} == {200.0}


def test_a_shot_that_is_shorter_than_a_track_must_be_keeps_its_faces() -> None:
    frames = [[face(100)] for _ in range(6)]
    results = tracked(clip(frames, shots=[0, 0, 1, 2, 2, 2]), fewest=4)
    assert [len(frame_faces.faces) for frame_faces in results] == [1] * 6
    (alone,) = tracked([detected(0, [face(100)])], fewest=4)
    assert len(alone.faces) == 1


def broke(
    frames: Sequence[Sequence[Face]], links: Links, first: tuple[int, int], last: tuple[int, int]
) -> bool:
    """Whether a track ends in the frame before `first` or begins in that after `last`, near it."""

    def near(one: Face, other: Face) -> bool:
        size = max(one.box[2] - one.box[0], other.box[2] - other.box[0])
        middles = (each.landmarks.mean(axis=0) for each in (one, other))
        return bool(np.linalg.norm(np.subtract(*middles)) <= 3 * size)

    begin, end = first[0], last[0]
    lost = [f for i, f in enumerate(frames[begin - 1]) if i not in links.previous[begin]]
    born = [f for f, p in zip(frames[end + 1], links.previous[end + 1], strict=True) if p is None]
    return any(near(frames[begin][first[1]], other) for other in lost) or any(
        near(frames[end][last[1]], other) for other in born
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("max_gap", "fewest"), [(0, 2), (0, 4), (1, 3), (2, 2), (3, 6)])
def test_short_tracks_are_those_of_the_whole_film(seed: int, max_gap: int, fewest: int) -> None:
    """The film, linked at once and without cuts, is the independent reference."""
    items = [replace(item, thumbnail=scene(0)) for item in wild(seed, 80, seen=0.2)]
    results = tracked(items, max_gap=max_gap, fewest=fewest, score=0)

    frames = [sorted(item.faces, key=lambda f: f.box.tolist()) for item in items]
    links = link_frames(frames, pts=range(len(frames)), max_gap=max_gap)
    dropped = 0
    for at, faces in enumerate(frames):
        expected = []
        for position, one in enumerate(faces):
            first = last = (at, position)
            while (before := links.before(*first)) is not None:
                first = before
            while (after := links.after(*last)) is not None:
                last = after
            whole = first[0] == 0 or last[0] == len(frames) - 1
            long = last[0] - first[0] + 1 >= fewest
            if whole or long or broke(frames, links, first, last):
                expected.append(one.box.tolist())
        found = [t.face.box.tolist() for t in results[at].faces if not t.filled]
        assert found == expected
        dropped += len(faces) - len(expected)
    assert dropped > 0


def test_a_face_that_moves_too_far_to_be_followed_is_no_find_of_a_moment() -> None:
    # 54 px a frame at a size of 40: no two of them are linked.
    pan = clip([[face(10 + 54 * i)] for i in range(12)])
    results = tracked(pan, fewest=4)
    assert [len(frame_faces.faces) for frame_faces in results] == [1] * 12
    assert all(t.previous is None for frame_faces in results for t in frame_faces.faces)
    # Farther than three of its sizes from frame to frame they are two finds.
    far = clip([[face(10 + 130 * (i - 4))] if i in (4, 5) else [] for i in range(10)])
    assert sum(len(frame_faces.faces) for frame_faces in tracked(far, fewest=4)) == 0


def test_fewest_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="fewest must be at least 1, got 0"):
        TrackLimits(max_gap=1, fewest=0)


def wild(seed: int, count: int = 40, *, seen: float = 0.7) -> list[Detected]:
    """Faces that wander, flicker and vanish, in a clip with cuts; `seen` is how often one shows."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(40, 260, (5, 2))
    frames, shots, shot = [], [], 0
    for _ in range(count):
        places += rng.normal(0, 4, places.shape)
        shown = [p for p in places if rng.random() > 1 - seen]
        frames.append([face(x, y, score=float(rng.choice([0.5, 0.85, 0.99]))) for x, y in shown])
        shot = (shot + 1) % 5 if rng.random() < 0.1 else shot
        shots.append(shot)
    return clip(frames, shots=shots)


@pytest.mark.parametrize("seed", range(5))
def test_the_detectors_order_decides_nothing(seed: int) -> None:
    items = wild(seed)
    mixed = []
    for item in items:
        faces = list(item.faces)
        random.Random(seed).shuffle(faces)
        mixed.append(Detected(item.frame, tuple(faces), item.thumbnail))
    for one, other in zip(tracked(items), tracked(mixed), strict=True):
        same(one, other)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("max_gap", "fewest"), [(0, 1), (1, 3), (4, 1), (4, 4), (2, 6)])
@pytest.mark.parametrize("seen", [0.3, 0.7])
def test_frames_beyond_the_stated_radius_change_nothing(
    seed: int, max_gap: int, fewest: int, seen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = wild(seed, seen=seen)
    stated = tracked(items, max_gap=max_gap, fewest=fewest)
    # `track` itself looks no farther than the radius: for the whole film it has to be wider.
    monkeypatch.setattr(TrackLimits, "radius", property(lambda _: len(items)))
    limits = TrackLimits(max_gap=max_gap, fewest=fewest)
    for index, found in enumerate(stated):
        same(found, track(Window(tuple(items), index), limits, score=0.8))


@pytest.mark.parametrize("seed", range(5))
def test_links_point_at_faces_of_the_frame_before_and_each_at_another(seed: int) -> None:
    results = tracked(wild(seed))
    assert sum(len(frame_faces.faces) for frame_faces in results) > 100
    for before, frame_faces in pairwise(results):
        links = [t.previous for t in frame_faces.faces if t.previous is not None]
        assert len(set(links)) == len(links)
        assert all(0 <= at < len(before.faces) for at in links)
        assert not (frame_faces.new_shot and links)


def test_link_is_the_mutual_nearest_within_reach() -> None:
    earlier = [face(100), face(180)]
    assert link(earlier, [face(185), face(104)]) == (1, 0)
    assert link(earlier, [face(110), face(102)]) == (None, 0)
    # Half a face in one frame, and a bit more in each further one.
    assert link(earlier, [face(121)]) == (None,)
    assert link(earlier, [face(121)], gap=2) == (0,)
    assert link(earlier, [face(133)], gap=50) == (None,)
    assert link(earlier, [face(100, size=61)]) == (None,)
    assert link(earlier, [face(100, size=59)]) == (0,)
    assert link([], [face(1)]) == (None,)
    assert link([face(1)], []) == ()
    nothing = Face(np.zeros(4), np.zeros((5, 2)), 1.0)
    assert link([nothing], [face(0, 0)]) == (None,)


def compare(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    frame = Frame(0, 0, (np.zeros((2, 2), np.uint8),), GREY)
    return is_cut(
        Detected(frame, (), one.astype(np.uint8)), Detected(frame, (), other.astype(np.uint8))
    )


def test_cuts_between_all_pairs_of_scenes() -> None:
    for one in range(5):
        for other in range(5):
            assert compare(scene(one), scene(other)) == (one != other)


def test_cuts_that_overlapping_windows_share_are_looked_for_once() -> None:
    shots = clip([[]] * 12, shots=[i // 4 for i in range(12)])
    known = CutMemo()
    limits = TrackLimits(max_gap=2)
    found = [track(w, limits, score=0.8, known_cuts=known) for w in sliding(shots, 5)]
    alone = [track(w, limits, score=0.8) for w in sliding(shots, 5)]
    assert [one.new_shot for one in found] == [one.new_shot for one in alone]
    assert [i for i, one in enumerate(found) if one.new_shot] == [0, 4, 8]
    assert len(known) == 11  # every frame but the first was compared with the one before
    said = {known.get(shots[i], WeakMemo).get(shots[i - 1], never) for i in range(1, 12)}
    assert said == {True, False}


def test_links_that_overlapping_windows_share_change_no_result() -> None:
    rng = np.random.default_rng(4)
    faces = [
        [face(100 + 9 * i + 60 * n + rng.normal(0, 3), 80 + 40 * n) for n in range(2)]
        for i in range(14)
    ]
    del faces[6][1]  # and one is lost for a frame
    shots = clip(faces, shots=[i // 9 for i in range(14)])
    known = LinkMemo()
    limits = TrackLimits(max_gap=2)
    found = [track(w, limits, score=0.8, known_links=known) for w in sliding(shots, 5)]
    alone = [track(w, limits, score=0.8) for w in sliding(shots, 5)]

    for one, other in zip(found, alone, strict=True):
        same(one, other)
    linked = [len(known.get(one, WeakMemo)) for one in shots]
    assert linked == [0, *[1] * 8, 0, *[1] * 4]  # every frame but the first of each shot


def never() -> bool:
    raise AssertionError("this pair was compared before")


def test_pans_flashes_noise_and_motion_are_no_cuts() -> None:
    rng = np.random.default_rng(0)
    base = scene(0).astype(np.float64)
    assert not compare(base, np.roll(base, (2, 5), (0, 1)))
    assert not compare(base, np.clip(base * 0.4 + 140, 0, 255))
    assert not compare(base, np.clip(base + rng.normal(0, 15, base.shape), 0, 255))
    moved = base.copy()
    moved[10:30, 10:30] = 200
    assert not compare(base, moved)


def test_dark_clips_are_not_full_of_cuts() -> None:
    rng = np.random.default_rng(0)
    dark = [np.clip(rng.normal(16, 1.5, (36, 64)), 0, 255) for _ in range(5)]
    assert not any(compare(a, b) for a, b in pairwise(dark))
    assert compare(dark[0], scene(0))
    assert compare(np.full((36, 64), 16), np.full((36, 64), 235))


def frame_faces_of(faces: Sequence[Face]) -> FrameFaces[TrackedFace]:
    frame = Frame(0, 0, (np.zeros((200, 300), np.uint8),), GREY)
    return FrameFaces(frame, tuple(TrackedFace(f, i) for i, f in enumerate(faces)), False)


def test_choose_names_a_reason_and_takes_nothing_out() -> None:
    frame_faces = frame_faces_of(
        [face(20, size=10), face(80), face(140, size=60), face(220, size=150)]
    )
    options = FaceOptions(min_face=24, max_face=100)
    chosen = choose(Window((frame_faces,), 0), options=options)
    assert [t.skip for t in chosen.faces] == [
        SkipReason.TOO_SMALL,
        None,
        None,
        SkipReason.TOO_LARGE,
    ]
    assert [t.previous for t in chosen.faces] == [0, 1, 2, 3]
    largest = choose(
        Window((frame_faces,), 0), options=FaceOptions(min_face=24, max_face=100, faces="largest")
    )
    assert [t.skip for t in largest.faces] == [
        SkipReason.TOO_SMALL,
        SkipReason.NOT_CHOSEN,
        None,
        SkipReason.TOO_LARGE,
    ]
    centre = choose(Window((frame_faces,), 0), options=FaceOptions(min_face=24, faces="center"))
    assert [t.skip for t in centre.faces] == [
        SkipReason.TOO_SMALL,
        SkipReason.NOT_CHOSEN,
        None,
        SkipReason.NOT_CHOSEN,
    ]
    assert (
        choose(Window((frame_faces_of([]),), 0), options=FaceOptions(faces="largest")).faces == ()
    )


def test_a_face_near_a_threshold_is_judged_by_its_track() -> None:
    sizes = [30, 22, 30, 21, 30]  # the detector's boxes breathe around the bound of 24
    results = tuple(frame_faces_of([face(80, size=size)]) for size in sizes)
    options = FaceOptions(min_face=24)
    for centre in range(5):
        assert choose(Window(results, centre), options=options).faces[0].skip is None
    alone = choose(Window(results[1:2], 0), options=options)
    assert alone.faces[0].skip == SkipReason.TOO_SMALL


def test_follow_stops_at_cuts_lost_links_and_the_windows_ends() -> None:
    def frame_faces(
        links: Sequence[int | None], *, new_shot: bool = False
    ) -> FrameFaces[TrackedFace]:
        base = frame_faces_of([face(40 * i) for i in range(len(links))])
        faces = tuple(TrackedFace(t.face, at) for t, at in zip(base.faces, links, strict=True))
        return FrameFaces(base.frame, faces, new_shot)

    items = (
        frame_faces([None, None], new_shot=True),
        frame_faces([1, 0]),
        frame_faces([None, 0]),
        frame_faces([1]),
        frame_faces([0], new_shot=True),
    )
    assert follow(Window(items, 2), 1) == [(0, 1), (1, 0), (2, 1), (3, 0)]
    assert follow(Window(items, 2), 0) == [(2, 0)]
    assert follow(Window(items, 0), 0) == [(0, 0), (1, 1)]
    assert follow(Window(items, 4), 0) == [(4, 0)]
    with pytest.raises(IndexError, match="face 1 of 1"):
        follow(Window(items, 3), 1)
