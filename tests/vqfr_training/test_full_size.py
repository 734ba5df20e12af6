"""One real step of the published recipes at 512 px on the CPU, with every loss they have."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from vqfr_training.configs import Recipe
from vqfr_training.paper_recipes import (
    no_warp,
    simvqfr,
    single_branch,
    vqfr_v1,
    vqfr_v2,
    vqgan_v1,
    vqgan_v2,
)
from vqfr_training.recipes import smoke_stage1
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.adversarial import adaptive_weight
from vqfr_training.vqfr.networks import last_layers, restore
from vqfr_training.vqfr.stages import InitialWeights, build
from vqfr_training.vqfr.vq_stage import VqStage


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-16 with random weights: what it costs and where it is wired in, not what it sees."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    features = torchvision.models.vgg16(weights=None).features
    torch.save(features.state_dict(prefix="features."), path)
    return path


def stage_of(recipe: Recipe[Any], data: Path, vgg: Path) -> VqStage:
    """`recipe` on random stage-1 weights."""
    first = replace(recipe, stage=replace(smoke_stage1().stage, discriminators=()))
    weights = build(first, torch.device("cpu")).network.state_dict()
    return VqStage(
        recipe,
        data=data,
        device=torch.device("cpu"),
        initial_weights=InitialWeights(stage1=weights, vgg=vgg),
    )


def check_one_step(recipe: Recipe[Any], number: int, data: Path, vgg: Path) -> set[str]:
    """Do step `number`: what learns moves, what does not stays. Returns the losses' names."""
    stage = stage_of(recipe, data, vgg)
    assert stage.discriminators is not None
    before = {name: value.clone() for name, value in stage.network.state_dict().items()}
    discriminators = {
        name: value.detach().clone() for name, value in stage.discriminators.named_parameters()
    }
    stream = stage.batches(first_step=number, workers=1)
    losses = train_step(stage, make_optimisers(stage), next(stream), number)
    stream.close()
    assert all(math.isfinite(value.item()) for value in losses.values())
    learn = {id(p) for group in stage.parameter_groups() for p in group.parameters}
    learning = {name for name, p in stage.network.named_parameters() if id(p) in learn}
    moved = {n for n, v in stage.network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved <= learning
    # Not all of them: in a block whose last convolution is still zero, the first gets no gradient,
    # and what only steers the warps, or joins by weights that are still zero, gets none at first.
    still = {"inpfeat_extraction"}
    if getattr(stage.recipe.stage, "variant", "") == "single":
        still |= {"input_pyramid"}
    parts = {name.split(".")[0] for name in learning} - still
    assert {name.split(".")[0] for name in moved} >= parts
    # Parameters only: a batch norm's statistics change by being looked through.
    now = dict(stage.discriminators.named_parameters())
    for discriminator in stage.recipe.stage.discriminators:
        changed = (
            n
            for n in now
            if f".{discriminator.name}." in n and not torch.equal(now[n], discriminators[n])
        )
        assert any(changed) == (number >= discriminator.learn_from), discriminator.name
    return set(losses)


def small(recipe: Recipe[Any]) -> Recipe[Any]:
    """The same with a network and discriminators for 64 px."""
    network = recipe.network
    levels = len(network.channels)
    narrow = {"channels": (8,) * levels, "encoder_blocks": (1,) * levels}
    narrow |= {"texture_blocks": (1,) * levels}
    if hasattr(network, "offset_channels"):
        narrow["offset_channels"] = tuple(8 if wide else 0 for wide in network.offset_channels)
    tiny = replace(
        network,
        image_size=64,
        codebook_size=16,
        code_channels=8,
        norm_groups=4,
        offset_groups=2,
        input_channels=4,
        **narrow,
    )
    discriminators = tuple(
        replace(discriminator, width=1, most=8) for discriminator in recipe.stage.discriminators
    )
    stage = replace(recipe.stage, discriminators=discriminators)
    return replace(recipe, network=tiny, stage=stage, batch=2)


COMPARED = {"pixel", "gradient", "content"}
JUDGED = {"texture_wavelet", "texture_wavelet_discriminator", "texture_wavelet_r1"}
LOCAL = {"texture_patch", "texture_patch_weight", "texture_patch_discriminator"}
ALIKE = {f"texture_{name}" for name in (*COMPARED, "style")}
TEXTURE = ALIKE | JUDGED | LOCAL
STAGE_2 = {"total", "norm", "code"}


def main_of(names: set[str]) -> set[str]:
    return {name.replace("texture", "main") for name in names}


@pytest.mark.parametrize(
    ("make", "number", "names"),
    [
        (vqgan_v1, 60_000, {"total", "norm", "code"} | COMPARED | JUDGED),
        (vqfr_v1, 8_000, STAGE_2 | TEXTURE | main_of(TEXTURE)),
        (
            vqfr_v1,
            1_600,
            STAGE_2 | TEXTURE | main_of({f"texture_{n}" for n in COMPARED | {"style"}}),
        ),
        (
            vqgan_v2,
            60_000,
            {"total", "norm", "code"}
            | COMPARED
            | {name.replace("wavelet", "stylegan2") for name in JUDGED},
        ),
        (
            vqfr_v2,
            8_000,
            STAGE_2
            | {"cross_entropy"}
            | main_of({f"texture_{name}" for name in COMPARED} | LOCAL)
            | {name.replace("wavelet", "stylegan2") for name in main_of(JUDGED)},
        ),
        (simvqfr, 8_000, STAGE_2 | TEXTURE),
        (single_branch, 8_000, STAGE_2 | TEXTURE),
        (no_warp, 8_000, STAGE_2 | TEXTURE | main_of(TEXTURE)),
    ],
)
def test_each_recipe_has_its_losses(
    make: Callable[[], Recipe[Any]], number: int, names: set[str], drawn_faces: Path, vgg: Path
) -> None:
    assert check_one_step(small(make()), number, drawn_faces, vgg) == names


def test_v2_trains_its_parts_at_their_own_pace(drawn_faces: Path, vgg: Path) -> None:
    stage = stage_of(small(vqfr_v2()), drawn_faces, vgg)
    encoder, main = stage.parameter_groups()
    assert (encoder.rate, encoder.betas) == (1.0, (0.9, 0.96))
    assert (main.rate, main.betas) == (0.2, (0.5, 0.9))
    ours = {id(p): name for name, p in stage.network.named_parameters()}
    parts = [{ours[id(p)].split(".")[0] for p in group.parameters} for group in (encoder, main)]
    assert parts == [{"encoder", "feat2index"}, {"main_branch", "inpfeat_extraction"}]


def test_v2_weighs_its_local_discriminator_by_the_features_at_the_shared_last_layer(
    drawn_faces: Path, vgg: Path
) -> None:
    stage = stage_of(small(vqfr_v2()), drawn_faces, vgg)
    stream = stage.batches(first_step=8_000, workers=1)
    batch = next(stream)
    stream.close()
    losses = stage.step(batch, 8_000)
    layer = last_layers(stage.network)["main"]
    assert layer is stage.network.decoder.conv_out[-1].weight
    weight, wanted = losses["main_patch_weight"], losses["main_content"]
    recipe = next(c for c in stage.recipe.stage.discriminators if c.kind == "patch")
    given = losses["main_patch"] / (weight * recipe.weight)
    ratio = adaptive_weight(wanted, given, layer)
    assert weight.item() == pytest.approx(ratio.item(), rel=1e-3)
    with pytest.raises(ValueError, match="without a perceptual term"):
        replace(stage.recipe.stage, perceptual=None)


def test_a_single_branch_begins_as_the_codes_alone(drawn_faces: Path, vgg: Path) -> None:
    single, simple = (
        stage_of(small(make()), drawn_faces, vgg).network for make in (single_branch, simvqfr)
    )
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = restore(simple, image).texture
        torch.testing.assert_close(restore(single, image).texture, expected)
    assert expected.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("make", "number"), [(vqgan_v1, 60_000), (vqfr_v1, 8_000)])
def test_one_real_step_at_512_px(
    make: Callable[[], Recipe[Any]], number: int, drawn_faces: Path, vgg: Path
) -> None:
    names = check_one_step(replace(make(), batch=1), number, drawn_faces, vgg)
    assert {"total", "texture_wavelet_r1"} <= names
