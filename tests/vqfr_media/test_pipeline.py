"""The whole way with a real small engine and detector: what changes, what does not, what fails."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.paths import ROOT
from tests.scenes import scene, write_scene
from tests.stand_ins import (
    IdentityEngine,
    InvertingEngine,
    MarkerDetector,
    NearMarkerDetector,
)
from vqfr_media.errors import EngineError, MediaError, OptionError, OutputError, SkippedFaceError
from vqfr_media.faces.blend import masks
from vqfr_media.faces.search import Unsearched
from vqfr_media.frames import Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import (
    BlendOptions,
    EncodeOptions,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.pipeline import restore_frames, restore_video
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import Detected, EncodedFace, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import Window, window_at

ALL_RULES = TemporalOptions(
    landmarks_radius=0.12, latent_radius=0.08, pixel_radius=0.12, max_gap=0.08
)
LOSSLESS = EncodeOptions(codec="ffv1")


def restorer(path: Path, engine: IdentityEngine, options: RestoreOptions) -> Restorer:
    with open_video(path) as reader:
        info = reader.info
    return Restorer(engine, NearMarkerDetector(), options, info.time_base, info.frame_rate)


def frames_of(path: Path) -> list[Frame]:
    with open_video(path) as reader:
        return list(reader)


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv420p10le", "yuv422p", "yuv444p10le", "gbrp", "gbrp10le", "gray", "gray10le"],
)
@pytest.mark.parametrize("engine_type", [IdentityEngine, InvertingEngine])
def test_samples_outside_the_masks_are_the_decoders(
    tmp_path: Path, pix_fmt: str, engine_type: type[IdentityEngine]
) -> None:
    # FFV1 packs eight-bit RGB, so another lossless codec makes that clip.
    name, codec = ("in.avi", "utvideo") if pix_fmt == "gbrp" else ("in.mkv", "ffv1")
    path = write_scene(tmp_path / name, frames=5, pix_fmt=pix_fmt, codec=codec, discs=2)
    work = restorer(path, engine_type(), RestoreOptions())
    if "gray" in pix_fmt:  # no red discs in grey: faces are given instead

        def given(window: Window[Detected | Unsearched]) -> Detected:
            thumbnail = np.zeros((4, 4), np.uint8)
            frame = window.items[window.centre].frame
            return Detected(frame, tuple(MarkerDetector()(scene(0, discs=2))), thumbnail)

        object.__setattr__(work, "detect", given)
    seen = 0
    for frame, frame_faces in restore_frames(frames_of(path), work):
        assert len(frame_faces.faces) == 2
        for plane, before, mask in zip(
            frame.planes,
            frame_faces.frame.planes,
            masks(frame_faces.frame, frame_faces.faces),
            strict=True,
        ):
            assert plane.dtype == before.dtype
            outside = mask == 0
            assert 0.3 < outside.mean() < 0.95
            np.testing.assert_array_equal(plane[outside], before[outside])
            if engine_type is InvertingEngine and plane is frame.planes[0]:
                assert (plane[mask > 0.9] != before[mask > 0.9]).mean() > 0.5
        seen += 1
    assert seen == 5


@pytest.mark.parametrize("rules", [TemporalOptions(), ALL_RULES], ids=["defaults", "all rules"])
def test_streaming_and_random_access_agree_bit_for_bit(
    tmp_path: Path, rules: TemporalOptions
) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=14, discs=2, cut=8)
    options = RestoreOptions(temporal=rules)
    source = frames_of(path)
    count = len(source)
    streamed = list(restore_frames(source, restorer(path, InvertingEngine(), options)))
    assert [frame_faces.new_shot for _, frame_faces in streamed] == [
        i in (0, 8) for i in range(count)
    ]

    work = restorer(path, InvertingEngine(batch_size=1), options)

    @cache
    def searched(i: int) -> Detected | Unsearched:
        return work.search(source[i])

    @cache
    def detected(i: int) -> Detected:
        return work.detect(window_at(searched, i, work.radii.detect, count))

    @cache
    def tracked(i: int) -> FrameFaces[TrackedFace]:
        return work.track(window_at(detected, i, work.radii.track, count))

    @cache
    def chosen(i: int) -> FrameFaces[TrackedFace]:
        return work.choose(window_at(tracked, i, work.radii.choose, count))

    @cache
    def encoded(i: int) -> FrameFaces[EncodedFace]:
        return work.encode([work.align(window_at(chosen, i, work.radii.align, count))])[0]

    @cache
    def decoded(i: int) -> FrameFaces[RestoredFace]:
        smoothed = work.smooth_latents(window_at(encoded, i, work.radii.latents, count))
        return work.decode([smoothed])[0]

    order = list(range(count))
    random.Random(3).shuffle(order)
    for index in order:
        frame = work.blend(work.smooth_pixels(window_at(decoded, index, work.radii.pixels, count)))
        expected, _ = streamed[index]
        assert frame.index == expected.index == index
        for plane, wanted in zip(frame.planes, expected.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_each_face_goes_through_the_network_once(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=9, discs=2)
    engine = IdentityEngine()
    summary = restore_video(
        path,
        tmp_path / "out.mkv",
        RestoreOptions(temporal=ALL_RULES, encode=LOSSLESS),
        engine=engine,
        detector=MarkerDetector(),
    )
    assert engine.encoded == engine.decoded == summary.restored == 18
    assert [(t.first_frame, t.last_frame, t.restored) for t in summary.tracks] == [(0, 8, 9)] * 2


def test_a_clip_without_faces_passes_byte_for_byte(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=6, discs=0)
    summary = restore_video(
        path,
        tmp_path / "out.mkv",
        RestoreOptions(encode=LOSSLESS),
        engine=IdentityEngine(),
        detector=MarkerDetector(),
    )
    assert (summary.restored, summary.frames, summary.tracks) == (0, 6, ())
    for before, after in zip(frames_of(path), frames_of(tmp_path / "out.mkv"), strict=True):
        assert before.pts == after.pts
        for plane, wanted in zip(after.planes, before.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_summary_counts_shots_tracks_and_skipped_faces(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=10, discs=2, cut=6)
    options = RestoreOptions(encode=LOSSLESS, face=FaceOptions(faces="largest"))
    summary = restore_video(
        path, tmp_path / "out.mkv", options, engine=IdentityEngine(), detector=MarkerDetector()
    )
    assert summary.shots == (0, 6)
    assert [(t.shot, t.first_frame, t.last_frame) for t in summary.tracks] == [(0, 0, 5), (1, 6, 9)]
    assert all(58 < t.mean_size < 64 for t in summary.tracks)
    assert summary.skipped == {"not chosen": 10}
    assert json.loads(json.dumps(summary.to_json()))["tracks"][1]["restored"] == 4


def test_strict_makes_a_skipped_face_an_error(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=3, discs=1)
    options = RestoreOptions(strict=True, encode=LOSSLESS, face=FaceOptions(min_face=100))
    with pytest.raises(SkippedFaceError, match=r"frame 0: a face of 5\d px .*too small"):
        restore_video(
            path, tmp_path / "out.mkv", options, engine=IdentityEngine(), detector=MarkerDetector()
        )
    assert not (tmp_path / "out.mkv").exists()


def test_upscale_enlarges_frames_and_faces(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=2, discs=1)
    options = RestoreOptions(upscale=2, encode=LOSSLESS)
    restore_video(
        path, tmp_path / "out.mkv", options, engine=IdentityEngine(), detector=MarkerDetector()
    )
    small, large = frames_of(path)[0], frames_of(tmp_path / "out.mkv")[0]
    assert (large.width, large.height) == (2 * small.width, 2 * small.height)
    # A mean over 2 × 2 undoes the enlargement but for the kernel's small ripple.
    pooled = large.planes[0].reshape(small.height, 2, small.width, 2).mean(axis=(1, 3))
    assert np.abs(pooled - small.planes[0]).mean() < 1.5


class FailingEngine(IdentityEngine):
    """Fails at the decoding of one face."""

    def __init__(self, failing: int, error: Exception) -> None:
        super().__init__(batch_size=1)
        self.failing, self.error = failing, error

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self.decoded >= self.failing:
            raise self.error
        return super().decode(crops, latents, fidelity=fidelity)


class DirtyEngine(IdentityEngine):
    """Returns not-a-number."""

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        return super().decode(crops, latents, fidelity=fidelity) * torch.nan


def nothing_is_left(folder: Path) -> bool:
    files = {path.name for path in folder.iterdir()} - {"in.mkv", "in.mp4"}
    threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    return not files and not [name for name in threads if "vqfr" in name]


@pytest.mark.parametrize("failing", [0, 1, 7, 11])
def test_an_engine_failure_surfaces_as_itself(tmp_path: Path, failing: int) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=12)
    error = EngineError("out of memory")
    with pytest.raises(EngineError, match="out of memory") as caught:
        restore_video(
            path,
            tmp_path / "out.mkv",
            engine=FailingEngine(failing, error),
            detector=MarkerDetector(),
        )
    assert caught.value is error
    assert nothing_is_left(tmp_path)


def test_an_engine_that_returns_no_numbers_is_an_error(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=3)
    with pytest.raises(EngineError, match="no number at frame 0"):
        restore_video(path, tmp_path / "out.mkv", engine=DirtyEngine(), detector=MarkerDetector())
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_decoder_failure_surfaces_as_itself(tmp_path: Path, share: float) -> None:
    path = write_scene(tmp_path / "in.mp4", frames=40, codec="libx264", options={"g": "5"})
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    assert start < end
    hole = start + int(share * (end - start))
    data[hole : hole + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"in\.mp4: damaged after frame \d+"):
        restore_video(
            path, tmp_path / "out.mkv", engine=IdentityEngine(), detector=MarkerDetector()
        )
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("failing", [0, 1, 7, 11])
def test_a_failure_of_the_consumer_surfaces_as_itself(tmp_path: Path, failing: int) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=12)

    def fail(frame: Frame) -> None:
        if frame.index == failing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(
            path,
            tmp_path / "out.mkv",
            engine=IdentityEngine(),
            detector=MarkerDetector(),
            on_frame=fail,
        )
    assert nothing_is_left(tmp_path)


def _no_folder(folder: Path) -> Path:
    return folder / "missing" / "out.mkv"


def _file_as_folder(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "out.mkv"


@pytest.mark.parametrize("output", [_no_folder, _file_as_folder])
def test_an_output_that_cannot_be_written_is_refused_first(
    tmp_path: Path, output: Callable[[Path], Path]
) -> None:
    path = write_scene(tmp_path / "in.mkv", frames=3)
    engine = IdentityEngine()
    with pytest.raises(OutputError, match=r"out\.mkv|file|missing"):
        restore_video(path, output(tmp_path), engine=engine, detector=MarkerDetector())
    assert engine.encoded == 0


@pytest.mark.parametrize(
    "options",
    [
        lambda: FaceOptions(min_face=-1),
        lambda: FaceOptions(min_face=200, max_face=100),
        lambda: FaceOptions(score=1.5),
        lambda: FaceOptions(proxy=10),
        lambda: TemporalOptions(pixel_radius=2),
        lambda: EncodeOptions(quality=100),
        lambda: BlendOptions(strength=1.1),
        lambda: RestoreOptions(upscale=5),
        lambda: RestoreOptions(upscale=1.5),  # type: ignore[arg-type]
        lambda: RestoreOptions(upscale="2"),  # type: ignore[arg-type]
        lambda: FaceOptions(min_face="40"),  # type: ignore[arg-type]
        lambda: FaceOptions(faces="biggest"),  # type: ignore[arg-type]
        lambda: FaceOptions(detector="dlib"),  # type: ignore[arg-type]
        lambda: ModelOptions(batch_size=2.5),  # type: ignore[arg-type]
        lambda: ModelOptions(backend="magic"),  # type: ignore[arg-type]
        lambda: ModelOptions(model="v3"),  # type: ignore[arg-type]
    ],
)
def test_options_out_of_range_are_refused(options: Callable[[], object]) -> None:
    with pytest.raises(OptionError, match=r"must (be between|not exceed|be one of|be a)"):
        options()


MEASURE = """
import resource, sys
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video

options = RestoreOptions(encode=EncodeOptions(preset="ultrafast"))
for number, source in enumerate(sys.argv[2:]):
    output = f"{sys.argv[1]}/out{number}.mp4"
    restore_video(source, output, options, engine=IdentityEngine(), detector=MarkerDetector())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    quick = {"preset": "ultrafast"}
    films = [
        write_scene(
            tmp_path / f"{frames}.mp4", frames=frames, different=60, codec="libx264", options=quick
        )
        for frames in (60, 600)
    ]
    # One after the other in one process: its peak so far, after each of them.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path, *films],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 2
    assert peaks[1] <= 1.05 * peaks[0], peaks


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_short_film_has_the_same_bits_every_time(tmp_path: Path, suffix: str) -> None:
    """With x264's own preset, whose macroblock tree is not repeatable by itself."""
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264", discs=2)
    found = set()
    for number in range(3):
        output = tmp_path / f"{number}{suffix}"
        engine = InvertingEngine(size=64, batch_size=1)
        restore_video(source, output, engine=engine, detector=MarkerDetector())
        found.add(output.read_bytes())
    assert len(found) == 1
