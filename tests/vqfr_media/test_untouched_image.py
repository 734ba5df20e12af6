"""An image in which no face was restored is the input, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.options import RestoreOptions
from vqfr_media.pipeline import restore_image

SAID = "note: the output is the input, byte for byte"


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("a.jpg", "b.jpg", True),
        ("a.jpeg", "b.JPG", True),
        ("two.jpg", "b.jpg", True),
        ("a.png", "b.png", True),
        ("a.jpg", "b.png", False),
    ],
)
def test_an_image_without_a_face(tmp_path: Path, given: str, wanted: str, same: bool) -> None:
    source, output = tmp_path / given, tmp_path / wanted
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8) // 8
    kind = "MPO" if given == "two.jpg" else None
    Image.fromarray(noise).save(source, format=kind, quality=70)  # of a PNG, quality is ignored
    summary = restore_image(source, output, engine=IdentityEngine(), detector=MarkerDetector())
    assert summary.restored == 0
    assert (output.read_bytes() == source.read_bytes()) == same
    assert (SAID in summary.lines()) == same
    larger = RestoreOptions(upscale=2)
    restore_image(source, output, larger, engine=IdentityEngine(), detector=MarkerDetector())
    with Image.open(output) as image:
        assert image.size == (128, 96)
