"""Whole runs of the smoke recipes: they learn, they repeat, they resume exactly, they export."""

import io
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from vqfr_training.__main__ import main
from vqfr_training.configs import DetectorRecipe, GainRecipe, Recipe, RecipeSeries, Stage1, Stage2
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.degradation import Degradation
from vqfr_training.loop import load_averaged, run, run_series
from vqfr_training.paper_recipes import simvqfr, vqgan_v1
from vqfr_training.recipes import RECIPES, find_recipe, smoke, smoke_stage1, smoke_stage2
from vqfr_training.step import learning_rate
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.perceptual import PerceptualConfig
from vqfr_training.vqfr.stages import InitialWeights, build
from vqfr_training.vqfr.vq_stage import psnr

from tests.vqfr_training.logs import losses
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
    # The totals have steps up where codebook and discriminators come in; these have not.
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


def test_a_killed_run_has_the_log_of_the_uninterrupted_one(
    drawn_faces: Path, stage1_run: Path, tmp_path: Path
) -> None:
    """What came after the last checkpoint, a k-means step at its very step too, is not kept."""
    recipe, out, kept = smoke_stage1(), tmp_path / "run", tmp_path / "kept.pt"
    assert 20 in cast(Stage1, recipe.stage).reestimate_at
    run(recipe, data=drawn_faces, out=out, stop_after=20)
    shutil.copy(out / "checkpoint.pt", kept)
    run(recipe, data=drawn_faces, out=out, resume=True, stop_after=23)
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 24, "tot')  # cut off in the middle of a line
    shutil.copy(kept, out / "checkpoint.pt")
    (out / ".checkpoint.part-0123abcd.pt").touch()  # killed while it wrote
    run(recipe, data=drawn_faces, out=out, resume=True)
    assert losses(out) == losses(stage1_run)
    assert not list(out.glob("*.partial"))
    assert not list(out.glob(".*"))


def test_a_run_is_resumed_from_what_it_began_with(
    drawn_faces: Path, stage1_run: Path, tmp_path: Path
) -> None:
    def go_on(init: Path, **more: Any) -> None:
        run(smoke_stage2(), data=drawn_faces, out=out, init=init, resume=True, stop_after=3, **more)

    out, moved, other = tmp_path / "run", tmp_path / "moved", tmp_path / "other.pt"
    run(smoke_stage2(), data=drawn_faces, out=out, init=stage1_run, stop_after=2)
    recorded = json.loads((out / "run.json").read_text())
    assert len(recorded["init_sha256"]) == 16
    assert (recorded["start_from_sha256"], recorded["pictures"]) == (None, 6)
    shutil.copytree(stage1_run, moved)
    go_on(moved)
    averaged = load_averaged(stage1_run)
    name = next(name for name in averaged if name.endswith("embedding.weight"))
    torch.save({"averaged": averaged | {name: averaged[name] + 1e-6}}, other)
    with pytest.raises(ValueError, match=r"started with another --init: weights \w+, now \w+;"):
        go_on(other)
    with pytest.raises(ValueError, match="started with another --start-from: weights None"):
        go_on(moved, start_from=out)
    (tmp_path / "fewer/train").mkdir(parents=True)
    (tmp_path / "fewer/val").symlink_to(drawn_faces / "val")
    shutil.copy(drawn_faces / "train/0.png", tmp_path / "fewer/train")
    with pytest.raises(ValueError, match="--data: number of training pictures 6, now 1"):
        run(smoke_stage2(), data=tmp_path / "fewer", out=out, init=moved, resume=True)
    for name in ("init_sha256", "start_from_sha256", "pictures"):
        del recorded[name]
    (out / "run.json").write_text(json.dumps(recorded))  # as older versions wrote it
    go_on(other)


