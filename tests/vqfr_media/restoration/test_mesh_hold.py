"""Landmarks held by the mesh: what they keep of the five, what of the mesh, and nothing between."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.faces.affine import Matrix23, apply, invert
from vqfr_media.faces.align import template
from vqfr_media.faces.mesh_fit import MeshFit, MeshFits
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.restoration.mesh_hold import hold_by_mesh
from vqfr_media.values import Face, FrameFaces, TrackedFace
from vqfr_media.windows import Window

TIME_BASE = Fraction(1, 25)
RADIUS = 0.1
FRAMES = 41


class KnownFits(MeshFits):
    """Fits that were made up, by the face."""

    def __init__(self, known: dict[Face, MeshFit]) -> None:
        super().__init__()
        self.known = known

    def of(self, frame: Frame, face: Face) -> MeshFit:  # noqa: ARG002
        return self.known[face]


def place(at: int, *, pixels: float = 0.0) -> Matrix23:
    """From the template of 512 to a head that nods at 2 Hz by 5 px and goes steadily sideways."""
    nod = 5 * np.sin(2 * np.pi * 2 * at / 25)
    return np.array([[0.25, 0, 40 + 2.0 * at + pixels], [0, 0.25, 30 + nod]])


def scene(
    noise: float, *, offset: float = 0.0, trusts: npt.ArrayLike = 1.0, mesh_noise: float = 0.0
) -> tuple[list[FrameFaces[TrackedFace]], KnownFits]:
    """A head whose five landmarks tremble, and whose mesh lies `offset` template pixels aside."""
    rng = np.random.default_rng(3)
    trust = np.broadcast_to(np.asarray(trusts, float), (FRAMES,))
    items, known = [], {}
    for at in range(FRAMES):
        true = place(at)
        five = apply(true, template(512)) + rng.normal(0, noise, (5, 2))
        face = Face(np.array([40.0, 30, 170, 160]), five, 0.9)
        moved = place(at, pixels=0.25 * offset + float(rng.normal(0, mesh_noise)))
        known[face] = MeshFit(invert(moved), float(trust[at]))
        frame = Frame(at, at, (np.zeros((8, 8), np.uint8),), PixelFormat(family="gray"))
        items.append(FrameFaces(frame, (TrackedFace(face, 0 if at else None),), at == 0))
    return items, KnownFits(known)


def held(
    items: list[FrameFaces[TrackedFace]], fits: MeshFits, at: int, *, reach: int = 8
) -> npt.NDArray[np.float64]:
    first = max(0, at - reach)
    window = Window(tuple(items[first : at + reach + 1]), at - first)
    return hold_by_mesh(window, 0, radius=RADIUS, time_base=TIME_BASE, fits=fits)


def tremble(noise: float, *, trusts: float) -> float:
    """Mean second difference of what the noise adds to the path."""
    paths = []
    for items, fits in (scene(noise, trusts=trusts), scene(0, trusts=trusts)):
        paths.append(np.array([held(items, fits, at) for at in range(8, FRAMES - 8)]))
    off = paths[0] - paths[1]
    return float(np.linalg.norm(off[2:] - 2 * off[1:-1] + off[:-2], axis=2).mean())


def test_without_noise_the_landmarks_are_where_the_detector_sees_them_on_average() -> None:
    """Also where the mesh lies quite elsewhere: only its motion counts."""
    for offset in (0.0, 60.0):
        items, fits = scene(0, offset=offset)
        for at in (0, 3, 20, FRAMES - 1):
            off = held(items, fits, at) - apply(place(at), template(512))
            np.testing.assert_allclose(off[:, 0], 0, atol=1e-9)
            assert np.abs(off[:, 1]).max() < 1.7  # the nod, rounded as all smoothing rounds it


def test_the_detectors_tremble_is_taken_out() -> None:
    assert tremble(1, trusts=1) < 0.35 * tremble(1, trusts=0)


def test_without_trust_the_five_are_smoothed_by_a_parabola() -> None:
    items, fits = scene(1.0, trusts=0.0)
    times = np.arange(-7, 8) / 25
    weights = np.exp(-0.5 * (3 * times / 0.28) ** 2)
    five = np.array([items[8 + at].faces[0].face.landmarks for at in range(-7, 8)])
    for row in range(5):
        for axis in range(2):
            fitted = np.polyfit(times, five[:, row, axis], 2, w=np.sqrt(weights))
            assert held(items, fits, 8)[row, axis] == pytest.approx(fitted[2], abs=1e-9)


def test_a_face_alone_is_left_to_the_detector() -> None:
    items, fits = scene(1.0)
    window = Window((items[0],), 0)
    result = hold_by_mesh(window, 0, radius=RADIUS, time_base=TIME_BASE, fits=fits)
    np.testing.assert_array_equal(result, items[0].faces[0].face.landmarks)


def test_a_face_that_gets_covered_goes_over_without_a_jump() -> None:
    """The mesh breaks off in the middle, and lies 200 template pixels aside while nobody trusts."""
    trusts = np.ones(FRAMES)
    trusts[15:26] = 0
    items, fits = scene(0, trusts=trusts)
    for at in range(15, 26):
        (tracked,) = items[at].faces
        fits.known[tracked.face] = MeshFit(invert(place(at, pixels=50)), 0.0)
    path = np.array([held(items, fits, at) for at in range(FRAMES)])
    five = KnownFits({face: MeshFit(fit.matrix, 0.0) for face, fit in fits.known.items()})
    usual = np.array([held(items, five, at) for at in range(FRAMES)])
    # What nobody trusts has no say in where the face is.
    np.testing.assert_allclose(path, usual, atol=0.4)
    np.testing.assert_allclose(path[..., 0], usual[..., 0], atol=1e-6)


def test_without_smoothing_the_motion_is_the_meshs_own() -> None:
    items, fits = scene(1.0)
    window = Window(tuple(items[:17]), 8)
    result = hold_by_mesh(window, 0, radius=0, time_base=TIME_BASE, fits=fits)
    # The mean of the five's noise over the window is what is left.
    assert np.abs(result - apply(place(8), template(512))).max() < 1.2
    middle = (result - apply(place(8), template(512))).mean(axis=0)
    assert np.abs(middle).max() < 0.5


@pytest.mark.parametrize("reach", [8, 12])
def test_frames_beyond_the_declared_radius_count_for_nothing(reach: int) -> None:
    items, fits = scene(1.0, mesh_noise=0.3)
    np.testing.assert_array_equal(held(items, fits, 20, reach=reach), held(items, fits, 20))
