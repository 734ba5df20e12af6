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


@pytest.mark.parametrize("side", [105, 130, 200, 380])
@pytest.mark.parametrize("sigma", [2, 8])
def test_noise_does_not_come_back(sigma: float, side: float) -> None:
    clean = np.full((480, 480), 0.5, np.float32)
    noise = np.random.default_rng(3).normal(0, sigma / 255, clean.shape).astype(np.float32)
    frame = frame_of(clean + noise)
    face = smoothed_at(frame, side=side, size=96)
    plain, kept = blend(frame, [face]), blend(frame, [face], detail=1)
    inside = masks(frame, [face])[0] > 0.9
    remains = [float(result.planes[0][inside].std()) for result in (plain, kept)]
    assert float(frame.planes[0][inside].std()) > 7.5 / 8 * sigma
    assert remains[1] < remains[0] + 0.06 * sigma


def test_pores_are_kept() -> None:
    """Detail without noise that is weak in most of the face: a twentieth of it is smooth."""
    rng = np.random.default_rng(3)
    strength = cv2.resize(rng.uniform(0, 1, (16, 16)), (480, 480), interpolation=cv2.INTER_CUBIC)
    pores = rng.normal(0, 1, strength.shape) * 4 / 255 * np.clip(strength, 0.05, 1)
    frame = frame_of((0.5 + pores).astype(np.float32), PixelFormat(family="rgb", bits=16))
    face = smoothed_at(frame, side=380, size=96)
    lost, kept = (errors(frame, blend(frame, [face], detail=share), face) for share in (0, 1))
    assert lost > 2
    assert kept < 0.2 * lost


def test_detail_is_kept_where_it_is_more_than_the_noise() -> None:
    clean = pattern(480, 480)
    noise = np.random.default_rng(3).normal(0, 6 / 255, clean.shape).astype(np.float32)
    truth, frame = frame_of(clean), frame_of(clean + noise)
    face = smoothed_at(frame, side=380, size=96)
    plain, kept = (errors(truth, blend(frame, [face], detail=share), face) for share in (0, 1))
    assert kept < 0.75 * plain
    assert kept < errors(truth, frame, face)


def matrix_of(across: float, down: float) -> npt.NDArray[np.float64]:
    return np.array([[across, 0, 0], [0, down, 0]])


