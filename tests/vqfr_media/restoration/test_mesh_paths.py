"""A real face held by its mesh: the same bits however its frames are asked for."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.stand_ins import IdentityEngine
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.image import read_image
from vqfr_media.media.rgb_clip import picture_of
from vqfr_media.options import RestoreOptions, TemporalOptions
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import Face

ASTRONAUT = Path(__file__).parents[3] / "vqfr_media" / "demo" / "astronaut.jpg"
# Her landmarks as the bundled detector finds them, and what is shown of the photograph.
FIVE = np.array([[203.6, 99.8], [247.3, 102.8], [223.7, 124.8], [203.5, 142.6], [241.2, 145.2]])
LEFT, TOP, SIDE, FRAMES = 130, 24, 190, 16
RATE = Fraction(10)


class TremblingDetector:
    """Finds her face where it is, but for a tremble that the frame's number decides."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        number = round(float(image[0, 0].mean()) / 8)
        noise = np.random.default_rng(number).normal(0, 1.5, (5, 2))
        five = FIVE - np.array([LEFT + 2 * number, TOP]) + noise
        middle = five.mean(axis=0)
        return [Face(np.concatenate([middle - 52, middle + 52]), five, 0.99)]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """She goes to the left by two pixels a frame; the first pixel is the frame's number."""
    photograph = picture_of(read_image(ASTRONAUT)[0])
    form = PixelFormat(family="rgb", matrix="bt709", full_range=True)
    found = []
    for number in range(FRAMES):
        left = LEFT + 2 * number
        shown = photograph[TOP : TOP + SIDE, left : left + SIDE].copy()
        shown[0, 0] = 8 * number
        planes = tuple(np.ascontiguousarray(shown[..., channel]) for channel in (1, 2, 0))
        found.append(Frame(number, number, planes, form))
    return found


def restorer(landmarks: str) -> Restorer:
    options = RestoreOptions(temporal=TemporalOptions(landmarks=landmarks))  # type: ignore[arg-type]
    engine = IdentityEngine(size=64, batch_size=2)
    return Restorer(engine, TremblingDetector(), options, 1 / RATE, RATE)


def places(landmarks: str, frames: list[Frame]) -> list[npt.NDArray[np.float64]]:
    restored = restore_frames(frames, restorer(landmarks))
    return [faces.faces[0].aligned.landmarks for _, faces in restored]


def test_every_way_to_a_frame_has_the_same_bits(frames: list[Frame]) -> None:
    streamed = places("mesh", frames)
    access = RandomAccess(restorer("mesh"), FRAMES, requests=1)
    for number in (15, 7, 0, 8):
        (face,) = access.frame_faces(number, frames.__getitem__).faces
        np.testing.assert_array_equal(face.aligned.landmarks, streamed[number])
    part = restorer("mesh")
    last = range(FRAMES - 2, FRAMES)
    read = frames[last.start - part.radii.total :]
    assert len(read) < FRAMES
    for (_, faces), expected in zip(
        restore_frames(read, part, wanted=last), streamed[last.start :], strict=True
    ):
        np.testing.assert_array_equal(faces.faces[0].aligned.landmarks, expected)


def test_the_mesh_takes_the_tremble_out(frames: list[Frame]) -> None:
    def tremble(landmarks: str) -> float:
        path = np.array(places(landmarks, frames))
        return float(np.linalg.norm(path[2:] - 2 * path[1:-1] + path[:-2], axis=2).mean())

    assert tremble("mesh") < 0.4 * tremble("five")
