"""Pictures for people: turned upright, cut out exactly, named, in rows."""

from fractions import Fraction

import numpy as np
import pytest

from tests.vqfr_media.review.clips import disc, frame_of
from vqfr_media.frames import Display, Frame, PixelFormat
from vqfr_media.review.picture import (
    BACKGROUND,
    bar_height,
    crop_square,
    fit_within,
    grid,
    pad_to_even,
    resized,
    side_by_side,
    titled,
    upright,
    upright_size,
)


@pytest.mark.parametrize("turns", range(4))
def test_upright_pictures_are_turned(turns: int) -> None:
    picture = disc()
    seen = upright(frame_of(picture, display=Display(quarter_turns=turns)))
    np.testing.assert_array_equal(seen, np.rot90(picture, turns))


def test_upright_pictures_have_square_pixels() -> None:
    frame = frame_of(disc(), display=Display(Fraction(3, 2), 1))
    seen = upright(frame)
    assert seen.shape == (480, 192, 3)
    assert upright_size(frame.display_size) == (192, 480)
    # Back again it is the stored picture, but for the interpolation.
    back = np.rot90(resized(np.ascontiguousarray(seen), (192, 320)), -1)
    assert np.abs(back.astype(float) - disc()).mean() < 1


def test_ten_bits_are_rounded_to_eight() -> None:
    grey = np.array([[64, 940, 503]], np.uint16)
    kind = PixelFormat(family="yuv", bits=10, matrix="bt709")
    neutral = np.full_like(grey, 512)
    seen = upright(Frame(index=0, pts=0, planes=(grey, neutral, neutral), format=kind))
    np.testing.assert_array_equal(seen[0, :, 0], [0, 255, round(255 * 439 / 876)])


def test_a_cut_at_whole_pixels_is_the_picture() -> None:
    picture = disc()
    matrix = np.array([[1.0, 0, -100], [0, 1, -50]])
    np.testing.assert_array_equal(
        crop_square(frame_of(picture), matrix, 64), picture[50:114, 100:164]
    )


def test_a_cut_of_a_turned_frame_is_upright() -> None:
    frame = frame_of(disc(), display=Display(quarter_turns=1))
    matrix = np.array([[1.0, 0, -40], [0, 1, -120]])
    np.testing.assert_array_equal(crop_square(frame, matrix, 48), upright(frame)[120:168, 40:88])


def test_sizes() -> None:
    picture = disc()
    assert fit_within(picture, 320) is picture
    assert fit_within(picture, 160).shape == (96, 160, 3)
    odd = pad_to_even(picture[:191, :319])
    assert odd.shape == (192, 320, 3)
    np.testing.assert_array_equal(odd[191, :319], picture[190, :319])
    assert pad_to_even(picture) is picture


def test_names_are_above_the_picture() -> None:
    picture = disc()
    named = titled(picture, "vorher")
    bar = bar_height(len(picture))
    np.testing.assert_array_equal(named[bar:], picture)
    written = np.argwhere((named[:bar] != BACKGROUND).any(axis=2))
    # In the middle, with room on both sides.
    assert abs(written[:, 1].mean() - 160) < 12
    assert 100 < written[:, 1].min() < written[:, 1].max() < 220
    long = titled(picture[:, :60], "a name that is much too long for this picture")
    assert (long[:bar, -1] == BACKGROUND).all()
    assert not (titled(picture, "Ж")[:bar] == BACKGROUND).all()


def test_side_by_side() -> None:
    picture = disc()
    both = side_by_side(picture, 255 - picture, ("a", "b"))
    bar = bar_height(len(picture))
    np.testing.assert_array_equal(both[bar:, :320], picture)
    np.testing.assert_array_equal(both[bar:, 320:], 255 - picture)
    with pytest.raises(ValueError, match="one size"):
        side_by_side(picture, picture[:100], ("a", "b"))


def test_a_grid_holds_its_tiles_in_order() -> None:
    tiles = [np.full((30, 40, 3), value, np.uint8) for value in range(60, 65)]
    sheet = grid(tiles)
    columns = sheet.shape[1] // 40
    assert sheet.shape == (30 * -(-5 // columns), 40 * columns, 3)
    for number, tile in enumerate(tiles):
        top, left = 30 * (number // columns), 40 * (number % columns)
        np.testing.assert_array_equal(sheet[top : top + 30, left : left + 40], tile)
    assert (sheet[-30:, -40:] == BACKGROUND).all()
    assert grid(tiles[:1]).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="none"):
        grid([])
    with pytest.raises(ValueError, match="one size"):
        grid([tiles[0], tiles[0][:20]])
