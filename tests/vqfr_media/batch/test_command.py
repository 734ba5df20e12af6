"""`vqfr-media batch` as a user types it: what it prints, what it leaves, and its exit codes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scenes import write_scene
from tests.vqfr_media.batch.folders import FATES, write_folder
from tests.vqfr_media.batch.workers import told
from vqfr_media import cli, weights
from vqfr_media.batch.journal import JOURNAL_NAME
from vqfr_media.batch.record import REPORT_NAME, BatchReport, Record
from vqfr_media.cli.batch_table import padded, row, short, table
from vqfr_media.values import SkipReason

FAST = {"preset": "ultrafast"}


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The detector and the network that everybody has; signals go back to the tests."""
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(name) for name in names]
    yield
    for name, handler in zip(names, handlers, strict=True):
        signal.signal(name, handler)


def run(*arguments: object) -> int:
    """Runs the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_twelve_files_then_nothing_then_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, output = write_folder(tmp_path / "in"), tmp_path / "out"
    assert run("batch", inputs, output, "--report") == 4
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split() == ["status", "file", "frames", "faces", "left", "s", "fps"]
    assert [line.split()[0] for line in lines[1:13]] == [status for status, _, _ in FATES.values()]
    assert lines[13] == "* its warnings are in the report"
    assert lines[14] == "left out: 1 file of other kinds: 1 .txt"
    assert lines[15].startswith("12 files: 9 done, 3 failed in ")
    assert lines[15].endswith(f"; {output}/batch.json tells of each")
    assert said.err.count("vqfr-media: failed: ") == 3
    assert "Traceback" not in said.err
    values = json.loads((output / "batch.json").read_text())
    assert {one["output"]: one["status"] for one in values["files"]} == {
        made: status for status, made, _ in FATES.values()
    }
    photograph = told(output)["photograph.jpg"]
    assert photograph.restored == 1
    assert photograph.made_with["model"] == "lite"
    assert photograph.made_with["detector"] == "bundled"
    reports = sorted(path.name for path in output.rglob("*.report.json"))
    assert reports == sorted(
        f"{Path(made).name}.report.json" for status, made, _ in FATES.values() if status == "done"
    )
    values = json.loads((output / "photograph.jpg.report.json").read_text())
    assert (values["restored"], values["options"]["blend"]["strength"]) == (1, 1.0)
    (output / "photograph.jpg.report.json").unlink()
    before = {path: path.stat() for path in output.rglob("*.*") if path.suffix != ".json"}
    assert len(before) == 9

    assert run("batch", inputs, output, "--quiet") == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert all(line.startswith("vqfr-media: failed: ") for line in said.err.splitlines())
    assert {path: path.stat() for path in before} == before
    assert sorted(record.status for record in told(output).values()) == (
        ["failed"] * 3 + ["unchanged"] * 9
    )

    for name, (status, _, _) in FATES.items():
        if status == "failed":
            (inputs / name).unlink()
    clip = inputs / "season 1/clip 10.mp4"
    write_scene(clip, frames=3, codec="libx264", options=FAST)
    assert run("batch", inputs, output, "--report") == 0
    said = capsys.readouterr()
    assert "9 files: 1 done, 8 unchanged in " in said.out
    assert said.out.splitlines()[-1].startswith("1 output of an earlier run without a report; ")
    changed = output / "season 1/clip 10.mp4"
    assert [path for path in before if path.stat() != before[path]] == [changed]


def test_a_dry_run_only_talks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = write_folder(tmp_path / "in")
    options = ["--include", "*.avi", "--include", "*.jpg", "--exclude", "photo*", "--dry-run"]
    assert run("batch", inputs, tmp_path / "out", *options) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"failed     empty.jpg: {inputs}/empty.jpg: the file is empty (0 bytes)",
        "to do      season 1/old.mkv: new",
        "left out: 1 file of other kinds: 1 .txt",
        "left out: 10 files by --include or --exclude",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no folder", "out"], 2, "no folder"),
        (["in/a.mp4", "out"], 2, "vqfr-media restore"),
        (["in", "in"], 2, "folder of the inputs"),
        (["in", "out", "--include", "*.png"], 2, "no video or image"),
        (["in", "out", "--tracks", "tracks.json"], 2, "one video"),
        (["in", "out", "--container", "mov"], 2, "--video-suffix"),
        (["in", "out", "--video-suffix", ".xyz"], 2, "video_suffix"),
        (["in", "out", "--codec", "h267"], 2, "h267"),
        (["in", "out", "--device", "cuda:7"], 3, "cuda:7"),
        (["in", "in/a.mp4"], 3, "in/a.mp4"),
    ],
)
def test_what_would_fail_for_every_file_is_told_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_text("not looked at")
    assert run("batch", *arguments, "--quiet") == code
    text = capsys.readouterr().err
    assert text.startswith("vqfr-media: ")
    assert text.count("\n") == 1
    assert says in text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.mp4", "in"]


def test_restore_takes_several_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    one = write_scene(folder / "one.mp4", frames=2, discs=0, codec="libx264", options=FAST)
    two = write_scene(folder / "two.avi", frames=2, discs=0, codec="mpeg4")
    missing, output = folder / "missing.mp4", tmp_path / "out"
    quick = ("-o", output, "--backend", "torch")
    assert run("restore", one, two, *quick) == 0
    assert "2 files: 2 done" in capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == ["batch.json", "one.mp4", "two.mkv"]
    assert run("restore", one, missing, two, *quick) == 4
    said = capsys.readouterr()
    assert "3 files: 2 unchanged, 1 failed" in said.out
    assert f"{missing}: no such file" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "out.mp4"], "needs a video or an image"),
        (["a.mp4", "b.mp4", "-o", "out.mp4"], "need a folder"),
        (["a.mp4", "b.mp4", "-o", "out", "--report", "r.json"], "out/batch.json"),
        (["a.mp4", "b.mp4", "-o", "out", "--tracks", "t.json"], "one video"),
        (["a.mp4", "x/a.mp4", "-o", "out"], "both become"),
    ],
)
def test_several_inputs_that_cannot_be(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run("restore", *arguments) == 2
    assert says in capsys.readouterr().err
    assert not Path("out").exists()


def command(inputs: Path, output: Path) -> list[str]:
    start = [sys.executable, "-m", "vqfr_media", "batch", str(inputs), str(output)]
    return [*start, "--quiet", "--segment-seconds", "1"]


def clips(folder: Path, count: int) -> Path:
    """Clips of three segments each, and of one."""
    folder.mkdir()
    for number in range(count):
        frames = 60 if number % 2 else 20
        path = folder / f"{number}.mp4"
        write_scene(path, frames=frames, discs=0, codec="libx264", options=FAST)
    return folder


def told_now(folder: Path) -> dict[str, Record]:
    """What report and journal say, also while somebody writes them."""
    records = told(folder) if (folder / REPORT_NAME).is_file() else {}
    with suppress(FileNotFoundError):
        for line in (folder / JOURNAL_NAME).read_text().splitlines():
            with suppress(ValueError):  # the last is being written
                record = Record.from_json(json.loads(line))
                records[record.output] = record
    return records


def finished_files(folder: Path) -> set[str]:
    """Those whose record says so; a file has its name a moment before."""
    return {name for name, record in told_now(folder).items() if record.status == "done"}


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "batch.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills", "seed"), [(4, 1, 1), (12, 6, 2)])
def test_killed_and_given_again(tmp_path: Path, count: int, kills: int, seed: int) -> None:
    inputs = clips(tmp_path / "in", count)
    subprocess.run(command(inputs, tmp_path / "whole"), check=True)
    rng = random.Random(seed)
    output = tmp_path / "out"
    finished: dict[str, int] = {}
    for kill in range(kills):
        with subprocess.Popen(command(inputs, output)) as process:
            wanted = 1 + kill * (count - 1) // kills
            deadline = time.monotonic() + 120
            while len(finished_files(output)) < wanted and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.15 * rng.random())
            process.kill()
        assert process.returncode == -9
        assert (output / "batch.json").is_file()
        for name, inode in finished.items():  # what an earlier run finished was left alone
            assert (output / name).stat().st_ino == inode
        assert {path.name for path in output.glob("[0-9]*.mp4")} <= set(told_now(output))
        finished = {name: (output / name).stat().st_ino for name in finished_files(output)}
        assert 0 < len(finished) < count
    assert subprocess.run(command(inputs, output), check=False).returncode == 0
    assert contents(output) == contents(tmp_path / "whole")  # and no orphan, hidden or not
    assert [path.name for path in output.rglob(".*")] == []
    assert {record.status for record in told(output).values()} <= {"done", "unchanged"}


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    inputs = clips(tmp_path / "in", 4)
    output = tmp_path / "out"
    with subprocess.Popen(command(inputs, output), stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not finished_files(output) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    text = errors.decode()
    assert text.startswith("vqfr-media: stopped; ")
    assert text.rstrip().endswith("of 4 files are finished; the same command goes on from there")
    assert "Traceback" not in text
    records = told(output)
    assert len(records) == 4
    assert records["0.mp4"].status == "done"
    assert "pending" in {record.status for record in records.values()}
    assert not [path for path in output.iterdir() if ".part-" in path.name]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("a" * 44, "a" * 44),
        ("a" * 30 + "b" * 30, "a" * 21 + "…" + "b" * 22),
        ("祖" * 40, "祖" * 10 + "…" + "祖" * 11),
        ("caf\udce9\x1b[31m.mp4", "caf\\udce9\\x1b[31m.mp4"),
    ],
)
def test_names_fit_their_column(name: str, columns: str) -> None:
    assert short(name) == columns


def test_the_columns_of_the_table_are_one_below_the_other() -> None:
    wide = Record(output="祖母 é.mp4", source="", status="done", frames=3, seconds=1.0)
    plain = Record(output="x.mp4", source="", status="done", frames=3, seconds=1.0)
    assert len(padded("祖母")) == 42  # two columns each
    assert row(wide).split("  ")[-1] == row(plain).split("  ")[-1] == "   3.0".strip()
    assert row(wide).index(" 3 ") == row(plain).index(" 3 ") - 2


def test_a_row_says_why_faces_were_left_alone_and_a_star_is_explained() -> None:
    left = {SkipReason.TOO_SMALL: 3, SkipReason.NOT_CHOSEN: 1}
    record = Record(output="a.mp4", source="", status="done", skipped=left)
    assert row(record).endswith("  left: 3 too small, 1 not chosen")
    starred = replace(record, warnings=("no subtitles",))
    assert row(starred).endswith("  *  left: 3 too small, 1 not chosen")
    assert table(BatchReport(records=(starred,), seconds=1.0))[-1].startswith("* ")
    assert len(table(BatchReport(records=(record,), seconds=1.0))) == 2


def test_a_long_table_names_only_what_failed() -> None:
    done = [Record(output=f"{n}.mp4", source="", status="done") for n in range(100)]
    failed = Record(output="bad.mp4", source="", status="failed", reason="damaged")
    lines = table(BatchReport(records=(*done, failed), seconds=1.0))
    assert [line.split()[:3] for line in lines[1:]] == [["failed", "bad.mp4", "damaged"]]
    assert len(table(BatchReport(records=tuple(done[:5]), seconds=1.0))) == 6
    assert table(BatchReport(records=(), seconds=1.0)) == []
    assert os.linesep not in "".join(lines)
