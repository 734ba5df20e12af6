"""Temporal smoothing against closed forms, at shot boundaries, and where things move."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.restoration.smoothing import smooth_landmarks, smooth_latents, smooth_pixels
from vqfr_media.values import AlignedFace, EncodedFace, Face, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import Window

TIME_BASE = Fraction(1, 1000)
SIZE = 64
RADIUS = 0.12
POINTS = np.array([[30, 40], [60, 40], [45, 55], [35, 70], [55, 70]], float)


def frame(index: int, pts: int) -> Frame:
    return Frame(index, pts, (np.zeros((8, 8), np.uint8),), PixelFormat(family="gray"))


def tracked(points: npt.NDArray[np.float64], previous: int | None) -> TrackedFace:
    return TrackedFace(Face(np.array([20.0, 20, 70, 80]), points, 0.9), previous)


def weights(seconds: Sequence[float]) -> npt.NDArray[np.float64]:
    """The Gaussian of which `RADIUS` is three sigmas, normalised."""
    found = np.exp(-0.5 * (np.array(seconds) / (RADIUS / 3)) ** 2)
    normalised: npt.NDArray[np.float64] = found / found.sum()
    return normalised


def landmark_window(
    times: Sequence[int], shifts: Sequence[float], centre: int, *, cut: int = -1, lost: int = -1
) -> Window[FrameFaces[TrackedFace]]:
    results = [
        FrameFaces(
            frame(i, time),
            (tracked(POINTS + np.array([shift, 0]), None if i in (0, cut, lost) else 0),),
            new_shot=i in (0, cut),
        )
        for i, (time, shift) in enumerate(zip(times, shifts, strict=True))
    ]
    return Window(tuple(results), centre)


def smoothed_x(window: Window[FrameFaces[TrackedFace]], radius: float = RADIUS) -> float:
    (points,) = smooth_landmarks(window, radius=radius, time_base=TIME_BASE)
    np.testing.assert_allclose(points[:, 1], POINTS[:, 1], atol=1e-9)
    np.testing.assert_allclose(points[:, 0] - points[0, 0], POINTS[:, 0] - POINTS[0, 0], atol=1e-9)
    return float(points[0, 0] - POINTS[0, 0])


def test_landmarks_in_the_middle_of_a_track_are_the_gaussian_mean() -> None:
    times, shifts = [0, 40, 80, 120, 160], [1.0, -2, 4, 0, 3]
    expected = weights([-0.08, -0.04, 0, 0.04, 0.08]) @ np.array(shifts)
    assert smoothed_x(landmark_window(times, shifts, 2)) == pytest.approx(expected, abs=1e-9)


def test_radius_is_in_seconds_whatever_the_frame_rate() -> None:
    # Two neighbours lie beyond the radius and must not count.
    times, shifts = [0, 200, 240, 280, 500], [1000.0, -2, 4, 0, 1000]
    expected = weights([-0.04, 0, 0.04]) @ np.array(shifts[1:4])
    assert smoothed_x(landmark_window(times, shifts, 2)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("centre", [0, 1, 2, 4])
def test_a_steady_motion_is_kept_at_the_ends_of_a_track_and_at_variable_rate(centre: int) -> None:
    times = [0, 33, 80, 113, 160]
    shifts = [0.05 * time for time in times]
    assert smoothed_x(landmark_window(times, shifts, centre)) == pytest.approx(shifts[centre])


def test_a_nod_at_two_hertz_survives() -> None:
    times = list(range(0, 2000, 40))
    shifts = [10 * np.sin(2 * np.pi * 2 * time / 1000) for time in times]
    window = landmark_window(times, shifts, 25)
    smooth = [smoothed_x(Window(window.items[i - 3 : i + 4], 3), radius=0.1) for i in range(10, 40)]
    # exp(-(2 pi f sigma)^2 / 2) at 2 Hz and sigma 1/30 s is 0.916.
    assert max(np.abs(smooth)) == pytest.approx(9.16, abs=0.3)


@pytest.mark.parametrize("kind", ["cut", "lost"])
def test_landmarks_are_not_averaged_over_a_cut_or_a_lost_link(kind: str) -> None:
    times, shifts = [0, 40, 80, 120, 160], [500.0, 500, 4, 4, 4]
    window = landmark_window(times, shifts, 2, **{kind: 2})
    assert smoothed_x(window) == pytest.approx(4)


def test_radius_zero_switches_each_rule_off() -> None:
    window = landmark_window([0, 40, 80], [1, 5, 9], 1)
    assert smoothed_x(window, radius=0) == 5
    encoded, restored = face_windows([0.0, 0.5, 1.0], [0.2, 0.2, 0.2])
    (latent,) = smooth_latents(encoded, radius=0, time_base=TIME_BASE)
    np.testing.assert_array_equal(latent, encoded.items[1].faces[0].latent)
    (image,) = smooth_pixels(restored, radius=0, time_base=TIME_BASE)
    np.testing.assert_array_equal(image, restored.items[1].faces[0].image)


def face_windows(
    values: Sequence[float],
    inputs: Sequence[float | npt.NDArray[np.float32]],
    *,
    cut: int = -1,
) -> tuple[Window[FrameFaces[EncodedFace]], Window[FrameFaces[RestoredFace]]]:
    """Frames 40 ms apart whose latents and images are constant, over given inputs."""
    encoded, restored = [], []
    for i, (value, given) in enumerate(zip(values, inputs, strict=True)):
        crop = np.broadcast_to(np.float32(given), (SIZE, SIZE, 3)).astype(np.float32)
        previous = None if i in (0, cut) else 0
        aligned = AlignedFace(tracked(POINTS, previous), POINTS, np.eye(2, 3), crop)
        latent = np.full((2, 4, 4), value, np.float32)
        image = np.full((SIZE, SIZE, 3), value, np.float32)
        new_shot = i in (0, cut)
        encoded.append(FrameFaces(frame(i, 40 * i), (EncodedFace(aligned, latent),), new_shot))
        restored.append(FrameFaces(frame(i, 40 * i), (RestoredFace(aligned, image),), new_shot))
    centre = len(values) // 2
    return Window(tuple(encoded), centre), Window(tuple(restored), centre)


def both(
    windows: tuple[Window[FrameFaces[EncodedFace]], Window[FrameFaces[RestoredFace]]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    (latent,) = smooth_latents(windows[0], radius=RADIUS, time_base=TIME_BASE)
    (image,) = smooth_pixels(windows[1], radius=RADIUS, time_base=TIME_BASE)
    return latent, image


def test_where_nothing_moves_latents_and_pixels_are_the_gaussian_mean() -> None:
    values = [0.1, 0.5, 0.3, 0.9, 0.2]
    expected = weights([-0.08, -0.04, 0, 0.04, 0.08]) @ np.array(values)
    for smoothed in both(face_windows(values, [0.4] * 5)):
        np.testing.assert_allclose(smoothed, expected, atol=1e-5)


def test_where_the_input_changed_neighbours_have_no_weight_at_all() -> None:
    for smoothed in both(face_windows([1.0, 0.5, 1.0], [0.8, 0.4, 0.1])):
        np.testing.assert_array_equal(smoothed, np.float32(0.5))


def test_nothing_is_averaged_over_a_cut() -> None:
    for smoothed in both(face_windows([1.0, 0.5, 0.5], [0.4] * 3, cut=1)):
        np.testing.assert_allclose(smoothed, 0.5, atol=1e-7)


def test_ghosting_guard_is_local() -> None:
    still = np.full((SIZE, SIZE, 3), 0.4, np.float32)
    moved = still.copy()
    moved[:24, :24] = 0.9  # something bright enters the neighbours' upper left corner
    latent, image = both(face_windows([1.0, 0.5, 1.0], [moved, still, moved]))
    share = weights([-0.04, 0, 0.04])
    mixed = share[1] * 0.5 + (share[0] + share[2]) * 1.0
    np.testing.assert_array_equal(image[:22, :22], np.float32(0.5))
    np.testing.assert_allclose(image[40:, 40:], mixed, atol=1e-4)
    assert latent[0, 0, 0] == np.float32(0.5)
    np.testing.assert_allclose(latent[:, 3, 3], mixed, atol=1e-4)


def test_noise_in_the_input_does_not_stop_the_averaging() -> None:
    rng = np.random.default_rng(0)
    noisy = [(0.4 + rng.normal(0, 0.02, (SIZE, SIZE, 3))).astype(np.float32) for _ in range(3)]
    _, image = both(face_windows([1.0, 0.0, 1.0], noisy))
    share = weights([-0.04, 0, 0.04])
    assert image.mean() > 0.8 * (share[0] + share[2])
