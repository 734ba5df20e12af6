"""The torch operator on the CPU: torchvision's numbers, gradients, and what torch needs to know."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
from vqfr_deform_conv.operator import by_kernel, deform_conv2d
from vqfr_deform_conv.tiling import Convolution
from vqfr_training.recipes import smoke_stage2

from tests.paths import ROOT
from tests.vqfr_deform_conv.deform_cases import Case, assert_as_expected, computed, draw
from vqfr_media.network.deform import ModulatedDeformConv, use_operator
from vqfr_media.network.vqfr_v1 import VqfrV1


def reference(case: Case, *tensors: Tensor) -> Tensor:
    x, offset, mask, weight, bias = tensors
    numbers = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    result: Tensor = torchvision_deform_conv2d(x, offset, weight, bias, mask=mask, **numbers)
    return result


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "shape", [{}, {"stride": 2, "padding": 3, "dilation": 2}, {"kernel": (1, 3), "groups": 4}]
)
def test_float32_is_torchvisions_to_the_bit(shape: dict[str, Any], channels_last: bool) -> None:
    case = draw(channels_last=channels_last, **shape)
    result = computed(case)
    assert torch.equal(result, reference(case, *case.tensors))
    assert result.is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_data_are_rounded_once(dtype: torch.dtype) -> None:
    case = draw(dtype=dtype)
    exact = reference(case, *(tensor.float() for tensor in case.tensors))
    assert torch.equal(computed(case), exact.to(dtype))


def test_half_data_keep_exact_coordinates() -> None:
    # docs/deform_conv.md: torchvision's own half precision is 3.4 % off at 128 pixels.
    case = draw(images=1, size=(128, 128), groups=1, dtype=torch.float16)
    exact = reference(case, *(tensor.double() for tensor in case.tensors))
    theirs = reference(case, *(tensor.half() for tensor in case.tensors))
    size = exact.square().mean().sqrt()
    ours, others = (
        float((result.double() - exact).square().mean().sqrt() / size)
        for result in (computed(case), theirs)
    )
    assert ours < 0.0005
    assert 0.03 < others < 0.04


def test_weights_take_the_datas_type() -> None:
    case = draw(dtype=torch.bfloat16)
    wide = case.changed(weight=case.weight.float() * 1.001, bias=case.bias.float() * 1.001)
    narrow = case.changed(weight=wide.weight.bfloat16(), bias=wide.bias.bfloat16())
    results = [computed(some) for some in (wide, narrow)]
    assert torch.equal(*results)


def test_gradients_are_torchvisions() -> None:
    case = draw(stride=2, dilation=2, padding=2)
    gradients = []
    for of_ours in (True, False):
        tensors = [tensor.clone().requires_grad_() for tensor in case.tensors]
        result = computed(case, tensors) if of_ours else reference(case, *tensors)
        weights = torch.linspace(-1, 1, result.numel()).view_as(result)
        gradients.append(torch.autograd.grad((result * weights).sum(), tensors))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_are_those_of_the_values() -> None:
    case = draw(images=1, channels=2, size=(3, 2), outputs=1)
    tensors = [tensor.double().requires_grad_() for tensor in case.tensors]
    assert torch.autograd.gradcheck(lambda *some: computed(case, some), tensors)


def test_half_gradients_are_rounded_once() -> None:
    case = draw(dtype=torch.bfloat16)
    found = []
    for wide in (False, True):
        tensors = [(t.float() if wide else t).detach().clone() for t in case.tensors]
        for tensor in tensors:
            tensor.requires_grad_()
        result = computed(case, tensors)
        found.append(torch.autograd.grad(result, tensors, torch.ones_like(result)))
    for narrow, exact in zip(*found, strict=True):
        assert torch.equal(narrow, exact.to(narrow.dtype))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_torch_finds_nothing_wrong_with_it(dtype: torch.dtype, channels_last: bool) -> None:
    case = draw(dtype=dtype, channels_last=channels_last, images=2, size=(5, 6))
    tensors = [tensor.requires_grad_() for tensor in case.tensors]
    operator = torch.ops.vqfr.deform_conv2d.default
    results = torch.library.opcheck(operator, (*tensors, *case.numbers))
    assert set(results.values()) == {"SUCCESS"}


def test_exported_graphs_keep_it_whole() -> None:
    conv = ModulatedDeformConv(8, guide_channels=4, offset_groups=2).eval()
    use_operator(conv, deform_conv2d)
    arguments = (torch.rand(2, 8, 6, 6), torch.rand(2, 4, 6, 6))
    program = torch.export.export(conv, arguments, strict=False).run_decompositions()
    nodes = [node for node in program.graph.nodes if "deform_conv2d" in str(node.target)]
    assert [str(node.target) for node in nodes] == ["vqfr.deform_conv2d.default"]


def test_a_network_computes_the_same_with_it() -> None:
    torch.manual_seed(0)
    network = VqfrV1(smoke_stage2().network).eval()
    for parameter in network.parameters():  # some parts begin at zero, and would hide a mistake
        parameter.data += 0.05 * torch.randn_like(parameter)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    names = list(network.state_dict())
    with torch.inference_mode():
        expected = network(image)
        use_operator(network, deform_conv2d)
        assert torch.equal(network(image).main, expected.main)
    assert list(network.state_dict()) == names


def test_an_exporter_may_leave_the_batch_open() -> None:
    case = draw()
    batch = torch.export.Dim("batch", min=2, max=8)

    class Module(torch.nn.Module):
        def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
            return deform_conv2d(x, offset, mask, case.weight, case.bias, *case.numbers)

    program = torch.export.export(
        Module(),
        (case.x, case.offset, case.mask),
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        strict=False,
    )
    more = [torch.cat((tensor, tensor)) for tensor in (case.x, case.offset, case.mask)]
    expected = computed(case, [*more, case.weight, case.bias])
    assert torch.equal(program.module()(*more), expected)


CUDA_GRAPH = """
import contextlib
import torch, triton
from functools import partial
from torch._functorch.aot_autograd import aot_function
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

