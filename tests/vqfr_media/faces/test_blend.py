from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.vqfr_media.faces.pictures import as_plane, landmarks_at, painted, tracked_at, waves
from vqfr_media.faces.align import align, template
from vqfr_media.faces.blend import blend, masks, match_colour, soft_mask
from vqfr_media.frames import Frame, PixelFormat, Plane
from vqfr_media.media.colour import from_rgb
from vqfr_media.values import RestoredFace

Floats = npt.NDArray[np.float64]

FORMATS = [
    PixelFormat(family="gray"),
    PixelFormat(family="rgb"),
    PixelFormat(family="rgb", bits=16),
    PixelFormat(family="yuv", subsampling=(1, 1)),
    PixelFormat(family="yuv", bits=10, subsampling=(1, 1), chroma_location="topleft"),
    PixelFormat(family="yuv", bits=16, subsampling=(1, 0), matrix="bt2020nc"),
    PixelFormat(family="yuv", bits=12, full_range=True),
]


def noisy(pixel_format: PixelFormat, width: int = 321, height: int = 241) -> Frame:
    rng = np.random.default_rng(0)
    planes: list[Plane] = []
    for number in range(pixel_format.num_planes):
        shape = pixel_format.plane_shape(number, width, height)
        planes.append(as_plane(rng.integers(0, pixel_format.peak + 1, shape), pixel_format))
    for plane in planes:
        plane.flags.writeable = False
    return Frame(0, 0, tuple(planes), pixel_format)


def restored_at(
    frame: Frame, x: float, y: float, *, side: float, size: int = 128, turn: float = 0.0
) -> RestoredFace:
    """A face whose restoration is its crop."""
    landmarks = landmarks_at(x, y, side=side, turn=turn)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=size)
    return RestoredFace(aligned, np.clip(aligned.crop, 0, 1))


def painted_over(face: RestoredFace, value: float) -> RestoredFace:
    return RestoredFace(face.aligned, np.full_like(face.image, value))


@pytest.mark.parametrize("size", [64, 256, 512])
def test_soft_mask_is_closed_smooth_and_covers_the_face(size: int) -> None:
    mask = soft_mask(size)
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    rim = max(1, size // 50)
    for edge in (mask[:rim], mask[-rim:], mask[:, :rim], mask[:, -rim:]):
        assert not edge.any()
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)
    # Landmarks, brows, cheeks and chin of the template at 512.
    points = [*template(512), (165, 190), (345, 190), (115, 290), (395, 290), (256, 435)]
    for x, y in (np.array(points) * size / 512).astype(int):
        assert mask[y, x] > 0.98
    # A feather of a tenth of the side: the smoothstep's steepest slope is 1.5 / (0.1 * size).
    assert np.abs(np.diff(mask, axis=0)).max() < 1.1 * 15 / size
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


@pytest.mark.parametrize("pixel_format", FORMATS, ids=str)
def test_outside_the_masks_every_bit_is_the_sources(pixel_format: PixelFormat) -> None:
    frame = noisy(pixel_format)
    originals = [plane.copy() for plane in frame.planes]
    faces = [
        painted_over(restored_at(frame, 120, 120, side=130, turn=0.4), 0.9),
        painted_over(restored_at(frame, 300, 20, side=90), 0.1),
    ]
    result = blend(frame, faces)
    where = masks(frame, faces)
    for before, after, mask, original in zip(
        frame.planes, result.planes, where, originals, strict=True
    ):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(before, original)
        np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
        assert 0.1 < (mask > 0).mean() < 0.7
        assert (after != before)[mask > 0.5].mean() > 0.9
    assert replace(result, planes=frame.planes).__dict__ == frame.__dict__


