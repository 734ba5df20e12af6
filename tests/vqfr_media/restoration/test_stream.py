"""Stages side by side: they do run at the same time, and end together however they end."""

import gc
import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.scenes import scene, write_scene
from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.errors import EngineError
from vqfr_media.faces.detect import Detector
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour import from_rgb
from vqfr_media.options import RestoreOptions, TemporalOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames

FULL = PixelFormat(family="yuv", subsampling=(0, 0), full_range=True)
OPTIONS = RestoreOptions(temporal=TemporalOptions(latent_radius=0.04, pixel_radius=0.08))
STAGES = (
    "search", "detect", "track", "choose", "align", "encode", "smooth_latents", "decode",
    "smooth_pixels", "blend",
)  # fmt: skip


def picture(index: int, *, discs: int = 1) -> Frame:
    planes = from_rgb((scene(index % 4, discs=discs) / 255).astype(np.float32), FULL)
    return Frame(
        index, index, tuple(np.rint(p).clip(0, 255).astype(np.uint8) for p in planes), FULL
    )


@pytest.fixture(scope="module")
def film() -> list[Frame]:
    return [picture(index) for index in range(30)]


def restorer(*, upscale: int = 1, temporal: TemporalOptions = OPTIONS.temporal) -> Restorer:
    engine = InvertingEngine(size=32, batch_size=1)
    options = replace(OPTIONS, upscale=upscale, temporal=temporal)
    return Restorer(engine, MarkerDetector(), options, Fraction(1, 25), Fraction(25))


def index_of(given: Any) -> int:
    """Number of the frame that a stage is called for, whatever it is given."""
    if isinstance(given, Sequence):
        return index_of(given[0])
    if hasattr(given, "items"):
        return index_of(given.items[given.centre])
    return int(given.index if isinstance(given, Frame) else given.frame.index)


def replaced(work: Restorer, stage: str, before: Callable[[int], None]) -> None:
    """Calls `before` with the frame's number whenever `stage` of `work` is called."""
    own = getattr(work, stage)

    def run(given: Any) -> Any:
        before(index_of(given))
        return own(given)

    object.__setattr__(work, stage, run)


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vqfr-prefetch"]


def test_four_groups_of_stages_work_at_the_same_time(film: list[Frame]) -> None:
    """Each waits in one frame for the three others; one after the other they never meet."""
    work = restorer()
    meeting = threading.Barrier(4)
    radii = work.radii
    # The frame after the last one that the blending of frame 0 needs, and so on.
    encode = radii.pixels + radii.latents + 1
    align = encode + 1
    detect = align + radii.align + radii.choose + radii.track + 1
    for stage, frame in (("detect", detect), ("align", align), ("encode", encode), ("blend", 0)):

        def meet(index: int, frame: int = frame) -> None:
            if index == frame:
                meeting.wait(timeout=20)

        replaced(work, stage, meet)
    assert [frame.index for frame, _ in restore_frames(film, work)] == list(range(30))
    assert not ours()


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_of_any_stage_is_raised_after_the_frames_before_it(
    film: list[Frame], stage: str
) -> None:
    work, error = restorer(), EngineError("as the test wants it")
    needed: dict[str, int] = {"blend": 0, "smooth_pixels": 0}
    needed["decode"] = needed["smooth_latents"] = work.radii.pixels
    needed["encode"] = needed["decode"] + work.radii.latents
    needed["align"] = needed["encode"]
    needed["choose"] = needed["align"] + work.radii.align
    needed["track"] = needed["choose"] + work.radii.choose
    needed["search"] = needed["detect"] = needed["track"] + work.radii.track

    def fail(index: int) -> None:
        if index == 27:
            raise error

    replaced(work, stage, fail)
    seen: list[int] = []
    with pytest.raises(EngineError) as caught:
        seen.extend(frame.index for frame, _ in restore_frames(film, work))
    assert caught.value is error
    assert seen == list(range(27 - needed[stage]))
    assert not ours()


def test_what_is_found_for_a_moment_stays_as_it_is() -> None:
    moment = (12, 13)
    frames = [picture(index, discs=2 if index in moment else 1) for index in range(20)]
    beside = np.s_[:, 170:]  # the second disc's half of the picture
    for min_track, found in ((0.12, 1), (0.0, 2)):
        temporal = replace(OPTIONS.temporal, min_track=min_track)
        restored = list(restore_frames(frames, restorer(temporal=temporal)))
        for given, (frame, faces) in zip(frames, restored, strict=True):
            expected = found if frame.index in moment else 1
            assert len(faces.faces) == expected
            same = [
                np.array_equal(one[beside], other[beside])
                for one, other in zip(given.planes, frame.planes, strict=True)
            ]
            assert all(same) == (expected == 1)


