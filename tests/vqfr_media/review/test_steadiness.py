"""What networks and the source's motion say of a face in time, on clips with known faults."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.portrait import FIVE, TremblingDetector, portrait, portrait_frame
from tests.vqfr_media.review.clips import write_pictures
from vqfr_media.faces.mesh import bundled_mesh
from vqfr_media.options import RestoreOptions
from vqfr_media.restoration.persons import load_describer
from vqfr_media.review.figures import Figures
from vqfr_media.review.measure import measure
from vqfr_media.review.steadiness import FaceJudge, gradient, unsteadiness

INNER = slice(28, 228)
FRAMES = 6
Picture = npt.NDArray[np.uint8]
Change = Callable[[int, Picture], Picture]


@pytest.fixture(scope="module")
def luma() -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(portrait(0), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (256, 256)).astype(np.float32)


def test_brightness_that_changes_over_the_gradient(luma: npt.NDArray[np.float32]) -> None:
    inner = np.zeros((256, 256), bool)
    inner[INNER, INNER] = True
    found = unsteadiness((luma, luma), (luma, luma + 6), INNER)
    assert found == pytest.approx((0, 6 / gradient(luma, inner)), rel=1e-4)


def test_motion_and_blur_are_no_unsteadiness(luma: npt.NDArray[np.float32]) -> None:
    soft = np.asarray(cv2.GaussianBlur(luma, (0, 0), 3), np.float32)
    assert unsteadiness((luma, luma), (soft, soft), INNER) == (0, 0)
    moved, soft_moved = (np.roll(picture, 3, axis=1) for picture in (luma, soft))
    along = unsteadiness((luma, moved), (soft, soft_moved), INNER)
    behind = unsteadiness((luma, moved), (soft, soft), INNER)
    assert along is not None
    assert behind is not None
    assert along[1] < 0.1 * behind[1]


@pytest.fixture(scope="module")
def judge() -> FaceJudge:
    return FaceJudge(load_describer(), bundled_mesh())


@pytest.fixture(scope="module")
def figures(
    judge: FaceJudge, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Change], Figures]:
    """Measures her film against itself, changed."""
    folder: Path = tmp_path_factory.mktemp("steady")
    source = write_pictures(folder / "in.mkv", [portrait(n) for n in range(FRAMES)])

    def of(change: Change) -> Figures:
        changed = [change(number, portrait(number)) for number in range(FRAMES)]
        for number, picture in enumerate(changed):
            picture[:8, :8] = portrait(number)[:8, :8]  # by which the detector knows the frame
        other = write_pictures(folder / "out.mkv", changed)
        found = measure(
            source, other, RestoreOptions(), detector=TremblingDetector(),
            detector_description="hers", judge=judge,
        )  # fmt: skip
        assert found.figures is not None
        return found.figures

    return of


def test_the_film_itself(figures: Callable[[Change], Figures]) -> None:
    same = figures(lambda _, picture: picture)
    assert same.mesh_jitter_after == same.mesh_jitter_before
    assert same.unsteadiness_after == same.unsteadiness_before
    assert same.drift_after == same.drift_before
    assert same.drift_before is not None
    assert same.drift_before < 0.2


def test_each_rises_with_its_cause(figures: Callable[[Change], Figures]) -> None:
    def other_face(number: int, picture: Picture) -> Picture:
        return picture if number % 2 else np.ascontiguousarray(picture[..., ::-1])

    def shifted(number: int, picture: Picture) -> Picture:
        return np.roll(picture, 3 * (number % 2), axis=0)

    shaken, strange = asdict(figures(shifted)), asdict(figures(other_face))
    for found in (shaken, strange):
        assert found["unsteadiness_after"] > 2 * found["unsteadiness_before"]
    # Every point is 3 pixels off the line between its neighbours, downwards only.
    assert shaken["mesh_jitter_after"] == pytest.approx(3 / np.sqrt(1.5) / np.sqrt(2), rel=0.25)
    assert shaken["mesh_jitter_after"] > 2 * shaken["mesh_jitter_before"]
    assert strange["drift_after"] > 1.5 * strange["drift_before"]


def test_without_openvino_there_is_no_mesh(judge: FaceJudge) -> None:
    five = FIVE - np.array([130, 24])
    look = FaceJudge(judge.describer, None).look(portrait_frame(0), five, np.eye(2, 3))
    assert look.mesh is None
    seen = judge.look(portrait_frame(0), five, np.eye(2, 3))
    assert seen.mesh is not None
    assert seen.mesh.shape == (307, 2)
    np.testing.assert_array_equal(look.descriptor, seen.descriptor)
