"""What can be refused or answered without the heavy libraries is: imports are counted, not time."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.scenes import write_scene
from tests.vqfr_media.batch.workers import CountingWorker
from vqfr_media.backends.cuda_driver import has_driver
from vqfr_media.batch.local_worker import LocalWorker
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.settled import settled_worker
from vqfr_media.cli.console import resumable_progress
from vqfr_media.frames import Frame, PixelFormat, VideoInfo
from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.prepare import prepare

# Runs command lines one after the other in one process; a line for each says its exit code and
# which of the heavy libraries are there after it.
SCRIPT = """
import json, sys
from vqfr_media.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        heavy = {"torch", "cv2", "openvino", "facexlib", "matplotlib", "ray"} & sys.modules.keys()
        print("CODE", end.code, *sorted(heavy))
"""


def outcomes(folder: Path, *commands: Sequence[object]) -> tuple[list[str], list[str]]:
    """Of commands given in `folder`: what `SCRIPT` says of each, and the lines on stderr."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environ.pop("VQFR_MEDIA_WEIGHTS", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, words],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=folder,
        env=environ,
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("CODE")]
    return codes, done.stderr.splitlines()


def test_words_are_answered_without_anything_heavy(tmp_path: Path) -> None:
    commands = ["--version"], ["--help"], ["restore", "--help"], ["weights", "list"]
    codes, errors = outcomes(tmp_path, *commands)
    assert codes == ["CODE 0"] * 4
    assert errors == []


REFUSED = [
    # What is typed after `restore in.mp4`, its exit code, and what the one line on stderr says.
    ("-o out.mp4 --quality 99", 2, "quality must be between"),
    ("-o out.xyz", 2, "unknown container"),
    ("-o out.jpg", 2, "out.jpg"),
    ("-o nowhere/out.mp4", 3, "there is no folder nowhere"),
    ("-o out.mp4 --codec no_such_codec", 2, "no video encoder"),
    ("-o out.mp4 --device abacus", 3, "unknown device"),
    ("-o out.mp4 --model v1 --offline", 3, "offline is set"),
    ("-o out.mp4 --model v2 --weights no.pth", 2, "no weights file no.pth"),
    ("-o out.mp4 --weights no.pth", 2, "add --model"),
    ("-o out.mp4 --model lite --fidelity 0.3", 2, "only v2"),
    ("-o out.mp4 --detector resnet50 --offline", 3, "resnet50 weights"),
    ("-o out.mp4 --engine nowhere", 3, "there is no engine nowhere"),
    ("-o out.mp4 --tracks no.json", 2, "vqfr-media tracks"),
]


def test_what_cannot_be_restored_is_refused_without_a_network(tmp_path: Path) -> None:
    write_scene(tmp_path / "in.mp4", frames=2)
    codes, errors = outcomes(
        tmp_path, *(["restore", "in.mp4", *words.split()] for words, _, _ in REFUSED)
    )
    assert codes == [f"CODE {code}" for _, code, _ in REFUSED]
    for error, (_, _, says) in zip(errors, REFUSED, strict=True):
        assert says in error


def test_files_that_are_missing_or_no_films_are_refused_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    commands = {
        "restore missing.mp4 -o out.mp4": "missing.mp4: no such file",
        "restore empty.png -o out.mp4": "empty.png: the file is empty",
        "restore text.mp4 -o out.mp4": "text.mp4: not a video that can be read",
        "tracks missing.mp4 -o tracks.json": "missing.mp4: no such file",
        "compare text.mp4 missing.mp4 -o both.mp4": "missing.mp4: no such file",
        "studio missing.mp4": "missing.mp4: no such file",
        "studio text.mp4 -o text.mp4": "is the input itself",
        "studio text.mp4 --damaged keep": "leave out --damaged keep",
        "studio text.mp4 --tracks no.json": "no.json: there is no such file",
        "report missing.mp4 text.mp4 -o report.html": "missing.mp4: no such file",
        "batch nowhere out": "no such folder",
        "batch folder out": "no video or image to restore",
    }
    codes, errors = outcomes(tmp_path, *map(str.split, commands))
    assert codes == ["CODE 2"] * len(commands)
    for error, says in zip(errors, commands.values(), strict=True):
        assert error.startswith("vqfr-media: ")  # and no bar before it
        assert says in error


def test_engines_are_named_and_refused_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQFR_MEDIA_ENGINES", str(tmp_path / "engines"))
    bad = tmp_path / "engines/bad"
    bad.mkdir(parents=True)
    (bad / "manifest.json").write_text("{}")
    commands = {
        "engine list": 0, "engine verify none": 2, "engine bench none": 2, "engine remove none": 2,
        "engine remove bad": 0,
    }  # fmt: skip
    codes, errors = outcomes(tmp_path, *map(str.split, commands))
    assert codes == [f"CODE {code}" for code in commands.values()]
    assert all("there is no engine none" in error for error in errors)


@pytest.mark.skipif(has_driver(), reason="only PyTorch knows whether a GPU can be used")
def test_a_batch_with_nothing_to_do_loads_nothing_and_still_finds_a_change(tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("a.bmp", "b.bmp"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(inputs / name)
    command = ["batch", inputs, outputs, "--backend", "torch", "--detector", "bundled"]
    options = RestoreOptions(
        model=ModelOptions(backend="torch"), face=FaceOptions(detector="bundled")
    )
    plan = plan_folder(inputs, outputs, options)
    run_batch(plan, LocalWorker(prepare(options, None, None)))
    first = json.loads((outputs / "batch.json").read_text())["files"]
    assert outcomes(tmp_path, command)[0] == ["CODE 0"]
    second = json.loads((outputs / "batch.json").read_text())["files"]
    assert [file["status"] for file in second] == ["unchanged"] * 2
    assert [file["identity"] for file in second] == [file["identity"] for file in first]

    opened: list[CountingWorker] = []

    def open_worker() -> CountingWorker:
        opened.append(CountingWorker())
        return opened[-1]

    for policy in (RerunPolicy(redo=True), RerunPolicy(retry=True)):
        assert settled_worker(plan, policy, options, open_worker) is None
    # Another picture with the same size and time: found by reading it, and then restored.
    source = inputs / "b.bmp"
    times = source.stat()
    Image.fromarray(np.full((64, 64, 3), 9, np.uint8)).save(source)
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    worker = settled_worker(plan, RerunPolicy(), options, open_worker)
    assert worker is not None
    report = run_batch(plan, worker)
    assert [record.status for record in report.records] == ["unchanged", "done"]
    assert [one.worked for one in opened] == [["b.bmp"]]
    source.touch()  # now it is no longer the file of the record by its time
    assert settled_worker(plan, RerunPolicy(), options, open_worker) is None


def test_the_bar_appears_when_frames_flow(capsys: pytest.CaptureFixture[str]) -> None:
    frame = Frame(0, 0, (np.zeros((2, 2), np.uint8),), PixelFormat(family="gray"))
    info = VideoInfo(
        width=2,
        height=2,
        format=frame.format,
        display=frame.display,
        time_base=Fraction(1),
        frame_rate=Fraction(1),
    )
    with resumable_progress(False) as (start, step, _):
        assert capsys.readouterr().err == ""
        start(info)
        step(frame)
    assert "1frame" in capsys.readouterr().err
