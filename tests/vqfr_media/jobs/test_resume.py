"""Long jobs: stopped anywhere, resumed by the same call, the same bits as never stopped."""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

import vqfr_media.media.index
from tests.clips import packets, write_clip
from tests.scenes import write_scene
from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.errors import (
    EngineError,
    MediaError,
    OptionError,
    OutputError,
    SkippedFaceError,
)
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.jobs.resume import RestoredVideo, restore_in_segments
from vqfr_media.jobs.segments import restore_segments
from vqfr_media.jobs.work_folder import work_folder_of
from vqfr_media.media.index import FrameIndex, index_packets
from vqfr_media.media.read import open_video
from vqfr_media.media.segment_file import open_segment
from vqfr_media.options import EncodeOptions, FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

FAST = EncodeOptions(preset="ultrafast")
# 20 frames of the scenes' 25 a second: shorter than what a frame's windows reach over (17).
SHORT = RestoreOptions(segment_seconds=0.8, encode=FAST)


class SmallEngine(InvertingEngine):
    """Inverts crops of 64 × 64, and fails when so many faces have been decoded."""

    def __init__(self, stop_after: int | None = None, error: BaseException | None = None) -> None:
        super().__init__(size=64, batch_size=1)
        self.stop_after = stop_after
        self.error = error or EngineError("stopped by the test")

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self.decoded == self.stop_after:
            raise self.error
        return super().decode(crops, latents, fidelity=fidelity)


