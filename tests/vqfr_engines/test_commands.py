"""`vqfr-media engine ...` as a user types it, and what `restore` does with engines."""

import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from vqfr_engines import selftest
from vqfr_engines.bench import BenchResult, EngineTiming
from vqfr_engines.request import build_command
from vqfr_engines.selftest_point import CheckResult

from tests.vqfr_engines.small import copied, edit, flip_a_bit
from vqfr_media import cli
from vqfr_media import weights as weight_files
from vqfr_media.cli.engine import bench_json, bench_lines, selftest_line
from vqfr_media.manifest import MANIFEST, read_manifest

pytest.importorskip("openvino", reason="OpenVINO is not installed here: pip install openvino")


def run(*arguments: object) -> int:
    """Runs the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_build_list_verify_remove(
    weights: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("engine", "list") == 0
    assert capsys.readouterr().out == f"no engines in {root}\n"
    command = ["engine", "build", "--backend", "openvino", "--model", "lite", "--weights", weights]
    assert run(*command) == 0
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    first = capsys.readouterr().out
    assert f"{folder}: built in " in first
    assert "of codes flipped" in first
    assert run(*command) == 0
    assert f"{folder}: was here already" in capsys.readouterr().out
    assert run("engine", "list") == 0
    assert capsys.readouterr().out.startswith(f"ok       {folder.name}  built 2")
    assert run("engine", "verify", folder.name) == 0
    assert f"{folder}: sound, and fits this machine" in capsys.readouterr().out
    assert run("engine", "remove", folder.name) == 0
    assert not folder.exists()


def test_verify_tells_damaged_and_stale_apart_with_exit_code_3(
    engine: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = copied(engine, root)
    stale = Path(shutil.copytree(engine, root / "stale"))
    flip_a_bit(damaged)
    edit(stale, lambda document: document["identity"]["versions"].update(openvino="1999.1"))
    for folder, says in ((damaged, "is damaged"), (stale, "openvino is 1999.1 in it")):
        assert run("engine", "verify", folder) == 3
        message = capsys.readouterr().err
        assert message.startswith(f"vqfr-media: {folder}")
        assert says in message
        assert "`vqfr-media engine build --backend openvino --model lite" in message
    assert run("engine", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == ["damaged", "stale"]
    assert run("engine", "verify", "nonsense") == 2
    assert "there is no engine nonsense" in capsys.readouterr().err


def test_remove_takes_what_is_named_and_nothing_more(
    engine: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, damaged = copied(engine, root), Path(shutil.copytree(engine, root / "damaged"))
    flip_a_bit(damaged)
    assert run("engine", "remove") == 2
    assert run("engine", "remove", sound.name, "--all") == 2
    assert capsys.readouterr().err.count("say which engines to remove") == 2
    assert run("engine", "remove", "--stale") == 0
    assert capsys.readouterr().out == f"{damaged}: removed\n"
    assert sound.is_dir()
    assert run("engine", "remove", "--all") == 0
    assert not sound.exists()


def test_what_cannot_be_judged_here_is_not_stale(
    engine: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = copied(engine, root)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert run("engine", "list") == 0
    head, why = capsys.readouterr().out.splitlines()
    assert head.startswith(f"unknown  {folder.name}")
    assert "pip install" in why
    assert run("engine", "remove", "--stale") == 0
    assert capsys.readouterr().out == ""
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["skipped", "skipped"], 3),
        (["skipped", "passed"], 0),
        (["passed", "failed", "skipped"], 1),
        (["failed", "skipped"], 1),
    ],
)
def test_selftest_ends_well_only_where_something_passed(
    outcomes: list[Literal["passed", "failed", "skipped"]],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = [
        CheckResult(number=number, name="point", outcome=outcome, detail="", seconds=0.0)
        for number, outcome in enumerate(outcomes, start=1)
    ]
    monkeypatch.setattr(selftest, "run", lambda *_, **__: iter(points))
    monkeypatch.setattr(selftest, "machine", lambda device: {"fault": f"no {device}"})
    file = tmp_path / "said.json"
    assert run("engine", "selftest", "--backend", "openvino", "-o", file) == code
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "nothing is known of this machine: no cpu"
    assert [line.split()[1] for line in lines] == outcomes
    assert last == f"all of it is in {file}"
    said = json.loads(file.read_text())
    assert (said["backend"], said["machine"]) == ("openvino", {"fault": "no cpu"})
    assert [point["outcome"] for point in said["points"]] == outcomes


def test_quiet_is_quiet(
    weights: Path,
    root: Path,
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(weight_files.VARIABLE, str(shared / "weights"))
    root.write_text(
        "a file where engines should be kept: PyTorch does the work, and the log says so"
    )
    source = tmp_path / "in.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(source)
    command = ["restore", source, "--model", "lite", "--weights", weights, "--device", "cpu"]
    assert run(*command, "-o", tmp_path / "out.png") == 0
    assert any("PyTorch does the work" in line for line in caplog.messages)
    caplog.clear()
    capsys.readouterr()
    assert run(*command, "--quiet", "-o", tmp_path / "quiet.png") == 0
    assert caplog.messages == []
    assert tuple(capsys.readouterr()) == ("", "")
    for package in ("vqfr_media", "vqfr_engines", "vqfr_deform_conv"):
        assert logging.getLogger(package).getEffectiveLevel() == logging.WARNING


def test_the_command_in_the_errors_builds_the_engine(
    engine: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(engine)
    words = shlex.split(build_command(manifest.identity, weights=manifest.weights))
    assert words[0] == "vqfr-media"
    assert run(*words[1:]) == 0
    assert f"{root / engine.name}: built in" in capsys.readouterr().out


def test_bench_writes_what_it_prints(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "bench.json"
    assert run("engine", "bench", engine, "--runs", 1, "--json", report) == 0
    printed = capsys.readouterr().out.splitlines()
    told = json.loads(report.read_text())
    assert told["identity"] == read_manifest(engine).identity.sha256
    assert told["versions"] == read_manifest(engine).identity.versions
    for line, part in zip(printed[2:], ("encode", "decode", "both"), strict=True):
        sides = told["ms_per_face"][part]
        assert sides["engine"] > 0
        assert line.split()[:3] == [part, f"{sides['engine']:.1f}", f"{sides['torch']:.1f}"]
    assert run("engine", "bench", engine, "--runs", 0) == 2
    assert "runs must be at least 1, got 0" in capsys.readouterr().err


def test_the_tables_lines(engine: Path) -> None:
    timings = (
        EngineTiming(part="encode", engine_ms=10.0, torch_ms=25.0),
        EngineTiming(part="decode", engine_ms=30.0, torch_ms=75.0),
        EngineTiming(part="both", engine_ms=40.0, torch_ms=100.0),
    )
    result = BenchResult(
        manifest=read_manifest(engine),
        runs=3,
        threads=2,
        date="2026-07-25T12:00:00+00:00",
        timings=timings,
    )
    assert bench_lines(result) == [
        "lite on cpu, float32, batch 1: ms per face, median of 3",
        "           openvino      torch   faster",
        "encode         10.0       25.0    2.50×",
        "decode         30.0       75.0    2.50×",
        "both           40.0      100.0    2.50×",
    ]
    assert bench_json(result)["date"] == "2026-07-25T12:00:00+00:00"
    assert bench_json(result)["ms_per_face"]["both"] == {"engine": 40.0, "torch": 100.0}
    point = CheckResult(number=3, name="loads", outcome="failed", detail="no", seconds=1.25)
    assert selftest_line(point) == " 3  failed   loads (1.2 s): no"


def test_restore_builds_once_and_then_uses_what_it_built(
    weights: Path,
    root: Path,
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(weight_files.VARIABLE, str(shared / "weights"))
    source, report = tmp_path / "in.png", tmp_path / "report.json"
    Image.open(min((shared / "data/faces/val").glob("*.jpg"))).resize((256, 256)).save(source)
    command = ["restore", source, "--model", "lite", "--report", report]
    own = [*command, "--weights", weights, "--backend", "openvino"]
    with caplog.at_level(logging.WARNING):
        assert run(*own, "-o", tmp_path / "first.png") == 0
        assert sum("building the openvino engine" in line for line in caplog.messages) == 1
        caplog.clear()
        (folder,) = (path for path in root.iterdir() if path.is_dir())
        stamp = (folder / MANIFEST).stat().st_mtime_ns
        assert run(*own, "-o", tmp_path / "second.png") == 0
        assert "backend openvino, float32 (asked for)" in capsys.readouterr().out
        assert run(*command, "--engine", folder, "-o", tmp_path / "third.png") == 0
        assert caplog.messages == []
    assert (folder / MANIFEST).stat().st_mtime_ns == stamp
    told = json.loads(report.read_text())
    assert told["restored"] == 1
    assert (told["backend"], told["engine"]) == ("openvino", str(folder))
    assert told["engine_identity"] == read_manifest(folder).identity.sha256
    assert run(*command, "--weights", weights, "--backend", "torch", "-o", tmp_path / "t.png") == 0
    # What is here already is run without the libraries that take longest to import.
    script = (
        "import sys; from vqfr_media.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(*sorted({'torchvision', 'facexlib', 'sympy'} & sys.modules.keys()), 'end')"
    )
    again = [sys.executable, "-c", script, *own, "-o", tmp_path / "fourth.png"]
    done = subprocess.run(
        list(map(str, again)), capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.splitlines()[-1].split() == ["end"]
    pictures = {
        name: np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int)
        for name in ("first", "second", "third", "fourth", "t")
    }
    np.testing.assert_array_equal(pictures["second"], pictures["first"])
    np.testing.assert_array_equal(pictures["third"], pictures["first"])
    np.testing.assert_array_equal(pictures["fourth"], pictures["first"])
    assert np.abs(pictures["t"] - pictures["first"]).max() <= 1
    assert (pictures["first"] != np.asarray(Image.open(source))).any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--backend", "openvino", "--device", "cuda"], "openvino runs on the CPU"),
        (["--backend", "tensorrt", "--device", "cpu"], "tensorrt runs on NVIDIA GPUs"),
        (["--engine", "e", "--weights", "w"], r"weights \(w\) is fixed by the engine in e"),
        (["--engine", "e", "--batch-size", "2"], r"batch_size \(2\) is fixed"),
        (["--engine", "e", "--backend", "torch"], r"backend \(torch\) is fixed"),
        (["--engine", "e", "--precision", "float32"], r"precision \(float32\) is fixed"),
    ],
)
def test_options_that_contradict_each_other(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("restore", tmp_path / "in.png", "-o", tmp_path / "out.png", *options) == 2
    message = capsys.readouterr().err
    assert message.startswith("vqfr-media: ")
    assert message.count("\n") == 1
    assert re.search(says, message)


@pytest.mark.usefixtures("root")
def test_a_backend_that_is_not_here_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run("engine", "build", "--backend", "tensorrt", "--model", "lite") == 3
    assert "pip install 'vqfr-media[tensorrt]'" in capsys.readouterr().err


def test_export_needs_to_know_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("engine", "export", "-o", tmp_path / "out", "--model", "lite") == 2
    assert "--onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
