"""The command as a user types it: what it prints, what it leaves behind, and its exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import write_clip
from tests.paths import ROOT
from tests.scenes import write_scene
from vqfr_media import cli, weights
from vqfr_media.errors import (
    BackendError,
    CheckpointError,
    EngineError,
    MediaError,
    VqfrMediaError,
)
from vqfr_media.media.read import open_video


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """The command takes over signals; the tests' own process gets them back."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    handlers = [signal.getsignal(name) for name in names]
    yield
    for name, handler in zip(names, handlers, strict=True):
        signal.signal(name, handler)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real detector as a user has it: this package's own, unless facexlib's is cached."""
    monkeypatch.delenv(weights.VARIABLE, raising=False)


def run(*arguments: object) -> int:
    """Runs the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """The error as printed: one line, and no traceback."""
    text = captured.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("vqfr-media:")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


@pytest.fixture
def bad_inputs(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("text.mp4", "empty.mp4", "sound.m4a", "cut.mp4")}
    files["text.mp4"].write_text("this is no video\n" * 100)
    files["empty.mp4"].write_bytes(b"")
    with av.open(str(files["sound.m4a"]), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="stereo")
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        sound.sample_rate, sound.pts = 48000, 0
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    whole = write_scene(tmp_path / "whole.mp4", codec="libx264").read_bytes()
    files["cut.mp4"].write_bytes(whole[: len(whole) // 2])
    files["folder"] = tmp_path
    files["missing.mp4"] = tmp_path / "missing.mp4"
    return files


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.mp4", "not a video"),
        ("empty.mp4", "empty"),
        ("sound.m4a", "no video stream"),
        ("cut.mp4", "truncated"),
        ("folder", "folder"),
        ("missing.mp4", "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    bad_inputs: dict[str, Path],
    name: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = set(tmp_path.iterdir())
    assert run("restore", bad_inputs[name], "-o", tmp_path / "out.mp4") == 2
    message = one_line(capsys)
    assert says in message
    assert bad_inputs[name].name in message
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--codec", "h267"], 2, "h267"),
        (["--start", "-3"], 2, "start must not be negative, got -3"),
        (["--start", "0:30"], 2, "start (0:30) lies beyond the end of"),
        (["--end", "2", "--duration", "1"], 2, "leave out one of the two"),
        (["--codec", "mpeg2video", "--container", "nonsense"], 2, "nonsense"),
        (["--device", "cuda:7"], 3, "cuda:7"),
        (["--model", "lite", "--fidelity", "0.5"], 2, "only v2"),
        (["--model", "v1", "--offline"], 3, "offline"),
        (["--weights", "x.pth"], 2, "--model"),
        (["--model", "v1", "--weights", "x.pth"], 2, "x.pth"),
        (["--report", "nowhere/report.json"], 3, "nowhere"),
        (["--detector", "mobilenet", "--offline"], 3, "offline"),
    ],
)
def test_options_that_cannot_be_followed(
    options: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write_scene(tmp_path / "in.mp4", frames=2, codec="libx264")
    assert run("restore", source, "-o", tmp_path / "out.mp4", *options) == code
    assert says in one_line(capsys)
    assert not (tmp_path / "out.mp4").exists()


def test_a_wrong_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=2, codec="libx264")
    wrong = shared / "weights" / "detection_mobilenet0.25_Final.pth"
    options = ["--model", "v1", "--weights", wrong]
    assert run("restore", source, "-o", tmp_path / "out.mp4", *options) == 2
    message = one_line(capsys)
    assert wrong.name in message
    assert "body.stage1.0.0.weight" in message or "missing" in message
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    "options", [["--min-face", "-3"], ["--upscale", "9"], ["--fidelity", "2"], ["--faces", "some"]]
)
def test_options_out_of_range_are_refused_while_parsing(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("restore", tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", *options) == 2
    text = capsys.readouterr().err
    assert "dummy" not in text
    assert "Traceback" not in text
    if options[0] == "--faces":  # a choice is refused by the parser, with what there is
        assert "all" in text
        assert "largest" in text
    else:
        name, value = options[0].strip("-").replace("-", "_"), options[1]
        assert re.fullmatch(rf"vqfr-media: {name} must be between .* got {value}\n", text)


@pytest.mark.usefixtures("detector")
def test_output_folder_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=2, codec="libx264")
    assert run("restore", source, "-o", tmp_path / "no" / "out.mp4") == 3
    assert str(tmp_path / "no") in one_line(capsys)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.usefixtures("detector")
def test_disk_full(tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=40, discs=0, codec="libx264")
    options = ["--codec", "ffv1", "--backend", "torch", "--quiet"]
    assert run("restore", source, "-o", small_disk / "out.mkv", *options) == 3
    message = one_line(capsys)
    assert "out.mkv" in message
    assert "No space left" in message
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("detector")
def test_a_clip_without_faces_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=4, discs=0)
    output, report = tmp_path / "out.mkv", tmp_path / "report.json"
    options = ["--codec", "ffv1", "--detector", "bundled", "--report", report]
    assert run("restore", source, "-o", output, *options) == 0
    printed = capsys.readouterr().out
    assert "no face was restored" in printed
    assert "model lite on cpu (no GPU" in printed
    assert "detector bundled (asked for)" in printed
    told = json.loads(report.read_text())
    assert (told["detector"], told["detector_why"]) == ("bundled", "asked for")
    assert (told["frames"], told["restored"], told["skipped"]) == (4, 0, {})
    with open_video(source) as before, open_video(output) as after:
        for wanted, got in zip(before, after, strict=True):
            for a, b in zip(got.planes, wanted.planes, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("detector")
def test_an_image_keeps_its_exif_and_everything_outside_the_face(
    tmp_path: Path, shared: Path
) -> None:
    photograph = min((shared / "data/faces/val").glob("*.jpg"))
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    # As blurred as if it had been enlarged: of a sharp face the network changes hardly anything.
    picture = Image.open(photograph).resize((128, 128)).resize((384, 384))
    exif = Image.Exif()
    exif[0x010E] = "grandmother, 1931"
    picture.save(source, exif=exif)
    assert run("restore", source, "-o", output, "--quiet") == 0
    restored = Image.open(output)
    assert restored.getexif()[0x010E] == "grandmother, 1931"
    before, after = np.asarray(picture), np.asarray(restored)
    changed = (before != after).any(axis=2)
    assert not changed[:8].any()
    assert not changed[-4:].any()
    assert changed[150:250, 130:250].mean() > 0.5


@pytest.mark.parametrize(
    ("output", "code", "says"),
    [
        ("in.png", 2, "input itself"),
        ("out.xyz", 2, "xyz"),
        ("no/out.png", 3, "no"),
        ("alpha.jpg", 2, "alpha"),
    ],
)
def test_an_image_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    code: int,
    says: str,
) -> None:
    # No detector is to be had here: an answer other than "weights" shows that it was not asked for.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    Image.new("RGBA", (64, 64), (90, 80, 70, 128)).save(tmp_path / "in.png")
    content = (tmp_path / "in.png").read_bytes()
    assert run("restore", tmp_path / "in.png", "-o", tmp_path / output, "--offline") == code
    assert says in one_line(capsys)
    assert (tmp_path / "in.png").read_bytes() == content


