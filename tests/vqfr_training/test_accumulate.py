"""A batch in parts, one after the other: the step is that of the whole batch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from vqfr_training.__main__ import main
from vqfr_training.configs import Recipe, RecipeSeries, Stage1
from vqfr_training.loop import run
from vqfr_training.recipes import in_parts, smoke, smoke_detector, smoke_stage1, smoke_stage2
from vqfr_training.stage import equal_parts
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.discriminators import DiscriminatorConfig
from vqfr_training.vqfr.stages import CodebookTraining, InitialWeights, build
from vqfr_training.vqfr.vq_stage import VqStage

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def trained(
    recipe: Recipe[Any], data: Path, initial: InitialWeights
) -> tuple[VqStage, list[dict[str, float]]]:
    """A stage after three steps, and their losses; nothing in it looks at more than one face."""
    stage = VqStage(recipe, data=data, device=CPU, initial_weights=initial)
    for module in list(stage.discriminators.modules() if stage.discriminators else ()):
        # Spectral normalisation takes a step of its own at every look.
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    optimisers = make_optimisers(stage)
    stream = stage.batches(first_step=0, workers=1)
    found = []
    for number in range(3):
        losses = train_step(stage, optimisers, next(stream), number)
        found.append({name: float(value) for name, value in losses.items()})
    stream.close()
    return stage, found


def stage2() -> Recipe[Any]:
    local = DiscriminatorConfig(branch="main", kind="patch", width=8, layers=1, norm="spectral")
    recipe = smoke_stage2()
    changed = replace(recipe.stage, discriminators=(local,))
    return replace(recipe, stage=changed, batch=4, validation_faces=1, steps=30)


def apart(one: nn.Module, other: nn.Module, start: dict[str, Tensor]) -> float:
    """How far two networks lie from each other, as a share of how far they have come.

    Adam's steps are as large as its rate even where a gradient is next to nothing, so single
    weights say little.
    """
    ours, theirs, before = (
        torch.cat([state[name].flatten().double() for name in start])
        for state in (one.state_dict(), other.state_dict(), start)
    )
    return float((ours - theirs).norm() / (theirs - before).norm())


def test_stage_2_learns_what_the_whole_batch_teaches(drawn_faces: Path) -> None:
    first = build(replace(smoke_stage1(), batch=1), CPU).network.state_dict()
    given = InitialWeights(stage1=first)
    whole, expected = trained(stage2(), drawn_faces, given)
    parts, found = trained(replace(stage2(), accumulate=4), drawn_faces, given)
    assert {"norm", "main_patch", "main_patch_discriminator"} <= found[0].keys()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    before = VqStage(stage2(), data=drawn_faces, device=CPU, initial_weights=given)
    start = before.network.state_dict()
    assert apart(parts.network, whole.network, start) < 0.02
    assert apart(parts.averaged, whole.averaged, start) < 0.02
    assert parts.discriminators is not None
    assert whole.discriminators is not None
    for weight, wanted in zip(
        parts.discriminators.parameters(), whole.discriminators.parameters(), strict=True
    ):
        torch.testing.assert_close(weight, wanted, atol=2e-4, rtol=1e-3)


def test_the_gradient_of_the_first_step_is_that_of_the_whole_batch(drawn_faces: Path) -> None:
    first = build(replace(smoke_stage1(), batch=1), CPU).network.state_dict()
    gradients: list[list[Tensor]] = []
    for accumulate in (1, 2):
        alone = replace(stage2().stage, discriminators=())
        recipe = replace(stage2(), stage=alone, accumulate=accumulate, clip_norm=None)
        stage = VqStage(
            recipe, data=drawn_faces, device=CPU, initial_weights=InitialWeights(stage1=first)
        )
        stream = stage.batches(first_step=0, workers=1)
        train_step(stage, make_optimisers(stage), next(stream), 0)
        stream.close()
        learning = (p for group in stage.parameter_groups() for p in group.parameters)
        gradients.append([p.grad.clone() for p in learning if p.grad is not None])
    largest = max(float(value.abs().max()) for value in gradients[0])
    torch.testing.assert_close(*gradients, atol=1e-6 * largest, rtol=1e-4)


def test_stage_1_draws_the_same_latents(drawn_faces: Path) -> None:
    recipe = smoke_stage1()
    # Fewer places than a step has latents: chance decides which stay.
    assert isinstance(recipe.stage, Stage1)
    few = replace(recipe.stage, discriminators=(), reservoir=300)
    reservoirs = []
    for accumulate in (1, 2):
        changed = replace(
            recipe,
            stage=few,
            batch=4,
            accumulate=accumulate,
            validation_faces=1,
            learning_rate=1e-9,
        )
        stage, _ = trained(changed, drawn_faces, InitialWeights())
        assert isinstance(stage._training, CodebookTraining)
        reservoirs.append(stage._training.reservoir.vectors())
    assert len(reservoirs[0]) == 300
    torch.testing.assert_close(*reservoirs, atol=1e-4, rtol=1e-4)


def test_parts_are_equal_or_refused() -> None:
    batch = torch.arange(6), torch.arange(6) + 10
    assert [first.tolist() for first, _ in equal_parts(batch, 3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="a rank's 6 faces cannot be accumulated in 4 equal parts"):
        equal_parts(batch, 4)
    for accumulate in (0, 3):
        with pytest.raises(ValueError, match=f"a batch of 2 cannot be .* in {accumulate} equal"):
            in_parts(smoke_stage1(), accumulate)
    with pytest.raises(ValueError, match="smoke_detector: --accumulate is for VQFR's recipes"):
        in_parts(smoke_detector(), 2)
    series = in_parts(smoke(), 2)
    assert isinstance(series, RecipeSeries)
    assert [recipe.accumulate for recipe in series.recipes] == [2, 2]


def test_a_run_goes_on_in_as_many_parts_as_it_began(
    drawn_faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    recipe = replace(smoke_stage1(), accumulate=2)
    run(recipe, data=drawn_faces, out=out, stop_after=2)
    record = json.loads((out / "run.json").read_text())
    assert record["recipe"]["accumulate"] == 2
    with pytest.raises(ValueError, match="another configuration of smoke_stage1"):
        run(smoke_stage1(), data=drawn_faces, out=out, resume=True, stop_after=3)
    run(recipe, data=drawn_faces, out=out, resume=True, stop_after=3)
    # A run of before the field: its batches were whole.
    del record["recipe"]["accumulate"]
    (out / "run.json").write_text(json.dumps(record))
    run(smoke_stage1(), data=drawn_faces, out=out, resume=True, stop_after=4)
    given = ["smoke_stage1", "--data", str(drawn_faces), "--out", str(tmp_path / "other")]
    assert main([*given, "--accumulate", "3"]) == 2
    assert "a batch of 2 cannot be accumulated in 3 equal parts" in caplog.text
