"""The film's grain: what is measured, and what a restored face looks like in a grainy film."""

from collections.abc import Iterable
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.stand_ins import IdentityEngine
from tests.vqfr_media.faces.pictures import as_plane, landmarks_at
from vqfr_media.errors import OptionError
from vqfr_media.faces.blend import blend, masks
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks, TracksSource
from vqfr_media.frames import Display, Frame, PixelFormat, Plane
from vqfr_media.options import BlendOptions, RestoreOptions
from vqfr_media.restoration.concurrency import SharedEngine
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import Face, FrameFaces, RestoredFace

WIDTH, HEIGHT, SIDE = 320, 240, 180
COUNT = 7
GREY = PixelFormat(family="gray")
YUV = PixelFormat(family="yuv", subsampling=(1, 1))
RGB10 = PixelFormat(family="rgb", bits=10)


class SmoothEngine(IdentityEngine):
    """A network that loses all fine noise and nothing else."""

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        crops = super().decode(crops, latents, fidelity=fidelity)
        for _ in range(3):
            crops = torch.nn.functional.avg_pool2d(
                crops, 9, stride=1, padding=4, count_include_pad=False
            )
        return crops


def clean(pixel_format: PixelFormat, index: int, *, speed: float) -> list[npt.NDArray[np.float64]]:
    """Slow waves that move by `speed` luma samples a frame: no noise, nothing that a blur takes."""
    planes = []
    for number in range(pixel_format.num_planes):
        rows, columns = pixel_format.plane_shape(number, WIDTH, HEIGHT)
        step = WIDTH / columns
        x = np.arange(columns) * step - speed * index
        y = np.arange(rows)[:, None] * step
        wave = 0.5 + 0.08 * np.sin(x / 60 + number) + 0.08 * np.cos(y / 50)
        planes.append(wave * pixel_format.peak)
    return planes


def film(
    pixel_format: PixelFormat,
    sigmas: tuple[float, ...],
    *,
    size: float = 0.0,
    speed: float = 1.3,
    shown: Iterable[int] = range(COUNT),
) -> list[Frame]:
    """Frames with Gaussian noise of these code values; the pictures are those numbered `shown`."""
    frames = []
    for index, picture in enumerate(shown):
        rng = np.random.default_rng(picture)
        planes: list[Plane] = []
        for wave, sigma in zip(clean(pixel_format, picture, speed=speed), sigmas, strict=True):
            noise: npt.NDArray[np.float64] = rng.standard_normal(wave.shape)
            if size:
                noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), size), np.float64)
                noise /= noise.std()
            codes = np.clip(np.rint(wave + sigma * noise), 0, pixel_format.peak)
            planes.append(as_plane(codes, pixel_format))
        frames.append(Frame(index, index, tuple(planes), pixel_format))
    return frames


def restorer(count: int, *, speed: float = 1.3, grain: float = 1.0, upscale: int = 1) -> Restorer:
    """One face that moves with the waves."""
    source = TracksSource(
        name="film",
        width=WIDTH,
        height=HEIGHT,
        frame_count=count,
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
        display=Display(),
    )
    faces = []
    for index in range(count):
        points = landmarks_at(150 + speed * index, 120, side=SIDE)
        box = np.array([*points.min(0) - 20, *points.max(0) + 20])
        faces.append(Appearance(index, Face(box, points, 0.99)))
    tracks = Tracks(source, (0,), (FaceTrack(0, tuple(faces)),))
    options = RestoreOptions(blend=BlendOptions(grain=grain), upscale=upscale)
    engine = SharedEngine([SmoothEngine()])
    return Restorer(engine, None, options, source.time_base, source.frame_rate, tracks)


def restored(frames: list[Frame], work: Restorer) -> list[tuple[Frame, FrameFaces[RestoredFace]]]:
    return list(restore_frames(frames, work))


@pytest.mark.parametrize("speed", [0.0, 1.3, 6.0])
@pytest.mark.parametrize("size", [0.0, 0.7])
def test_strength_size_and_colour_are_measured(speed: float, size: float) -> None:
    frames = film(YUV, (8.0, 3.0, 5.0), size=size, speed=speed)
    for _, frame_faces in restored(frames, restorer(COUNT, speed=speed)):
        (face,) = frame_faces.faces
        assert face.grain is not None
        luma, chroma = face.grain.groups
        assert np.sqrt(luma.covariance[0, 0]) == pytest.approx(8, rel=0.08)
        assert np.sqrt(np.diag(chroma.covariance)) == pytest.approx((3, 5), rel=0.15)
        wanted = np.exp(-1 / (4 * size**2)) if size else 0
        assert luma.correlation == pytest.approx((wanted, wanted), abs=0.08)


def test_a_clean_film_has_none() -> None:
    frames = film(YUV, (0.5, 0.4, 0.4))
    without = restored(frames, restorer(COUNT, grain=0))
    for (frame, frame_faces), (plain, _) in zip(
        restored(frames, restorer(COUNT)), without, strict=True
    ):
        assert frame_faces.faces[0].grain is None
        np.testing.assert_array_equal(frame.planes[0], plain.planes[0])


