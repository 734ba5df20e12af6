"""The pieces: code look-up, resampling, deformable convolution."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.blocks import Attention, shrink
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqgan import embed, nearest_codes


def test_nearest_codes_are_nearest_and_embed_returns_them() -> None:
    codebook = torch.randn(50, 6)
    latent = torch.randn(2, 6, 3, 5)
    codes = nearest_codes(latent, codebook)
    places = latent.permute(0, 2, 3, 1).reshape(-1, 6)
    assert codes.dtype == torch.int64
    assert codes.shape == (2, 3, 5)
    assert torch.equal(codes.flatten(), torch.cdist(places, codebook).argmin(dim=1))
    assert torch.equal(embed(codes, codebook)[1, :, 2, 4], codebook[codes[1, 2, 4]])


def test_of_equally_near_codes_the_first_is_taken() -> None:
    codebook = torch.tensor([[5.0], [1.0], [-1.0], [1.0]])
    assert nearest_codes(torch.zeros(1, 1, 1, 1), codebook).item() == 1
    assert nearest_codes(torch.full((1, 1, 1, 1), 2.0), codebook).item() == 1


def test_autocast_does_not_touch_the_distances() -> None:
    codebook = 10.0 + 0.01 * torch.arange(64.0).view(64, 1)  # bfloat16 steps are 1/16 here
    latent = codebook.view(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        codes = nearest_codes(latent, codebook)
    assert torch.equal(codes.flatten(), torch.arange(64))


def test_latent_and_codebook_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        nearest_codes(torch.zeros(1, 4, 2, 2), torch.zeros(8, 5))


def test_embed_lets_gradients_reach_the_codebook() -> None:
    codebook = torch.randn(4, 3, requires_grad=True)
    total = embed(torch.tensor([[[2, 2]]]), codebook).sum()
    (gradient,) = torch.autograd.grad(total, codebook)
    assert gradient.sum(dim=1).tolist() == [0, 0, 6, 0]


@pytest.mark.parametrize("factor", [2, 4])
def test_shrink_averages_the_four_pixels_around_each_new_centre(factor: int) -> None:
    image = torch.rand(1, 1, 8, 8)
    middle = slice(factor // 2 - 1, factor // 2 + 1)
    expected = image.view(8 // factor, factor, 8 // factor, factor)[:, middle, :, middle]
    torch.testing.assert_close(shrink(image, factor=factor)[0, 0], expected.mean(dim=(1, 3)))


def test_attention_is_the_textbook_sum() -> None:
    attention = Attention(8, groups=4)
    x = torch.randn(1, 8, 3, 2)
    normed = attention.norm(x)
    query, key, value = (
        conv(normed).view(8, 6) for conv in (attention.q, attention.k, attention.v)
    )
    weights = torch.softmax(query.T @ key / 8**0.5, dim=1)
    expected = x + attention.proj_out((value @ weights.T).view(1, 8, 3, 2))
    torch.testing.assert_close(attention(x), expected)


def test_an_untrained_deform_conv_is_half_a_convolution() -> None:
    conv = ModulatedDeformConv(4, guide_channels=6, offset_groups=2)
    x = torch.randn(2, 4, 7, 5)
    expected = F.conv2d(x, 0.5 * conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x, torch.randn(2, 6, 7, 5)), expected)


def sampled(plane: Tensor, y: float, x: float) -> float:
    """Bilinear sample of a plane, zero outside, one neighbour at a time."""
    total = 0.0
    for row, column in itertools.product(range(plane.shape[0]), range(plane.shape[1])):
        weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
        total += weight * float(plane[row, column])
    return total


def test_deform_conv_is_the_textbook_sum() -> None:
    conv = ModulatedDeformConv(4, guide_channels=3, offset_groups=2)
    nn.init.normal_(conv.conv_offset.weight, std=0.5)
    x, guide = torch.randn(1, 4, 4, 3), torch.randn(1, 3, 4, 3)
    with torch.no_grad():
        actual = conv(x, guide)[0]
        first, second, mask = conv.conv_offset(guide)[0].chunk(3)
        # Two groups, nine taps, (dy, dx).
        moves = torch.cat((first, second)).view(2, 9, 2, 4, 3)
        weights = torch.sigmoid(mask).view(2, 9, 4, 3)
        expected = conv.bias.view(4, 1, 1).repeat(1, 4, 3)
        for row, column, tap, channel in itertools.product(range(4), range(3), range(9), range(4)):
            dy, dx = moves[channel // 2, tap, :, row, column].tolist()
            value = sampled(x[0, channel], row + tap // 3 - 1 + dy, column + tap % 3 - 1 + dx)
            value *= float(weights[channel // 2, tap, row, column])
            expected[:, row, column] += value * conv.weight[:, channel, tap // 3, tap % 3]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_autocast_does_not_touch_the_offsets() -> None:
    conv = ModulatedDeformConv(4, guide_channels=4, offset_groups=1)
    nn.init.normal_(conv.conv_offset.weight)
    x, guide = torch.randn(1, 4, 8, 8).bfloat16(), torch.randn(1, 4, 8, 8).bfloat16()
    plain = conv(x.float(), guide.float())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv(x, guide)
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, plain.bfloat16())
