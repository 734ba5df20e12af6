"""The strongest of overlapping boxes, against torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms

from vqfr_media.faces.anchors import strongest


def crowd(seed: int, count: int, *, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of 20 to 60 pixels about places in a square, and their scores, some of them equal."""
    generator = np.random.default_rng(seed)
    middle = generator.uniform(0, spread, (count, 2))
    half = generator.uniform(10, 30, (count, 2))
    boxes = np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)
    return boxes, np.round(generator.uniform(0.4, 1, count), 2).astype(np.float32)


@pytest.mark.parametrize("spread", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("count", [1, 12, 400])
def test_strongest_are_those_of_torchvision(count: int, spread: float) -> None:
    for seed in range(5):
        boxes, scores = crowd(seed, count, spread=spread)
        expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4).numpy()
        kept, overlaps = strongest(boxes, scores)
        np.testing.assert_array_equal(kept, expected)
        wanted = box_iou(torch.from_numpy(boxes[expected]), torch.from_numpy(boxes)).numpy()
        np.testing.assert_array_equal(overlaps, wanted)
    assert count == 1 or spread > 10 or len(kept) < count


def test_the_threshold_itself_is_torchvisions() -> None:
    boxes = np.array([[0, 0, 7, 1], [3, 0, 10, 1]], np.float32)  # 4 of 10: float32's 0.4 is above
    scores = np.array([0.9, 0.8], np.float32)
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4)
    assert strongest(boxes, scores)[0] == expected.tolist() == [0]


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4)
    assert strongest(boxes, scores)[0] == expected.tolist() == [0, 1, 2]


def test_no_box_has_no_strongest() -> None:
    kept, overlaps = strongest(np.empty((0, 4), np.float32), np.empty(0, np.float32))
    assert kept == []
    assert overlaps.shape == (0, 0)
