"""The detector that the package brings along, on people it has never seen."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from vqfr_training.detector.evaluation import agreement
from vqfr_training.detector.multibox import overlaps
from vqfr_training.detector.report import proxies

from tests.paths import ROOT
from vqfr_media.faces.detect import RetinaFaceDetector

BUNDLED = ROOT / "vqfr_media" / "models" / "detector.safetensors"
# Where Pytorch_Retinaface's published weights see the astronaut's face and landmarks.
BOX = np.array([178.0, 60.0, 273.1, 180.1], np.float32)
LANDMARKS = np.array(
    [[203.6, 101.1], [247.5, 104.5], [223.3, 129.3], [200.9, 138.4], [245.6, 141.2]]
)


@pytest.fixture(scope="module")
def detector() -> RetinaFaceDetector:
    return RetinaFaceDetector(BUNDLED, backbone="mobilenet", backend="torch")


def test_it_is_small() -> None:
    assert BUNDLED.stat().st_size <= 1_000_000


@pytest.mark.parametrize("turn", [-25, 0, 25])
@pytest.mark.parametrize("scale", [0.4, 0.7, 1.0, 1.5])
def test_it_finds_the_astronaut_and_nothing_else(
    detector: RetinaFaceDetector, scale: float, turn: float
) -> None:
    middle, target = (BOX[:2] + BOX[2:]) / 2, np.array([320.0, 180.0])
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), turn, scale)
    matrix[:, 2] = np.asarray(matrix[:, 2]) + target - middle
    photograph = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"))
    assert photograph is not None
    if scale < 1:  # as a camera would: what the small picture cannot hold is not in it
        photograph = cv2.GaussianBlur(photograph, (0, 0), 0.4 / scale)
    picture = cv2.warpAffine(photograph[..., ::-1], matrix, (640, 360), flags=cv2.INTER_LINEAR)
    faces = [face for face in detector(np.asarray(picture, np.uint8)) if face.score >= 0.8]
    assert len(faces) == 1
    where = LANDMARKS @ np.asarray(matrix)[:, :2].T + np.asarray(matrix)[:, 2]
    eyes = np.linalg.norm(where[0] - where[1])
    assert np.linalg.norm(faces[0].landmarks - where, axis=1).mean() < 0.2 * eyes
    if turn == 0:
        half = (BOX[2:] - BOX[:2]) / 2 * scale
        box = np.concatenate([target - half, target + half])[None].astype(np.float32)
        assert overlaps(np.array([faces[0].box], np.float32), box)[0, 0] > 0.6


@pytest.mark.parametrize("clip", ["duo_lq.mp4", pytest.param("duo_gt.mp4", marks=pytest.mark.slow)])
def test_it_finds_what_the_published_weights_find(
    detector: RetinaFaceDetector, shared: Path, clip: str
) -> None:
    published = RetinaFaceDetector(
        shared / "weights" / "detection_mobilenet0.25_Final.pth",
        backbone="mobilenet",
        backend="torch",
    )
    frames = list(proxies(shared / "data" / "clips" / clip))[::8]
    both = agreement(frames, detector, published)
    assert both.theirs > 20
    assert both.found == both.theirs
    assert both.unconfirmed == 0
