"""What large faces keep of their own detail."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from tests.stand_ins import IdentityEngine
from tests.vqfr_media.faces.pictures import as_plane, landmarks_at, tracked_at
from vqfr_media.errors import OptionError
from vqfr_media.faces.align import align
from vqfr_media.faces.blend import blend, masks
from vqfr_media.faces.detail import fine_detail
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.options import BlendOptions, RestoreOptions
from vqfr_media.restoration.resize import enlarged
from vqfr_media.restoration.resize import upscale as upscaled
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import FrameFaces, Grain, PlaneGrain, RestoredFace

Floats = npt.NDArray[np.float32]

YUV = PixelFormat(family="yuv", subsampling=(1, 1))
FORMATS = [
    PixelFormat(family="gray"),
    PixelFormat(family="rgb", bits=16),
    YUV,
    PixelFormat(family="yuv", bits=10, full_range=True),
]


def pattern(rows: int, columns: int, *, seed: int = 0) -> Floats:
    """Strokes of a pixel or two over a smooth ground, 0 to 1."""
    rng = np.random.default_rng(seed)
    picture = np.full((rows, columns), 0.5, np.float32)
    for _ in range(rows // 2):
        start, end = rng.integers(0, (columns, rows), (2, 2)).tolist()
        end = [int(start[0] + (end[0] - start[0]) / 8), int(start[1] + (end[1] - start[1]) / 8)]
        cv2.line(picture, start, end, float(rng.uniform(0.2, 0.8)), 1)
    return picture


def frame_of(picture: Floats, pixel_format: PixelFormat = YUV) -> Frame:
    """A frame whose planes all show `picture`."""
    rows, columns = picture.shape
    planes = []
    for number in range(pixel_format.num_planes):
        height, width = pixel_format.plane_shape(number, columns, rows)
        plane = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        planes.append(as_plane(np.rint(plane * pixel_format.peak), pixel_format))
    return Frame(0, 0, tuple(planes), pixel_format)


def smoothed_at(frame: Frame, *, side: float, size: int) -> RestoredFace:
    """A face whose restoration is what the network saw."""
    landmarks = landmarks_at(frame.width / 2, frame.height / 2, side=side)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=size)
    return RestoredFace(aligned, np.clip(aligned.crop, 0, 1))


def errors(frame: Frame, result: Frame, face: RestoredFace, *, plane: int = 0) -> float:
    """Root mean square of what is another in the face, in levels of 8 bits."""
    inside = masks(frame, [face])[plane] > 0.9
    difference = result.planes[plane][inside].astype(float) - frame.planes[plane][inside]
    return float(np.sqrt(np.mean(difference**2)) / frame.format.peak * 255)


@pytest.mark.parametrize("pixel_format", FORMATS, ids=str)
def test_a_large_face_keeps_what_the_network_cannot_see(pixel_format: PixelFormat) -> None:
    frame = frame_of(pattern(480, 480), pixel_format)
    face = smoothed_at(frame, side=380, size=96)
    for plane in range(pixel_format.num_planes):
        lost = errors(frame, blend(frame, [face]), face, plane=plane)
        kept = errors(frame, blend(frame, [face], detail=1), face, plane=plane)
        assert lost > 3
        assert kept < 0.2 * lost
        assert errors(frame, blend(frame, [face], detail=0.5), face, plane=plane) == pytest.approx(
            (lost + kept) / 2, rel=0.1
        )


@pytest.mark.parametrize(("side", "enlarged"), [(90, 1), (96, 1), (380, 4)])
def test_a_face_that_is_not_larger_is_what_the_network_drew(side: float, enlarged: int) -> None:
    """Also one that has been enlarged: that gave the frame no detail."""
    frame = frame_of(pattern(480, 480))
    face = smoothed_at(frame, side=side, size=96)
    plain, kept = blend(frame, [face]), blend(frame, [face], detail=1, enlarged=enlarged)
    for first, second in zip(plain.planes, kept.planes, strict=True):
        assert np.array_equal(first, second)


def test_it_fades_in_while_a_face_comes_nearer() -> None:
    frame, shares = frame_of(pattern(480, 480)), []
    for side in (97, 104, 112, 121, 130):
        face = smoothed_at(frame, side=side, size=96)
        lost = errors(frame, blend(frame, [face]), face)
        shares.append(1 - errors(frame, blend(frame, [face], detail=1), face) / lost)
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] > 0.6


def test_noise_does_not_come_back() -> None:
    clean = np.full((480, 480), 0.5, np.float32)
    noise = np.random.default_rng(3).normal(0, 8 / 255, clean.shape).astype(np.float32)
    frame = frame_of(clean + noise)
    face = smoothed_at(frame, side=380, size=96)
    plain, kept = blend(frame, [face]), blend(frame, [face], detail=1)
    inside = masks(frame, [face])[0] > 0.9
    remains = [float(result.planes[0][inside].std()) for result in (plain, kept)]
    assert float(frame.planes[0][inside].std()) > 7.5
    assert remains[1] < remains[0] + 0.5


def test_detail_is_kept_where_it_is_more_than_the_noise() -> None:
    clean = pattern(480, 480)
    noise = np.random.default_rng(3).normal(0, 6 / 255, clean.shape).astype(np.float32)
    truth, frame = frame_of(clean), frame_of(clean + noise)
    face = smoothed_at(frame, side=380, size=96)
    plain, kept = (errors(truth, blend(frame, [face], detail=share), face) for share in (0, 1))
    assert kept < 0.75 * plain
    assert kept < errors(truth, frame, face)


def test_the_share_is_wieners() -> None:
    rng = np.random.default_rng(5)
    samples = [rng.normal(0, 1 + 9 * (np.arange(120) > 60), (90, 120)).astype(np.float32)] * 2
    seen = [np.zeros((90, 120), np.float32), np.ones((90, 120), np.float32)]
    mask = np.ones((90, 120), np.float32)
    found = fine_detail(samples, seen, mask=mask, scale=2)
    assert found is not None
    details, share = found
    differences = [np.float64(a) - b for a, b in zip(samples, seen, strict=True)]
    power = gaussian_filter(sum(d**2 for d in differences), 3, mode="mirror", truncate=8)
    noise = 1.2 * np.percentile(power[::3, ::3], 10)
    expected = np.clip(1 - noise / power, 0, 1)
    np.testing.assert_allclose(share, expected, atol=0.01)
    for detail, difference in zip(details, differences, strict=True):
        np.testing.assert_allclose(detail, difference * share, atol=1e-5)


def test_a_face_outside_the_picture_has_none() -> None:
    nothing = np.zeros((4, 5), np.float32)
    assert fine_detail([nothing], [nothing], mask=nothing, scale=3) is None


def test_grain_is_as_strong_as_the_films_with_it() -> None:
    """What the face keeps of the film's grain as detail is not added a second time."""
    clean = pattern(480, 480)
    sigma = 6.0
    grain = Grain((PlaneGrain((0,), np.array([[sigma**2]]), (0.0, 0.0)),))
    noise = np.random.default_rng(4).normal(0, sigma / 255, clean.shape).astype(np.float32)
    frame = frame_of(clean + noise, PixelFormat(family="gray"))
    face = replace(smoothed_at(frame, side=380, size=96), grain=grain)
    inside = masks(frame, [face])[0] > 0.9
    calm = inside & (cv2.dilate(np.abs(cv2.Laplacian(clean, cv2.CV_32F)), np.ones((9, 9))) < 1e-3)
    strengths = [
        float(blend(frame, [face], detail=share).planes[0][calm].std()) for share in (0, 1)
    ]
    assert strengths[0] == pytest.approx(float(frame.planes[0][calm].std()), rel=0.15)
    assert strengths[1] == pytest.approx(strengths[0], rel=0.1)