def test_noise_that_is_not_everywhere_is_none() -> None:
    # As a codec leaves it: strong in some places, nothing in the others (40 % of the face).
    frames = film(GREY, (8.0,))
    for index, frame in enumerate(frames):
        (wave,) = clean(GREY, index, speed=1.3)
        quiet = np.arange(WIDTH) < 141 + 1.3 * index
        plane = np.where(quiet[None], np.rint(wave).astype(np.uint8), frame.planes[0])
        frames[index] = Frame(index, index, (plane,), GREY)
    for _, frame_faces in restored(frames, restorer(COUNT)):
        assert frame_faces.faces[0].grain is None


def test_pictures_that_come_twice_do_not_hide_the_grain() -> None:
    # Film at 24 frames shown at 60: pictures come three times and twice.
    shown = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    frames = film(GREY, (8.0,), shown=shown, speed=0)
    for _, frame_faces in restored(frames, restorer(len(shown), speed=0)):
        grain = frame_faces.faces[0].grain
        assert grain is not None
        assert np.sqrt(grain.groups[0].covariance[0, 0]) == pytest.approx(8, rel=0.08)


def test_a_single_picture_tells_nothing() -> None:
    ((_, frame_faces),) = restored(film(GREY, (8.0,))[:1], restorer(1))
    assert frame_faces.faces[0].grain is None


@pytest.mark.parametrize(
    ("pixel_format", "sigmas"),
    [(GREY, (10.0,)), (YUV, (10.0, 4.0, 6.0)), (RGB10, (40.0, 40.0, 40.0))],
    ids=["grey", "yuv", "rgb10"],
)
def test_a_restored_face_has_the_grain_of_its_surroundings(
    pixel_format: PixelFormat, sigmas: tuple[float, ...]
) -> None:
    frames = film(pixel_format, sigmas, size=0.6)
    with_grain = restored(frames, restorer(COUNT))
    without = restored(frames, restorer(COUNT, grain=0))
    for plane, sigma in enumerate(sigmas):
        seen: dict[str, list[float]] = {"around": [], "ring": [], "face": [], "smooth": []}
        for (frame, frame_faces), (plain, _) in zip(with_grain, without, strict=True):
            wave = clean(pixel_format, frame.index, speed=1.3)[plane]
            mask = masks(frame_faces.frame, frame_faces.faces)[plane]
            noise, left = (one.planes[plane] - wave for one in (frame, plain))
            np.testing.assert_array_equal(
                frame.planes[plane][mask == 0], frame_faces.frame.planes[plane][mask == 0]
            )
            seen["around"].append(noise[mask == 0].std())
            seen["ring"].append(noise[(mask > 0.2) & (mask < 0.8)].std())
            seen["face"].append(noise[mask > 0.95].std())
            seen["smooth"].append(left[mask > 0.95].std())
        around = np.mean(seen["around"])
        assert around == pytest.approx(sigma, rel=0.05)
        assert np.mean(seen["smooth"]) < 0.35 * around
        assert np.mean(seen["face"]) == pytest.approx(around, rel=0.12)
        assert np.mean(seen["ring"]) == pytest.approx(around, rel=0.12)


def test_half_the_grain_is_half_as_strong() -> None:
    frames = film(GREY, (10.0,))
    full, half = (restored(frames, restorer(COUNT, grain=share))[3] for share in (1.0, 0.5))
    smooth = restored(frames, restorer(COUNT, grain=0))[3]
    mask = masks(full[1].frame, full[1].faces)[0] > 0.95
    one, other = (
        (frame.planes[0].astype(float) - smooth[0].planes[0])[mask] for frame, _ in (full, half)
    )
    assert other.std() == pytest.approx(one.std() / 2, rel=0.05)


def test_enlarged_faces_have_the_grain_of_their_surroundings() -> None:
    frames = film(GREY, (10.0,), size=0.6)
    frame, frame_faces = restored(frames, restorer(COUNT, upscale=2))[3]
    mask = cv2.resize(masks(frame_faces.frame, frame_faces.faces)[0], (2 * WIDTH, 2 * HEIGHT))
    noise = frame.planes[0] - cv2.GaussianBlur(frame.planes[0].astype(np.float32), (0, 0), 8)
    assert noise[mask > 0.95].std() == pytest.approx(noise[mask == 0].std(), rel=0.15)


def test_streaming_random_access_and_a_part_give_the_same_bits() -> None:
    frames = film(YUV, (8.0, 3.0, 5.0), shown=range(14))
    streamed = restored(frames, restorer(14))
    work = restorer(14)
    access = RandomAccess(work, 14, requests=1)
    for index in (9, 2, 13, 0, 5):
        frame = work.blend(access.frame_faces(index, frames.__getitem__))
        for plane, wanted in zip(frame.planes, streamed[index][0].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)
    part = range(6, 8)
    reach = work.radii.total
    near = frames[max(0, part.start - reach) : part.stop + reach]
    for frame, _ in restore_frames(near, restorer(14), wanted=part):
        for plane, wanted in zip(frame.planes, streamed[frame.index][0].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_grain_out_of_range_is_refused() -> None:
    with pytest.raises(OptionError, match="grain must be between 0 and 1"):
        BlendOptions(grain=1.5)
    with pytest.raises(ValueError, match="grain must be between 0 and 1"):
        blend(film(GREY, (1.0,))[0], (), grain=-1)
