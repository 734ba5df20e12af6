"""The identity term: where it looks, and that it knows people apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from vqfr_training.data.photographs import Photographs, to_tensor
from vqfr_training.vqfr.identity import cut, load_identity, template_window

from vqfr_media.network.dlib_identity import LANDMARKS, SIDE


def test_the_window_puts_the_templates_landmarks_where_dlib_wants_them() -> None:
    left, top, side = template_window()
    ours = np.array(
        [[192.98, 239.95], [318.9, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]]
    )
    seen = (ours / 512 - [left, top]) / side * SIDE
    assert np.abs(seen - np.array(LANDMARKS)).max() < 4


def test_cut_takes_the_window_and_the_range() -> None:
    image = torch.linspace(-1, 1, 300).expand(1, 3, 300, 300)
    seen = cut(image, (0.25, 0.25, 0.5))
    assert seen.shape == (1, 3, 150, 150)
    torch.testing.assert_close(seen[0, 0, 0, :], (image[0, 0, 0, 75:225] + 1) / 2)


def test_a_missing_file_says_how_to_name_it(tmp_path: Path) -> None:
    for path in (None, tmp_path / "absent"):
        with pytest.raises(ValueError, match="--identity PATH"):
            load_identity(path, torch.device("cpu"))


def test_one_persons_faces_are_nearer_than_two_peoples(shared: Path) -> None:
    identity = load_identity(
        shared / "weights" / "dlib_face_resnet.safetensors", torch.device("cpu")
    )
    photographs = Photographs(shared / "data" / "faces" / "train", size=256)
    pairs = [
        (n, photographs.names.index(other))
        for n, name in enumerate(photographs.names)
        if name.startswith("neutral_")
        and (other := name.replace("neutral", "smiling").replace("_03", "_08")) in photographs.names
    ][:6]
    assert len(pairs) >= 4
    neutral, smiling = (
        identity(to_tensor([photographs.plain(pair[which]) for pair in pairs])) for which in (0, 1)
    )
    distances = torch.cdist(neutral, smiling)
    same = distances.diagonal()
    others = distances[~torch.eye(len(pairs), dtype=torch.bool)]
    assert same.max() < 0.55
    assert others.mean() > 0.65