class Driver:  # what torch asks about the GPU in order to read the kernel
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)

triton.runtime.driver.set_active(Driver())
torch.cuda.device_of = lambda tensor: contextlib.nullcontext()
from vqfr_deform_conv.operator import deform_conv2d

graphs = []
with FakeTensorMode():
    sizes = [(1, 16, 8, 8), (1, 36, 8, 8), (1, 18, 8, 8), (16, 16, 3, 3), (16,)]
    types = [torch.half, torch.float, torch.float, torch.half, torch.half]
    tensors = [torch.empty(s, dtype=t, device="cuda") for s, t in zip(sizes, types)]
    work = partial(deform_conv2d, stride=1, padding=1, dilation=1, offset_groups=2)
    aot_function(work, fw_compiler=lambda graph, _: graphs.append(graph) or graph)(*tensors)
(node,) = [n for n in graphs[0].graph.nodes if "triton" in str(n.target)]
assert not [n for n in graphs[0].graph.nodes if "deform_conv2d" in str(n.target)]
assert node.kwargs["tensors_to_clone"] == ["y_ptr"], node.kwargs["tensors_to_clone"]
assert node.kwargs["kwargs"]["PIXELS"] == 64
"""


def test_compiled_graphs_for_cuda_hold_the_kernel_which_writes_its_output_alone() -> None:
    # In a process of its own: torch and Triton are told of a GPU that is not there.
    done = subprocess.run(
        [sys.executable, "-c", CUDA_GRAPH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("offset", (2, 35, 7, 9), r"offset is \(2, 35, 7, 9\), expected \(2, 36, 7, 9\)"),
        ("mask", (2, 18, 7, 8), r"mask is \(2, 18, 7, 8\), expected \(2, 18, 7, 9\)"),
        ("weight", (6, 7, 3, 3), r"weight is \(6, 7, 3, 3\), expected \(6, 8, 3, 3\)"),
        ("bias", (5,), r"bias is \(5,\), expected \(6,\)"),
        ("x", (8, 7, 9), "four dimensions"),
        ("x", (2, 8, 8, 9), "8 pixels, kernel 3, .* give 8, not the 7"),
        ("x", (2, 8, 0, 9), "height = 0 is out of range"),
    ],
)
def test_shapes_that_contradict_each_other(name: str, shape: tuple[int, ...], message: str) -> None:
    case = draw().changed(**{name: torch.zeros(shape)})
    with pytest.raises(ValueError, match=message):
        computed(case)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"stride": 0}, "stride = 0 is out of range"),
        ({"padding": -1}, "padding = -1 is out of range"),
        ({"dilation": 0}, "dilation = 0 is out of range"),
        ({"offset_groups": 1}, "offset is"),
    ],
)
def test_numbers_out_of_range(numbers: dict[str, int], message: str) -> None:
    case = draw().changed(**numbers)
    with pytest.raises(ValueError, match=message):
        computed(case)


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ({"channels": 8192}, 8192 * 512 * 512),
        ({"out_channels": 8192}, 8192 * 512 * 512),
        ({"offset_groups": 512, "channels": 512}, 2 * 512 * 9 * 512 * 512),
        ({"channels": 2**14, "out_channels": 2**14, "height": 8, "width": 8}, 9 * 2**28),
    ],
)
def test_what_32_bits_cannot_count_is_refused(sizes: dict[str, int], values: int) -> None:
    known = vars(draw(size=(512, 512), channels=4, outputs=4, images=1).convolution) | sizes
    known |= {"out_height": known["height"], "out_width": known["width"]}
    with pytest.raises(ValueError, match=f"deform_conv2d: {values} values for one image"):
        Convolution(**known)


def test_a_batch_of_too_many_pixels_is_refused() -> None:
    images = 2**31
    case = draw(images=1, channels=1, outputs=1, size=(1, 1), kernel=(1, 1), padding=0, groups=1)
    many = [t.expand(images, *t.shape[1:]) for t in (case.x, case.offset, case.mask)]
    with pytest.raises(ValueError, match="2147483648 pixels in one batch"):
        by_kernel(many[0], many[1], many[2], case.weight, case.bias, case.convolution)


def test_types_without_a_kernel() -> None:
    case = draw()
    with pytest.raises(ValueError, match=r"no kernel for torch\.int32; use float16"):
        computed(case.changed(x=case.x.int()))
    with pytest.raises(ValueError, match=r"offset is torch\.float16; use float32"):
        computed(case.changed(offset=case.offset.half()))
    with pytest.raises(ValueError, match=r"mask is torch\.float16; use float32"):
        computed(case.changed(mask=case.mask.half()))


def test_the_bound_of_the_other_tests_holds_for_torchvision() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        case = draw(dtype=dtype)
        assert_as_expected(computed(case), case)
