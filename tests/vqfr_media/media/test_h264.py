"""A round trip through H.264: near the original, the same every time, any size."""

import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.errors import CodecError
from vqfr_media.media.h264 import round_trip


def picture(rows: int, columns: int, *, shift: float = 0) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    waves = [np.sin((x - shift) / 9 + c) + np.cos(y / (7 + c)) for c in range(3)]
    drawn: npt.NDArray[np.uint8] = np.clip(128 + 50 * np.stack(waves, axis=2), 0, 255).astype(
        np.uint8
    )
    return drawn


@pytest.mark.parametrize("size", [(64, 64), (51, 33), (8, 5)])
def test_hardly_compressed_pictures_stay(size: tuple[int, int]) -> None:
    given = [picture(*size, shift=number) for number in range(3)]
    shown = round_trip(given, crf=1)
    assert len(shown) == 3
    for before, after in zip(given, shown, strict=True):
        assert after.shape == before.shape
        assert after.dtype == np.uint8
        # Smooth colours survive 4:2:0; limited range costs about a level.
        assert np.abs(after.astype(int) - before).mean() < 2


def test_levels_come_back_in_the_same_range() -> None:
    for level in (0, 16, 235, 255):
        flat = np.full((32, 32, 3), level, np.uint8)
        assert np.abs(round_trip([flat], crf=10)[0].astype(int) - level).max() <= 2


def test_the_same_every_time_and_coarser_with_the_rate_factor() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    first, again = (round_trip([noise, noise], crf=30) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    errors = [
        np.abs(round_trip([noise], crf=crf)[0].astype(int) - noise).mean() for crf in (5, 30, 50)
    ]
    assert errors == sorted(errors)


def test_what_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        round_trip([], crf=20)
    with pytest.raises(ValueError, match="expected"):
        round_trip([picture(16, 16), picture(16, 18)], crf=20)
    with pytest.raises(CodecError, match="preset 'sluggish'"):
        round_trip([picture(16, 16)], crf=20, preset="sluggish")
