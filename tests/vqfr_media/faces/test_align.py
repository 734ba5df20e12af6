from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from tests.vqfr_media.faces.pictures import landmarks_at, painted, tracked_at, waves
from vqfr_media.faces.affine import apply, invert
from vqfr_media.faces.align import align, crop_planes, similarity, template
from vqfr_media.frames import ChromaLocation, Display, PixelFormat

Floats = npt.NDArray[np.float64]


def umeyama(source: Floats, target: Floats) -> Floats:
    """Umeyama (1991), eq. 40 to 42, by singular values: another road to the same similarity."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / (a**2).sum(1).mean()
    return np.column_stack([scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)])


def test_template_shows_the_same_square_at_every_size() -> None:
    np.testing.assert_array_equal(template(512)[0], (192.98138, 239.94708))
    # The corner of the square is at -0.5 in pixel-centre coordinates, whatever the size.
    np.testing.assert_allclose((template(256) + 0.5) * 2, template(512) + 0.5)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("turn", [0.0, 0.5, -2.0, 3.1])
def test_similarity_recovers_a_transformed_template(size: int, turn: float) -> None:
    landmarks = landmarks_at(500.25, -30, side=173, turn=turn)
    found = similarity(landmarks, size)
    np.testing.assert_allclose(apply(found, landmarks), template(size), atol=1e-9)


def test_similarity_is_umeyamas() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        landmarks = landmarks_at(0, 0, side=rng.uniform(20, 900), turn=rng.uniform(-3, 3))
        landmarks += rng.normal(0, 0.04 * np.ptp(landmarks), (5, 2))
        found = similarity(landmarks, 512)
        np.testing.assert_allclose(found, umeyama(landmarks, template(512)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "landmarks",
    [
        np.zeros((5, 2)),
        np.full((5, 2), 37.5),
        np.full((5, 2), np.nan),
        np.zeros((4, 2)),
    ],
)
def test_similarity_names_landmarks_that_are_no_face(landmarks: Floats) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        similarity(landmarks, 512)


def test_a_profile_is_still_a_face() -> None:
    landmarks = landmarks_at(100, 100, side=200) * (0.05, 1)
    assert np.isfinite(similarity(landmarks, 512)).all()


FORMATS = [
    PixelFormat(family="gray"),
    PixelFormat(family="rgb", bits=16),
    PixelFormat(family="yuv", bits=10, subsampling=(1, 0)),
    PixelFormat(family="yuv", bits=12),
    PixelFormat(family="yuv", subsampling=(2, 0)),
    PixelFormat(family="yuv", bits=16, subsampling=(1, 1), chroma_location="topleft"),
]
LOCATIONS: list[ChromaLocation] = ["left", "center", "topleft", "top", "bottomleft", "bottom"]


@pytest.mark.parametrize(
    "pixel_format",
    FORMATS
    + [PixelFormat(family="yuv", subsampling=(1, 1), chroma_location=at) for at in LOCATIONS],
    ids=str,
)
@pytest.mark.parametrize("side", [150.0, 420.0])
def test_every_plane_of_the_crop_is_the_picture_at_the_mapped_coordinates(
    pixel_format: PixelFormat, side: float
) -> None:
    functions = (waves(90), waves(120, turn=1), waves(140, turn=2))
    frame = painted(pixel_format, width=641, height=501, functions=functions)
    size = 256
    landmarks = landmarks_at(320.3, 250.6, side=side, turn=0.3)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=size)
    planes = crop_planes(frame.planes, pixel_format, matrix=aligned.matrix, size=size)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    points = apply(invert(aligned.matrix), grid)
    inside = (np.abs(points - (320, 250)) < (300, 230)).all(-1)
    for plane, function in zip(planes, functions, strict=False):
        error = plane / pixel_format.peak - function(points[..., 0], points[..., 1])
        # 8 bits are rounded by 0.002, and the filters lower these waves by up to 0.4 %.
        assert np.abs(error[inside]).max() < 0.006
        # An error of a tenth of a luma sample would have a mean slope of 0.1 * 0.15 * 2π / 90.
        x_slope = np.gradient(function(points[..., 0], points[..., 1]), axis=1)
        shift = (error * x_slope)[inside].sum() / (x_slope**2)[inside].sum()
        assert abs(shift) < 0.03 * size / side


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(16, 11), Fraction(8, 9)])
def test_turned_and_anamorphic_sources_come_out_upright(
    quarter_turns: int, ratio: Fraction
) -> None:
    display = Display(ratio, quarter_turns)
    pixel_format = PixelFormat(family="gray")
    frame = painted(pixel_format, width=500, height=400, functions=(waves(100),), display=display)
    width, height = frame.display_size
    landmarks = landmarks_at(width / 2, height / 2, side=180, turn=0.1)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=256)
    # By the definition of a display: the crop is an upright square of square display pixels.
    to_crop = similarity(landmarks, 256)
    for point in ((0.0, 0.0), (255.0, 0.0), (30.0, 200.0)):
        shown = apply(invert(to_crop), point)
        stored = apply(invert(frame.to_display()), shown)
        np.testing.assert_allclose(apply(aligned.matrix, stored), point, atol=1e-9)
        expected = waves(100)(*stored)
        (plane,) = crop_planes(frame.planes, pixel_format, matrix=aligned.matrix, size=256)
        assert plane[int(point[1]), int(point[0])] / 255 == pytest.approx(expected, abs=0.006)


def test_the_crop_is_rgb_by_the_formats_matrix() -> None:
    # 10-bit limited BT.709: Y 502 is 0.4977, and U, V 64 and 32 steps off centre.
    pixel_format = PixelFormat(family="yuv", bits=10, subsampling=(1, 1))
    planes = tuple(
        np.full(pixel_format.plane_shape(i, 64, 64), value, np.uint16)
        for i, value in enumerate((502, 576, 480))
    )
    frame = painted(pixel_format, width=64, height=64, functions=(waves(9),) * 3)
    frame = type(frame)(0, 0, planes, pixel_format)
    landmarks = landmarks_at(32, 32, side=40)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=64)
    y, u, v = (502 - 64) / 876, 64 / 896, -32 / 896
    expected = (y + 1.5748 * v, y - 0.187324 * u - 0.468124 * v, y + 1.8556 * u)
    np.testing.assert_allclose(aligned.crop, np.broadcast_to(expected, (64, 64, 3)), atol=1e-4)


def test_a_large_face_does_not_alias() -> None:
    pixel_format = PixelFormat(family="gray")
    y, x = np.mgrid[0:2000, 0:2000]
    board = np.where((x // 2 + y // 2) % 2 == 0, 0, 255).astype(np.uint8)
    frame = type(painted(pixel_format, width=2, height=2, functions=(waves(9),)))(
        0, 0, (board,), pixel_format
    )
    landmarks = landmarks_at(1000, 1000, side=1500, turn=0.02)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=256)
    (plane,) = crop_planes(frame.planes, pixel_format, matrix=aligned.matrix, size=256)
    assert np.abs(plane - 127.5).max() < 8


def test_the_frame_is_not_written_to_and_alpha_is_not_read() -> None:
    pixel_format = PixelFormat(family="gray")
    grey = painted(pixel_format, width=90, height=80, functions=(waves(20),)).planes[0]
    frame = type(painted(pixel_format, width=2, height=2, functions=(waves(9),)))(
        0, 0, (grey, np.zeros_like(grey)), pixel_format
    )
    for plane in frame.planes:
        plane.flags.writeable = False
    landmarks = landmarks_at(5, 5, side=60)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=64)
    assert aligned.crop.shape == (64, 64, 3)
    assert aligned.crop.min() > 0.1