@pytest.mark.parametrize(("signals", "more"), [(1, []), (3, ["--backend", "torch"])])
@pytest.mark.usefixtures("detector")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, signals: int, more: list[str]) -> None:
    quick = {"preset": "ultrafast"}
    source = write_scene(
        tmp_path / "in.mp4", frames=700, different=60, discs=0, codec="libx264", options=quick
    )
    command = [sys.executable, "-m", "vqfr_media", "restore", str(source)]
    command += ["-o", str(tmp_path / "out.mp4"), *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".out*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopped" in errors
    assert b"Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def stopped_while(
    tmp_path: Path, body: str, *, hang_up: str = "SIG_DFL"
) -> subprocess.CompletedProcess[bytes]:
    """Runs a `restore` whose work is `body`, as `python -m`; a signal is sent within `body`.

    `hang_up` is what the process does about SIGHUP when it begins: `nohup` ignores it.
    """
    (tmp_path / "in.mp4").write_text("no video")
    (tmp_path / "stopped.py").write_text(
        "import os, signal, sys, time\n"
        "import vqfr_media.cli\n"
        "main = sys.modules['vqfr_media.cli.main']\n"
        "def stopped(command):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + f"signal.signal(signal.SIGHUP, signal.{hang_up})\n"
        "main.run = stopped\n"
        "main.main(['restore', 'in.mp4', '-o', 'out.mp4'])\n"
    )
    # Without bytecode: that of a module written a moment ago, just as long, would be taken for it.
    return subprocess.run(
        [sys.executable, "-B", "-m", "stopped"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )


def test_ctrl_c_within_an_exec_ends_with_the_usual_code(tmp_path: Path) -> None:
    """As while a library makes a dataclass: `python -m` would end by the signal after all."""
    body = "exec('os.kill(os.getpid(), signal.SIGINT); [0] * 9', globals())\n"
    done = stopped_while(tmp_path, body)
    assert done.returncode == 130
    assert b"stopped" in done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_that_a_library_loses_stops_the_command_after_all(tmp_path: Path, name: str) -> None:
    done = stopped_while(
        tmp_path,
        f"""
        class Callback:
            def __del__(self):
                os.kill(os.getpid(), signal.{name})
                [0] * 9  # Python would only say on stderr what a destructor raises
        Callback()
        try:
            os.kill(os.getpid(), signal.{name})
            [0] * 9
        except BaseException:
            print("lost", flush=True)
        time.sleep(30)
        print("never stopped")
        """,
    )
    assert done.returncode == 130
    assert done.stdout == b"lost\n"
    assert b"stopped; nothing was written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_other_errors_that_python_drops_are_said(tmp_path: Path) -> None:
    done = stopped_while(
        tmp_path,
        """
        class Callback:
            def __del__(self):
                raise ValueError("dropped")
        Callback()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        """,
    )
    assert done.returncode == 130
    assert b"ValueError: dropped" in done.stderr


def test_cleaning_up_after_ctrl_c_is_not_cut_short(tmp_path: Path) -> None:
    done = stopped_while(
        tmp_path,
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        finally:
            for _ in range(25):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            print("cleaned")
        """,
    )
    assert done.returncode == 130
    assert done.stdout == b"cleaned\n"
    assert b"Traceback" not in done.stderr


def test_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    body = """
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.1)
        print("gone on")
        return 0
        """
    done = stopped_while(tmp_path, body, hang_up="SIG_IGN")
    assert done.returncode == 0
    assert done.stdout == b"gone on\n"
    assert stopped_while(tmp_path, body).returncode == 130


def is_caught(process: int, number: int) -> bool:
    """Whether a process has a handler of its own for the signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_ctrl_c_during_start_up_is_no_traceback(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=2, discs=0, codec="libx264")
    command = [sys.executable, "-m", "vqfr_media", "restore", str(source)]
    command += ["-o", str(tmp_path / "out.mp4")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while not is_caught(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.5)  # the heavy libraries are being imported
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.usefixtures("detector")
def test_a_report_never_overwrites_the_source_or_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=2, discs=0)
    content = source.read_bytes()
    output = tmp_path / "out.mkv"
    (tmp_path / "link.mkv").symlink_to(source)
    for report, code in ((source, 2), (tmp_path / "link.mkv", 2), (output, 2), (tmp_path, 3)):
        assert run("restore", source, "-o", output, "--report", report) == code
        assert report.name in one_line(capsys)
        assert source.read_bytes() == content
        assert not output.exists()


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = f"{sys.executable} -m vqfr_media weights list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("detector")
def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=2, discs=0)
    output = os.fsencode(tmp_path) + b"/out\xfe.mkv"
    done = subprocess.run(
        [sys.executable, "-m", "vqfr_media", "restore", source, "-o", output, "--backend", "torch"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"dcfe.mkv: 2 frames" in done.stdout
    assert os.path.exists(output)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MediaError("x"), 2),
        (CheckpointError("x"), 2),
        (BackendError("x"), 3),
        (EngineError("x"), 1),
    ],
)
def test_exit_codes_follow_the_exception_tree(error: VqfrMediaError, code: int) -> None:
    assert cli.exit_code(error) == code