@pytest.mark.parametrize("pixel_format", FORMATS, ids=str)
def test_where_the_mask_is_one_the_restored_colour_is_written_exactly(
    pixel_format: PixelFormat,
) -> None:
    frame = noisy(pixel_format)
    face = restored_at(frame, 150, 120, side=150)
    face = RestoredFace(face.aligned, np.full_like(face.image, (0.8, 0.6, 0.5)))
    result = blend(frame, [face])
    wanted = from_rgb(face.image, pixel_format)
    for plane, mask, values in zip(result.planes, masks(frame, [face]), wanted, strict=True):
        written = plane[mask > 0.9999].astype(np.float64)
        assert written.size > 500
        # A code value off where the mask falls short of 1 by 1e-4 of the depth's range.
        assert np.abs(written - values[0, 0]).max() <= 0.51 + 1e-4 * pixel_format.peak


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("subsampling", [(0, 0), (1, 1)])
@pytest.mark.parametrize("side", [96.0, 128.0, 150.0])
def test_an_unchanged_smooth_face_is_put_back_within_one_code_value(
    bits: int, subsampling: tuple[int, int], side: float
) -> None:
    pixel_format = PixelFormat(family="yuv", bits=bits, subsampling=subsampling)
    functions = (waves(60), waves(90, turn=1), waves(80, turn=2))
    frame = painted(pixel_format, width=320, height=240, functions=functions)
    face = restored_at(frame, 150.3, 120.8, side=side, turn=0.2)
    face = RestoredFace(face.aligned, face.aligned.crop)  # wild chroma: not within 0..1
    result = blend(frame, [face])
    # One code value, and 0.15 % of the range for what two filters take from these waves.
    bound = 1 + 0.0015 * pixel_format.peak
    for before, after in zip(frame.planes, result.planes, strict=True):
        assert np.abs(after.astype(np.int64) - before).max() <= bound


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("side", [60.0, 128.0, 300.0])
def test_a_detail_keeps_its_place_to_a_fiftieth_of_a_pixel(size: int, side: float) -> None:
    pixel_format = PixelFormat(family="gray", bits=16, full_range=True)
    width = 6.0 + side / 40

    def blob(x: Floats, y: Floats) -> Floats:
        return 0.2 + 0.5 * np.exp(-((x - 160.4) ** 2 + (y - 121.7) ** 2) / (2 * width**2))

    frame = painted(pixel_format, width=320, height=240, functions=(blob,))
    face = restored_at(frame, 160, 120, side=side, size=size, turn=0.3)
    (plane,) = blend(frame, [face]).planes
    (mask,) = masks(frame, [face])
    weight = np.where(mask > 0.999, plane / 65535 - 0.2, 0)
    radius = int(min(2 * width, 0.17 * side))
    window = np.s_[121 - radius : 123 + radius, 160 - radius : 162 + radius]
    y, x = np.mgrid[window]
    before = frame.planes[0][window] / 65535 - 0.2
    after = weight[window]
    for axis in (x, y):
        expected = (axis * before).sum() / before.sum()
        assert (axis * after).sum() / after.sum() == pytest.approx(expected, abs=0.02)


