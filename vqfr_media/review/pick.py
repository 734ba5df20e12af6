"""Which stretches of a film tell most about its restoration: chosen by the faces in some frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqfr_media.values import Face


@dataclass(frozen=True)
class SampledMoment:
    """The faces that were found in one frame of a film."""

    seconds: float
    """Time of the frame from the film's beginning."""
    faces: tuple[Face, ...]
    """Those that would be restored, as far as a frame by itself tells."""


@dataclass(frozen=True)
class Stretch:
    """A part of a film that is worth looking at."""

    start: float
    """Seconds from the film's beginning."""
    stop: float
    """Seconds from the film's beginning; later than the start."""
    why: str
    """What it was chosen for, in a few words."""


def pick_stretches(
    moments: Sequence[SampledMoment], *, film_seconds: float, length: float, count: int
) -> tuple[Stretch, ...]:
    """Picks stretches that share no moment: with the most faces, the least clear and the largest.

    How clear a face is, is how sure the detector was of it.

    Args:
        moments: evenly spaced over the film; those without a face are passed over.
        film_seconds: length of the film.
        length: seconds of a stretch; shorter where the film is.
        count: most stretches, 1 to 3.

    Returns:
        In the order of the film; fewer than `count` where faces are not found in so many places.
    """
    length = min(length, film_seconds)
    found = [moment for moment in moments if moment.faces]
    wishes = (
        ("most faces", lambda faces: len(faces)),
        ("least clear faces", lambda faces: -float(np.mean([face.score for face in faces]))),
        ("largest faces", lambda faces: float(np.mean([face.size for face in faces]))),
    )
    picked: list[Stretch] = []
    for why, value in wishes[:count]:
        stretches = [
            (value(moment.faces), _around(moment.seconds, film_seconds, length)) for moment in found
        ]
        free = [
            (worth, start)
            for worth, start in stretches
            if all(start + length <= one.start or one.stop <= start for one in picked)
        ]
        if free:
            _, start = max(free, key=lambda item: (item[0], -item[1]))
            picked.append(Stretch(start, start + length, why))
    return tuple(sorted(picked, key=lambda stretch: stretch.start))


def _around(seconds: float, film_seconds: float, length: float) -> float:
    """Returns where a stretch with this moment in its middle begins, as far as there is film."""
    return float(np.clip(seconds - length / 2, 0, film_seconds - length))
