"""What people ask of a restoration first: how many faces, which came out worst, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqfr_media.review.figures import Figures
from vqfr_media.review.measurement import MeasuredRestoration, MeasuredTrack
from vqfr_media.summary import counted

# A mean difference of less than so many of its standard errors is not told from chance.
_ERRORS = 2.0
# Times of a track between which a difference can be compared with its own scatter.
_FEWEST = 3
_MOST_WORST = 5
# Share of a track's faces from which being left alone or lost is worth a line.
_SHARE = 0.05


@dataclass(frozen=True)
class WorstTrack:
    """A face that did not come out well."""

    track: MeasuredTrack
    """Which one."""
    why: str
    """In a few words."""


def restored_words(measured: MeasuredRestoration, *, known: bool) -> str:
    """Returns how many of the faces were restored, in a sentence.

    Args:
        measured: has at least one face.
        known: whether it is known which faces were left alone.
    """
    faces = sum(track.frames for track in measured.tracks)
    tracks = counted(len(measured.tracks), "track")
    persons = {track.person for track in measured.tracks if track.person is not None}
    whose = f" ({tracks} of {counted(len(persons), 'person')})" if persons else f" ({tracks})"
    if not known:
        faces_there = f"{counted(faces, 'face')}{whose} over all frames"
        return f"{faces_there}; how many of them were restored is not known."
    restored = faces - sum(measured.reasons.values())
    return f"Restored {restored} of {counted(faces, 'face')}{whose}, over all frames."


def worst_tracks(measured: MeasuredRestoration) -> tuple[WorstTrack, ...]:
    """Returns the tracks with most to complain of, the worst first; at most five."""
    found = []
    for track in measured.tracks:
        complaints = list(_complaints(track))
        if complaints:
            badness = sum(weight for weight, _ in complaints)
            why = "; ".join(words for _, words in complaints)
            found.append((-badness, track.first_frame, track.id, WorstTrack(track, why)))
    return tuple(worst for *_, worst in sorted(found, key=lambda one: one[:3])[:_MOST_WORST])


def _complaints(track: MeasuredTrack) -> list[tuple[float, str]]:
    """Returns what speaks against a track's result: how much, and in words."""
    figures = track.figures
    found = []
    if figures.skipped >= _SHARE:
        reasons = ", ".join(track.reasons)
        words = f"{figures.skipped:.0%} left alone ({reasons or 'reason unknown'})"
        found.append((figures.skipped, words))
    if figures.lost >= _SHARE:
        found.append((figures.lost, f"{figures.lost:.0%} not found in the result"))
    for name, before, after in (
        ("jitter", figures.jitter_before, figures.jitter_after),
        ("flicker", figures.flicker_before, figures.flicker_after),
    ):
        if before and after is not None and after > before:
            pairs = pairs_of(track.series, name)
            if len(pairs) >= _FEWEST and is_clear(pairs):
                words = "less steady" if name == "jitter" else "less calm"
                found.append((min(after / before - 1, 1.0), f"{after / before - 1:.0%} {words}"))
    return found


def pairs_of(series: Sequence[Figures], name: str) -> list[tuple[float, float]]:
    """Returns a figure before and after, at each time at which it is known.

    Args:
        series: figures over time.
        name: `jitter`, `flicker`, `mesh_jitter`, `unsteadiness` or `drift`.
    """
    pairs = ((getattr(s, f"{name}_before"), getattr(s, f"{name}_after")) for s in series)
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def is_clear(pairs: Sequence[tuple[float, float]]) -> bool:
    """Tells whether what was measured differs by more than its own scatter over time explains.

    Fewer than three pairs have no scatter: then every difference counts.
    """
    if len(pairs) < _FEWEST:
        return True
    differences = np.array([after - before for before, after in pairs])
    error = float(differences.std(ddof=1)) / len(pairs) ** 0.5
    return bool(abs(float(differences.mean())) >= _ERRORS * error)
