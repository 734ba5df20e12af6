"""The adversarial losses against sums done by hand, and who listens to whom from when on."""

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from vqfr_training.configs import Recipe
from vqfr_training.paper_recipes import vqfr_v1, vqfr_v2
from vqfr_training.vqfr.adversarial import (
    Discriminators,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
    softplus_discriminator_loss,
    softplus_generator_loss,
)
from vqfr_training.vqfr.discriminators import DiscriminatorConfig


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_softplus_losses_by_hand() -> None:
    hq, drawn = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [3.0]])
    assert softplus_generator_loss(drawn).item() == pytest.approx((softplus(1) + softplus(-3)) / 2)
    by_hand = (softplus(-2) + softplus(0)) / 2 + (softplus(-1) + softplus(3)) / 2
    assert softplus_discriminator_loss(hq, drawn).item() == pytest.approx(by_hand)


def test_hinge_losses_by_hand() -> None:
    hq, drawn = torch.tensor([2.0, 0.25]), torch.tensor([-3.0, 0.5])
    assert hinge_generator_loss(drawn).item() == pytest.approx(-(-3 + 0.5) / 2)
    # A true score above 1 and a drawn one below -1 cost nothing any more.
    assert hinge_discriminator_loss(hq, drawn).item() == pytest.approx(0.5 * (0.75 / 2 + 1.5 / 2))


def test_r1_penalty_of_a_linear_discriminator_is_its_squared_weight() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    hq = torch.rand(4, 3, 2, 2, requires_grad=True)
    scores = (hq * weight[:, None, None]).sum(dim=(1, 2, 3))
    penalty = r1_penalty(scores, hq)
    assert penalty.item() == pytest.approx(4 * (1 + 4 + 0.25))
    torch.autograd.backward(penalty)
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([8.0, -16.0, 4.0])  # d/dw of 4 |w|²


def test_adaptive_weight_by_hand() -> None:
    layer = torch.tensor([3.0, 1.0], requires_grad=True)
    image = layer * 2
    wanted = (image * torch.tensor([3.0, 4.0])).sum()  # gradient (6, 8), norm 10
    given = (image * torch.tensor([0.0, 2.0])).sum()  # gradient (0, 4), norm 4
    ratio = adaptive_weight(wanted, given, layer)
    assert ratio.item() == pytest.approx(10 / (4 + 1e-4))
    assert not ratio.requires_grad
    torch.autograd.backward(wanted + ratio * given)  # both graphs are still there
    image = layer * 2
    assert adaptive_weight(image.sum() * 1e9, image.sum() * 0, layer).item() == 1e4


