"""A folder of synthetic photographs, so that training can be tried without any real ones."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


def draw_face(generator: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A 768 px drawing: head, eyes and mouth where the template has them."""
    image = np.full((768, 768, 3), generator.integers(150, 240, 3), np.uint8)
    skin = tuple(int(v) for v in generator.integers(90, 200, 3))
    cv2.ellipse(image, (384, 420), (190, 260), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x in (305, 462):
        cv2.circle(image, (x, 364), 26, (245, 245, 245), -1, cv2.LINE_AA)
        cv2.circle(image, (x, 364), 13, (40, 30, 20), -1, cv2.LINE_AA)
    mouth = (60, 60, int(generator.integers(120, 220)))
    cv2.ellipse(image, (384, 530), (70, 24), 0, 0, 360, mouth, -1, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ (6 drawings) and val/ (3)."""
    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(5)
    for part, count in (("train", 6), ("val", 3)):
        (folder / part).mkdir()
        for number in range(count):
            cv2.imwrite(str(folder / part / f"{number}.png"), draw_face(generator))
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: what is compared number by number must be summed in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
