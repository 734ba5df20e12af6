"""A part of a film by times as people write them: seconds, mm:ss, hh:mm:ss.mmm."""

import re
from dataclasses import dataclass
from fractions import Fraction

from vqfr_media.errors import OptionError

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(s|ms|us)?")
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]*)?)")
_UNITS = {None: Fraction(1), "s": Fraction(1), "ms": Fraction(1, 1000), "us": Fraction(1, 10**6)}
_FORMS = "write seconds (90, 4.5, 200ms), mm:ss or hh:mm:ss.mmm"


def seconds_of(name: str, text: str) -> Fraction:
    """Returns a time as FFmpeg takes it in seconds, exactly.

    The forms are those of FFmpeg's manual of utilities, "Time duration": hours of any number,
    minutes and seconds below 60; or seconds, also with a unit.

    Args:
        name: What the time is called in errors.
        text: The time.

    Raises:
        OptionError: it is no time, or negative.
    """
    if not isinstance(text, str):
        raise OptionError(f"{name} must be a text such as '1:02:10', got {text!r}")
    if text.startswith("-"):
        raise OptionError(
            f"{name} must not be negative, got {text}; times count from the beginning"
        )
    if plain := _SECONDS.fullmatch(text):
        return Fraction(plain[1]) * _UNITS[plain[2]]
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        raise OptionError(f"{name} is no time: {text!r}; {_FORMS}")
    hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), Fraction(clock[3])
    if minutes >= 60 or seconds >= 60:
        raise OptionError(f"{name} has 60 minutes or seconds or more: {text}; {_FORMS}")
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """Which part of a film; all of it by default."""

    start: str | None = None
    """Begin at this time from the film's beginning, exactly to the frame: seconds, mm:ss or
    hh:mm:ss.mmm; by default at its beginning."""
    end: str | None = None
    """Stop before the frame at this time from the film's beginning; by default at its end."""
    duration: str | None = None
    """Stop after this time, instead of --end."""

    def __post_init__(self) -> None:
        for name in ("start", "end", "duration"):
            text = getattr(self, name)
            if text is not None:
                seconds_of(name, text)
        if self.end is not None and self.duration is not None:
            raise OptionError(
                f"end ({self.end}) and duration ({self.duration}) both say where the range stops; "
                "leave out one of the two"
            )
        if self.duration is not None and seconds_of("duration", self.duration) == 0:
            raise OptionError(f"duration must be longer than 0, got {self.duration}")
        stop = self.stop_seconds
        if stop is not None and stop <= self.start_seconds:
            raise OptionError(f"end ({self.end}) must be later than start ({self.start or 0})")

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole film."""
        return self == TimeRange()

    @property
    def start_seconds(self) -> Fraction:
        """Seconds from the film's beginning at which it starts."""
        return Fraction(0) if self.start is None else seconds_of("start", self.start)

    @property
    def stop_seconds(self) -> Fraction | None:
        """Seconds from the film's beginning before which it stops; None at the film's end."""
        if self.duration is not None:
            return self.start_seconds + seconds_of("duration", self.duration)
        return None if self.end is None else seconds_of("end", self.end)