def test_weights_list_and_verify_name_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    assert run("weights", "list") == 0
    printed = capsys.readouterr().out
    for name, file in weights.WEIGHTS.items():
        assert name in printed
        assert file.licence in printed
    assert run("weights", "verify") == 0
    fetched = [file for file in weights.WEIGHTS.values() if file.url is not None]
    assert capsys.readouterr().out.count("missing") == len(fetched)
    damaged = weights.cache_folder() / weights.WEIGHTS["mobilenet"].file_name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"PK damaged")
    assert run("weights", "verify") == 3
    assert "damaged" in capsys.readouterr().out


def test_weights_fetch_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("weights", "fetch", "v9") == 2
    assert "v9" in one_line(capsys)


def test_doctor_says_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setenv(weights.VARIABLE, "/nonexistent")
    assert run("doctor") == 0
    assert "/nonexistent" in capsys.readouterr().out
    monkeypatch.delenv(weights.VARIABLE)
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for expected in ("torch", "libx264", "weights v2", "weights fetch v2", "--model auto"):
        assert expected in printed


def test_times_and_sound_survive_the_command(
    tmp_path: Path, detector: None, capsys: pytest.CaptureFixture[str]
) -> None:
    del detector
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    pts = [0, 3, 4, 9, 10, 16]
    write_clip(source, codec="libx264", pts=pts, audio="aac", rotation=90, sar=None)
    assert run("restore", source, "-o", output, "--backend", "torch") == 0
    assert "6 frames" in capsys.readouterr().out
    with open_video(source) as before, open_video(output) as after:
        assert after.info.time_base == before.info.time_base
        assert after.info.display == before.info.display
        assert after.info.display.quarter_turns == 1
        assert [f.pts for f in after] == [f.pts for f in before]
    packets = []
    for path in (source, output):
        with av.open(str(path)) as container:
            packets.append([(p.pts, bytes(p)) for p in container.demux(audio=0)])
    assert packets[0] == packets[1]
    assert len(packets[0]) > 5


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"vqfr-media {version('vqfr-media')}\n"


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("vqfr-media")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for name in ("restore", "demo", "weights", "doctor"):
        assert name in done.stdout
    assert os.access(command, os.X_OK)
