"""The frames' numbers decide which are searched as a whole; others near what was found."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from tests.stand_ins import MarkerDetector
from vqfr_media.faces.detect import detect
from vqfr_media.faces.search import Unsearched, detect_between, search, search_step
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.values import Detected, Face
from vqfr_media.windows import sliding

STEP = 5
TIME_BASE = Fraction(1, 25)
RGB = PixelFormat(family="rgb", matrix="bt709", full_range=True)


def picture(number: int, *, disc: bool = True, place: int = 0) -> npt.NDArray[np.uint8]:
    """A textured wall, another one for each `place`, with a disc that drifts."""
    y, x = np.mgrid[0:180, 0:320]
    shown = np.random.default_rng(place).normal(100, 25, (12, 20, 3))
    wall = np.repeat(np.repeat(shown, 15, axis=0), 16, axis=1).clip(40, 140).astype(np.uint8)
    if disc:
        wall[(x - 100 - 2 * number) ** 2 + (y - 90) ** 2 < 20**2] = (235, 10, 10)
    return wall


def frame(number: int, shown: npt.NDArray[np.uint8], *, pts: int | None = None) -> Frame:
    planes = tuple(np.ascontiguousarray(shown[..., channel]) for channel in (1, 2, 0))
    return Frame(number, number if pts is None else pts, planes, RGB)


class Watching(MarkerDetector):
    """Writes down where it is asked to look: None for the whole picture, else the known faces."""

    def __init__(self, *, blind: bool = False) -> None:
        self.asked: list[list[Face] | None] = []
        self.blind = blind

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        self.asked.append(None)
        return super().__call__(image)

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        self.asked.append(list(known))
        seen = super().__call__(image)
        if not self.blind:
            return seen
        # Something that is no face, far from all discs.
        return [Face(one.box + 150, one.landmarks + 150, 0.5) for one in seen]


def found(
    frames: Sequence[Frame], detector: Watching, *, interval: float = 0.2
) -> tuple[list[Detected], list[list[list[Face] | None]]]:
    """Returns what is detected in each frame, and where the detector was asked to look for it."""
    asked: list[list[list[Face] | None]] = []

    def one(work: Frame) -> Detected | Unsearched:
        detector.asked.clear()
        searched = search(work, detector, proxy=640, score=0.8, step=STEP)
        asked.append(list(detector.asked))
        return searched

    searched = [one(work) for work in frames]
    detected = []
    for number, window in enumerate(sliding(searched, STEP - 1)):
        detector.asked.clear()
        detected.append(
            detect_between(window, detector, score=0.8, interval=interval, time_base=TIME_BASE)
        )
        asked[number] += detector.asked
    return detected, asked


def test_the_steps_between_searches() -> None:
    assert search_step(0.2, Fraction(25)) == 5
    assert search_step(0.2, Fraction(24000, 1001)) == 4
    assert search_step(0.2, Fraction(4)) == 1
    assert search_step(0.2, Fraction(1000)) == 8
    assert search_step(0, Fraction(60)) == 1


def test_between_two_searches_faces_are_looked_for_near_those_of_both() -> None:
    frames = [frame(number, picture(number)) for number in range(11)]
    detected, asked = found(frames, Watching())
    for number, (seen, looks) in enumerate(zip(detected, asked, strict=True)):
        (expected,) = detect(frames[number], MarkerDetector(), proxy=640, score=0.8).faces
        np.testing.assert_allclose(seen.faces[0].landmarks, expected.landmarks, atol=1e-9)
        np.testing.assert_array_equal(
            seen.thumbnail, detect(frames[number], MarkerDetector(), proxy=640, score=0.8).thumbnail
        )
        (look,) = looks
        if number % STEP == 0:
            assert look is None
        else:
            assert look is not None
            first = number - number % STEP
            places = [float(face.box[[0, 2]].mean()) for face in look]
            assert places == pytest.approx([99.5 + 2 * first, 99.5 + 2 * (first + STEP)], abs=1)


def test_numbers_decide_and_not_where_the_stream_begins() -> None:
    frames = [frame(number, picture(number)) for number in range(3, 14)]
    _, asked = found(frames, Watching())
    whole = [work.index for work, looks in zip(frames, asked, strict=True) if looks == [None]]
    # 3 and 4 have none before them, and 11 to 13 none after.
    assert whole == [3, 4, 5, 10, 11, 12, 13]


def test_a_picture_of_another_shot_says_nothing() -> None:
    frames = [frame(number, picture(number, place=int(number >= 8))) for number in range(11)]
    _, asked = found(frames, Watching())
    for number in (6, 7, 8, 9):
        (look,) = asked[number]
        assert look is not None
        (face,) = look
        neighbour = 5 if number < 8 else 10
        assert float(face.box[[0, 2]].mean()) == pytest.approx(99.5 + 2 * neighbour, abs=1)


def test_a_shot_between_two_searches_is_searched_as_a_whole() -> None:
    frames = [frame(number, picture(number, place=int(6 <= number <= 8))) for number in range(11)]
    _, asked = found(frames, Watching())
    assert [asked[number] for number in (6, 7, 8)] == [[None]] * 3
    assert asked[9] != [None]


def test_where_too_much_time_lies_between_all_is_searched() -> None:
    frames = [frame(number, picture(number), pts=number * 3) for number in range(11)]
    _, asked = found(frames, Watching())
    assert asked == [[None]] * 11
    _, asked = found(frames, Watching(), interval=0.4)
    assert asked[1] != [None]


def test_a_face_that_both_have_and_that_is_not_found_near_them_is_searched_for() -> None:
    frames = [frame(number, picture(number)) for number in range(6)]
    detected, asked = found(frames, Watching(blind=True))
    assert [len(one.faces) for one in detected] == [1] * 6
    for looks in asked[1:5]:
        assert looks[0] is not None
        assert looks[1:] == [None]


def test_a_face_that_one_of_them_has_may_be_gone() -> None:
    frames = [frame(number, picture(number, disc=number == 0)) for number in range(6)]
    detected, asked = found(frames, Watching())
    assert [len(one.faces) for one in detected] == [1, 0, 0, 0, 0, 0]
    assert all(len(looks) == 1 for looks in asked)


def test_a_detector_that_knows_whole_pictures_only_is_given_those() -> None:
    detector = MarkerDetector()
    frames = [frame(number, picture(number)) for number in range(6)]
    searched = [search(one, detector, proxy=640, score=0.8, step=STEP) for one in frames]
    for one, window in zip(frames, sliding(searched, STEP - 1), strict=True):
        seen = detect_between(window, detector, score=0.8, interval=0.2, time_base=TIME_BASE)
        expected = detect(one, detector, proxy=640, score=0.8)
        np.testing.assert_array_equal(seen.faces[0].box, expected.faces[0].box)
