"""The command with a cluster of its own, stopped by Ctrl-C or killed, and given again."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.scenes import write_scene
from tests.vqfr_media.distributed.workers import inverting
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video

pytest.importorskip("ray", reason="the extra `distributed` is not installed")

SHORT = RestoreOptions(segment_seconds=0.8, encode=EncodeOptions(preset="ultrafast"))

BATCH = """
import logging, sys
from pathlib import Path
from tests.vqfr_media.distributed.workers import slowly_inverting
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.task import ProgressListener
from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.ray_worker import open_workers
from vqfr_media.options import EncodeOptions, RestoreOptions

logging.basicConfig(level=logging.WARNING, format="log: %(message)s")
options = RestoreOptions(segment_seconds=0.8, encode=EncodeOptions(preset="ultrafast"))
listener = ProgressListener(
    on_frames=lambda task, count: print("frames", count, flush=True),
    on_resume=lambda task, count: print("resumed", count, flush=True),
)
plan = plan_folder(Path(sys.argv[1]), Path(sys.argv[2]), options)
ray = RayOptions(address="local", workers=2, cpus_per_worker=1)
with open_workers(ray, options, factory=slowly_inverting, listener=listener) as worker:
    report = run_batch(plan, worker)
print("done", report.counts, flush=True)
"""


def start(source: Path, output: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BATCH, source, output],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_segments(work: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while len(list(work.glob("[0-9]*.segment"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> set[int]:
    """All processes below this one."""
    found: set[int] = set()
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    below = {pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below}
        found |= below
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; what has ended and was not waited for does not."""
    running = set()
    for pid in pids:
        try:
            state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            running.add(pid)
    return running


def wait_until_gone(pids: set[int]) -> None:
    # Workers end at once; two agents of Ray's own notice after a minute.
    deadline = time.monotonic() + 150
    while left := alive(pids):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_is_resumed(tmp_path: Path, way: signal.Signals) -> None:
    (tmp_path / "in").mkdir()
    source = write_scene(tmp_path / "in/film.mp4", frames=400, codec="libx264", cut=77)
    restore_video(source, tmp_path / "whole.mp4", SHORT, ready=inverting())
    output = tmp_path / "out"
    with start(tmp_path / "in", output) as process:
        try:
            wait_for_segments(output / ".film.mp4.work", 3, process)
            below = children(process.pid)
            assert len(below) >= 4
            assert process.poll() is None, "it was faster than this test"
            process.send_signal(way)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -way or (way == signal.SIGINT and "KeyboardInterrupt" in said)
    wait_until_gone(below)
    assert not (output / "film.mp4").exists()
    kept = len(list((output / ".film.mp4.work").glob("[0-9]*.segment")))
    assert 3 <= kept < 20
    with start(tmp_path / "in", output) as process:
        said, _ = process.communicate(timeout=120)
    assert "done {'done': 1}" in said
    resumed = [int(line.split()[1]) for line in said.splitlines() if line.startswith("resumed")]
    assert resumed == [20 * kept]
    one, other = (
        hashlib.sha256(p.read_bytes()) for p in (output / "film.mp4", tmp_path / "whole.mp4")
    )
    assert one.digest() == other.digest()
    assert sorted(path.name for path in output.iterdir()) == ["batch.json", "film.mp4"]


@pytest.mark.slow
def test_the_command_line_with_a_real_network(tmp_path: Path) -> None:
    """The bits and the words of one process; Ray's own words stay away."""
    source = tmp_path / "in"
    source.mkdir()
    write_scene(source / "long.mp4", frames=60, codec="libx264")
    write_scene(source / "short.mp4", frames=5, codec="libx264")
    (source / "text.mp4").write_text("no video")
    words = ["--segment-seconds", "1", "--model", "lite", "--detector", "bundled", "--offline",
             "--preset", "ultrafast"]  # fmt: skip
    ran = {}
    for folder, more in (
        ("one", []),
        ("two", ["--ray", "local", "--ray-workers", "2", "--cpus-per-worker", "1"]),
    ):
        ran[folder] = subprocess.run(
            [sys.executable, "-m", "vqfr_media", "batch", source, tmp_path / folder, *words, *more],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ran[folder].returncode == 4, ran[folder].stderr
    one, two = ran["one"].stdout.splitlines(), ran["two"].stdout.splitlines()
    assert len(one) == len(two)
    assert [line.split()[:2] for line in one[:-1]] == [line.split()[:2] for line in two[:-1]]
    assert "ray" not in ran["two"].stdout.lower()
    for name in ("long.mp4", "short.mp4"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--ray", "127.0.0.1:1"], 3, "ray 127.0.0.1:1: no cluster answers there"),
        (["--ray", "somewhere"], 2, "ray address must be auto, local or HOST:PORT"),
        (["--ray-workers", "2"], 2, "--ray-workers is for --ray"),
    ],
)
def test_what_the_command_line_refuses(
    tmp_path: Path, more: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from vqfr_media.cli.batch import BatchCommand
    from vqfr_media.cli.main import exit_code
    from vqfr_media.cli.main import run as run_command
    from vqfr_media.errors import VqfrMediaError

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").touch()
    fields = dict(zip(more[::2], more[1::2], strict=True))
    command = BatchCommand(
        source=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        ray=fields.get("--ray"),
        ray_workers=int(fields["--ray-workers"]) if "--ray-workers" in fields else None,
    )
    with pytest.raises(VqfrMediaError, match=says) as caught:
        run_command(command)
    assert exit_code(caught.value) == code
    assert capsys.readouterr().out == ""
