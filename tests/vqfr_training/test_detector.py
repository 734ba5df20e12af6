"""Whole runs of the smoke detector, and the evaluation against cases counted by hand."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from vqfr_training.__main__ import main
from vqfr_training.detector.detections import find_faces
from vqfr_training.detector.detector import DetectorStage
from vqfr_training.detector.evaluation import agreement, bands, measure, table, threshold_for
from vqfr_training.detector.retinaface import RetinaFace
from vqfr_training.detector.scenes import Scene
from vqfr_training.loop import load_averaged, run
from vqfr_training.recipes import find_recipe, smoke_detector
from vqfr_training.step import average

from tests.vqfr_training.logs import losses
from vqfr_media.faces.detect import RetinaFaceDetector

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole_run(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "detector"
    run(smoke_detector(), data=drawn_faces, out=out)
    return out


def test_the_loss_falls(whole_run: Path) -> None:
    log = losses(whole_run)
    values = [line["total"] for line in log if "total" in line]
    assert np.mean(values[-20:]) < 0.9 * np.mean(values[:20])
    validated = [line["val_total"] for line in log if "val_total" in line]
    assert len(validated) == 2
    assert {path.name for path in whole_run.iterdir()} == {
        "run.json",
        "log.jsonl",
        "checkpoint.pt",
        "samples_000040.png",
        "samples_000080.png",
        "network.safetensors",
        "board",
    }


def test_a_resumed_run_is_the_uninterrupted_one(
    drawn_faces: Path, whole_run: Path, tmp_path: Path
) -> None:
    run(smoke_detector(), data=drawn_faces, out=tmp_path / "run", stop_after=33)
    run(smoke_detector(), data=drawn_faces, out=tmp_path / "run", resume=True)
    assert losses(tmp_path / "run")[-1] == losses(whole_run)[-1]
    expected = load_averaged(whole_run)
    for name, value in load_averaged(tmp_path / "run").items():
        assert torch.equal(value, expected[name]), name


def test_another_seed_is_another_run(drawn_faces: Path, whole_run: Path, tmp_path: Path) -> None:
    other = replace(smoke_detector(), seed=5)
    run(other, data=drawn_faces, out=tmp_path / "run", stop_after=2)
    assert losses(tmp_path / "run") != losses(whole_run)[:2]


def test_a_run_can_begin_from_anothers_weights(drawn_faces: Path, whole_run: Path) -> None:
    weights = load_averaged(whole_run)
    stage = DetectorStage(
        smoke_detector(), data=drawn_faces, device=torch.device("cpu"), init=weights
    )
    for network in (stage.network, stage.averaged):
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name]), name


def test_the_package_finds_what_the_averaged_network_finds(whole_run: Path) -> None:
    network = RetinaFace()
    network.load_state_dict(load_averaged(whole_run))
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    score = 0.02  # a barely trained network finds something everywhere
    found = find_faces(network.eval(), image, score=0.5 * score)
    detector = RetinaFaceDetector(
        whole_run / "network.safetensors", backbone="mobilenet", score=score
    )
    faces = detector(image)
    assert len(faces) > 0
    assert len(faces) == pytest.approx(len(found.scores), abs=2)
    assert faces[0].score == pytest.approx(float(found.scores[0]), abs=5e-3)
    # The package's place is a mean over the anchors that agree with this one.
    np.testing.assert_allclose(faces[0].box, found.boxes[0], atol=2)


def test_batch_statistics_are_averaged_too() -> None:
    mean, current = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    current(torch.randn(4, 3, 5, 5) + 2)
    before, latest = ({k: v.clone() for k, v in n.state_dict().items()} for n in (mean, current))
    average(mean, current, decay=0.75)
    expected = 0.75 * before["running_mean"] + 0.25 * latest["running_mean"]
    torch.testing.assert_close(mean.state_dict()["running_mean"], expected)
    assert int(mean.state_dict()["num_batches_tracked"]) == 1


def test_mistakes_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one kind"):
        replace(smoke_detector(), batches=())
    with pytest.raises(ValueError, match="validation_scenes"):
        replace(smoke_detector(), validation_scenes=0)
    with pytest.raises(ValueError, match="steps"):
        replace(smoke_detector(), steps=0)
    assert find_recipe("detector").name == "detector"
    arguments = ["smoke_detector", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--threads", "1"]) == 2
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Seen:
    """A face that a stand-in detector finds."""

    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    score: float


def seen(left: float, top: float, side: float, score: float, *, shift: float = 0.0) -> Seen:
    """A square face whose eyes are half its side apart."""
    box = np.array([left, top, left + side, top + side])
    points = np.array([[0.25, 0.4], [0.75, 0.4], [0.5, 0.6], [0.3, 0.8], [0.7, 0.8]]) * side
    return Seen(box, points + np.array([left + shift, top]), score)


def scene(faces: list[Seen], *, turned: float = 0.0, counted: bool = True) -> Scene:
    return Scene(
        np.zeros((64, 64, 3), np.uint8),
        np.array([face.box for face in faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        np.full(len(faces), turned, np.float32),
        np.full(len(faces), counted),
    )


def test_recall_and_false_faces_by_hand() -> None:
    truth = [
        scene([seen(0, 0, 30, 1), seen(40, 40, 20, 1)]),
        scene([seen(10, 10, 40, 1)], turned=-35),
        scene([]),
        scene([seen(5, 5, 30, 1)], counted=False),
    ]
    answers = iter(
        [
            [seen(1, 0, 30, 0.9, shift=3), seen(2, 2, 30, 0.7)],  # found; the same face again
            [seen(30, 30, 40, 0.8)],  # too far off: missed, and a false face
            [seen(0, 0, 20, 0.6)],
            [seen(5, 5, 30, 0.95)],  # neither right nor wrong
        ]
    )
    measured = measure(lambda image: next(answers), truth)  # noqa: ARG005
    assert measured.size.tolist() == [30, 20, 40]
    assert measured.score.tolist() == [0.9, 0, 0]
    # Shifted by 1 + 3 px, and the eyes are 15 px apart.
    assert measured.error[0] == pytest.approx(4 / 15, abs=1e-5)
    assert measured.false_scores.tolist() == [0.8, 0.7, 0.6]
    assert threshold_for(measured, false_a_scene=0.25) == pytest.approx(0.7)
    assert threshold_for(measured, false_a_scene=1) == 0
    rows = {row.name: row for row in bands(measured, threshold=0.75, smallest=24)}
    assert rows["all from 24 px"].faces == 2
    assert rows["all from 24 px"].recall == 0.5
    assert rows["turned 30–46°"].recall == 0
    assert "| all from 24 px | 2 | 0.500 | 26.7 % |" in table(["x"], [list(rows.values())])


def test_agreement_by_hand() -> None:
    frames = [np.full((64, 64, 3), number, np.uint8) for number in range(4)]

    def theirs(image: NDArray[np.uint8]) -> list[Seen]:
        number = int(image[0, 0, 0])
        return [seen(10 + number, 10, 40, 0.9), seen(50, 50, 10, 0.5)]

    def ours(image: NDArray[np.uint8]) -> list[Seen]:
        number = int(image[0, 0, 0])
        # A wobble of ±1 px about an even movement: a second difference of 4 px of 20.
        wobble = 1 if number % 2 else -1
        found = [seen(10 + number, 10, 40, 0.9, shift=wobble), seen(0, 50, 8, 0.85)]
        return found if number < 3 else found[1:]

    both = agreement(frames, ours, theirs)
    assert (both.theirs, both.found, both.ours, both.unconfirmed) == (4, 3, 7, 4)
    assert both.jitter == pytest.approx(4 / 20)
    assert both.their_jitter == pytest.approx(0, abs=1e-12)
    assert agreement(frames, ours, theirs, smallest=50).theirs == 0
