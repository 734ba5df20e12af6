"""Made movements, compared with the tracks that are true by construction."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.vqfr_media.faces.test_track import clip, face, tracked
from vqfr_media.faces.linking import link_frames
from vqfr_media.faces.track import follow
from vqfr_media.values import Face, FrameFaces, TrackedFace
from vqfr_media.windows import Window

FRAMES = 24
type Path2d = Callable[[int], tuple[float, float, float]]
"""Frame number to x, y and size of a face."""


def swing(amplitude: float) -> Path2d:
    """As in cases/swing120.mkv: 124 px, back after six frames, to the other side after six more."""
    return lambda t: (600 + amplitude * float(np.sin(np.pi * t / 6)), 300.0, 124.0)


def zoom(t: int) -> tuple[float, float, float]:
    """Comes nearer by a sixth from frame to frame, off the centre."""
    size = 40 * 1.16**t
    return 300 + 0.8 * size, 200 + 0.3 * size, size


def shake(t: int) -> tuple[float, float, float]:
    """A camera that trembles by 0.45 of the face from frame to frame."""
    return 300 + 27.0 * (-1) ** t, 200.0, 120.0


def fast(t: int) -> tuple[float, float, float]:
    """Runs past by 0.9 of its size a frame."""
    return 50 + 54.0 * t, 200.0, 60.0


def noisy(path: Path2d, t: int, rng: np.random.Generator) -> Face:
    """The face at frame `t`, with landmarks that tremble by 2 % of its size."""
    x, y, size = path(t)
    true = face(x, y, size=size)
    return Face(true.box, true.landmarks + rng.normal(0, 0.02 * size, (5, 2)), 0.95)


def tracks_of(results: Sequence[FrameFaces[TrackedFace]]) -> list[list[tuple[int, int]]]:
    """Each track as its frames and positions."""
    window = tuple(results)
    begins = [
        (at, position)
        for at, result in enumerate(results)
        for position, tracked_face in enumerate(result.faces)
        if tracked_face.previous is None
    ]
    return [follow(Window(window, at), position) for at, position in begins]


@pytest.mark.parametrize(
    "path",
    [swing(120), swing(170), swing(50), zoom, shake, fast],
    ids=["swing 120", "swing 170", "swing 50", "zoom", "shake", "fast"],
)
def test_one_face_is_one_track_and_nothing_is_filled(path: Path2d) -> None:
    rng = np.random.default_rng(1)
    count = 14 if path is zoom else FRAMES
    results = tracked(clip([[noisy(path, t, rng)] for t in range(count)]), max_gap=5)
    assert [[f.filled for f in result.faces] for result in results] == [[False]] * count
    assert [len(track) for track in tracks_of(results)] == [count]


@pytest.mark.parametrize("amplitude", [120, 170])
@pytest.mark.parametrize("lost", [3, 7, 9, 15])
def test_a_frame_without_the_swinging_face_is_filled_where_the_face_is(
    amplitude: float, lost: int
) -> None:
    path = swing(amplitude)
    frames = [[] if t == lost else [face(*path(t)[:2], size=124)] for t in range(FRAMES)]
    results = tracked(clip(frames), max_gap=5)
    assert [len(track) for track in tracks_of(results)] == [FRAMES]
    assert [result.faces[0].filled for result in results] == [t == lost for t in range(FRAMES)]
    error = results[lost].faces[0].face.landmarks - face(*path(lost)[:2], size=124).landmarks
    # On the straight line between its neighbours it would be off by a seventh of the amplitude
    # at the turning points.
    assert float(np.abs(error).max()) < 0.06 * amplitude


@pytest.mark.parametrize("speed", [6.0, 14.0, 23.0])
def test_two_that_cross_at_one_height_keep_their_tracks(speed: float) -> None:
    """A detector sees both all the time; only their motion tells who is who."""
    centre, rng = 300.0, np.random.default_rng(2)
    start = speed * (FRAMES / 2 - 0.25)

    def from_left(t: int) -> tuple[float, float, float]:
        return centre - start + speed * t, 200.0, 60.0

    def from_right(t: int) -> tuple[float, float, float]:
        return centre + start - speed * t, 200.0, 60.0

    frames = [[noisy(from_left, t, rng), noisy(from_right, t, rng)] for t in range(FRAMES)]
    links = link_frames(frames, pts=range(FRAMES), max_gap=5)
    assert links.previous[1:] == ((0, 1),) * (FRAMES - 1)
    assert links.gaps == ()


def test_who_leaves_is_not_who_enters_elsewhere() -> None:
    """Another face, one size away, the frame after one is gone: no track, and nothing is filled."""
    frames = [[face(100, size=60)] if t < 8 else [face(160, size=60)] for t in range(16)]
    results = tracked(clip(frames), max_gap=5)
    assert [len(track) for track in tracks_of(results)] == [8, 8]
    assert not any(f.filled for result in results for f in result.faces)


def test_a_face_that_is_there_is_not_paired_with_its_own_return() -> None:
    """Two swings; the first has faces all the time, the second is lost for three frames."""
    first, second = swing(120), swing(60)

    def moved(t: int) -> Face:
        x, y, size = second(t)
        return face(x, y + 400, size=size)

    frames = [
        [face(*first(t)[:2], size=124)] + ([] if 5 <= t <= 7 else [moved(t)]) for t in range(FRAMES)
    ]
    results = tracked(clip(frames), max_gap=5)
    assert [len(track) for track in tracks_of(results)] == [FRAMES, FRAMES]
    filled = {at for at, result in enumerate(results) for f in result.faces if f.filled}
    assert filled == {5, 6, 7}


def test_times_must_fit_the_frames() -> None:
    with pytest.raises(ValueError, match="2 frames and 1 times"):
        link_frames([[], []], pts=[0], max_gap=1)
