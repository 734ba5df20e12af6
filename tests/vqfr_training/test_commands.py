"""The command line of training: its flags, what it says of mistakes, how fast it is there."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from vqfr_training.__main__ import main
from vqfr_training.commands import EvaluateDetectorCommand, TrainCommand, parse
from vqfr_training.configs import RecipeSeries
from vqfr_training.distributed import default_workers, fast_on_gpu
from vqfr_training.evaluation.evaluate import METRICS
from vqfr_training.recipe_names import RecipeName
from vqfr_training.recipes import RECIPES, in_precision, smoke, smoke_stage1
from vqfr_training.stage import ParameterGroup
from vqfr_training.step import _adam

FLAGS = {
    "": "data out init start-from vgg identity minutes resume threads workers precision accumulate",
    "restore": "run data out threads",
    "evaluate": "restored truth metrics fetch fid-reference niqe-parameters out threads",
    "pack": "data out each side quality",
    "evaluate-detector": "weights beside data out scenes empty clip threads",
    "label-faces": "data weights",
}


@pytest.mark.parametrize("words", FLAGS)
def test_the_flags_are_these(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    flags = set(re.findall(r"^[│ ]+(-h, --help|--[a-z]\S*)", shown, flags=re.MULTILINE))
    assert flags == {"-h, --help", *(f"--{name}" for name in FLAGS[words].split())}


def test_the_names_that_can_be_typed_are_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert get_args(RecipeName.__value__) == RECIPES
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--help"])
    assert stopped.value.code == 0
    assert set(METRICS) <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_what_is_typed_arrives() -> None:
    given = [
        "smoke",
        "--data",
        "D",
        "--data",
        "E",
        "--out",
        "O",
        "--start-from",
        "S",
        "--identity",
        "I",
        "--minutes",
        "2.5",
        "--resume",
        "--threads",
        "2",
        "--workers",
        "3",
        "--precision",
        "bfloat16",
    ]
    assert parse(given) == TrainCommand(
        recipe="smoke",
        data=(Path("D"), Path("E")),
        out=Path("O"),
        start_from=Path("S"),
        identity=Path("I"),
        minutes=2.5,
        resume=True,
        threads=2,
        workers=3,
        precision="bfloat16",
    )
    given = [
        "evaluate-detector",
        "--weights",
        "W",
        "--data",
        "D",
        "--out",
        "O",
        "--clip",
        "a.mp4",
        "--clip",
        "b.mp4",
    ]
    command = parse(given)
    assert isinstance(command, EvaluateDetectorCommand)
    assert command.clip == (Path("a.mp4"), Path("b.mp4"))
    assert (command.scenes, command.empty, command.beside) == (500, 200, ())


def test_half_the_cores_prepare_samples_but_at_most_eight() -> None:
    assert [default_workers(cores) for cores in (1, 2, 3, 8, 16, 96)] == [1, 1, 1, 4, 8, 8]
    assert 1 <= default_workers() <= 8


def test_a_precision_that_is_given_is_that_of_every_recipe() -> None:
    assert smoke_stage1().precision == "float32"
    single = in_precision(smoke_stage1(), "bfloat16")
    assert single == replace(smoke_stage1(), precision="bfloat16")
    series = in_precision(smoke(), "bfloat16")
    assert isinstance(series, RecipeSeries)
    assert [recipe.precision for recipe in series.recipes] == ["bfloat16"] * 2


def test_a_gpu_may_round_and_try_algorithms_out_while_it_trains() -> None:
    def settings() -> tuple[bool, str]:
        return torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()

    before = settings()
    with fast_on_gpu(torch.device("cpu")):
        assert settings() == before
    with fast_on_gpu(torch.device("cuda", 0)):
        assert settings() == (True, "high")
    assert settings() == before


@pytest.mark.parametrize(("device", "fused"), [("cuda", True), ("cpu", None)])
def test_adam_is_fused_on_a_gpu(device: str, fused: bool | None) -> None:
    with FakeTensorMode(), torch.device(device):
        group = ParameterGroup([torch.nn.Parameter(torch.empty(3))], 1.0, (0.9, 0.99))
        assert _adam([group]).defaults["fused"] is fused


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["lite_stage9", "--data", "D", "--out", "O"],
        ["restore"],
        ["evaluate"],
        ["pack", "--data", "D"],
        ["evaluate-detector"],
        ["label-faces"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_parsed_ends_with_code_2(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_threads_are_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = ["smoke_stage1", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*given, "--threads", "0"]) == 2
    assert "--threads must be at least 1, got 0" in caplog.text


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_are_checked(
    minutes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["smoke_stage1", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*given, "--minutes", minutes]) == 2
    assert f"--minutes must be above 0, got {minutes}" in caplog.text


@pytest.mark.parametrize("command", ["smoke", "pack"])
def test_data_is_required(command: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([command, "--out", str(tmp_path / "out")]) == 2
    assert "--data is required" in caplog.text


def test_several_data_sets_are_packed_as_one_with_a_side_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["pack", "--data", str(tmp_path / "a"), "--data", str(tmp_path / "b")]
    assert main([*given, "--out", str(tmp_path / "out")]) == 2
    assert "with --side only" in caplog.text


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom vqfr_training.__main__ import parse\n"
        "parse(['smoke', '--data', 'D', '--out', 'O'])\n"
        "sys.exit(bool(sys.modules.keys() & {'torch', 'cv2', 'sklearn', 'scipy'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
