"""Frames of two clips belong together by their times, whatever container counts them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vqfr_media.review.clips import disc, write_pictures
from vqfr_media.errors import InputError
from vqfr_media.review.pairs import common_size, open_pair

SMALL = [np.full((8, 16, 3), 20 * number, np.uint8) for number in range(10)]


def seconds_of(one: Path, other: Path) -> list[float]:
    with open_pair(one, other) as pairing:
        return [pair.seconds for pair in pairing.pairs]


def test_times_that_a_container_rounds_are_the_same(tmp_path: Path) -> None:
    rate = Fraction(1001, 30000)
    one = write_pictures(tmp_path / "one.mov", SMALL, time_base=rate)  # exact
    other = write_pictures(tmp_path / "other.mkv", SMALL, time_base=rate)  # milliseconds
    for pair in ((one, other), (other, one)):
        assert seconds_of(*pair) == pytest.approx([float(n * rate) for n in range(10)], abs=6e-4)


def test_clocks_that_start_elsewhere_are_the_same(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one.mkv", SMALL, times=range(10))
    other = write_pictures(tmp_path / "other.mkv", SMALL, times=range(35, 45))
    assert seconds_of(one, other) == pytest.approx([0.04 * n for n in range(10)])


def test_pairs_hold_frames_of_the_same_number_in_variable_rates(tmp_path: Path) -> None:
    times = [0, 1, 2, 7, 8, 20, 21, 22, 23, 30]
    one = write_pictures(tmp_path / "one.mkv", SMALL, times=times)
    other = write_pictures(tmp_path / "other.mkv", SMALL[::-1], times=times)
    with open_pair(one, other) as pairing:
        for number, pair in enumerate(pairing.pairs):
            assert pair.seconds == pytest.approx(times[number] / 25)
            assert pair.before.planes[0][0, 0] == 20 * number
            assert pair.after.planes[0][0, 0] == 20 * (9 - number)


def test_another_frame_rate_is_refused_and_both_are_named(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one.mov", SMALL, time_base=Fraction(1, 25))
    for rate in (50, 24, 30):
        other = write_pictures(tmp_path / f"{rate}.mov", SMALL * 3, time_base=Fraction(1, rate))
        with pytest.raises(InputError, match=rf"one\.mov \(25 .*{rate}\.mov \({rate}\).* frame "):
            seconds_of(one, other)


def test_a_frame_that_was_dropped_is_seen(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one.mkv", SMALL)
    dropped = [number for number in range(10) if number != 4]
    other = write_pictures(
        tmp_path / "other.mkv", [SMALL[number] for number in dropped], times=dropped
    )
    with pytest.raises(InputError, match=r"frame 4 is at 0\.160 s in the first and at 0\.200 s"):
        seconds_of(one, other)


def test_another_length_is_refused_and_both_are_named(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one.mkv", SMALL)
    other = write_pictures(tmp_path / "other.mkv", SMALL[:6])
    for pair in ((one, other), (other, one)):
        with pytest.raises(InputError, match=r"other\.mkv ends after 6 .*\(0\.200 s\), but .*one"):
            seconds_of(*pair)


def test_sizes_may_differ_but_shapes_may_not(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one.mkv", SMALL)
    large = [np.repeat(np.repeat(picture, 3, 0), 3, 1) for picture in SMALL]
    other = write_pictures(tmp_path / "other.mkv", large)
    with open_pair(one, other) as pairing:
        assert common_size(pairing) == (48, 24)
        matrix = next(pairing.pairs).to_after()
    # The first pixel of the small picture is the first three of the large one.
    np.testing.assert_allclose(matrix, [[3, 0, 1], [0, 3, 1]])
    wide = write_pictures(tmp_path / "wide.mkv", [picture[:6] for picture in SMALL])
    with pytest.raises(InputError, match=r"one\.mkv is shown at 16×8 and .*wide\.mkv at 16×6"):
        seconds_of(one, wide)


def test_images_are_one_pair(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(disc()).save(tmp_path / name)
    with open_pair(tmp_path / "a.png", tmp_path / "b.png") as pairing:
        assert pairing.images
        (pair,) = pairing.pairs
    assert pair.seconds == 0
    clip = write_pictures(tmp_path / "clip.mkv", [disc()])
    with pytest.raises(InputError, match=r"a\.png is an image and .*clip\.mkv is not"):
        seconds_of(clip, tmp_path / "a.png")