class MeanDiscriminator(nn.Module):
    """Scores an image by its mean times one learnt number."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, image: Tensor) -> Tensor:
        return self.weight * image.mean(dim=(1, 2, 3))


def made(*configs: DiscriminatorConfig, weight: float) -> Discriminators:
    """Discriminators whose networks are replaced by ones that can be calculated with."""
    made = Discriminators(configs, image_size=16)
    for config in configs:
        made.networks[config.name] = MeanDiscriminator(weight)
    return made


LOCAL = DiscriminatorConfig(
    branch="main", kind="patch", width=2, layers=1, weight=0.5, start=5, learn_from=3
)


def test_a_discriminator_learns_first_and_is_heard_later() -> None:
    discriminators = made(LOCAL, weight=2.0)
    drawn, hq = torch.full((2, 3, 16, 16), 0.25), torch.full((2, 3, 16, 16), 0.75)
    images = {"main": drawn}
    assert discriminators.losses(images, hq, 2) == {}
    losses = discriminators.losses(images, hq, 3)
    # Scores 1.5 and 0.5: the true one is past the hinge.
    assert losses["main_patch_discriminator"].item() == pytest.approx(0.5 * (0 + 1.5))
    assert losses["total"].item() == pytest.approx(0.75)
    assert discriminators.generator_terms(images, {}, {}, 4).terms == {}
    adversarial = discriminators.generator_terms(images, {}, {}, 5)
    assert adversarial.terms["main_patch"].item() == pytest.approx(0.5 * -0.5)
    assert adversarial.weights == {}


def test_the_generator_s_step_leaves_the_discriminators_without_gradients() -> None:
    discriminators = made(replace(LOCAL, start=3), weight=2.0)
    drawn = torch.full((2, 3, 16, 16), 0.25, requires_grad=True)
    terms = discriminators.generator_terms({"main": drawn}, {}, {}, 3).terms
    torch.autograd.backward(terms["main_patch"])
    assert drawn.grad is not None
    assert all(parameter.grad is None for parameter in discriminators.parameters())
    losses = discriminators.losses({"main": drawn.detach()}, drawn.detach() + 0.5, 3)
    torch.autograd.backward(losses["total"])
    (weight,) = discriminators.parameters()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(0.5 * 0.25)  # the true score 1.5 is past the hinge


def test_an_adaptive_discriminator_pulls_as_hard_as_the_reconstruction() -> None:
    discriminators = made(replace(LOCAL, adaptive=True, weight=0.8), weight=2.0)
    layer = torch.full((3, 1, 1), 0.5, requires_grad=True)
    drawn = layer * torch.ones(2, 3, 16, 16)
    rebuilt = (drawn - 1).square().mean()
    adversarial = discriminators.generator_terms(
        {"main": drawn}, {"main": rebuilt}, {"main": layer}, 9
    )
    (wanted,) = torch.autograd.grad(rebuilt, layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial.terms["main_patch"], layer)
    assert given.norm().item() == pytest.approx(0.8 * wanted.norm().item(), rel=1e-3)
    assert adversarial.log()["main_patch_weight"] == adversarial.weights["main_patch"]


def test_r1_comes_lazily_and_counts_as_many_times() -> None:
    config = DiscriminatorConfig(
        branch="texture", kind="wavelet", width=2, most=4, r1=10.0, r1_every=4
    )
    discriminators = made(config, weight=2.0)
    image = torch.zeros(2, 3, 16, 16)
    assert "texture_wavelet_r1" not in discriminators.losses({"texture": image}, image, 3)
    losses = discriminators.losses({"texture": image}, image, 4)
    # The gradient of 2 · mean is 2 / 768 at each of 768 values.
    assert losses["texture_wavelet_r1"].item() == pytest.approx(10 / 2 * 4 * 768 * (2 / 768) ** 2)
    assert losses["total"].item() == pytest.approx(
        sum(losses[name].item() for name in losses if name != "total")
    )


@pytest.mark.parametrize(("kind", "contrast"), [("patch", 8.0), ("wavelet", 8.0), ("patch", None)])
def test_discriminators_learn_to_tell_sharp_from_soft(
    kind: Literal["patch", "wavelet"], contrast: float | None
) -> None:
    torch.manual_seed(0)
    config = DiscriminatorConfig(
        branch="main",
        kind=kind,
        width=2,
        most=32,
        layers=1,
        norm="spectral" if kind == "patch" else "equalised",
        contrast=contrast,
        r1=0.1,
    )
    discriminators = Discriminators((config,), image_size=32)
    adam = torch.optim.Adam(discriminators.parameters(), lr=4e-3, betas=(0.5, 0.9))
    history = []
    for number in range(40):
        hq = torch.rand(4, 3, 32, 32) - 0.5
        soft = nn.functional.avg_pool2d(hq, 3, stride=1, padding=1)
        losses = discriminators.losses({"main": soft}, hq, number)
        history.append(losses[f"{config.name}_discriminator"].item())
        adam.zero_grad()
        torch.autograd.backward(losses["total"])
        adam.step()
    assert sum(history[-5:]) < 0.6 * sum(history[:5])


def learnt(config: DiscriminatorConfig, recipe: Recipe[Any]) -> float:
    """By how much a discriminator's loss falls in 60 steps on pictures that are easy to tell
    apart."""
    torch.manual_seed(0)
    discriminators = Discriminators((config,), image_size=32)
    adam = torch.optim.Adam(
        discriminators.parameters(),
        lr=recipe.discriminator_learning_rate,
        betas=recipe.discriminator_betas,
    )
    history = []
    for number in range(1, 61):
        hq = torch.rand(4, 3, 32, 32) * 2 - 1
        soft = nn.functional.avg_pool2d(hq, 3, stride=1, padding=1)
        losses = discriminators.losses({config.branch: soft}, hq, number)
        history.append(losses["total"].item())
        adam.zero_grad()
        torch.autograd.backward(losses["total"])
        adam.step()
    return sum(history[:5]) / 5 - sum(history[-5:]) / 5


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [vqfr_v1(), vqfr_v2()], ids=lambda recipe: recipe.name)
def test_the_paper_s_global_discriminators_learn_at_their_own_rate(recipe: Recipe[Any]) -> None:
    """Equalised, they would stay near chance at these rates (in 120 steps, 1.38 fell to 1.30)."""
    config = next(
        discriminator
        for discriminator in recipe.stage.discriminators
        if discriminator.kind != "patch"
    )
    assert learnt(replace(config, width=8, learn_from=0, start=0, r1_every=1000), recipe) > 0.3


def test_two_discriminators_of_a_kind_on_a_branch_are_refused() -> None:
    with pytest.raises(ValueError, match="one kind"):
        Discriminators((LOCAL, LOCAL), image_size=16)
