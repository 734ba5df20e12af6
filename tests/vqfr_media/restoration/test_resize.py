import numpy as np
import pytest

from tests.vqfr_media.faces.pictures import landmarks_at, painted, tracked_at, waves
from vqfr_media.faces.align import align
from vqfr_media.faces.blend import blend, masks
from vqfr_media.frames import ChromaLocation, Frame, PixelFormat
from vqfr_media.restoration.resize import enlarged, upscale
from vqfr_media.values import RestoredFace

LOCATIONS: list[ChromaLocation] = ["left", "center", "topleft", "top", "bottomleft", "bottom"]


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    "pixel_format",
    [
        PixelFormat(family="gray", bits=16),
        PixelFormat(family="rgb"),
        PixelFormat(family="yuv", bits=10, subsampling=(1, 0)),
        PixelFormat(family="yuv", subsampling=(2, 0)),
        *(PixelFormat(family="yuv", subsampling=(1, 1), chroma_location=at) for at in LOCATIONS),
    ],
    ids=str,
)
def test_every_plane_is_read_at_its_own_samples_places(
    pixel_format: PixelFormat, factor: int
) -> None:
    """Against the function that was painted, sampled at the enlarged frame's luma coordinates."""
    functions = (waves(60), waves(70, turn=1), waves(80, turn=2))

    def stretched(number: int):  # type: ignore[no-untyped-def]
        return lambda x, y: functions[number]((x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)

    frame = painted(pixel_format, width=91, height=73, functions=functions)
    expected = painted(
        pixel_format,
        width=91 * factor,
        height=73 * factor,
        functions=(stretched(0), stretched(1), stretched(2)),
    )
    result = upscale(frame, factor)
    for plane, wanted in zip(result.planes, expected.planes, strict=True):
        assert plane.dtype == wanted.dtype
        rim = 5 * factor
        error = (plane.astype(float) - wanted)[rim:-rim, rim:-rim] / pixel_format.peak
        # Half a code value of the source and half of the result; a shift by a tenth of a source
        # sample would be 0.0016 rms. The mean tells a shift that rounding hides.
        assert np.abs(error).max() < 1.5 / pixel_format.peak + 0.0035
        slope = np.gradient(wanted.astype(float), axis=1)[rim:-rim, rim:-rim] / pixel_format.peak
        assert abs((error * slope).sum() / (slope**2).sum()) < 0.02 * factor


def test_upscale_of_one_is_the_frame_itself_and_zero_is_an_error() -> None:
    frame = painted(PixelFormat(family="gray"), width=8, height=8, functions=(waves(9),))
    assert upscale(frame, 1) is frame
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        upscale(frame, 0)


def test_alpha_and_extremes_survive() -> None:
    pixel_format = PixelFormat(family="gray", bits=10)
    step = np.zeros((20, 30), np.uint16)
    step[:, 15:] = 1023
    result = upscale(Frame(3, 7, (step, step), pixel_format), 2)
    assert (result.index, result.pts, len(result.planes)) == (3, 7, 2)
    for plane in result.planes:
        assert plane.shape == (40, 60)
        assert plane.max() == 1023
        assert (plane[:, :20] == 0).all()
        assert (plane[:, 40:] == 1023).all()


@pytest.mark.parametrize("factor", [2, 3])
def test_a_face_lands_in_the_same_place_of_the_enlarged_frame(factor: int) -> None:
    pixel_format = PixelFormat(family="yuv", bits=16, subsampling=(1, 1))
    functions = (waves(60), waves(70, turn=1), waves(80, turn=2))
    frame = painted(pixel_format, width=160, height=120, functions=functions)
    landmarks = landmarks_at(80.3, 60.2, side=80, turn=0.2)
    aligned = align(frame, tracked_at(landmarks), landmarks=landmarks, size=256)
    faces = [RestoredFace(aligned, aligned.crop)]
    large = upscale(frame, factor)
    result = blend(large, enlarged(faces, factor))
    for before, after, mask in zip(
        large.planes, result.planes, masks(large, enlarged(faces, factor)), strict=True
    ):
        assert (after != before).any()
        np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
        # An unchanged face changes nothing: it is where it was, to well under a source sample.
        assert np.abs(after.astype(float) - before).max() / 65535 < 0.003
