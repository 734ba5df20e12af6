"""Whole runs of the smoke recipes: they learn, they repeat, they resume exactly, they export."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.logs import losses
from training.__main__ import main, make_parser
from training.loop import learning_rate, load_averaged, run
from training.recipes import (
    RECIPES,
    DetectorRecipe,
    Stage1,
    find_recipe,
    smoke_stage1,
    smoke_stage2,
)
from training.stages import CodebookTraining, build, reestimate_codebook
from training.vq_stage import psnr
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.vqfr_v1 import VqfrV1

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stage1_run(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "stage1"
    run(smoke_stage1(), data=drawn_faces, out=out)
    return out


@pytest.fixture(scope="module")
def stage2_run(drawn_faces: Path, stage1_run: Path) -> Path:
    out = stage1_run.with_name("stage2")
    run(smoke_stage2(), data=drawn_faces, out=out, init=stage1_run)
    return out


@pytest.mark.parametrize(
    ("stage", "name"), [("stage1_run", "pixel"), ("stage2_run", "total"), ("stage2_run", "code")]
)
def test_the_loss_falls(stage: str, name: str, request: pytest.FixtureRequest) -> None:
    # Stage 1's total has a step up where the codebook comes in; its image loss has not.
    values = [line[name] for line in losses(request.getfixturevalue(stage)) if name in line]
    assert np.mean(values[-10:]) < 0.9 * np.mean(values[:10])


def test_a_run_folder_says_how_it_came_about(stage1_run: Path) -> None:
    names = {path.name for path in stage1_run.iterdir()}
    assert names == {
        "run.json",
        "log.jsonl",
        "checkpoint.pt",
        "samples_000015.png",
        "samples_000030.png",
    }
    described = json.loads((stage1_run / "run.json").read_text())
    assert described["recipe"]["name"] == "smoke_stage1"
    assert described["recipe"]["seed"] == 0
    assert set(described["versions"]) == {"python", "torch", "torchvision", "numpy", "opencv"}
    assert losses(stage1_run)[-1]["codes_used"] > 1


def test_same_seed_same_losses(drawn_faces: Path, stage1_run: Path, tmp_path: Path) -> None:
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "again")
    assert losses(tmp_path / "again") == losses(stage1_run)
    other = replace(smoke_stage1(), seed=9)
    run(other, data=drawn_faces, out=tmp_path / "other", stop_after=2)
    assert losses(tmp_path / "other") != losses(stage1_run)[:2]


def test_a_resumed_run_is_the_uninterrupted_one(
    drawn_faces: Path, stage1_run: Path, stage2_run: Path, tmp_path: Path
) -> None:
    # Cut before a k-means step, so that the reservoir has to come back as well.
    for recipe, whole, init in (
        (smoke_stage1(), stage1_run, None),
        (smoke_stage2(), stage2_run, stage1_run),
    ):
        out = tmp_path / recipe.name
        run(recipe, data=drawn_faces, out=out, init=init, stop_after=13)
        run(recipe, data=drawn_faces, out=out, init=init, resume=True)
        assert losses(out) == losses(whole)
        expected = load_averaged(whole)
        for name, value in load_averaged(out).items():
            assert torch.equal(value, expected[name]), name


def test_the_exported_network_is_the_averaged_one(stage2_run: Path) -> None:
    network = load_network(stage2_run / "network.safetensors")
    assert isinstance(network, VqfrV1)
    assert network.config == smoke_stage2().network
    averaged = load_averaged(stage2_run)
    assert list(network.state_dict()) == list(averaged)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value.float(), averaged[name], atol=1e-3, rtol=1e-3)


def test_stage_2_keeps_the_codebook(stage1_run: Path, stage2_run: Path) -> None:
    name = next(n for n in load_averaged(stage1_run) if n.endswith("embedding.weight"))
    assert torch.equal(load_averaged(stage1_run)[name], load_averaged(stage2_run)[name])


def test_an_untrained_stage_2_returns_its_input() -> None:
    training = build(smoke_stage2(), CPU, build(smoke_stage1(), CPU).network.state_dict())
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(training.network(image).main, image)


def test_k_means_fills_the_codebook_with_centres_of_the_latents() -> None:
    training = build(smoke_stage1(), CPU)
    assert isinstance(training, CodebookTraining)
    with pytest.raises(ValueError, match="too few"):
        reestimate_codebook(training, 5)
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(16, 16, generator=generator)
    noise = 0.01 * torch.randn(64, 16, 16, generator=generator)
    latents = (centres + noise).flatten(0, 1)
    training.reservoir[: len(latents)] = latents[torch.randperm(len(latents), generator=generator)]
    distance = reestimate_codebook(training, 10)
    codebook = training.network.quantizer.codebook.detach()
    nearest = torch.cdist(latents, codebook).min(dim=1).values
    assert distance == pytest.approx(nearest.square().mean().item() / 16, rel=0.05)
    assert len(torch.cdist(latents, codebook).argmin(dim=1).unique()) == 16  # type: ignore[no-untyped-call]
    assert torch.equal(codebook, training.averaged.quantizer.codebook)


def test_learning_rate_warms_up_and_ends_at_nothing() -> None:
    recipe = replace(smoke_stage1(), steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(recipe, number) for number in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_psnr_by_hand() -> None:
    # An error of 0.2 in [-1, 1] is a tenth of the range: 20 dB.
    assert psnr(torch.zeros(2, 3, 4, 4) + 0.2, torch.zeros(2, 3, 4, 4)) == pytest.approx(
        20, abs=1e-4
    )


def test_the_flags_are_these() -> None:
    flags = {flag for action in make_parser()._actions for flag in action.option_strings}
    assert flags == {
        "-h",
        "--help",
        "--data",
        "--out",
        "--init",
        "--resume",
        "--threads",
        "--workers",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert isinstance(recipe.stage, Stage1) == name.endswith("stage1")
    assert isinstance(recipe, DetectorRecipe) == name.endswith("detector")


def test_mistakes_of_the_caller(drawn_faces: Path, stage1_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipe"):
        find_recipe("unheard_of")
    with pytest.raises(ValueError, match="--init"):
        run(smoke_stage2(), data=drawn_faces, out=tmp_path / "a")
    with pytest.raises(ValueError, match="no checkpoint"):
        run(smoke_stage2(), data=drawn_faces, out=tmp_path / "a", init=tmp_path)
    with pytest.raises(ValueError, match="holds a run already"):
        run(smoke_stage1(), data=drawn_faces, out=stage1_run)
    with pytest.raises(ValueError, match="another configuration"):
        run(replace(smoke_stage1(), batch=1), data=drawn_faces, out=stage1_run, resume=True)
    with pytest.raises(ValueError, match="to resume from"):
        run(smoke_stage1(), data=drawn_faces, out=tmp_path / "b", resume=True)
    with pytest.raises(ValueError, match="steps"):
        replace(smoke_stage1(), steps=0)
    with pytest.raises(ValueError, match="warmup_steps"):
        replace(smoke_stage1(), warmup_steps=30)
    with pytest.raises(ValueError, match="ema"):
        replace(smoke_stage1(), ema=1.0)
    with pytest.raises(ValueError, match="learning_rate"):
        replace(smoke_stage1(), learning_rate=0.0)
    with pytest.raises(ValueError, match="codebook must be estimated"):
        Stage1(unquantised_steps=5, reestimate_at=(), reservoir=10)


def test_the_command_reports_a_mistake_with_code_2(drawn_faces: Path, tmp_path: Path) -> None:
    arguments = ["smoke_stage2", "--data", str(drawn_faces), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--threads", "1"]) == 2
    assert not (tmp_path / "run").exists()


def test_training_imports_without_the_media_libraries() -> None:
    """GPU machines have torch and OpenCV, but no PyAV, facexlib or OpenVINO."""
    code = (
        "import sys\n"
        "for name in ('av', 'facexlib', 'openvino'): sys.modules[name] = None\n"
        "import training.__main__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
