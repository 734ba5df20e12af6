"""Which operator computes the deformable convolutions, and that the default computes as ever."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from vqfr_training.recipes import smoke_stage2
from vqfr_training.vqfr.warp import use_sampled_warps

from vqfr_media.network.deform import ModulatedDeformConv, torchvision_operator, use_operator
from vqfr_media.network.vqfr_v1 import VqfrV1


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


def draw() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    offset, mask = 2 * torch.randn(2, 2 * 9 * 2, 7, 9), torch.rand(2, 9 * 2, 7, 9)
    return torch.randn(2, 8, 7, 9), offset, mask, torch.randn(6, 8, 3, 3), torch.randn(6)


def test_the_default_is_torchvisions_to_the_bit() -> None:
    x, offset, mask, weight, bias = draw()
    expected = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    assert torch.equal(torchvision_operator(x, offset, mask, weight, bias, 1, 1, 1, 2), expected)


def test_the_default_computes_in_float32_and_answers_in_the_datas_type() -> None:
    x, offset, mask, weight, bias = draw()
    half, half_weight = x.bfloat16(), weight.bfloat16()
    expected = deform_conv2d(
        half.float(), offset, half_weight.float(), bias, padding=1, mask=mask
    ).bfloat16()
    actual = torchvision_operator(half, offset, mask, half_weight, bias, 1, 1, 1, 2)
    assert torch.equal(actual, expected)


def test_another_operator_gets_what_the_module_knows() -> None:
    conv = ModulatedDeformConv(8, guide_channels=4, offset_groups=2)
    nn.init.normal_(conv.conv_offset.weight)
    seen: list[tuple[object, ...]] = []

    def operator(
        x: Tensor,
        offset: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: int,
        padding: int,
        dilation: int,
        offset_groups: int,
    ) -> Tensor:
        seen.append((stride, padding, dilation, offset_groups, weight, bias))
        assert (x.dtype, offset.dtype, mask.dtype) == (torch.float16, torch.float32, torch.float32)
        assert offset.shape == (1, 36, 6, 5)
        assert mask.shape == (1, 18, 6, 5)
        return 2 * x

    use_operator(conv, operator)
    x = torch.randn(1, 8, 6, 5).half()
    assert torch.equal(conv(x, torch.randn(1, 4, 6, 5).half()), 2 * x)
    assert seen == [(1, 1, 1, 2, conv.weight, conv.bias)]


def test_every_convolution_of_a_network_changes_and_copies_keep_it() -> None:
    network = VqfrV1(smoke_stage2().network)
    convolutions = [m for m in network.modules() if isinstance(m, ModulatedDeformConv)]
    assert convolutions
    names = list(network.state_dict())

    def operator(x: Tensor, *others: object) -> Tensor:
        del others
        return torch.zeros_like(x)

    use_operator(network, operator)
    assert {conv.operator for conv in convolutions} == {operator}
    twin = copy.deepcopy(network)
    assert {m.operator for m in twin.modules() if isinstance(m, ModulatedDeformConv)} == {operator}
    assert list(network.state_dict()) == names


def test_the_training_twin_takes_the_place_of_any_operator() -> None:
    network = VqfrV1(smoke_stage2().network)
    use_operator(network, torchvision_operator)
    use_sampled_warps(network)
    assert not any(isinstance(module, ModulatedDeformConv) for module in network.modules())
