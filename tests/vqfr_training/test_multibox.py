"""The multi-box loss against hand calculation, and the network against facexlib's."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from vqfr_training.detector.detections import find_faces
from vqfr_training.detector.multibox import (
    MultiBox,
    Targets,
    encode,
    multibox_loss,
    overlaps,
    targets,
)
from vqfr_training.detector.retinaface import (
    MEAN_BGR,
    RetinaFace,
    initialise,
    save_detector,
    to_images,
)
from vqfr_training.detector.scenes import Scene

from vqfr_media.faces.anchors import priors
from vqfr_media.network.checkpoint import load_official


def scene(boxes: list[list[float]], *, counted: list[bool] | None = None, side: int = 64) -> Scene:
    """A black scene; each face's landmarks are its box's corners and centre."""
    box = np.array(boxes, np.float32).reshape(-1, 4)
    left, top, right, bottom = box.T
    points = np.stack(
        [
            np.stack([left, top], 1),
            np.stack([right, top], 1),
            (box[:, :2] + box[:, 2:]) / 2,
            np.stack([left, bottom], 1),
            np.stack([right, bottom], 1),
        ],
        axis=1,
    )
    counts = np.ones(len(box), bool) if counted is None else np.array(counted)
    image = np.zeros((side, side, 3), np.uint8)
    return Scene(image, box, points, np.zeros(len(box), np.float32), counts)


def test_overlap_by_hand() -> None:
    one = np.array([[0, 0, 4, 4], [10, 10, 12, 12]], np.float32)
    two = np.array([[2, 2, 6, 6], [0, 0, 4, 4]], np.float32)
    np.testing.assert_allclose(overlaps(one, two), [[4 / 28, 1.0], [0.0, 0.0]])


def test_a_face_on_an_anchor_is_that_anchors() -> None:
    # Anchor 0 of the second level is 64 px about (8, 8); a face of just that box.
    classes, wanted = encode(scene([[-24, -24, 40, 40]], side=128), MultiBox())
    first = 2 * (128 // 8) ** 2
    np.testing.assert_array_equal(priors(128, 128)[first], [8, 8, 64, 64])
    assert classes[first] == 1
    np.testing.assert_allclose(wanted[first, :4], 0, atol=1e-6)
    # The corner is 32 px from the centre: 32 / (0.1 × 64) = 5 in the network's unit.
    np.testing.assert_allclose(
        wanted[first, 4:].reshape(5, 2), [[-5, -5], [5, -5], [0, 0], [-5, 5], [5, 5]]
    )


def test_offsets_and_sizes_by_hand() -> None:
    classes, wanted = encode(scene([[2, 1, 18, 25]]), MultiBox())
    # Centre (10, 13), 16 × 24; the 16 px anchor at (12, 12) overlaps by 13 × 16 / 432 = 0.48.
    at = int(np.flatnonzero((priors(64, 64) == [12, 12, 16, 16]).all(axis=1))[0])
    assert classes[at] == 1
    np.testing.assert_allclose(
        wanted[at, :4], [-2 / 1.6, 1 / 1.6, 0, math.log(1.5) / 0.2], rtol=1e-5, atol=1e-6
    )


def test_every_face_has_an_anchor_however_badly_it_fits() -> None:
    classes, wanted = encode(scene([[30, 30, 36, 60]]), MultiBox())
    shared = overlaps(
        np.array([[20, 28, 36, 44]], np.float32), np.array([[30, 30, 36, 60]], np.float32)
    )
    assert shared.max() < 0.35
    assert (classes == 1).sum() == 1
    assert np.abs(wanted[classes == 1]).max() > 0


def test_anchors_about_a_hidden_face_are_neither_right_nor_wrong() -> None:
    classes, _ = encode(scene([[8, 8, 40, 40]], counted=[False]), MultiBox())
    inside = ((priors(64, 64)[:, :2] > 8) & (priors(64, 64)[:, :2] < 40)).all(axis=1)
    assert set(classes[inside]) == {-1}
    assert set(classes[~inside]) <= {0, -1}
    assert (classes == 1).sum() == 0


def test_the_loss_by_hand() -> None:
    config = MultiBox(negatives=2, fewest_negatives=1, beta=1.0)
    logits = torch.zeros(1, 6, 2)
    logits[0, :, 1] = torch.tensor([1.0, 3.0, 2.0, -1.0, 0.0, 5.0])
    classes = torch.tensor([[1, 0, 0, 0, 0, -1]])
    offsets, landmarks = torch.zeros(1, 6, 4), torch.zeros(1, 6, 10)
    offsets[0, 0] = torch.tensor([0.5, 0.0, 2.0, 0.0])
    landmarks[0, 0, 0] = 1.0
    landmarks[0, 1] = 9.0  # no face there: not asked for
    wanted = Targets(classes, torch.zeros(1, 6, 4), torch.zeros(1, 6, 10))
    losses = multibox_loss((offsets, logits, landmarks), wanted, config)
    # The face, and the two hardest backgrounds (3 and 2; 5 is neither right nor wrong).
    expected = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3)) + math.log(1 + math.exp(2))
    assert float(losses["class"]) == pytest.approx(expected, rel=1e-5)
    assert float(losses["box"]) == pytest.approx(0.5 * 0.25 + 1.5)
    sharp = multibox_loss((offsets, logits, landmarks), wanted, replace(config, beta=0.2))
    assert float(sharp["box"]) == pytest.approx(0.4 + 1.9)
    assert float(losses["landmarks"]) == pytest.approx(0.5)
    assert float(losses["total"]) == pytest.approx(2 * expected + 2 * 1.625 + 0.5, rel=1e-5)


def test_a_scene_without_faces_still_teaches_the_background() -> None:
    config = MultiBox(fewest_negatives=3)
    output = (torch.zeros(1, 168, 4), torch.zeros(1, 168, 2), torch.zeros(1, 168, 10))
    losses = multibox_loss(output, targets([scene([])], config), config)
    assert float(losses["class"]) == pytest.approx(3 * math.log(2), rel=1e-5)
    assert float(losses["box"]) == float(losses["landmarks"]) == 0


def facexlib_network() -> torch.nn.Module:
    from facexlib.detection.retinaface import RetinaFace as Theirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: torch.nn.Module = Theirs("mobile0.25", half=False, device="cpu").eval()
    return network


def trained_a_little() -> RetinaFace:
    """A network whose batch norms have seen something."""
    torch.manual_seed(3)
    network = RetinaFace()
    initialise(network)
    with torch.no_grad():
        for _ in range(3):
            network.train()(40 * torch.randn(2, 3, 64, 64))
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network.eval()


def test_the_network_is_facexlibs() -> None:
    ours, theirs = trained_a_little(), facexlib_network()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    # 100 × 76: sides that are no multiples of 32.
    images = 50 * torch.randn(1, 3, 100, 76)
    with torch.no_grad():
        offsets, logits, landmarks = ours(images)
        for mine, other in zip(
            (offsets, logits.softmax(dim=-1), landmarks), theirs(images), strict=True
        ):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_the_exported_file_gives_the_same_numbers_in_facexlibs_network(tmp_path: Path) -> None:
    ours, theirs = trained_a_little(), facexlib_network()
    path = tmp_path / "detector.safetensors"
    save_detector(path, ours)
    assert path.stat().st_size < 1_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["detector.safetensors"]
    with safetensors.safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["vqfr_media"])
    assert description["kind"] == "retinaface_mobilenet0.25"
    load_official(path, theirs)
    images = 50 * torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        offsets, logits, _ = ours(images)
        found = theirs(images)
    torch.testing.assert_close(offsets, found[0], atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(logits.softmax(dim=-1), found[1], atol=5e-3, rtol=5e-3)


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    network = trained_a_little()
    with torch.no_grad():
        dict(network.named_parameters())["fpn.merge1.0.weight"][0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"merge1.*float16"):
        save_detector(tmp_path / "detector.safetensors", network)
    assert not list(tmp_path.iterdir())


def test_images_are_bgr_less_the_mean() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[..., 0] = 200  # red
    images = to_images([picture])
    assert images.shape == (1, 3, 4, 6)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[0, :, 1, 2].tolist() == [-MEAN_BGR[0], -MEAN_BGR[1], 200 - MEAN_BGR[2]]


class Oracle(RetinaFace):
    """Says what `targets` want, so that decoding can be checked against the truth."""

    def __init__(self, truth: Scene) -> None:
        super().__init__()
        self.wanted = targets([truth], MultiBox())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The truth at every anchor."""
        del images
        logits = torch.stack([-8.0 * self.wanted.classes, 8.0 * self.wanted.classes], dim=-1)
        return self.wanted.offsets, logits, self.wanted.landmarks


def test_decoding_undoes_encoding() -> None:
    truth = scene([[20, 30, 50, 75], [70, 10, 118, 70]], side=128)
    found = find_faces(Oracle(truth).eval(), truth.image, score=0.9)
    order = found.boxes[:, 0].argsort()
    np.testing.assert_allclose(found.boxes[order], truth.boxes, atol=1e-3)
    np.testing.assert_allclose(found.landmarks[order], truth.landmarks, atol=1e-3)