def restore(
    source: Path,
    output: Path,
    options: RestoreOptions = SHORT,
    *,
    engine: SmallEngine | None = None,
    resumed: list[int] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Summary:
    return restore_video(
        source,
        output,
        options,
        engine=engine or SmallEngine(),
        detector=None if options.tracks else MarkerDetector(),
        on_resume=None if resumed is None else resumed.append,
        on_frame=on_frame,
    )


def stop_after(source: Path, output: Path, faces: int, options: RestoreOptions = SHORT) -> None:
    """Leaves a job unfinished."""
    with pytest.raises(EngineError, match="stopped by the test"):
        restore(source, output, options, engine=SmallEngine(faces))


@dataclass(frozen=True)
class Film:
    """A video of three segments, what becomes of it in one go, and a job that was stopped."""

    source: Path
    whole: Path
    stopped: Path
    """Output of a job that was stopped in the last segment: only its work folder is there."""

    def leave_stopped(self, output: Path) -> None:
        """Leaves the same job unfinished under another output's name."""
        shutil.copytree(work_folder_of(self.stopped), work_folder_of(output))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder = tmp_path_factory.mktemp("film")
    source = write_scene(folder / "in.mp4", frames=60, codec="libx264")
    restore(source, folder / "whole.mp4")
    stop_after(source, folder / "stopped.mp4", 50)
    return Film(source, folder / "whole.mp4", folder / "stopped.mp4")


def told(summary: Summary) -> dict[str, object]:
    """What does not depend on the clock and on the output's name."""
    values = summary.to_json()
    return {name: values[name] for name in values if name not in ("seconds", "output", "resumed")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_stopped_job_goes_on_to_the_same_bits(tmp_path: Path, suffix: str) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=70, codec="libx264", discs=2, cut=37)
    whole = restore(source, tmp_path / f"a.{suffix}")
    output = tmp_path / f"b.{suffix}"
    stop_after(source, output, 100)  # 50 frames, two segments and a half
    assert not output.exists()
    kept = names(work_folder_of(output))
    assert [name for name in kept if name.endswith(".segment")] == [
        "000000.segment",
        "000001.segment",
    ]
    resumed: list[int] = []
    engine = SmallEngine()
    again = restore(source, output, engine=engine, resumed=resumed)
    assert resumed == [40]
    # Of the 30 frames that were missing, with two faces each, and the three before them.
    assert engine.decoded == 2 * (30 + 3)
    assert digest(output) == digest(tmp_path / f"a.{suffix}")
    assert told(again) == told(whole)
    assert (whole.resumed, again.resumed) == (0, 40)
    speed = 30 / again.seconds
    assert again.lines()[0].startswith(
        f"{output}: 70 frames, 40 of them before, in {again.seconds:.1f} s ({speed:.1f} fps), "
    )
    assert names(tmp_path) == [f"a.{suffix}", f"b.{suffix}", "in.mp4"]


def test_an_uninterrupted_job_computes_no_face_twice(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=50, codec="libx264")
    engine = SmallEngine()
    restore(source, tmp_path / "a.mp4", engine=engine)
    assert engine.encoded == engine.decoded == 50


def test_a_short_video_needs_no_segments(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=39, codec="libx264")
    restore(source, tmp_path / "a.mp4")
    restore(source, tmp_path / "b.mp4", replace(SHORT, segment_seconds=0))
    assert keyframes(tmp_path / "a.mp4") == keyframes(tmp_path / "b.mp4") == [0]
    assert digest(tmp_path / "a.mp4") == digest(tmp_path / "b.mp4")


def keyframes(path: Path) -> list[int]:
    """Numbers of the key frames in order of presentation."""
    with av.open(str(path)) as container:
        found = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]
    return [number for number, (_, key) in enumerate(sorted(found)) if key]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "000000.segment").write_bytes(b"x" * 100), None),
        (lambda folder: flip(folder / "000001.segment"), None),
        (lambda folder: (folder / "000001.segment").unlink(), None),
        (lambda folder: (folder / ".000009.part-1234.segment").write_bytes(b"x"), None),
        (lambda folder: (folder / "job.json").write_text("{"), "its journal is damaged"),
        (lambda folder: (folder / "job.json").unlink(), None),
    ],
)
def test_what_is_damaged_is_worked_again(
    tmp_path: Path,
    film: Film,
    damage: Callable[[Path], None],
    says: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "b.mp4"
    film.leave_stopped(output)
    damage(work_folder_of(output))
    restore(film.source, output)
    assert digest(output) == digest(film.whole)
    assert names(tmp_path) == ["b.mp4"]
    if says is not None:
        assert says in caplog.text


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (replace(SHORT, encode=EncodeOptions(preset="ultrafast", quality=30)), "encode.quality"),
        (replace(SHORT, segment_seconds=1), "segment_frames was 20, is 25"),
        (replace(SHORT, face=FaceOptions(min_face=100)), "face.min_face was 24.0, is 100"),
    ],
)
def test_other_options_begin_anew_and_say_so(
    tmp_path: Path, film: Film, options: RestoreOptions, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "b.mp4"
    film.leave_stopped(output)
    resumed: list[int] = []
    restore(film.source, output, options, resumed=resumed)
    assert resumed == []
    assert f"{output}: begins again" in caplog.text
    assert says in caplog.text
    restore(film.source, tmp_path / "a.mp4", options)
    assert digest(output) == digest(tmp_path / "a.mp4")


def test_fields_that_are_treated_otherwise_begin_anew(
    tmp_path: Path, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a version that measures otherwise what the film does not say."""
    with open_video(film.source) as reader:
        whole = reader.info
    output, resumed = tmp_path / "b.mp4", list[int]()

    def work(info: VideoInfo, engine: SmallEngine) -> RestoredVideo | None:
        worker = partial(restore_segments, engine=engine, detector=MarkerDetector())
        return restore_in_segments(
            film.source, output, SHORT, info=info, settings={}, length=20, worker=worker,
            on_resume=resumed.append,
        )  # fmt: skip

    with pytest.raises(EngineError, match="stopped by the test"):
        work(whole, SmallEngine(50))
    fields = replace(whole, first_field="top")
    with pytest.raises(EngineError, match="stopped by the test"):
        work(fields, SmallEngine(100))  # two faces of a frame: 40 frames are done
    assert resumed == []
    assert "first_field was none, is top" in caplog.text
    flagged = replace(fields, tags=replace(fields.tags, field_order="top"))
    done = work(flagged, SmallEngine())
    assert (resumed, done and done.counts.restored) == ([], 120)
    assert "first_field_of_output was none, is top" in caplog.text


def test_another_input_begins_anew_but_a_touched_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264")
    output = tmp_path / "b.mp4"
    stop_after(source, output, 50)
    os.utime(source)
    resumed: list[int] = []
    restore(source, output, resumed=resumed)
    assert resumed == [40]
    stop_after(source, output, 50)
    write_scene(source, frames=60, codec="libx264", discs=2)
    restore(source, output, resumed=resumed)
    assert resumed == [40]
    assert "another source" in caplog.text


def test_an_input_that_changes_under_the_work_is_refused(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264")

    def touch(frame: Frame) -> None:
        if frame.index == 30:
            os.utime(source)

    with pytest.raises(MediaError, match="changed while it was being restored"):
        restore(source, tmp_path / "b.mp4", on_frame=touch)


def test_the_other_streams_and_tags_are_the_sources(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_clip(
        source, codec="libx264", frames=60, audio="aac", subtitles="subrip",
        metadata={"title": "T"}, chapters=[(0, 1000, "one"), (1000, 2400, "two")],
    )  # fmt: skip
    restore(source, tmp_path / "a.mkv")
    for kind in ("audio", "subtitle"):
        assert packets(source, kind)
        assert packets(tmp_path / "a.mkv", kind) == packets(source, kind)
    with av.open(str(source)) as before, av.open(str(tmp_path / "a.mkv")) as after:
        assert after.chapters() == before.chapters()
        assert after.metadata["title"] == "T"
        assert after.streams.audio[0].metadata["language"] == "dan"
    assert len(keyframes(tmp_path / "a.mkv")) >= 3


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1", "mpeg4", "libsvtav1"])
def test_the_joined_stream_is_one(tmp_path: Path, codec: str) -> None:
    """Varying frame rate: exact times, decoding times that only grow, every frame decodes."""
    source = tmp_path / "in.mkv"
    rng = random.Random(2)
    times = [0]
    while len(times) < 70:
        times.append(times[-1] + rng.choice([17, 33, 40, 83]))
    write_clip(source, codec="ffv1", frames=70, pts=times, time_base=Fraction(1, 1000))
    options = replace(SHORT, encode=EncodeOptions(codec=codec))
    output = tmp_path / "out.mkv"
    restore(source, output, options)
    with open_video(output) as reader:
        assert [frame.pts for frame in reader] == times
    with av.open(str(output)) as container:
        found = [p for p in container.demux(video=0) if p.size]
    assert sorted(p.pts or 0 for p in found) == times
    dts = [p.dts for p in found if p.dts is not None]
    assert all(a < b for a, b in pairwise(dts))
    # Every segment can be decoded from its start.
    with open_video(source) as reader:
        length = -(-8 * reader.info.frame_rate // 10)
    assert set(range(0, 70, length)) <= set(keyframes(output))
    with open_video(output) as reader:
        wanted = list(reader)[2 * length]
    with open_video(output) as reader:
        assert reader.go_to(times[2 * length], 2 * length)
        got = next(iter(reader))
    for plane, expected in zip(got.planes, wanted.planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_the_default_encoder_is_repeatable(tmp_path: Path, film: Film) -> None:
    """As x264 and Matroska by themselves are not, on this machine."""
    options = replace(SHORT, encode=EncodeOptions())
    for name in ("a.mkv", "b.mkv"):
        restore(film.source, tmp_path / name, options)
    assert digest(tmp_path / "a.mkv") == digest(tmp_path / "b.mkv")


def test_a_second_process_is_refused(tmp_path: Path, film: Film) -> None:
    refused: list[str] = []

    def again(frame: Frame) -> None:
        if frame.index == 30:
            with pytest.raises(OutputError, match="another vqfr-media is working on it"):
                restore(film.source, tmp_path / "b.mp4")
            refused.append("yes")

    restore(film.source, tmp_path / "b.mp4", on_frame=again)
    assert refused == ["yes"]


def test_a_failure_before_the_first_segment_leaves_nothing(tmp_path: Path, film: Film) -> None:
    stop_after(film.source, tmp_path / "b.mp4", 10)
    assert names(tmp_path) == []


def test_a_failure_says_what_is_kept(tmp_path: Path, film: Film) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        restore(film.source, tmp_path / "b.mp4", engine=SmallEngine(50, KeyboardInterrupt()))
    assert caught.value.__notes__ == [
        "2 of 3 segments are done; the same command goes on from there"
    ]


def test_an_index_that_proves_wrong_is_made_by_decoding(
    tmp_path: Path, film: Film, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No file at hand has such packets, so the index is given; the first segment is kept."""
    right = index_packets(film.source)
    assert right is not None
    times = right.times.copy()
    times[45] += 1
    wrong = FrameIndex(times, right.keys, decoded=False)
    monkeypatch.setattr(vqfr_media.media.index, "index_packets", lambda _: wrong)
    engine = SmallEngine()
    restore(film.source, tmp_path / "b.mp4", engine=engine)
    assert "its packets do not tell its frames" in caplog.text
    assert digest(tmp_path / "b.mp4") == digest(film.whole)
    assert 60 < engine.decoded < 60 + 45
    assert names(tmp_path) == ["b.mp4"]


def test_segments_that_saw_other_pictures_are_worked_again(
    tmp_path: Path, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "b.mp4"
    stop_after(film.source, output, 30)
    # What a process would have left whose seeking in the source showed it other pictures.
    path = work_folder_of(output) / "000001.segment"
    with open_segment(path) as file:
        file.finish({"counts": [], "begins": 1, "ends": 2, "sought": True, "time_base": "1/12800"})
    resumed: list[int] = []
    restore(film.source, output, resumed=resumed)
    assert resumed == [40]
    assert "seeking in it gives other pictures" in caplog.text
    assert digest(output) == digest(film.whole)


def test_borders_that_never_agree_are_an_error(tmp_path: Path, film: Film) -> None:
    output = tmp_path / "b.mp4"
    stop_after(film.source, output, 30)
    with open_segment(work_folder_of(output) / "000001.segment") as file:
        file.finish({"counts": [], "begins": 1, "ends": 2, "sought": False, "time_base": "1/1"})
    with pytest.raises(MediaError, match="other pictures each time it is read"):
        restore(film.source, output)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit on file sizes, which stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_can_be_resumed_from(tmp_path: Path, film: Film) -> None:
    """No segment fits, then all do but not the whole, then that does."""
    output = tmp_path / "b.mp4"
    size = film.whole.stat().st_size
    with largest_file(size // 5), pytest.raises(OutputError, match="File too large") as caught:
        restore(film.source, output)
    assert not getattr(caught.value, "__notes__", [])
    assert names(tmp_path) == []
    with largest_file(7 * size // 10), pytest.raises(OutputError, match="File too large") as caught:
        restore(film.source, output)
    assert caught.value.__notes__ == [
        "3 of 3 segments are done; the same command goes on from there"
    ]
    assert names(tmp_path) == [".b.mp4.work"]
    resumed: list[int] = []
    engine = SmallEngine()
    restore(film.source, output, engine=engine, resumed=resumed)
    assert (resumed, engine.encoded) == ([60], 0)
    assert digest(output) == digest(film.whole)
    assert names(tmp_path) == ["b.mp4"]


def test_the_command_stops_and_says_how_to_go_on(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=200, codec="libx264", discs=0)
    output = tmp_path / "out.mp4"
    words = ["restore", str(source), "-o", str(output), "--segment-seconds", "0.4", "--model",
             "lite", "--backend", "torch", "--detector", "bundled", "--offline"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "vqfr_media", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not list(tmp_path.glob(".out.mp4.work/[0-9]*.segment")):
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 130
    assert "stopped; nothing was written under the output's name; " in said
    assert "of 20 segments are done; the same command goes on from there" in said
    assert names(tmp_path) == [".out.mp4.work", "in.mp4"]
    resumed: list[int] = []
    options = RestoreOptions(
        segment_seconds=0.4,
        model=ModelOptions(model="lite", backend="torch"),
        face=FaceOptions(detector="bundled"),
        offline=True,
    )
    summary = restore_video(source, output, options, on_resume=resumed.append)
    assert summary.frames == 200
    assert resumed[0] >= 10
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_tracks_that_were_given_work_too(tmp_path: Path) -> None:
    from vqfr_media.faces.tracks_file import write_tracks
    from vqfr_media.restoration.find_tracks import find_tracks

    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264", discs=2, cut=33)
    write_tracks(tmp_path / "t.json", find_tracks(source, detector=MarkerDetector()))
    options = replace(SHORT, tracks=tmp_path / "t.json")
    restore(source, tmp_path / "a.mp4")
    resumed: list[int] = []
    stop_after(source, tmp_path / "b.mp4", 90, options)
    restore(source, tmp_path / "b.mp4", options, resumed=resumed)
    assert resumed == [40]
    assert digest(tmp_path / "b.mp4") == digest(tmp_path / "a.mp4")


def test_segment_seconds_out_of_range() -> None:
    with pytest.raises(OptionError, match="segment_seconds must be between 0 and 86400"):
        RestoreOptions(segment_seconds=-1)


def stop_at_frame(source: Path, output: Path, options: RestoreOptions, number: int) -> None:
    """Leaves a job unfinished, whatever faces are in it."""

    def stop(frame: Frame) -> None:
        if frame.index == number:
            raise EngineError("stopped by the test")

    with pytest.raises(EngineError, match="stopped by the test"):
        restore(source, output, options, on_frame=stop)


def test_strictness_is_no_reason_to_begin_anew(tmp_path: Path, film: Film) -> None:
    """`--strict` refuses a face and says to leave it out: what was finished must still count."""
    output = tmp_path / "out.mp4"
    lenient = replace(SHORT, face=FaceOptions(min_face=1000))
    stop_at_frame(film.source, output, lenient, 50)
    with pytest.raises(SkippedFaceError, match="leave out --strict"):
        restore(film.source, output, replace(lenient, strict=True))
    resumed: list[int] = []
    restore(film.source, output, lenient, resumed=resumed)
    assert resumed == [40]


def test_work_in_one_go_takes_the_old_segments_away(tmp_path: Path, film: Film) -> None:
    output = tmp_path / "out.mp4"
    film.leave_stopped(output)
    assert names(tmp_path) == [".out.mp4.work"]
    restore(film.source, output, replace(SHORT, segment_seconds=0))
    assert names(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_encoders_start_however_many_cores_there_are(
    tmp_path: Path, film: Film, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(96)))
    options = replace(SHORT, encode=EncodeOptions(preset="ultrafast", codec=codec))
    assert restore(film.source, tmp_path / "out.mkv", options).frames == 60


def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path: Path, film: Film) -> None:
    engine = SmallEngine()
    with pytest.raises(OutputError, match="there is no folder"):
        restore(film.source, tmp_path / "none" / "out.mp4", engine=engine)
    assert engine.decoded == 0