def test_of_two_errors_the_first_frames_is_raised(film: list[Frame]) -> None:
    work = restorer()

    def fail_at(frame: int, error: Exception) -> Callable[[int], None]:
        def fail(index: int) -> None:
            if index == frame:
                raise error

        return fail

    # By the time that frame 2 is decoded, detection has failed long since.
    replaced(work, "detect", fail_at(22, EngineError("the later frame")))
    replaced(work, "decode", fail_at(2, EngineError("the earlier frame")))
    with pytest.raises(EngineError, match="the earlier frame"):
        list(restore_frames(film, work))
    assert not ours()


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_a_generator_that_is_closed_early_leaves_no_thread(taken: int) -> None:
    numbers = itertools.count()
    restored = restore_frames(map(picture, numbers), restorer())
    for expected in range(taken):
        assert next(restored)[0].index == expected
    restored.close()
    assert not ours()
    # A few windows and queues ahead, and no more once it is closed.
    assert next(numbers) <= (0 if taken == 0 else taken + 40)


def test_a_generator_that_is_forgotten_in_a_cycle_ends_its_threads() -> None:
    restored = restore_frames(map(picture, itertools.count()), restorer())
    next(restored)
    holder: list[object] = [restored]
    holder.append(holder)
    threads = ours()
    assert len(threads) == 3
    del restored, holder
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert not ours()


@pytest.fixture
def opencv_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("opencv_threads")
def test_opencv_has_one_thread_until_the_last_restoration_ends(film: list[Frame]) -> None:
    cv2.setNumThreads(3)
    one, other = restore_frames(film, restorer()), restore_frames(film, restorer())
    enlarging = restore_frames(film[:3], restorer(upscale=2))
    next(enlarging)
    assert cv2.getNumThreads() == 3
    next(one)
    assert cv2.getNumThreads() == 1
    next(other)
    one.close()
    assert cv2.getNumThreads() == 1
    assert len(list(other)) == len(film) - 1
    assert cv2.getNumThreads() == 3
    enlarging.close()


@pytest.mark.usefixtures("opencv_threads")
def test_any_number_of_threads_of_opencv_gives_the_same_bits(film: list[Frame]) -> None:
    given = []
    for threads in (1, 3):
        cv2.setNumThreads(threads)
        work = restorer(upscale=2)  # otherwise OpenCV has one thread
        given.append([frame.planes for frame, _ in restore_frames(film[:8], work)])
    for one, other in zip(*given, strict=True):
        for plane, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(plane, wanted)


class Interrupting:
    """A detector or the part of an engine that is in the middle of its work when Ctrl-C comes."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def press(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)


class InterruptedDetector(Interrupting):
    """Finds discs."""

    def __call__(self, image: Any) -> Any:
        self.press()
        return MarkerDetector()(image)


class InterruptedEngine(InvertingEngine):
    """Inverts."""

    def __init__(self, method: str, at: int) -> None:
        super().__init__(size=32, batch_size=1)
        own, button = getattr(self, method), Interrupting(at)

        def run(*given: Any, **named: Any) -> Any:
            button.press()
            return own(*given, **named)

        setattr(self, method, run)


def detector_and_engine() -> Iterator[tuple[Detector, InvertingEngine]]:
    for at in (1, 12):
        yield InterruptedDetector(at), InvertingEngine(size=32, batch_size=1)
        yield MarkerDetector(), InterruptedEngine("encode", at)
        yield MarkerDetector(), InterruptedEngine("decode", at)


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """As in a terminal: a shell starts what runs in the background with Ctrl-C switched off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
@pytest.mark.parametrize(("detector", "engine"), list(detector_and_engine()))
def test_ctrl_c_while_a_stage_works_leaves_nothing(
    tmp_path: Path, detector: Detector, engine: InvertingEngine
) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=60, different=4)
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, tmp_path / "out.mkv", OPTIONS, engine=engine, detector=detector)
    assert not ours()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_while_the_caller_waits_for_a_slow_stage(film: list[Frame]) -> None:
    work = restorer()
    replaced(
        work, "encode", lambda index: signal.raise_signal(signal.SIGINT) if index == 9 else None
    )
    with pytest.raises(KeyboardInterrupt), closing(restore_frames(film, work)) as restored:
        list(restored)
    assert not ours()