@pytest.mark.parametrize(("detail", "upscale"), [(1.0, 1), (0.0, 1), (0.25, 1), (1.0, 2)])
def test_the_restorer_passes_on_what_was_chosen(detail: float, upscale: int) -> None:
    frame = frame_of(pattern(480, 480), PixelFormat(family="gray"))
    face = smoothed_at(frame, side=150, size=96)
    options = RestoreOptions(blend=BlendOptions(detail=detail), upscale=upscale)
    restorer = Restorer(IdentityEngine(size=96), None, options, Fraction(1, 25), Fraction(25))
    result = restorer.blend(FrameFaces(frame, (face,), new_shot=True))
    expected = blend(
        upscaled(frame, upscale),
        enlarged([face], upscale) if upscale > 1 else [face],
        detail=detail,
        enlarged=upscale,
    )
    # The restorer also matches the colours of what is the same picture.
    difference = np.abs(result.planes[0].astype(int) - expected.planes[0])
    assert difference.max() <= 1
    without = blend(frame, [face])
    assert (detail == 0) == (upscale == 1 and np.array_equal(result.planes[0], without.planes[0]))


@pytest.mark.parametrize("detail", [-0.1, 1.1])
def test_shares_that_cannot_be(detail: float) -> None:
    frame = frame_of(pattern(64, 64))
    with pytest.raises(ValueError, match="detail must be between 0 and 1"):
        blend(frame, [], detail=detail)
    with pytest.raises(OptionError, match="detail must be between 0 and 1"):
        BlendOptions(detail=detail)
