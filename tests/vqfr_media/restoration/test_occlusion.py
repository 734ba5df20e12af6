"""What stands in front of a face stays, where the network paints over it, and nothing else does."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.portrait import BAR, RATE, PaintingEngine, TremblingDetector, bar_at, portrait_frame
from tests.stand_ins import IdentityEngine, InvertingEngine
from vqfr_media.engine import Engine
from vqfr_media.faces.blend import masks
from vqfr_media.frames import Frame
from vqfr_media.options import BlendOptions, RestoreOptions
from vqfr_media.restoration.occlusion import excess
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.resize import enlarged
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import FrameFaces, RestoredFace

FRAMES = 12
Done = list[tuple[Frame, FrameFaces[RestoredFace]]]


def restorer(engine: Engine, *, keep: bool) -> Restorer:
    options = RestoreOptions(blend=BlendOptions(keep_occluders=keep))
    return Restorer(engine, TremblingDetector(), options, 1 / RATE, RATE)


def restored(engine: Engine, *, keep: bool, bar: bool = True) -> Done:
    frames = (portrait_frame(number, bar=bar) for number in range(FRAMES))
    return list(restore_frames(frames, restorer(engine, keep=keep)))


@pytest.fixture(scope="module")
def painted() -> Done:
    return restored(PaintingEngine(), keep=False)


@pytest.fixture(scope="module")
def kept() -> Done:
    return restored(PaintingEngine(), keep=True)


def error_in_bar(done: Done) -> list[float]:
    """Mean difference from the bar's colour where the mask of the face lies over it, in levels."""
    told = []
    for number, (frame, _) in enumerate(done):
        rows = slice(60, 130)  # of the face
        shown = np.stack([frame.planes[plane][rows, bar_at(number)] for plane in (2, 0, 1)], 2)
        told.append(float(np.abs(shown.astype(float) - BAR).mean()))
    return told


def test_a_bar_that_the_network_paints_over_stays(painted: Done, kept: Done) -> None:
    over_the_face = slice(1, 9)  # the bar has left the middle of the face afterwards
    before, after = error_in_bar(painted)[over_the_face], error_in_bar(kept)[over_the_face]
    assert min(before) > 40
    assert max(after) < 0.15 * min(before)


def test_the_mask_says_what_was_kept(painted: Done, kept: Done) -> None:
    (_, without), (_, faces) = painted[4], kept[4]
    assert without.faces[0].covered is None
    middle = (slice(60, 130), slice(bar_at(4).start + 3, bar_at(4).stop - 3))
    assert masks(without.frame, without.faces)[0][middle].mean() > 0.9
    assert masks(faces.frame, faces.faces)[0][middle].mean() < 0.1


def test_a_bar_that_moved_on_leaves_nothing_behind(kept: Done) -> None:
    """Where the bar was two frames before, the face is restored in full again."""
    for number in (3, 6):
        _, faces = kept[number]
        behind = (slice(70, 120), slice(bar_at(number).start - 26, bar_at(number).start - 16))
        plain = replace(faces.faces[0], covered=None)
        shown, all_of_it = (
            masks(faces.frame, [face])[0][behind] for face in (faces.faces[0], plain)
        )
        np.testing.assert_allclose(shown, all_of_it, atol=0.1)


@pytest.mark.parametrize("engine", [IdentityEngine(size=64), InvertingEngine(size=64)])
def test_only_what_the_network_changes_grossly_is_kept(engine: IdentityEngine) -> None:
    """The identity keeps nothing, and has the same bits; the negative differs everywhere."""
    off, on = restored(engine, keep=False), restored(engine, keep=True)
    covered = [faces.faces[0].covered for _, faces in on]
    if isinstance(engine, InvertingEngine):
        assert all(each is not None for each in covered)
        return
    assert covered == [None] * FRAMES
    for (plain, _), (frame, _) in zip(off, on, strict=True):
        for one, other in zip(plain.planes, frame.planes, strict=True):
            np.testing.assert_array_equal(one, other)


def test_every_way_to_a_frame_has_the_same_bits(kept: Done) -> None:
    access = RandomAccess(restorer(PaintingEngine(), keep=True), FRAMES, requests=1)
    for number in (11, 4, 0, 5):
        faces = access.frame_faces(number, lambda i: portrait_frame(i, bar=True))
        frame = access.restorer.blend(faces)
        for plane, wanted in zip(frame.planes, kept[number][0].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_an_enlarged_face_keeps_the_same_part(kept: Done) -> None:
    _, faces = kept[4]
    (large,) = enlarged(faces.faces, 2)
    assert large.covered is faces.faces[0].covered


def test_a_tint_over_the_whole_face_is_no_occluder() -> None:
    rng = np.random.default_rng(0)
    crop = rng.uniform(0.2, 0.8, (128, 128, 3)).astype(np.float32)
    tint = np.array([0.15, 0, -0.15], np.float32)
    tinted: npt.NDArray[np.float32] = np.clip(crop + tint, 0, 1)
    assert excess(tinted, crop).max() < 0.02
    patched = crop.copy()
    patched[40:90, 40:90] = (0.1, 0.9, 0.1)
    assert excess(patched, crop).max() > 0.1
