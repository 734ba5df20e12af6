"""Whole runs of the smoke recipes: they learn, they repeat, they resume exactly, they export."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.logs import losses
from training.__main__ import main, make_parser
from training.configs import DetectorRecipe, Recipe, Series, Stage1, Stage2
from training.discriminators import Critic
from training.loop import load_averaged, run
from training.paper_recipes import simvqfr, vqgan_v1
from training.recipes import RECIPES, find_recipe, smoke, smoke_stage1, smoke_stage2
from training.reservoir import reestimate_codebook, remember
from training.series import run_series
from training.stages import Beginning, build
from training.step import learning_rate
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
    ("stage", "name"),
    [
        ("stage1_run", "pixel"),
        ("stage2_run", "code"),
        ("stage2_run", "texture_content"),
    ],
)
def test_the_loss_falls(stage: str, name: str, request: pytest.FixtureRequest) -> None:
    # The totals have steps up where codebook and critics come in; these have not.
    values = [line[name] for line in losses(request.getfixturevalue(stage)) if name in line]
    assert np.mean(values[-10:]) < 0.9 * np.mean(values[:10])


def test_a_run_folder_says_how_it_came_about(stage1_run: Path) -> None:
    names = {path.name for path in stage1_run.iterdir()}
    assert names == {
        "run.json",
        "log.jsonl",
        "board",
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
    training = build(
        smoke_stage2(), CPU, Beginning(stage1=build(smoke_stage1(), CPU).network.state_dict())
    )
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(training.network(image).main, image)


def test_k_means_fills_the_codebook_with_centres_of_the_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(16, 16, generator=generator)
    noise = 0.01 * torch.randn(64, 16, 16, generator=generator)
    latents = (centres + noise).flatten(0, 1)
    reservoir = torch.full((2048, 16), torch.nan)
    with pytest.raises(ValueError, match="too few"):
        reestimate_codebook(reservoir, size=16, seed=0)
    reservoir[: len(latents)] = latents[torch.randperm(len(latents), generator=generator)]
    codebook, distance = reestimate_codebook(reservoir, size=16, seed=10)
    nearest = torch.cdist(latents, codebook).min(dim=1).values
    assert distance == pytest.approx(nearest.square().mean().item() / 16, rel=0.05)
    assert len(torch.cdist(latents, codebook).argmin(dim=1).unique()) == 16  # type: ignore[no-untyped-call]


def test_the_reservoir_keeps_the_latest() -> None:
    reservoir = torch.full((5, 2), torch.nan)
    first = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)  # (N, C, h, w): two places
    reservoir = remember(reservoir, first)
    assert reservoir[:2].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert reservoir[2:].isnan().all()
    reservoir = remember(reservoir, first + 10)
    reservoir = remember(reservoir, first + 20)
    assert reservoir[:, 0].tolist() == [21.0, 22.0, 11.0, 12.0, 1.0]


def test_learning_rate_warms_up_and_ends_at_nothing() -> None:
    recipe = replace(smoke_stage1(), steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(recipe, number) for number in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_learning_rate_halves_where_the_paper_does() -> None:
    recipe = vqgan_v1()
    steps = (0, 499_999, 500_000, 649_999, 650_000, 799_999)
    rates = [learning_rate(recipe, number) for number in steps]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5])


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
        "--start-from",
        "--vgg",
        "--resume",
        "--threads",
        "--workers",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    if isinstance(recipe, Recipe):
        assert isinstance(recipe.stage, Stage1) == ("stage1" in name or "vqgan" in name)
    else:
        assert isinstance(recipe, Series | DetectorRecipe)


def test_the_paper_s_numbers() -> None:
    """The published schedules; a change of a default must not change them unseen."""
    recipe = find_recipe("vqgan_v1")
    assert isinstance(recipe, Recipe)
    assert isinstance(recipe.stage, Stage1)
    assert (recipe.steps, recipe.batch, recipe.learning_rate) == (800_000, 16, 1e-4)
    assert (recipe.betas, recipe.halve_at) == ((0.9, 0.96), (500_000, 650_000))
    assert recipe.stage.unquantised_steps == 10_000
    assert recipe.stage.reestimate_at[0] == 10_000
    assert recipe.stage.reestimate_at[-1] == 28_000
    assert (recipe.stage.reservoir, recipe.stage.commitment) == (16_384, 0.25)
    assert [critic.start for critic in recipe.stage.critics] == [50_000]
    recipe = find_recipe("vqfr_v1")
    assert isinstance(recipe, Recipe)
    assert isinstance(recipe.stage, Stage2)
    assert (recipe.steps, recipe.batch, recipe.learning_rate) == (200_000, 16, 1e-5)
    assert (recipe.betas, recipe.halve_at) == ((0.5, 0.9), ())
    assert (recipe.stage.texture, recipe.stage.main, recipe.stage.gradient) == (1.0, 0.0, 0.0)
    judged = {
        critic.name: (critic.weight, critic.adaptive, critic.start, critic.r1, critic.r1_every)
        for critic in recipe.stage.critics
    }
    assert judged == {
        "texture_wavelet": (0.5, False, 0, 10.0, 16),
        "texture_patch": (0.5, True, 0, 10.0, 16),
        "main_wavelet": (0.5, False, 5_000, 10.0, 16),
        "main_patch": (0.5, True, 5_000, 10.0, 16),
    }
    assert find_recipe("no_warp").network.offset_channels == (0,) * 6  # type: ignore[union-attr]
    for patch in (8, 16, 64):
        for name in (f"vqgan_f{patch}", f"simvqfr_f{patch}"):
            variant = find_recipe(name)
            assert isinstance(variant, Recipe)
            assert variant.network.downsampling == patch
            assert variant.network.channels[-1] == 512
    with pytest.raises(ValueError, match="patch"):
        simvqfr(patch=12)


def test_a_series_hands_the_first_run_to_the_second(drawn_faces: Path, tmp_path: Path) -> None:
    short = replace(smoke(), recipes=tuple(replace(r, steps=12) for r in smoke().recipes))
    run_series(short, data=drawn_faces, out=tmp_path, vgg=None, resume=False, workers=1)
    second = tmp_path / "smoke_stage2"
    recorded = json.loads((second / "run.json").read_text())
    assert recorded["init"] == str(tmp_path / "smoke_stage1")
    assert (second / "network.safetensors").is_file()
    before = losses(second)
    # Cut off after the first stage: what is done stays, what has not begun begins.
    shutil.rmtree(second)
    run_series(short, data=drawn_faces, out=tmp_path, vgg=None, resume=True, workers=1)
    assert losses(second) == before


def test_a_series_cut_off_before_its_first_checkpoint_begins_anew(
    drawn_faces: Path, tmp_path: Path
) -> None:
    recipes = tuple(replace(recipe, steps=12) for recipe in smoke().recipes[:1])
    short = replace(smoke(), recipes=recipes)
    run_series(short, data=drawn_faces, out=tmp_path, vgg=None, resume=False, workers=1)
    first = tmp_path / "smoke_stage1"
    whole = losses(first)
    (first / "checkpoint.pt").unlink()
    log = first / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    run_series(short, data=drawn_faces, out=tmp_path, vgg=None, resume=True, workers=1)
    assert losses(first) == whole
    (first / "checkpoint.pt").unlink()
    other = replace(short, recipes=(replace(recipes[0], steps=13),))
    with pytest.raises(ValueError, match="another configuration"):
        run_series(other, data=drawn_faces, out=tmp_path, vgg=None, resume=True, workers=1)


def test_a_run_goes_on_from_another_s_weights(
    drawn_faces: Path, stage1_run: Path, stage2_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "more"
    one_step = replace(smoke_stage2(), learning_rate=1e-9, ema=0.0)
    run(one_step, data=drawn_faces, out=out, init=stage1_run, start_from=stage2_run, stop_after=1)
    assert json.loads((out / "run.json").read_text())["start_from"] == str(stage2_run)
    expected = load_averaged(stage2_run)
    for name, value in load_averaged(out).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


def test_an_exported_network_may_be_half_what_it_began_with(
    drawn_faces: Path, stage1_run: Path, stage2_run: Path, tmp_path: Path
) -> None:
    half = replace(smoke_stage2(), blend=0.5, steps=4)
    with pytest.raises(ValueError, match="--start-from"):
        run(half, data=drawn_faces, out=tmp_path / "a", init=stage1_run)
    out = tmp_path / "b"
    run(half, data=drawn_faces, out=out, init=stage1_run, start_from=stage2_run)
    began, ended = load_averaged(stage2_run), load_averaged(out)
    for name, value in load_network(out / "network.safetensors").state_dict().items():
        middle = (began[name] + ended[name]) / 2
        torch.testing.assert_close(value.float(), middle, atol=1e-3, rtol=1e-3)
    assert any(not torch.equal(began[name], ended[name]) for name in began)
    with pytest.raises(ValueError, match="blend"):
        replace(half, blend=0.0)


def test_the_critics_are_in_the_checkpoint(stage2_run: Path) -> None:
    state = torch.load(stage2_run / "checkpoint.pt", weights_only=True)
    assert {name.split(".")[1] for name in state["critics"]} == {"texture_patch", "main_patch"}
    assert len(state["critic_adam"]["state"]) > 0


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
    with pytest.raises(ValueError, match="no run to resume"):
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
    with pytest.raises(ValueError, match="no main branch"):
        Stage2(variant="simple")
    with pytest.raises(ValueError, match="no losses"):
        Stage2(texture=None, critics=(Critic(branch="texture", kind="patch"),))


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
