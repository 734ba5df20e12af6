"""A batch: what fails is told and the rest is done; done again, only what is missing or changed."""

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import write_clip
from tests.scenes import write_scene
from tests.vqfr_media.batch.folders import FATES, write_folder
from tests.vqfr_media.batch.workers import (
    OPTIONS,
    CountingWorker,
    FragileEngine,
    counts,
    run,
    statuses,
    told,
    with_options,
)
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.planner import RerunPolicy, outputs_without_source
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.task import ProgressListener, Task
from vqfr_media.errors import EngineError, MediaError, OutputError, SkippedFaceError
from vqfr_media.frames import VideoInfo
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, FaceOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

FAST = {"preset": "ultrafast"}


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Of every file under `folder`: inode and time of the last change."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "batch.json"
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("batch") / "in")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder of three small clips with a face."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        write_scene(folder / f"{number}.mp4", frames=2, codec="libx264", options=FAST)
    return folder


def test_twelve_files_then_nothing_then_one(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first, worker = run(inputs, output)
    sources = {Path(r.source).relative_to(inputs).as_posix(): r for r in first.records}
    assert list(sources) == list(FATES)
    for name, (status, made, reason) in FATES.items():
        record = sources[name]
        assert (record.status, record.output) == (status, made)
        assert reason in record.reason
        assert (output / made).is_file() == (status == "done")
    assert worker.worked == [Path(name).name for name in FATES if name != "empty.jpg"]
    assert sources["text.mp4"].error == "MediaError"
    assert sources["season 1/clip 10.mp4"].restored == 6
    assert sources["season 1/clip 10.mp4"].frames == 6
    assert sources["no face.mp4"].restored == 0
    assert told(output) == {record.output: record for record in first.records}
    before = files_of(output)
    assert set(before) == {made for status, made, _ in FATES.values() if status == "done"}

    second, worker = run(inputs, output)
    assert worker.worked == []
    assert files_of(output) == before
    for record, earlier in zip(second.records, first.records, strict=True):
        kept = replace(earlier, status="unchanged") if earlier.status == "done" else earlier
        assert record == kept

    (inputs / "phone.mp4").touch()  # another time, the same content
    assert run(inputs, output)[1].worked == []
    assert files_of(output) == before

    write_clip(inputs / "phone.mp4", codec="libx264", options=FAST, rotation=90, frames=5)
    third, worker = run(inputs, output)
    assert worker.worked == ["phone.mp4"]
    assert counts(third) == {"done": 1, "unchanged": 8, "failed": 3}
    assert told(output)["phone.mp4"].reason == "another source"
    after = files_of(output)
    assert {name for name in after if after[name] != before[name]} == {"phone.mp4"}


def test_outputs_are_those_of_restoring_one_file(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out")
    name = "season 1/clip 10.mp4"
    worker = CountingWorker()
    restore_video(inputs / name, tmp_path / "alone.mp4", ready=worker._ready)
    with open_video(tmp_path / "alone.mp4") as one, open_video(tmp_path / "out" / name) as other:
        for wanted, got in zip(one, other, strict=True):
            for a, b in zip(wanted.planes, got.planes, strict=True):
                np.testing.assert_array_equal(a, b)
    with open_video(tmp_path / "out/phone.mp4") as phone, open_video(inputs / "phone.mp4") as film:
        assert phone.info.display == film.info.display
        assert phone.info.display.quarter_turns
    with open_video(tmp_path / "out/ten bit.mkv") as deep:
        assert deep.info.format.bits == 10
    with av.open(str(tmp_path / "out/season 1/clip 2.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_deleted_and_altered_outputs_are_made_again(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(three, output)
    whole = (output / "1.mp4").read_bytes()
    (output / "0.mp4").unlink()
    (output / "1.mp4").write_bytes(whole + b"x")
    (output / "2.mp4").touch()
    report, worker = run(three, output)
    assert worker.worked == ["0.mp4", "1.mp4"]
    assert [record.reason for record in report.records] == [
        "the output is not there any more",
        "the output was altered",
        "new",
    ]
    assert (output / "1.mp4").read_bytes() == whole


def test_changed_options_make_again_and_idle_ones_do_not(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(three, output)
    idle = with_options(segment_seconds=5, offline=True)
    assert run(three, output, options=idle)[1].worked == []
    decisive = with_options(face=FaceOptions(min_face=30.0))
    report, worker = run(three, output, options=decisive)
    assert worker.worked == ["0.mp4", "1.mp4", "2.mp4"]
    assert report.records[0].reason == "options.face.min_face was 24.0, is 30.0"


def test_new_versions_make_nothing_again_but_what_failed(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (three / "text.mp4").write_text("no video")
    run(three, output)
    worker = CountingWorker()
    worker.versions = {"version.av": "99.0", "processor": "Z80", "engine.kind": "Abacus"}
    report, _ = run(three, output, worker)
    assert worker.worked == ["text.mp4"]
    assert counts(report) == {"unchanged": 3, "failed": 1}
    assert run(three, output, worker)[1].worked == ["text.mp4"]  # in all


def test_what_is_asked_for_is_worked_again(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (three / "text.mp4").write_text("no video")
    run(three, output)
    assert run(three, output)[1].worked == []
    assert run(three, output, policy=RerunPolicy(retry=True))[1].worked == ["text.mp4"]
    names = ["0.mp4", "1.mp4", "2.mp4", "text.mp4"]
    assert run(three, output, policy=RerunPolicy(redo=True))[1].worked == names


def test_a_failed_file_that_was_mended_is_worked(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (three / "a.mp4").write_bytes(b"")
    assert statuses(run(three, output)[0])["a.mp4"] == "failed"
    (three / "a.mp4").write_bytes((three / "0.mp4").read_bytes())
    report, worker = run(three, output)
    assert worker.worked == ["a.mp4"]
    assert statuses(report)["a.mp4"] == "done"


def test_times_are_trusted_only_when_asked(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(three, output)
    path = three / "1.mp4"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    worker = run(three, output, policy=RerunPolicy(trust_times=True))[1]
    assert (worker.read, worker.worked) == ([], [])
    worker = run(three, output)[1]
    assert (worker.read, worker.worked) == (["0.mp4", "1.mp4", "2.mp4"], ["1.mp4"])
    path.touch()
    worker = run(three, output, policy=RerunPolicy(trust_times=True))[1]
    assert (worker.read, worker.worked) == (["1.mp4"], [])


def test_strictness_looks_at_what_was_left_alone(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    write_scene(three / "1.mp4", frames=2, discs=0, codec="libx264", options=FAST)
    large = FaceOptions(min_face=200)
    run(three, output, options=with_options(face=large))
    report, worker = run(three, output, options=with_options(face=large, strict=True))
    assert worker.worked == ["0.mp4", "2.mp4"]
    assert statuses(report) == {"0.mp4": "failed", "1.mp4": "unchanged", "2.mp4": "failed"}
    assert report.records[0].error == SkippedFaceError.__name__


def test_files_of_others_are_not_replaced(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "1.mp4").write_bytes(b"precious")
    for _ in range(2):  # a failure is no permission
        report, worker = run(three, output)
        assert statuses(report)["1.mp4"] == "failed"
        assert counts(report)["failed"] == 1
        assert "no earlier batch made it" in report.records[1].reason
        assert (output / "1.mp4").read_bytes() == b"precious"
    report, worker = run(three, output, policy=RerunPolicy(overwrite=True))
    assert worker.worked == ["1.mp4"]
    assert (output / "1.mp4").read_bytes() != b"precious"


def test_another_folders_outputs_are_not_replaced(three: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "out", tmp_path / "other"
    run(three, output)
    other.mkdir()
    write_scene(other / "1.mp4", frames=3, codec="libx264", options=FAST)
    for _ in range(2):
        report, worker = run(other, output)
        assert worker.worked == []
        assert f"was made from {three}/1.mp4" in report.records[0].reason
    assert told(output)["0.mp4"].status == "done"  # what the run was not about is kept
    three.rename(tmp_path / "moved")
    assert run(other, output)[1].worked == ["1.mp4"]


def test_a_folder_that_was_moved_is_the_same(three: Path, tmp_path: Path) -> None:
    run(three, tmp_path / "out")
    three.rename(tmp_path / "moved")
    (tmp_path / "out").rename(tmp_path / "moved out")
    report, worker = run(tmp_path / "moved", tmp_path / "moved out")
    assert worker.worked == []
    assert told(tmp_path / "moved out")["0.mp4"].source == str(tmp_path / "moved/0.mp4")
    assert counts(report) == {"unchanged": 3}


def test_a_network_that_failed_once_fails_one_file(three: Path, tmp_path: Path) -> None:
    report, worker = run(three, tmp_path / "out", CountingWorker(FragileEngine(2)))
    assert worker.worked == ["0.mp4", "1.mp4", "2.mp4"]
    assert statuses(report) == {"0.mp4": "done", "1.mp4": "failed", "2.mp4": "done"}
    assert report.stopped is None
    assert run(three, tmp_path / "out")[1].worked == ["1.mp4"]


def test_a_network_that_is_broken_ends_the_batch(three: Path, tmp_path: Path) -> None:
    engine = FragileEngine(2, for_good=True)
    report, worker = run(three, tmp_path / "out", CountingWorker(engine))
    assert worker.worked == ["0.mp4", "1.mp4"]
    assert statuses(report) == {"0.mp4": "done", "1.mp4": "failed", "2.mp4": "pending"}
    assert isinstance(report.stopped, EngineError)
    assert told(tmp_path / "out")["2.mp4"].status == "pending"
    assert run(three, tmp_path / "out")[1].worked == ["1.mp4", "2.mp4"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_batch(three: Path, small_disk: Path) -> None:
    write_scene(three / "1.mp4", frames=40, codec="libx264", options=FAST)
    lossless = with_options(encode=EncodeOptions(codec="libx264", quality=0))
    report, worker = run(three, small_disk, options=lossless)
    assert worker.worked == ["0.mp4", "1.mp4"]
    assert statuses(report) == {"0.mp4": "done", "1.mp4": "failed", "2.mp4": "pending"}
    assert isinstance(report.stopped, OutputError)
    assert "No space left" in report.records[1].reason
    assert sorted(path.name for path in small_disk.iterdir()) == ["0.mp4", "batch.json"]


def test_a_folder_that_cannot_be_made_fails_its_files_only(three: Path, tmp_path: Path) -> None:
    (three / "deep").mkdir()
    (three / "0.mp4").rename(three / "deep/0.mp4")
    output = tmp_path / "out"
    output.mkdir()
    (output / "deep").write_bytes(b"a file where a folder should be")
    report, _ = run(three, output)
    assert statuses(report) == {"1.mp4": "done", "2.mp4": "done", "deep/0.mp4": "failed"}
    assert report.records[2].error == "OutputError"


class GrowingWorker(CountingWorker):
    """While it restores a file, somebody still writes to it."""

    def work(self, task: Task) -> Summary:
        summary = super().work(task)
        with task.source.open("ab") as file:
            file.write(b"more")
        return summary


def test_a_source_that_changes_meanwhile_has_no_output(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    report, _ = run(three, output, GrowingWorker())
    assert set(statuses(report).values()) == {"failed"}
    assert all("changed while" in record.reason for record in report.records)
    assert [path.name for path in output.iterdir()] == ["batch.json"]
    assert counts(run(three, output)[0]) == {"done": 3}


class StoppedWorker(CountingWorker):
    """Raises when it comes to the second file."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def work(self, task: Task) -> Summary:
        if self.worked:
            raise self.error
        return super().work(task)


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (KeyboardInterrupt(), "1 of 3 files are finished"),
        (ZeroDivisionError("a mistake of ours"), "1.mp4 was being restored"),
    ],
)
def test_interruptions_and_mistakes_of_ours_end_it(
    three: Path, tmp_path: Path, error: BaseException, note: str
) -> None:
    output = tmp_path / "out"
    with pytest.raises(type(error)) as raised:
        run(three, output, StoppedWorker(error))
    assert note in "".join(raised.value.__notes__)
    records = told(output)
    assert [records[f"{n}.mp4"].status for n in range(3)] == ["done", "working", "pending"]
    assert sorted(path.name for path in output.iterdir()) == ["0.mp4", "batch.json"]
    report, worker = run(three, output)
    assert worker.worked == ["1.mp4", "2.mp4"]
    assert report.records[1].reason == "was interrupted"


def test_work_left_behind_of_a_file_that_is_gone_is_told(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(three, output, StoppedWorker(KeyboardInterrupt()))
    assert told(output)["1.mp4"].status == "working"
    (three / "1.mp4").rename(three / "other.mp4")
    report, _ = run(three, output)
    assert report.left_behind == ()  # nothing lies there
    work = output / ".1.mp4.work"
    work.mkdir()
    report, _ = run(three, output)
    assert len(report.left_behind) == 1
    assert report.left_behind[0].startswith(f"{output}/1.mp4: an earlier run ended in the middle")
    assert report.left_behind[0].endswith(f"{work} may be deleted")
    (three / "other.mp4").rename(three / "1.mp4")
    assert run(three, output)[0].left_behind == ()


def test_outputs_whose_sources_are_gone_are_named(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(three, output)
    (three / "1.mp4").rename(three / "other.mp4")
    plan = plan_folder(three, output, RestoreOptions())
    assert outputs_without_source(plan) == (
        f"1.mp4: is kept; its source {three / '1.mp4'} is not part of this batch",
    )
    (output / "1.mp4").unlink()
    assert outputs_without_source(plan) == ()


def test_a_failed_attempt_leaves_the_earlier_output(three: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(three, output)
    before = (output / "1.mp4").read_bytes()
    good = (three / "1.mp4").read_bytes()
    (three / "1.mp4").write_bytes(good[: len(good) // 2])
    assert counts(run(three, output)[0]) == {"unchanged": 2, "failed": 1}
    assert (output / "1.mp4").read_bytes() == before
    (three / "1.mp4").write_bytes(good)
    report, worker = run(three, output)
    assert worker.worked == ["1.mp4"]
    assert counts(report) == {"unchanged": 2, "done": 1}


def test_who_watches_is_told_of_every_file(three: Path, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    started: list[VideoInfo] = []
    frames: dict[str, int] = {}

    def start(task: Task, info: VideoInfo) -> None:
        said.append(("start", task.source.name))
        started.append(info)

    def step(task: Task, count: int) -> None:
        frames[task.source.name] = frames.get(task.source.name, 0) + count

    (three / "1.mp4").write_bytes(b"")
    plan = plan_folder(three, tmp_path / "out", OPTIONS)
    run_batch(
        plan,
        CountingWorker(listener=ProgressListener(start, step)),
        on_check=lambda task: said.append(("look", task.source.name)),
        on_begin=lambda task, why: said.append((f"begin: {why}", task.source.name)),
        on_record=lambda task, record: said.append((record.status, task.source.name)),
    )
    assert said == [
        ("look", "0.mp4"), ("begin: new", "0.mp4"), ("start", "0.mp4"), ("done", "0.mp4"),
        ("look", "1.mp4"), ("failed", "1.mp4"),
        ("look", "2.mp4"), ("begin: new", "2.mp4"), ("start", "2.mp4"), ("done", "2.mp4"),
    ]  # fmt: skip
    assert frames == {"0.mp4": 2, "2.mp4": 2}
    assert [info.width for info in started] == [320, 320]


def test_an_input_that_is_missing_is_a_record(tmp_path: Path) -> None:
    plan = plan_folder(write_scene(tmp_path / "a.mp4", frames=1).parent, tmp_path / "o", OPTIONS)
    (tmp_path / "a.mp4").unlink()
    report = run_batch(plan, CountingWorker())
    assert report.records[0].error == MediaError.__name__
    assert "no such file" in report.records[0].reason


class TwoAtOnce(CountingWorker):
    """Works two files at the same time: each waits for the other to begin."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.max_concurrency = 2
        self.both = threading.Barrier(2, timeout=30)
        self.stopped = threading.Event()
        self.error = error

    def work(self, task: Task) -> Summary:
        if task.source.name != "2.mp4":
            self.both.wait()
        if self.error is not None and task.source.name == "1.mp4":
            raise self.error
        if self.error is not None:
            assert self.stopped.wait(30)
            raise EngineError("stopped")
        return super().work(task)

    def stop(self) -> None:
        self.stopped.set()


def test_files_side_by_side_are_told_in_order(three: Path, tmp_path: Path) -> None:
    report, worker = run(three, tmp_path / "out", TwoAtOnce())
    assert statuses(report) == {"0.mp4": "done", "1.mp4": "done", "2.mp4": "done"}
    assert list(told(tmp_path / "out").values()) == list(report.records)
    assert sorted(worker.worked) == ["0.mp4", "1.mp4", "2.mp4"]


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError("a disk")])
def test_files_side_by_side_are_stopped_by_a_mistake_of_ours(
    three: Path, tmp_path: Path, error: Exception
) -> None:
    worker = TwoAtOnce(error)
    with pytest.raises(type(error)):
        run(three, tmp_path / "out", worker)
    assert worker.stopped.is_set()
    assert worker.worked == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vqfr-")]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.mp4")
    write_scene(folder / "a.mp4", frames=2, codec="libx264", options=FAST).rename(folder / name)
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    (folder / "b.png").rename(folder / os.fsdecode(b"\xff.png"))
    report, _ = run(folder, output)
    assert counts(report) == {"done": 2}
    assert set(told(output)) == {name, "\udcff.png"}
    assert (output / name).is_file()
    assert counts(run(folder, output)[0]) == {"unchanged": 2}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "a.mp4")
    (folder / "b.mp4").symlink_to(folder / "b.mp4")
    report, _ = run(folder, tmp_path / "out")
    assert statuses(report) == {"a.mp4": "failed", "b.mp4": "failed"}
    assert "is a pipe" in report.records[0].reason
