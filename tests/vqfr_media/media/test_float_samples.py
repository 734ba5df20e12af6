"""Planes of floats, which scripts have: what they mean, against integers of the same picture."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.scenes import scene
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour import from_rgb, rgb_proxy, to_rgb
from vqfr_media.media.colour_tags import resolve_format
from vqfr_media.restoration.resize import upscale

FLOATS = PixelFormat(family="yuv", bits=32, sample="float", full_range=True)
WIDE = PixelFormat(family="yuv", bits=16, full_range=True)


def test_what_a_float_format_is() -> None:
    assert FLOATS.dtype is np.float32
    assert FLOATS.peak == 1
    resolved = resolve_format("yuv", 32, sample="float", height=1080, full_range=False)
    assert resolved == FLOATS
    wrong: dict[str, Any]
    for wrong in ({"bits": 16}, {"full_range": False}):
        with pytest.raises(ValueError, match="float samples have 32 bits and the full range"):
            replace(FLOATS, **wrong)
    with pytest.raises(ValueError, match="bits must be 8 to 16, got 32"):
        PixelFormat(family="yuv", bits=32)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020nc", "ycgco"])
def test_white_black_and_colours(matrix: Any) -> None:
    kind = replace(FLOATS, matrix=matrix)
    pictures = np.array([[[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]], np.float32)
    y, u, v = from_rgb(pictures, kind)
    np.testing.assert_allclose(y[0, :2], [1, 0], atol=1e-6)
    for chroma in (u, v):
        np.testing.assert_allclose(chroma[0, :2], 0, atol=1e-6)
        assert np.abs(chroma).max() <= 0.5 + 1e-6
    if matrix != "ycgco":
        assert v[0, 2] == pytest.approx(0.5, abs=1e-6)  # pure red is the end of V
        assert u[0, 3] == pytest.approx(0.5, abs=1e-6)
    np.testing.assert_allclose(to_rgb((y, u, v), kind), pictures, atol=1e-5)


def test_floats_stand_for_the_integers() -> None:
    picture = scene(0, discs=2).astype(np.float32) / 255
    planes = from_rgb(np.asarray(picture, np.float32), WIDE)
    wide = Frame(0, 0, tuple(np.rint(p).clip(0, 65535).astype(np.uint16) for p in planes), WIDE)
    halfway = np.float32(32768)
    scaled = [p.astype(np.float32) - (halfway if i else 0) for i, p in enumerate(wide.planes)]
    floats = Frame(0, 0, tuple(p / np.float32(65535) for p in scaled), FLOATS)
    float_planes: Any = floats.planes
    np.testing.assert_allclose(
        to_rgb(float_planes, FLOATS),
        to_rgb([p.astype(np.float32) for p in wide.planes], WIDE),
        atol=1e-5,
    )
    for size in (320, 100):
        difference = rgb_proxy(floats, size).astype(int) - rgb_proxy(wide, size)
        assert np.abs(difference).max() <= 1
    for number, (one, other) in enumerate(
        zip(upscale(floats, 2).planes, upscale(wide, 2).planes, strict=True)
    ):
        assert one.dtype == np.float32
        codes = one * 65535 + (halfway if number else 0)
        inside = (other > 0) & (other < 65535)  # floats are not clipped
        assert np.abs(codes - other)[inside].max() <= 1
