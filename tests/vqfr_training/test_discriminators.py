"""Shapes, parameter counts and the arithmetic of the discriminators."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from vqfr_training.lite_recipes import lite_adversarial
from vqfr_training.paper_recipes import vqfr_v1, vqfr_v2
from vqfr_training.vqfr.discriminator_layers import (
    GlobalConv,
    blur_down,
    haar,
    minibatch_deviation,
    strengthen,
)
from vqfr_training.vqfr.discriminators import (
    DiscriminatorConfig,
    PatchDiscriminator,
    StyleGan2Discriminator,
    WaveletDiscriminator,
    build_discriminator,
)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_of_the_recipes() -> None:
    """docs/training.md states these."""
    with torch.device("meta"):
        counts = {
            recipe.name: {
                discriminator.name: parameters(
                    build_discriminator(discriminator, image_size=recipe.network.image_size)
                )
                for discriminator in recipe.stage.discriminators
            }
            for recipe in (vqfr_v1(), vqfr_v2())
        }
    wavelet, patch = 27_707_009, 2_765_633
    assert counts == {
        "vqfr_v1": {
            "texture_wavelet": wavelet,
            "texture_patch": patch,
            "main_wavelet": wavelet,
            "main_patch": patch,
        },
        "vqfr_v2": {"main_stylegan2": 28_982_849, "main_patch": 6_960_961},
    }


def test_haar_is_orthonormal_and_puts_the_means_first() -> None:
    image = torch.randn(2, 3, 8, 6)
    bands = haar(image)
    assert bands.shape == (2, 12, 4, 3)
    assert bands.square().sum().item() == pytest.approx(image.square().sum().item(), rel=1e-5)
    torch.testing.assert_close(bands[:, :3], 2 * F.avg_pool2d(image, 2))
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    square = torch.tensor([[[[a, b], [c, d]]]])
    across, down, along = (b - a + d - c) / 2, (c - a + d - b) / 2, (d - c - b + a) / 2
    assert haar(square).flatten().tolist() == [(a + b + c + d) / 2, across, down, along]


def test_strengthening_leaves_the_coarse_and_multiplies_the_fine() -> None:
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(strengthen(flat, contrast=4.0), flat)
    # A checkerboard of single pixels has no coarse part.
    fine = torch.ones(1, 1, 32, 32)
    fine[..., ::2, 1::2] = fine[..., 1::2, ::2] = -1
    torch.testing.assert_close(strengthen(fine, contrast=4.0), 4 * fine)
    torch.testing.assert_close(strengthen(flat + fine, contrast=4.0), flat + 4 * fine)
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(strengthen(image, contrast=1.0), image)


def test_a_patch_discriminator_of_bands_sees_patches_twice_as_large() -> None:
    network = PatchDiscriminator(width=4, layers=2, batch_norm=False, contrast=8.0).eval()
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    scores = network(image)
    assert scores.shape == (1, 1, 14, 14)
    torch.autograd.backward(scores[0, 0, 7, 7])
    assert image.grad is not None
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    # 34 bands of two pixels, and the means of 8 px blocks that are taken away from them.
    assert 68 <= int(rows.max() - rows.min()) + 1 <= 68 + 2 * 12


def test_minibatch_deviation_by_hand() -> None:
    feature = torch.tensor([0.0, 2.0, 5.0, 5.0]).reshape(4, 1, 1, 1).expand(4, 2, 3, 3)
    more = minibatch_deviation(feature, group=2)
    assert more.shape == (4, 3, 3, 3)
    # Groups are (0th, 2nd) and (1st, 3rd): deviations 2.5 and 1.5.
    expected = [2.5, 1.5, 2.5, 1.5]
    assert more[:, 2, 1, 1].tolist() == pytest.approx(expected)
    assert torch.equal(more[:, :2], feature)
    # Three images make a group of three, five one of one: no deviation.
    assert minibatch_deviation(torch.randn(3, 2, 2, 2))[:, 2].std() < 1e-6
    assert minibatch_deviation(torch.randn(5, 2, 2, 2))[:, 2].abs().max() < 1e-3


def test_blur_down_keeps_a_ramp_and_halves() -> None:
    ramp = torch.arange(16.0).expand(1, 2, 16, 16)
    small = blur_down(ramp)
    assert small.shape == (1, 2, 8, 8)
    expected = torch.arange(8.0) * 2 + 0.5
    torch.testing.assert_close(small[0, 0, 3, 1:-1], expected[1:-1])


@pytest.mark.parametrize("size", [1, 3])
def test_a_scaled_convolution_halves_and_keeps_the_variance(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 64, 32, 32, generator=generator)
    conv = GlobalConv(64, 64, size, equalised=True)
    out = conv(x)
    assert out.shape == x.shape
    # E[leaky(x)²] of a normal x is (1 + 0.04) / 2; the gain is √2.
    assert out[..., 2:-2, 2:-2].square().mean().item() == pytest.approx(1.04, rel=0.15)
    for equalised in (True, False):
        small = GlobalConv(64, 8, size, down=True, equalised=equalised)
        assert small(x).shape == (2, 8, 16, 16)
    assert GlobalConv(64, 8, size, down=True, linear=True, equalised=True).bias is None


def test_published_weights_are_pytorch_s_over_their_largest_singular_value() -> None:
    conv = GlobalConv(6, 8, 3, equalised=False).train()
    x = torch.randn(1, 6, 9, 9)
    for _ in range(50):  # one power iteration each time
        out = conv(x)
    first = conv.get_parameter("parametrizations.weight.original").detach()
    largest = torch.linalg.svdvals(first.flatten(1))[0]
    expected = F.leaky_relu(F.conv2d(x, first / largest, conv.bias, padding=1), 0.2)
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-4)
    assert first.abs().max() <= 1 / (6 * 9) ** 0.5


@pytest.mark.parametrize("kind", [WaveletDiscriminator, StyleGan2Discriminator])
@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("equalised", [True, False])
def test_global_discriminators_give_one_score_an_image(
    kind: type[nn.Module], side: int, equalised: bool
) -> None:
    network = kind(side, width=1, most=8, equalised=equalised)
    image = torch.rand(3, 3, side, side, requires_grad=True)
    scores = network(image)
    assert scores.shape == (3, 1)
    torch.autograd.backward(scores.sum())
    assert image.grad is not None
    # Every pixel is looked at.
    assert (image.grad.abs().sum(dim=(0, 1)) > 0).all()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ValueError, match="power of two"):
        kind(side + 8, width=1, most=8)


def test_patch_discriminator_sees_patches_of_70_pixels() -> None:
    network = PatchDiscriminator(width=4, layers=3, batch_norm=False).eval()
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    scores = network(image)
    assert scores.shape == (1, 1, 14, 14)
    torch.autograd.backward(scores[0, 0, 7, 7])
    assert image.grad is not None
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_spectral_normalisation_treats_each_image_alone() -> None:
    image = torch.rand(2, 3, 32, 32)
    alone, batch = PatchDiscriminator(width=4, layers=2, batch_norm=False).eval(), image
    torch.testing.assert_close(alone(batch)[:1], alone(batch[:1]))
    normed = PatchDiscriminator(width=4, layers=2).train()
    assert not torch.allclose(normed(batch)[:1], normed(batch[:1]))


def test_lite_discriminators_are_small() -> None:
    recipe = lite_adversarial()
    for discriminator in recipe.stage.discriminators:
        assert parameters(build_discriminator(discriminator, image_size=256)) < 1_000_000


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="learn_from"):
        DiscriminatorConfig(branch="main", kind="patch", start=3, learn_from=4)
    with pytest.raises(ValueError, match="a patch discriminator has no norm 'equalised'"):
        DiscriminatorConfig(branch="main", kind="patch", norm="equalised")
    with pytest.raises(ValueError, match="a wavelet discriminator has no norm 'spectral'"):
        DiscriminatorConfig(branch="main", kind="wavelet", norm="spectral")
    with pytest.raises(ValueError, match="width"):
        DiscriminatorConfig(branch="main", kind="patch", width=0)
    with pytest.raises(ValueError, match="r1_every"):
        DiscriminatorConfig(branch="main", kind="wavelet", r1_every=0)
