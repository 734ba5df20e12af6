"""Times as people write them, and what is refused of them."""

from fractions import Fraction

import pytest

from vqfr_media.errors import OptionError
from vqfr_media.time_range import TimeRange, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1:02:10", 3730),
        ("62:10", None),
        ("02:10", 130),
        ("2:10.25", Fraction(521, 4)),
        ("100:00:00.001", 360000 + Fraction(1, 1000)),
        ("90", 90),
        ("4.5", Fraction(9, 2)),
        (".1", Fraction(1, 10)),
        ("0", 0),
        ("7s", 7),
        ("200ms", Fraction(1, 5)),
        ("40us", Fraction(1, 25000)),
        ("1:60", None),
        ("", None),
        ("5 s", None),
        ("1e3", None),
        ("inf", None),
        ("00:00:00:10", None),
        ("٣", None),
    ],
)
def test_times_are_those_of_ffmpegs_manual(text: str, seconds: int | Fraction | None) -> None:
    if seconds is None:
        with pytest.raises(OptionError, match=r"start .*write seconds .*mm:ss or hh:mm:ss"):
            seconds_of("start", text)
    else:
        assert seconds_of("start", text) == seconds


def test_a_range_checks_itself() -> None:
    part = TimeRange(start="1:02:10", duration="5")
    assert part.start_seconds == 3730
    assert part.stop_seconds == 3735
    assert TimeRange(end="0:09").stop_seconds == 9
    assert TimeRange(start="9").stop_seconds is None
    assert TimeRange().is_whole
    assert not TimeRange(start="0").is_whole
    with pytest.raises(OptionError, match="start must not be negative, got -3"):
        TimeRange(start="-3")
    with pytest.raises(OptionError, match=r"end \(9\) and duration \(5\) both say"):
        TimeRange(end="9", duration="5")
    with pytest.raises(OptionError, match="duration must be longer than 0, got 0"):
        TimeRange(duration="0")
    with pytest.raises(OptionError, match=r"end \(5\) must be later than start \(0:05\)"):
        TimeRange(start="0:05", end="5")
    with pytest.raises(OptionError, match="start must be a text such as '1:02:10', got 5"):
        TimeRange(start=5)  # type: ignore[arg-type]
