"""Colour against matrices written by hand from H.273, against swscale, and against itself."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vqfr_media.errors import MediaError
from vqfr_media.frames import Display, Frame, Matrix, PixelFormat
from vqfr_media.media.colour import (
    from_rgb,
    proxy_to_display,
    rgb_proxy,
    to_rgb,
)
from vqfr_media.media.colour_tags import resolve_format

# H.273: E'Y = Kr R + (1 - Kr - Kb) G + Kb B, and so on; here multiplied out, by hand.
BY_HAND = {
    "bt601": [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    "bt709": [[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]],
    "bt2020nc": [[0.2627, 0.678, 0.0593], [-0.139630, -0.360370, 0.5], [0.5, -0.459786, -0.040214]],
    "smpte240m": [[0.212, 0.701, 0.087], [-0.116101, -0.383899, 0.5], [0.5, -0.444797, -0.055203]],
    "fcc": [[0.3, 0.59, 0.11], [-0.168539, -0.331461, 0.5], [0.5, -0.421429, -0.078571]],
    "ycgco": [[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]],
}
MATRICES: tuple[Matrix, ...] = ("bt601", "bt709", "bt2020nc", "smpte240m", "fcc", "ycgco")
RGB = np.random.default_rng(3).uniform(-0.1, 1.1, (12, 10, 3)).astype(np.float32)


def smooth_planes(kind: PixelFormat, width: int, height: int) -> tuple[np.ndarray, ...]:
    planes = []
    for number in range(kind.num_planes):
        rows, columns = kind.plane_shape(number, width, height)
        y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
        wave = 0.5 + 0.2 * np.sin(5 * x + number) + 0.2 * np.cos(4 * y - number)
        planes.append((wave * kind.peak).astype(kind.dtype))
    return tuple(planes)


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_from_rgb_is_h273(matrix: Matrix, full: bool, bits: int) -> None:
    kind = PixelFormat(family="yuv", bits=bits, matrix=matrix, full_range=full)
    unit = 1 << (bits - 8)
    peak = (1 << bits) - 1
    luma, chroma, black = (peak, peak, 0) if full else (219 * unit, 224 * unit, 16 * unit)
    if matrix == "ycgco":
        chroma = luma  # formed from quantised RGB
    analog = RGB.astype(np.float64) @ np.array(BY_HAND[matrix]).T
    expected = analog * [luma, chroma, chroma] + [black, 128 * unit, 128 * unit]
    planes = from_rgb(RGB, kind)
    assert len(planes) == 3
    for number, plane in enumerate(planes):
        assert plane.dtype == np.float32
        np.testing.assert_allclose(plane, expected[:, :, number], atol=2e-6 * peak)
    np.testing.assert_allclose(to_rgb(planes, kind), RGB, atol=2e-6)


@pytest.mark.parametrize("bits", [8, 12])
def test_rgb_and_gray(bits: int) -> None:
    kind = PixelFormat(family="rgb", bits=bits, full_range=True)
    planes = from_rgb(RGB, kind)
    for plane, channel in zip(planes, (1, 2, 0), strict=True):
        np.testing.assert_allclose(plane, RGB[:, :, channel] * kind.peak, atol=1e-3)
    np.testing.assert_allclose(to_rgb(planes, kind), RGB, atol=1e-6)
    for full in (True, False):
        kind = PixelFormat(family="gray", bits=bits, matrix="bt601", full_range=full)
        (luma,) = from_rgb(RGB, kind)
        unit = 1 << (bits - 8)
        scale, black = (kind.peak, 0) if full else (219 * unit, 16 * unit)
        expected = RGB.astype(np.float64) @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(luma, expected * scale + black, atol=1e-3 * unit)
        back = to_rgb([luma], kind)
        assert back.shape == RGB.shape
        np.testing.assert_allclose(back, np.repeat(expected[:, :, None], 3, 2), atol=1e-6)


def test_wrong_number_of_planes() -> None:
    with pytest.raises(ValueError, match="needs 3 planes, got 1"):
        to_rgb([RGB[:, :, 0]], PixelFormat(family="yuv"))


@pytest.mark.parametrize(("matrix", "name"), [("bt601", "ITU601"), ("bt709", "ITU709")])
@pytest.mark.parametrize("full", [False, True])
def test_to_rgb_equals_swscale(matrix: Matrix, name: str, full: bool) -> None:
    kind = PixelFormat(family="yuv", matrix=matrix, full_range=full)
    planes = smooth_planes(kind, 64, 48)
    frame = av.VideoFrame(64, 48, "yuv444p")
    for plane, target in zip(planes, frame.planes, strict=True):
        np.frombuffer(target, np.uint8).reshape(48, -1)[:, :64] = plane
    reference = frame.reformat(
        format="rgb24",
        src_colorspace=name,
        dst_colorspace=name,
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
    ).to_ndarray()
    rgb = to_rgb([plane.astype(np.float32) for plane in planes], kind)
    ours = np.clip(np.rint(rgb * 255), 0, 255)
    assert np.abs(ours - reference.astype(int)).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "matrix", "full", "location"),
    [
        ({"height": 480}, "bt601", False, "left"),
        ({"height": 576}, "bt601", False, "left"),
        ({"height": 720}, "bt709", False, "left"),
        ({"height": 2160}, "bt709", False, "left"),
        ({"height": 2160, "primaries": 9}, "bt2020nc", False, "left"),
        ({"height": 2160, "matrix": 9}, "bt2020nc", False, "left"),
        ({"height": 1080, "matrix": 6}, "bt601", False, "left"),
        ({"height": 1080, "matrix": 5, "full_range": True}, "bt601", True, "left"),
        ({"height": 480, "matrix": 7}, "smpte240m", False, "left"),
        ({"height": 480, "matrix": 4}, "fcc", False, "left"),
        ({"height": 480, "matrix": 8}, "ycgco", False, "left"),
        ({"height": 480, "jpeg": True}, "bt601", True, "center"),
        ({"height": 480, "jpeg": True, "full_range": False}, "bt601", False, "center"),
        ({"height": 480, "jpeg": True, "chroma_location": 1}, "bt601", True, "left"),
        ({"height": 480, "chroma_location": 3}, "bt601", False, "topleft"),
    ],
)
def test_resolving(arguments: dict, matrix: str, full: bool, location: str) -> None:  # type: ignore[type-arg]
    kind = resolve_format("yuv", 10, subsampling=(1, 1), **arguments)
    assert (kind.matrix, kind.full_range, kind.chroma_location) == (matrix, full, location)
    assert (kind.bits, kind.subsampling) == (10, (1, 1))


def test_resolving_other_families() -> None:
    assert resolve_format("rgb", 8, height=480, full_range=False).full_range
    assert resolve_format("gray", 8, height=480).full_range
    assert not resolve_format("gray", 8, height=480, full_range=False).full_range
    with pytest.raises(MediaError, match="ICtCp"):
        resolve_format("yuv", 10, height=2160, matrix=14)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("sar", [Fraction(1), Fraction(4, 3), Fraction(8, 9)])
@pytest.mark.parametrize("size", [64, 100, 1000])
def test_proxy_against_brute_force(turns: int, sar: Fraction, size: int) -> None:
    """Every proxy pixel is the colour of the frame where the affine matrix says it is."""
    kind = PixelFormat(family="yuv", subsampling=(1, 1), matrix="bt601")
    frame = Frame(0, 0, smooth_planes(kind, 320, 180), kind, Display(sar, turns))
    proxy = rgb_proxy(frame, size)
    assert max(proxy.shape[:2]) <= size
    width, height = frame.display_size
    assert proxy.shape[1] / proxy.shape[0] == pytest.approx(width / height, rel=0.03)
    assert max(proxy.shape[:2]) == min(size, round(max(width, height)))
    # Colours of the stored picture at full size ...
    full = np.dstack(
        [cv2.resize(p, (320, 180), interpolation=cv2.INTER_LINEAR) for p in frame.planes]
    )
    rgb = to_rgb([full[:, :, i].astype(np.float32) for i in range(3)], kind) * 255
    # ... looked up where the two matrices put each pixel of the proxy.
    y, x = np.mgrid[0 : proxy.shape[0], 0 : proxy.shape[1]]
    display = proxy_to_display(frame, proxy.shape) @ np.stack(
        [x.ravel(), y.ravel(), np.ones(x.size)]
    )
    to_stored = np.linalg.inv(np.vstack([frame.to_display(), [0, 0, 1]]))
    stored = (to_stored @ np.vstack([display, np.ones(x.size)]))[:2].astype(np.float32)
    expected = cv2.remap(
        rgb, stored[0].reshape(x.shape), stored[1].reshape(x.shape), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    assert np.abs(np.clip(expected, 0, 255) - proxy).max() < 6
    assert np.abs(np.clip(expected, 0, 255) - proxy).mean() < 1


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_marked_point(turns: int) -> None:
    kind = PixelFormat(family="gray", full_range=True)
    plane = np.zeros((240, 400), np.uint8)
    plane[60:64, 300:304] = 255  # centre at (301.5, 61.5)
    frame = Frame(0, 0, (plane,), kind, Display(Fraction(3, 2), turns))
    proxy = rgb_proxy(frame, 200)[:, :, 0].astype(float)
    y, x = np.mgrid[0 : proxy.shape[0], 0 : proxy.shape[1]]
    centre = np.array([(proxy * x).sum(), (proxy * y).sum(), proxy.sum()]) / proxy.sum()
    found = proxy_to_display(frame, proxy.shape) @ centre
    marked = frame.to_display() @ [301.5, 61.5, 1]
    assert np.abs(found - marked).max() < 0.8  # a proxy pixel is three display pixels


@pytest.mark.parametrize("family", ["rgb", "gray", "yuv"])
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_proxy_of_every_family_and_depth(family: str, bits: int) -> None:
    kind = PixelFormat(family=family, bits=bits, full_range=family != "yuv")  # type: ignore[arg-type]
    frame = Frame(0, 0, smooth_planes(kind, 96, 64), kind)
    rgb = to_rgb([plane.astype(np.float32) for plane in frame.planes], kind)
    proxy = rgb_proxy(frame, 96)
    assert proxy.dtype == np.uint8
    assert np.abs(proxy - np.clip(rgb * 255, 0, 255)).max() <= 1
    small = rgb_proxy(frame, 48)
    mean = np.clip(rgb, 0, 1).reshape(32, 2, 48, 2, 3).mean((1, 3)) * 255
    assert small.shape == (32, 48, 3)
    assert np.abs(small - mean).mean() < 1.5
