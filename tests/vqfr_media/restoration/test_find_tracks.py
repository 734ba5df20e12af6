"""Tracks that are found before a restoration are those that it would find itself."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from tests.scenes import HEIGHT, WIDTH, scene
from tests.stand_ins import IdentityEngine, NearMarkerDetector
from tests.vqfr_media.faces.test_track import GREY, face, same
from vqfr_media.faces.detect import detect
from vqfr_media.faces.track import track
from vqfr_media.frames import Display, Frame, PixelFormat, VideoInfo
from vqfr_media.options import RestoreOptions
from vqfr_media.restoration.find_tracks import follow_faces
from vqfr_media.restoration.radii import FrameRadii, track_limits
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import Face
from vqfr_media.windows import sliding

RATE = Fraction(10)
INFO = VideoInfo(
    width=300, height=300, format=GREY, display=Display(), time_base=1 / RATE, frame_rate=RATE
)


class Scripted:
    """Gives the faces of one frame after the other, whatever the picture shows."""

    def __init__(self, faces: list[list[Face]]) -> None:
        self._faces: Iterator[list[Face]] = iter(faces)

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        del image
        return next(self._faces)


def wandering(seed: int, count: int = 60) -> list[list[Face]]:
    """Faces that run by up to most of their size a frame, and are lost now and then."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(60, 240, (3, 2)), rng.normal(0, 12, (3, 2))
    frames = []
    for _ in range(count):
        speeds += rng.normal(0, 10, speeds.shape) - 0.05 * (places - 150)
        places += speeds
        shown = [place for place in places if rng.random() > 0.25]
        frames.append([face(x, y, score=float(rng.choice([0.5, 0.9]))) for x, y in shown])
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_a_restoration(seed: int) -> None:
    faces, options = wandering(seed), RestoreOptions()
    frames = [
        Frame(number, number, (np.zeros((300, 300), np.uint8),), GREY)
        for number in range(len(faces))
    ]
    score, proxy = options.face.score, options.face.proxy
    detector = Scripted(faces)
    detected = [detect(frame, detector, proxy=proxy, score=score) for frame in frames]
    radius = FrameRadii.of(options.temporal, RATE).track
    limits = track_limits(options.temporal, RATE)
    expected = [track(w, limits, score=score) for w in sliding(detected, radius)]
    found = list(follow_faces(frames, INFO, Scripted(faces), options))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        same(one, other)


def test_a_detector_that_looks_near_known_faces_is_asked_as_in_a_restoration() -> None:
    rgb = PixelFormat(family="rgb", matrix="bt709", full_range=True)
    frames = [
        Frame(number, number, tuple(scene(number, discs=2, cut=8)[..., c] for c in (1, 2, 0)), rgb)
        for number in range(17)
    ]
    info = VideoInfo(
        width=WIDTH, height=HEIGHT, format=rgb, display=Display(), time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
    )  # fmt: skip
    options, detector = RestoreOptions(), NearMarkerDetector()
    work = Restorer(IdentityEngine(), detector, options, info.time_base, info.frame_rate)
    searched = sliding(map(work.search, frames), work.radii.detect)
    expected = list(map(work.track, sliding(map(work.detect, searched), work.radii.track)))
    found = list(follow_faces(frames, info, detector, options))
    assert len(found) == len(expected) == 17
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    # Near a known disc it sees a quarter of a pixel beside: 1 to 4, but not 5, nor the last two.
    exact = [np.abs(item.faces[0].face.box % 1).max() < 1e-9 for item in found]
    assert [number for number, whole in enumerate(exact) if whole] == [0, 5, 10, 15, 16]