def test_stage_2_begins_from_the_authors_codebook_as_from_a_run(
    drawn_faces: Path, stage1_run: Path, tmp_path: Path
) -> None:
    weights = load_averaged(stage1_run)
    published = tmp_path / "VQ_Codebook.pth"
    torch.save(
        {"params_ema": {f"module.{name}": value for name, value in weights.items()}}, published
    )
    for init in (stage1_run, published):
        run(smoke_stage2(), data=drawn_faces, out=tmp_path / init.stem, init=init, stop_after=2)
    assert losses(tmp_path / published.stem) == losses(tmp_path / stage1_run.stem)


@pytest.mark.parametrize("stage", ["stage1_run", "stage2_run"])
def test_bfloat16_is_near_float32(
    stage: str, drawn_faces: Path, stage1_run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    exact = losses(request.getfixturevalue(stage))[:8]
    recipe = smoke_stage1() if stage == "stage1_run" else smoke_stage2()
    init = None if stage == "stage1_run" else stage1_run
    short = replace(recipe, precision="bfloat16")
    run(short, data=drawn_faces, out=tmp_path / "run", init=init, stop_after=8)
    near = losses(tmp_path / "run")[:8]
    assert near != exact
    for mine, whole in zip(near, exact, strict=True):
        assert mine.keys() == whole.keys()
        assert mine["total"] == pytest.approx(whole["total"], rel=0.05), mine["step"]


def test_a_machine_without_git_trains(
    drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "run", stop_after=1)
    assert json.loads((tmp_path / "run/run.json").read_text())["commit"] is None


def test_the_exported_network_is_the_averaged_one(
    drawn_faces: Path, stage1_run: Path, tmp_path: Path
) -> None:
    # Ended at the full learning rate: the averaged weights are well behind the latest.
    recipe = replace(smoke_stage2(), steps=6, halve_at=())
    run(recipe, data=drawn_faces, out=tmp_path / "run", init=stage1_run)
    network = load_network(tmp_path / "run/network.safetensors")
    assert isinstance(network, VqfrV1)
    assert network.config == recipe.network
    averaged = load_averaged(tmp_path / "run")
    latest = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["network"]
    assert list(network.state_dict()) == list(averaged)
    apart = 0
    for name, value in network.state_dict().items():
        assert torch.equal(value, averaged[name].half().float()), name
        apart += not torch.equal(value, latest[name].half().float())
    assert apart > len(averaged) // 2


def test_stage_2_keeps_the_codebook(stage1_run: Path, stage2_run: Path) -> None:
    name = next(n for n in load_averaged(stage1_run) if n.endswith("embedding.weight"))
    assert torch.equal(load_averaged(stage1_run)[name], load_averaged(stage2_run)[name])


def test_an_untrained_stage_2_returns_its_input() -> None:
    training = build(
        smoke_stage2(), CPU, InitialWeights(stage1=build(smoke_stage1(), CPU).network.state_dict())
    )
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(training.network(image).main, image)


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


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    if isinstance(recipe, Recipe):
        assert isinstance(recipe.stage, Stage1) == ("stage1" in name or "vqgan" in name)
    else:
        assert isinstance(recipe, RecipeSeries | DetectorRecipe | GainRecipe)


def published(name: str) -> Recipe[Any]:
    recipe = find_recipe(name)
    assert isinstance(recipe, Recipe)
    return recipe


def adversarial(
    recipe: Recipe[Any],
) -> dict[str, tuple[float, bool, int, int, float, int, float, str]]:
    """By discriminator: weight, adaptive, first step of learning and of being heard, R1, pace,
    norm."""
    return {
        discriminator.name: (
            discriminator.weight,
            discriminator.adaptive,
            discriminator.learn_from,
            discriminator.start,
            discriminator.r1,
            discriminator.r1_every,
            discriminator.rate,
            discriminator.norm,
        )
        for discriminator in recipe.stage.discriminators
    }


def test_the_paper_s_numbers() -> None:
    """The published schedules; a change of a default must not change them unseen."""
    recipe = published("vqgan_v1")
    stage = recipe.stage
    assert isinstance(stage, Stage1)
    assert (recipe.steps, recipe.batch, recipe.learning_rate) == (800_000, 16, 1e-4)
    assert (recipe.betas, recipe.halve_at) == ((0.9, 0.96), (500_000, 650_000))
    assert (recipe.discriminator_learning_rate, recipe.discriminator_betas) == (1e-4, (0.9, 0.96))
    assert stage.unquantised_steps == 10_000
    assert stage.reestimate_at == tuple(range(2_000, 30_000, 2_000))
    assert (stage.reservoir, stage.commitment) == (16_384, 0.25)
    assert adversarial(recipe) == {
        "texture_wavelet": (1.0, False, 50_000, 50_000, 10.0, 16, 1.0, "published")
    }
    recipe = published("vqfr_v1")
    stage = recipe.stage
    assert isinstance(stage, Stage2)
    assert (recipe.steps, recipe.batch, recipe.learning_rate) == (200_000, 16, 1e-5)
    assert (recipe.betas, recipe.halve_at) == ((0.5, 0.9), ())
    assert (recipe.discriminator_learning_rate, recipe.discriminator_betas) == (1e-5, (0.5, 0.9))
    assert (stage.code, stage.cross_entropy) == (1.0, 0.0)
    assert (stage.texture, stage.main, stage.main_rate) == (1.0, 0.0, 1.0)
    assert not stage.freeze_texture
    assert stage.perceptual == PerceptualConfig(network="vgg16", content=1.0, style=2000.0)
    assert adversarial(recipe) == {
        "texture_wavelet": (0.5, False, 0, 0, 10.0, 16, 1.0, "published"),
        "texture_patch": (0.5, True, 0, 0, 10.0, 16, 1.0, "published"),
        "main_wavelet": (0.5, False, 5_000, 5_000, 10.0, 16, 1.0, "published"),
        "main_patch": (0.5, True, 5_000, 5_000, 10.0, 16, 1.0, "published"),
    }
    assert [
        discriminator.layers
        for discriminator in stage.discriminators
        if discriminator.kind == "patch"
    ] == [3, 3]
    for name in ("simvqfr", "single_branch", "no_warp"):
        other = published(name)
        kept = (
            {"texture_wavelet", "texture_patch"}
            if name != "no_warp"
            else adversarial(recipe).keys()
        )
        assert adversarial(other) == {
            discriminator: adversarial(recipe)[discriminator] for discriminator in kept
        }
        rest = replace(other, name=recipe.name, network=recipe.network, stage=stage)
        assert rest == recipe
    assert published("no_warp").network.offset_channels == (0,) * 6
    for patch in (8, 16, 64):
        for name in (f"vqgan_f{patch}", f"simvqfr_f{patch}"):
            variant = published(name)
            assert variant.network.downsampling == patch
            assert variant.network.channels[-1] == 512
    with pytest.raises(ValueError, match="patch"):
        simvqfr(patch=12)


def test_the_numbers_of_v2() -> None:
    """Likewise, of the authors' later configurations."""
    recipe = published("vqgan_v2")
    stage = recipe.stage
    assert isinstance(stage, Stage1)
    assert (recipe.steps, recipe.batch, recipe.learning_rate) == (800_000, 16, 1e-4)
    assert (recipe.betas, recipe.halve_at) == ((0.9, 0.96), (500_000, 650_000))
    assert (recipe.discriminator_learning_rate, recipe.discriminator_betas) == (1e-4, (0.9, 0.96))
    assert (stage.unquantised_steps, stage.reestimate_at) == (0, ())
    assert stage.commitment == 0.25
    assert adversarial(recipe) == {
        "texture_stylegan2": (1.0, False, 50_000, 50_000, 10.0, 16, 1.0, "published")
    }
    recipe = published("vqfr_v2")
    stage = recipe.stage
    assert isinstance(stage, Stage2)
    assert (recipe.steps, recipe.batch, recipe.halve_at) == (200_000, 16, ())
    assert (recipe.learning_rate, recipe.betas) == (1e-4, (0.9, 0.96))
    assert (stage.main_rate, stage.main_betas) == (0.2, (0.5, 0.9))  # 2e-5
    assert (recipe.discriminator_learning_rate, recipe.discriminator_betas) == (2e-5, (0.5, 0.9))
    assert (stage.code, stage.cross_entropy) == (1.0, 1.0)
    assert (stage.texture, stage.main, stage.balance) == (None, 1.0, "perceptual")
    assert stage.freeze_texture
    assert adversarial(recipe) == {
        "main_stylegan2": (1.0, False, 5_000, 5_000, 10.0, 16, 1.0, "published"),
        "main_patch": (0.5, True, 5_000, 5_000, 10.0, 16, 1.0, "published"),
    }
    assert [
        discriminator.layers
        for discriminator in stage.discriminators
        if discriminator.kind == "patch"
    ] == [4]
    degraded = recipe.degradation
    assert (degraded.blur_sigma, degraded.reduction) == ((1.0, 15.0), (1.0, 30.0))
    assert (degraded.noise, degraded.jpeg_quality) == ((0.0, 20.0), (30, 90))
    assert (
        replace(
            degraded,
            blur_sigma=(0.2, 10.0),
            reduction=(1.0, 8.0),
            noise=(0.0, 15.0),
            jpeg_quality=(60, 100),
        )
        == published("vqfr_v1").degradation
    )


@pytest.mark.parametrize("name", ["vqgan_v1", "vqfr_v1", "vqgan_v2", "vqfr_v2"])
def test_what_the_published_recipes_share(name: str) -> None:
    recipe = published(name)
    assert recipe.augmentation == flips_only()
    assert recipe.network.image_size == 512
    assert (recipe.warmup_steps, recipe.clip_norm, recipe.ema) == (0, None, 0.999)
    assert (recipe.blend, recipe.precision) == (1.0, "float32")
    assert (recipe.stage.gradient, recipe.stage.face_peak) == (0.0, 1.0)
    if name != "vqfr_v1":
        assert recipe.stage.perceptual == PerceptualConfig(network="vgg16", content=1.0, style=0.0)
    if name != "vqfr_v2":
        degraded = recipe.degradation
        assert (degraded.blur_sigma, degraded.reduction) == ((0.2, 10.0), (1.0, 8.0))
        assert (degraded.noise, degraded.jpeg_quality) == ((0.0, 15.0), (60, 100))
        assert (degraded.anisotropic, degraded.kernel_size) == (0.5, 41)
        assert degraded == Degradation()  # and so none of the films' damage
    assert (Degradation().h264, Degradation().recompressed, Degradation().block_shift) == (0, 0, 0)


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


def test_a_series_in_calls_of_one_step_ends_the_same(drawn_faces: Path, tmp_path: Path) -> None:
    recipes = tuple(
        replace(recipe, steps=2, warmup_steps=0, log_every=1) for recipe in smoke().recipes
    )
    short = replace(smoke(), recipes=recipes)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_series(short, data=drawn_faces, out=whole, vgg=None, resume=False, workers=1)
    for call in range(4):  # the time is over at once: a step a call, in both stages
        run_series(
            short,
            data=[drawn_faces],
            out=parts,
            vgg=None,
            resume=call > 0,
            workers=1,
            deadline=time.monotonic(),
        )
    for recipe in recipes:
        totals = [
            [line["total"] for line in losses(folder / recipe.name) if "total" in line]
            for folder in (whole, parts)
        ]
        assert len(totals[0]) == 2
        assert totals[0] == totals[1]


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


def test_a_run_goes_on_from_an_exported_network_with_the_codes_of_its_stage_1(
    drawn_faces: Path, stage1_run: Path, stage2_run: Path, tmp_path: Path
) -> None:
    one_step = replace(smoke_stage2(), learning_rate=1e-9, ema=0.0)
    given = stage2_run / "network.safetensors"
    state = torch.load(stage1_run / "checkpoint.pt", weights_only=True)
    coded = dict(state["averaged"])
    codes = next(name for name in coded if name.endswith("embedding.weight"))
    learned = {name: value.float() for name, value in load_network(given).state_dict().items()}
    for name, other_codes in (("same", False), ("other", True)):
        state["averaged"] = {**coded, codes: coded[codes] + 0.5} if other_codes else coded
        first, out = tmp_path / f"{name}.pt", tmp_path / name
        torch.save(state, first)
        run(one_step, data=drawn_faces, out=out, init=first, start_from=given, stop_after=1)
        for key, value in load_averaged(out).items():
            from_stage1 = other_codes and key in coded
            expected = state["averaged"][key] if from_stage1 else learned[key]
            torch.testing.assert_close(value, expected, atol=1e-3, rtol=1e-3)
    moved = [n for n, v in learned.items() if n in coded and not torch.allclose(v, coded[n], 0.01)]
    assert moved, "stage 2 changes what stage 1 gave, so the two starts differ"


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


def test_the_discriminators_are_in_the_checkpoint(stage2_run: Path) -> None:
    state = torch.load(stage2_run / "checkpoint.pt", weights_only=True)
    assert {name.split(".")[1] for name in state["discriminators"]} == {
        "texture_patch",
        "main_patch",
    }
    assert len(state["discriminator_adam"]["state"]) > 0


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_mistakes_of_the_caller(
    drawn_faces: Path, stage1_run: Path, stage2_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no recipe"):
        find_recipe("unheard_of")
    with pytest.raises(ValueError, match="--init"):
        run(smoke_stage2(), data=drawn_faces, out=tmp_path / "a")
    with pytest.raises(ValueError, match="no checkpoint"):
        run(smoke_stage2(), data=drawn_faces, out=tmp_path / "a", init=tmp_path)
    for name, content, fault in (
        ("junk.pth", b"junk", "is no checkpoint of a run"),
        ("list.pth", _saved([1]), "it holds a list"),
        ("state.pth", _saved({"weight": torch.zeros(2)}), "does not fit Vqgan: .* missing"),
        ("stage2.pt", (stage2_run / "checkpoint.pt").read_bytes(), "than the Vqgan expected"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} .*{fault}"):
            run(smoke_stage2(), data=drawn_faces, out=tmp_path / "a", init=tmp_path / name)
    wider = replace(smoke_stage2(), network=replace(smoke_stage2().network, code_channels=8))
    with pytest.raises(
        ValueError, match=r"checkpoint.pt holds another network .* is \(16, 16\), not \(16, 8\)"
    ) as told:
        run(wider, data=drawn_faces, out=tmp_path / "a", init=stage1_run)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="than the VqfrV1 expected here"):
        run(
            smoke_stage2(),
            data=drawn_faces,
            out=tmp_path / "a",
            init=stage1_run,
            start_from=stage1_run,
        )
    assert not (tmp_path / "a").exists()
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
        Stage2(texture=None, discriminators=(DiscriminatorConfig(branch="texture", kind="patch"),))


def test_the_command_reports_a_mistake_with_code_2(drawn_faces: Path, tmp_path: Path) -> None:
    arguments = ["smoke_stage2", "--data", str(drawn_faces), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--threads", "1"]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("lacking", "arguments"),
    [
        ("sklearn", ["smoke_stage1", "--data", "{}", "--out", "{}/run"]),
        ("torchmetrics", ["evaluate", "--restored", "{0}", "--truth", "{0}", "--metrics", "psnr"]),
    ],
)
def test_without_the_extra_one_line_names_it(
    lacking: str, arguments: list[str], drawn_faces: Path
) -> None:
    given = [argument.format(drawn_faces / "val") for argument in arguments]
    code = (
        f"import sys\nsys.modules['{lacking}'] = None\n"
        f"from vqfr_training.__main__ import main\nsys.exit(main({given}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("pip install 'vqfr-media[train]'")