def test_a_large_crop_in_a_small_place_does_not_alias() -> None:
    frame = Frame(0, 0, (np.zeros((120, 160), np.uint8),), PixelFormat(family="gray"))
    face = restored_at(frame, 80, 60, side=60, size=512)
    y, x = np.mgrid[0:512, 0:512]
    board = np.where((x // 4 + y // 4) % 2 == 0, 0, 1).astype(np.float32)
    image = np.repeat(board[..., None], 3, axis=2)
    (plane,) = blend(frame, [RestoredFace(face.aligned, image)]).planes
    (mask,) = masks(frame, [face])
    assert (mask > 0.999).sum() > 1000
    assert np.abs(plane[mask > 0.999].astype(float) - 127.5).max() < 12


def test_what_no_face_touches_is_the_same_object() -> None:
    frame = noisy(PixelFormat(family="yuv", subsampling=(1, 1)))
    far = restored_at(frame, -500, 100, side=100)
    assert blend(frame, []) is frame
    assert blend(frame, [far]) is frame
    assert blend(frame, [restored_at(frame, 100, 100, side=50)], strength=0) is frame
    alpha = np.zeros_like(frame.planes[0])
    with_alpha = Frame(0, 0, (*frame.planes, alpha), frame.format)
    result = blend(with_alpha, [painted_over(restored_at(frame, 100, 100, side=90), 0.5)])
    assert result.planes[3] is alpha
    assert result.planes[0] is not frame.planes[0]


def test_strength_mixes_in_proportion() -> None:
    frame = Frame(
        0, 0, (np.full((120, 160), 100, np.uint8),), PixelFormat(family="gray", full_range=True)
    )
    face = painted_over(restored_at(frame, 80, 60, side=100), 200 / 255)
    assert blend(frame, [face]).planes[0].max() == 200
    assert blend(frame, [face], strength=0.25).planes[0].max() == 125
    with pytest.raises(ValueError, match=r"strength must be between 0 and 1, got 1\.5"):
        blend(frame, [face], strength=1.5)


def test_the_strength_of_a_track_goes_before_the_option() -> None:
    frame = Frame(
        0, 0, (np.full((120, 320), 100, np.uint8),), PixelFormat(family="gray", full_range=True)
    )
    faces = [painted_over(restored_at(frame, x, 60, side=100), 200 / 255) for x in (80, 240)]
    tracked = replace(faces[1].aligned.tracked, strength=0.5)
    faces[1] = replace(faces[1], aligned=replace(faces[1].aligned, tracked=tracked))
    for strength, left in ((1.0, 200), (0.25, 125), (0.0, 100)):
        (plane,) = blend(frame, faces, strength=strength).planes
        assert (int(plane[:, :160].max()), int(plane[:, 160:].max())) == (left, 150)


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_overshoot_stops_at_the_limits_of_the_depth(bits: int) -> None:
    pixel_format = PixelFormat(family="gray", bits=bits, full_range=True)
    peak = pixel_format.peak
    middle = as_plane(np.full((200, 200), peak // 2), pixel_format)
    frame = Frame(0, 0, (middle,), pixel_format)
    face = restored_at(frame, 100, 100, side=190, size=64)
    y, x = np.mgrid[0:64, 0:64]
    board = np.where((x // 4 + y // 4) % 2 == 0, 0, 1).astype(np.float32)
    (plane,) = blend(frame, [RestoredFace(face.aligned, np.stack([board] * 3, -1))]).planes
    # The cubic kernel overshoots at every edge; wrapped values would be in the middle.
    assert plane.max() == peak
    assert plane.min() == 0
    flat = (np.abs(np.diff(plane.astype(int), axis=1)) > 0.9 * peak).sum()
    assert flat == 0


def test_the_larger_face_lies_on_top_whatever_the_order() -> None:
    frame = Frame(
        0, 0, (np.full((200, 300), 128, np.uint8),), PixelFormat(family="gray", full_range=True)
    )
    large = painted_over(restored_at(frame, 120, 100, side=160), 1.0)
    small = painted_over(restored_at(frame, 190, 100, side=90), 0.0)
    one, other = blend(frame, [large, small]), blend(frame, [small, large])
    np.testing.assert_array_equal(one.planes[0], other.planes[0])
    (over,) = masks(frame, [large])
    assert (one.planes[0][over > 0.9999] == 255).all()
    (under,) = masks(frame, [small])
    assert (one.planes[0][(under > 0.9999) & (over == 0)] == 0).all()
    (union,) = masks(frame, [large, small])
    np.testing.assert_allclose(union, 1 - (1 - over) * (1 - under), atol=1e-6)


@pytest.mark.parametrize("place", [(-20.0, 50.0), (150.0, -30.0), (318.0, 238.0), (0.0, 0.0)])
@pytest.mark.parametrize("side", [80.0, 700.0])
def test_faces_over_the_edge(place: tuple[float, float], side: float) -> None:
    frame = noisy(PixelFormat(family="yuv", bits=10, subsampling=(1, 1)))
    face = painted_over(restored_at(frame, *place, side=side), 0.5)
    result = blend(frame, [face])
    for before, after, mask in zip(frame.planes, result.planes, masks(frame, [face]), strict=True):
        np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
        assert (after != before).any()


def test_match_colour_takes_the_light_and_keeps_the_detail() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:256, 0:256]
    base = np.repeat((0.5 + 0.1 * np.sin(x / 80))[..., None], 3, 2)
    detail = 0.1 * np.repeat(((x // 3 + y // 3) % 2 - 0.5)[..., None], 3, 2)
    crop = (base + rng.normal(0, 0.02, base.shape)).astype(np.float32)
    restored = (base + detail + (0.04, -0.03, 0.0)).astype(np.float32)
    result = match_colour(restored, crop, soft_mask(256))
    inner = np.s_[80:220, 60:200]
    # The tint goes (the limit takes a few per cent of it), the detail stays.
    assert np.abs((result - base - detail)[inner].mean((0, 1))).max() < 0.004
    assert (result - base)[inner].std() == pytest.approx(detail[inner].std(), rel=0.03)
    assert result.dtype == np.float32


def test_match_colour_is_limited_and_stays_in_range() -> None:
    black, white = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    result = match_colour(black, white, soft_mask(64), limit=0.1)
    assert result.max() <= 0.1
    assert result[32, 32, 0] > 0.09
    assert match_colour(white, white * 2, soft_mask(64)).max() == 1
    np.testing.assert_allclose(match_colour(white, white, soft_mask(64)), white)
