"""What a report leads with: how many faces were restored, and which came out worst."""

import numpy as np
import pytest

from tests.vqfr_media.review.test_report import figures
from vqfr_media.review.figures import Figures
from vqfr_media.review.headline import is_clear, pairs_of, restored_words, worst_tracks
from vqfr_media.review.measurement import Clip, MeasuredRestoration, MeasuredTrack
from vqfr_media.review.page import figure_rows, render
from vqfr_media.values import SkipReason

CLIP = Clip(name="a.mp4", size_bytes=9, width=64, height=48, bits=8, frame_rate=25.0, image=False)


def a_track(number: int, series: tuple[Figures, ...] = (), **changes: object) -> MeasuredTrack:
    reasons = {SkipReason.TOO_SMALL: 3} if changes.get("skipped", 0) else {}
    person = changes.pop("person", None)
    assert person is None or isinstance(person, int)
    return MeasuredTrack(
        id=number, shot=0, first_frame=number, last_frame=number + 9, first_seconds=0.0,
        last_seconds=1.0, mean_size=50.0, mean_score=0.9, reasons=reasons, series=series,
        figures=figures(**({"skipped": 0.0} | changes)), person=person,
    )  # fmt: skip


def measured(*tracks: MeasuredTrack) -> MeasuredRestoration:
    reasons = {SkipReason.TOO_SMALL: 3} if any(track.reasons for track in tracks) else {}
    return MeasuredRestoration(
        source=CLIP, restored=CLIP, pairs=10, seconds=1.0, shots=1, figures=figures(),
        reasons=reasons, tracks=tracks, detector="a detector",
    )  # fmt: skip


def over_time(differences: list[float]) -> tuple[Figures, ...]:
    return tuple(figures(flicker_before=1.0, flicker_after=1.0 + d) for d in differences)


def test_how_many_were_restored() -> None:
    tracks = a_track(0, skipped=0.3, person=1), a_track(1, person=1), a_track(2, person=2)
    words = restored_words(measured(*tracks), known=True)
    assert words == "Restored 24 of 27 faces (3 tracks of 2 persons), over all frames."
    words = restored_words(measured(a_track(0)), known=False)
    assert words == (
        "9 faces (1 track) over all frames; how many of them were restored is not known."
    )


def test_the_worst_come_first_with_the_reason() -> None:
    noise, worse = over_time([0.4, -0.3, 0.2, -0.3]), over_time([0.4, 0.3, 0.4, 0.3])
    calm = {"jitter_after": 1.0}
    tracks = (
        a_track(0, noise, flicker_after=1.2),
        a_track(1, lost=0.1, flicker_after=0.9),
        a_track(2, skipped=0.5, flicker_after=0.9),
        a_track(3, worse, flicker_after=1.35, **calm),
    )
    worst = worst_tracks(measured(*tracks))
    assert [one.track.id for one in worst] == [2, 3, 1]
    assert [one.why for one in worst] == [
        "50% left alone (too small)", "35% less calm", "10% not found in the result",
    ]  # fmt: skip
    assert worst_tracks(measured(tracks[0])) == ()
    many = [a_track(number, lost=0.5, flicker_after=0.9) for number in range(9)]
    assert [one.track.id for one in worst_tracks(measured(*many))] == [0, 1, 2, 3, 4]


def test_a_difference_is_clear_beyond_two_standard_errors() -> None:
    scatter = np.array([-1.0, 0.0, 1.0, 0.0])
    error = scatter.std(ddof=1) / 2  # of the mean of four
    for times, clear in ((1.9, False), (2.1, True)):
        pairs = [(5.0, 5.0 + d + times * error) for d in scatter]
        assert is_clear(pairs) is clear
    assert is_clear([(1.0, 1.1)])  # nothing is known of its scatter
    assert pairs_of([figures(jitter_after=None), figures()], "jitter") == [(2.0, 1.0)]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [([0.5, -0.4, 0.5, -0.4], "no clear difference"), ([0.2, 0.2, 0.21, 0.2], "20 % less calm")],
)
def test_chance_is_called_neither_better_nor_worse(differences: list[float], verdict: str) -> None:
    rows = figure_rows(figures(), known=True, series=over_time(differences))
    assert {row.name: row.verdict for row in rows}["Flicker, levels"] == verdict


def test_the_page_leads_with_it() -> None:
    pytest.importorskip("jinja2")
    page = render(measured(a_track(0, skipped=0.5, flicker_after=0.9, person=2)), None)
    lead = page.index("Restored 6 of 9 faces (1 track of 1 person), over all frames.")
    worst = page.index("50% left alone (too small)")
    assert lead < worst < page.index("All faces, over all frames")
    assert "(person 2)" in page
    assert "No face stands out" in render(measured(a_track(0, flicker_after=0.9)), None)
