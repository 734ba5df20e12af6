"""A real face held by its mesh: the same bits however its frames are asked for."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.portrait import RATE, TremblingDetector, portrait_frame
from tests.stand_ins import IdentityEngine
from vqfr_media.frames import Frame
from vqfr_media.options import RestoreOptions, TemporalOptions
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames

FRAMES = 20


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [portrait_frame(number) for number in range(FRAMES)]


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
    for number in (19, 9, 0, 10):
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
