"""The training twin of the deformable convolution against torchvision's and the network's own."""

import copy
from functools import partial

import torch
from torchvision.ops import deform_conv2d
from vqfr_training.recipes import smoke_stage2
from vqfr_training.vqfr.warp import (
    SampledDeformConv,
    sampled_deform_conv2d,
    use_sampled_warps,
)

from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1


def test_same_values_and_gradients_as_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [draw(2, 8, 9, 7), 2 * draw(2, 36, 9, 7), draw(6, 8, 3, 3), draw(6), draw(2, 18, 9, 7)]
    weight = draw(2, 6, 9, 7)
    results = []
    for function in (partial(deform_conv2d, padding=1), sampled_deform_conv2d):
        x, offset, kernel, bias, mask = (value.clone().requires_grad_() for value in inputs)
        output = function(x, offset, kernel, bias, mask=mask)
        torch.autograd.backward((output * weight).sum())
        results.append([output, x.grad, offset.grad, kernel.grad, bias.grad, mask.grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sums_in_the_precision_asked_for() -> None:
    """Each output is within bfloat16's 8 bits of the sum of its products' sizes."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x, offset, kernel = draw(1, 8, 9, 7), draw(1, 36, 9, 7), draw(6, 8, 3, 3)
    bias, mask = draw(6), torch.rand(1, 18, 9, 7, generator=generator)
    exact = sampled_deform_conv2d(x, offset, kernel, bias, mask=mask)
    rounded = sampled_deform_conv2d(x, offset, kernel, bias, mask=mask, precision=torch.bfloat16)
    sizes = sampled_deform_conv2d(x.abs(), offset, kernel.abs(), bias.abs(), mask=mask)
    assert exact.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    # Columns, kernel and result are rounded once each, by half of the last of 8 bits.
    assert ((rounded.float() - exact).abs() <= 3.1 * 2.0**-9 * sizes).all()
    assert not torch.equal(rounded.float(), exact)


def test_a_twin_samples_in_float32_and_sums_in_the_type_of_its_data() -> None:
    generator = torch.Generator().manual_seed(2)
    original = ModulatedDeformConv(8, guide_channels=4, offset_groups=2)
    for parameter in original.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    x, guide = (torch.randn(1, count, 9, 7, generator=generator).bfloat16() for count in (8, 4))
    with torch.no_grad():
        sampling = original.conv_offset(guide.float())
        found = SampledDeformConv(original)(x, guide)
        expected = sampled_deform_conv2d(
            x.float(),
            sampling[:, :36],
            original.weight,
            original.bias,
            mask=torch.sigmoid(sampling[:, 36:]),
            precision=torch.bfloat16,
        )
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_a_network_with_twins_computes_the_same_and_has_the_same_state() -> None:
    torch.manual_seed(0)
    network = VqfrV1(smoke_stage2().network)
    for parameter in network.parameters():  # some parts begin at zero, and would hide a mistake
        parameter.data += 0.05 * torch.randn_like(parameter)
    twin = copy.deepcopy(network)
    use_sampled_warps(twin)
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(twin(image), network(image), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert list(twin.state_dict()) == list(network.state_dict())
