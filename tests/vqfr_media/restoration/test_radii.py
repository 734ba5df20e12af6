"""How far the stages look around a frame, counted by hand."""

from fractions import Fraction

import pytest

from vqfr_media.faces.track import TrackLimits
from vqfr_media.options import TemporalOptions
from vqfr_media.restoration.radii import (
    FrameRadii,
    frames_in_gap,
    frames_of_track,
    frames_within,
    track_limits,
)

OPTIONS = TemporalOptions(
    landmarks="five", landmarks_radius=0.12, latent_radius=0.08, pixel_radius=0.16, max_gap=0.2,
    min_track=0.12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "rate", "around", "gap"),
    [
        (0, Fraction(25), 0, 0),
        (0.08, Fraction(25), 2, 2),
        (0.09, Fraction(25), 3, 2),
        (0.1, Fraction(30000, 1001), 3, 2),
    ],
)
def test_seconds_become_frames(seconds: float, rate: Fraction, around: int, gap: int) -> None:
    assert frames_within(seconds, rate) == around
    assert frames_in_gap(seconds, rate) == gap


@pytest.mark.parametrize(
    ("seconds", "rate", "fewest"),
    [
        (0, Fraction(25), 1),
        (0.12, Fraction(8), 1),  # where a frame lasts longer, one is enough
        (0.12, Fraction(10), 2),
        (0.12, Fraction(24000, 1001), 3),
        (0.12, Fraction(25), 3),
        (0.12, Fraction(30), 4),
        (0.12, Fraction(60), 8),
    ],
)
def test_a_face_is_seen_for_at_least_that_long(seconds: float, rate: Fraction, fewest: int) -> None:
    assert frames_of_track(seconds, rate) == fewest


def test_a_track_may_be_lost_and_has_to_last_so_many_frames() -> None:
    assert track_limits(OPTIONS, Fraction(25)) == TrackLimits(max_gap=5, fewest=3)
    assert track_limits(OPTIONS, Fraction(50)) == TrackLimits(max_gap=10, fewest=6)
    assert TrackLimits(max_gap=5, fewest=3).radius == 10


def test_sums_go_from_the_last_stage_to_the_first() -> None:
    radii = FrameRadii.of(OPTIONS, Fraction(25))
    assert radii == FrameRadii(detect=0, track=10, choose=5, align=3, latents=2, pixels=4)
    sums = (radii.after_latents, radii.after_align, radii.after_choose, radii.after_track)
    assert sums == (4, 6, 9, 14)
    assert radii.total == radii.after_detect == 24


def test_a_detector_that_looks_near_known_faces_needs_the_next_frame_that_is_searched() -> None:
    radii = FrameRadii.of(OPTIONS, Fraction(25), searches_near=True)
    assert (radii.detect, radii.after_detect, radii.total) == (4, 24, 28)
    known = FrameRadii.of(OPTIONS, Fraction(25), searches_near=True, faces_known=True)
    assert (known.detect, known.total) == (0, 14)


def test_faces_that_are_known_need_no_tracking() -> None:
    assert FrameRadii.of(OPTIONS, Fraction(25), faces_known=True).total == 14


def test_links_need_a_neighbour_though_nothing_is_smoothed() -> None:
    still = TemporalOptions(
        landmarks="five", landmarks_radius=0, latent_radius=0, pixel_radius=0, max_gap=0,
        min_track=0, choice_radius=0,
    )  # fmt: skip
    radii = FrameRadii.of(still, Fraction(25), grain=False)
    assert radii == FrameRadii(detect=0, track=3, choose=0, align=1, latents=0, pixels=0)
    # The film's grain is told by three frames to each side.
    assert FrameRadii.of(still, Fraction(25)).pixels == 3


def test_the_mesh_is_looked_at_over_its_own_radius_or_the_smoothings() -> None:
    def align(radius: float) -> int:
        options = TemporalOptions(landmarks="mesh", landmarks_radius=radius)
        return FrameRadii.of(options, Fraction(25)).align

    assert [align(radius) for radius in (0, 0.1, 0.2)] == [8, 8, 14]