def test_the_share_is_wieners() -> None:
    rng = np.random.default_rng(5)
    samples = [rng.normal(0, 1 + 9 * (np.arange(120) > 60), (90, 120)).astype(np.float32)] * 2
    seen = [np.zeros((90, 120), np.float32), np.ones((90, 120), np.float32)]
    mask = np.ones((90, 120), np.float32)
    found = fine_detail(samples, seen, mask=mask, matrix=matrix_of(3, 2), level=1)
    assert found is not None
    details, share = found
    differences = [np.float64(a) - b for a, b in zip(samples, seen, strict=True)]

    def cells(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(picture.reshape(45, 2, 40, 3).mean((1, 3)))

    power = gaussian_filter(
        cells(np.sum(np.square(differences), axis=0)), 1.5, mode="mirror", truncate=8
    )
    calmest, calm, middle = np.percentile(power, (2, 20, 50))
    # Means of the squares of six samples each in some 28 pixels.
    deviation = np.sqrt(2 / (4 * np.pi * 1.5**2 * 6))
    calm, calmest = calm / (1 - 0.84 * deviation), calmest / (1 - 2.05 * deviation)
    textured = np.clip((middle / calm - 1.2) / 0.3, 0, 1)
    expected = np.clip(1 - 1.1 * calm ** (1 - textured) * calmest**textured / power, 0, 1)
    assert np.abs(cells(share.astype(float)) - expected)[2:-2, 2:-2].max() < 0.1
    assert np.abs(cells(share.astype(float)) - expected).mean() < 0.01
    for detail, difference in zip(details, differences, strict=True):
        np.testing.assert_allclose(detail, difference * share, atol=1e-5)


@pytest.mark.parametrize("scale", [1.3, 2.0, 3.5])
@pytest.mark.parametrize("smooth", [0.03, 0.06, 0.12])
def test_noise_stays_away_where_a_part_of_the_face_has_none(smooth: float, scale: float) -> None:
    """What a codec has left smooth still varies, by the rounding to 8 bits."""
    side = round(160 * scale)
    ground = np.tile(np.linspace(90, 120, side), (side, 1))
    noisy = ground + np.random.default_rng(3).normal(0, 4, ground.shape)
    patch = round(side * np.sqrt(smooth))
    noisy[:patch, :patch] = ground[:patch, :patch]
    found = fine_detail(
        [np.rint(noisy).astype(np.uint8)],
        [ground.astype(np.float32)],
        mask=np.ones((side, side), np.float32),
        matrix=matrix_of(scale, scale),
        level=1,
    )
    assert found is not None
    assert float(found[1][patch + 10 :, patch + 10 :].mean()) < 0.08


def test_enlarged_noise_is_told_as_before_it_was_enlarged() -> None:
    noise = np.random.default_rng(4).normal(0, 5, (150, 150)).astype(np.float32)
    shares = []
    for factor in (1, 2):
        samples = noise.repeat(factor, 0).repeat(factor, 1)
        found = fine_detail(
            [samples],
            [np.zeros_like(samples)],
            mask=np.ones_like(samples),
            matrix=matrix_of(1.5 * factor, 1.5 * factor),
            level=1,
            enlarged=factor,
        )
        assert found is not None
        shares.append(float(found[1].mean()))
    assert 0.01 < shares[0] < 0.1
    assert shares[1] == pytest.approx(shares[0], rel=0.05)


def test_a_face_outside_the_picture_has_none() -> None:
    nothing = np.zeros((4, 5), np.float32)
    matrix = matrix_of(3, 3)
    assert fine_detail([nothing], [nothing], mask=nothing, matrix=matrix, level=1) is None


def left_of(frame: Frame, face: RestoredFace, where: npt.NDArray[np.bool_], **more: float) -> float:
    """The noise that is left of a flat picture's, in levels."""
    plane = blend(frame, [face], **more).planes[0]  # type: ignore[arg-type]
    return float(plane[where].std())


@pytest.mark.parametrize("rows", [0, 100, 160, 200, 230, 270])
def test_a_black_bar_over_the_face_does_not_hide_the_noise(rows: int) -> None:
    noise = np.random.default_rng(3).normal(0, 8 / 255, (480, 480)).astype(np.float32)
    picture = (0.5 + noise).astype(np.float32)
    picture[:rows] = 0
    frame = frame_of(picture, PixelFormat(family="gray", full_range=True))
    face = smoothed_at(frame, side=380, size=96)
    skin = masks(frame, [face])[0] > 0.9
    skin[: rows + 20] = False
    assert left_of(frame, face, skin, detail=1) < left_of(frame, face, skin) + 0.5


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("side", [125, 240])
def test_noise_of_an_enlarged_film_does_not_come_back(side: int, factor: int) -> None:
    noise = np.random.default_rng(3).normal(0, 8 / 255, (320, 320)).astype(np.float32)
    frame = frame_of((0.5 + noise).astype(np.float32), PixelFormat(family="gray"))
    face = smoothed_at(frame, side=side, size=64)
    large, (placed,) = upscaled(frame, factor), enlarged([face], factor)
    skin = masks(large, [placed])[0] > 0.9
    kept = left_of(large, placed, skin, detail=1, enlarged=factor)
    assert kept < left_of(large, placed, skin) + 0.4


def test_a_field_keeps_its_detail_from_the_same_size_on() -> None:
    """A field has half of the rows: across, a face loses as much in it as in a whole picture."""
    frame = frame_of(pattern(480, 480), PixelFormat(family="gray"))
    face = smoothed_at(frame, side=125, size=96)
    field = replace(frame, planes=(frame.planes[0][::2].copy(),))
    halved = np.diag([1.0, 0.5, 1.0])
    to_crop = np.vstack([face.aligned.matrix, [0, 0, 1]]) @ np.linalg.inv(halved)
    squeezed = replace(face, aligned=replace(face.aligned, matrix=to_crop[:2]))
    for shown, placed in ((frame, face), (field, squeezed)):
        lost = errors(shown, blend(shown, [placed]), placed)
        kept = errors(shown, blend(shown, [placed], detail=1), placed)
        assert kept < 0.75 * lost


def test_what_is_no_number_stays_alone() -> None:
    picture = pattern(480, 480)
    plane = picture.copy()
    frame = Frame(
        0, 0, (plane,), PixelFormat(family="gray", sample="float", bits=32, full_range=True)
    )
    face = smoothed_at(frame, side=380, size=96)
    broken = plane.copy()
    broken[240, 240], broken[250, 250] = np.nan, np.inf
    result = blend(replace(frame, planes=(broken,)), [face], detail=1).planes[0]
    assert np.argwhere(~np.isfinite(result)).tolist() == [[240, 240], [250, 250]]


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


@pytest.mark.parametrize(("size", "scale"), [(0.0, 3.96), (1.2, 3.96), (1.2, 1.56), (1.2, 1.25)])
def test_grain_between_details_is_as_strong_as_the_films(size: float, scale: float) -> None:
    """The network takes all grain away; what is coarser than its pixels is not in the detail."""
    sigma = 6.0
    # So much detail everywhere that nearly all of it is kept, and that it hides no grain.
    strokes = np.tile(np.array([0.2, 0.8], np.float32), (480, 240))
    noise = np.random.default_rng(4).normal(0, 1, strokes.shape).astype(np.float32)
    if size:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), size), np.float32)
    noise *= sigma / float(noise.std())
    neighbours = float(np.mean(noise[:, 1:] * noise[:, :-1]) / sigma**2)
    plain = PixelFormat(family="gray", full_range=True)
    truth = frame_of(strokes, plain)
    frame = frame_of(np.asarray(strokes + noise / 255, np.float32), plain)
    side = 96 * scale
    face = replace(
        smoothed_at(truth, side=side, size=96),
        grain=Grain((PlaneGrain((0,), np.array([[sigma**2]]), (neighbours, neighbours)),)),
    )
    inside = masks(frame, [face])[0] > 0.99
    bare = replace(face, grain=None)
    clean = blend(truth, [bare], detail=1).planes[0].astype(float)
    added = (blend(frame, [face], detail=1).planes[0] - clean)[inside]
    assert float(added.std()) == pytest.approx(sigma, rel=0.25)


def test_a_background_made_by_other_means_is_not_compared_with_the_film() -> None:
    frame = frame_of(pattern(480, 480), PixelFormat(family="gray"))
    face = smoothed_at(frame, side=150, size=96)
    background = frame_of(pattern(480, 480, seed=1), PixelFormat(family="gray"))
    restorer = Restorer(
        IdentityEngine(size=96), None, RestoreOptions(), Fraction(1, 25), Fraction(25)
    )
    result = restorer.blend(FrameFaces(frame, (face,), new_shot=True), background)
    difference = result.planes[0].astype(int) - blend(background, [face]).planes[0]
    assert np.abs(difference).max() <= 1


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
