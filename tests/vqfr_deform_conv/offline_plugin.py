"""Drives the plugin through TensorRT's own Python code; `test_tensorrt_plugin.py` runs it.

Needs the folder that `trt_offline/setup.sh` makes on PYTHONPATH and LD_LIBRARY_PATH. TensorRT's
expressions are stand-ins (`expr_fakes`) that know their value; the rest is what a builder calls.
"""

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import expr_fakes  # type: ignore[import-not-found]
import pytest
import tensorrt as trt
import torch
from vqfr_deform_conv.ptx import compile_kernel
from vqfr_deform_conv.tensorrt_plugin import PLUGIN_FAULT, PluginKey, plugin
from vqfr_deform_conv.tiling import TACTICS, Convolution, tiles

LINEAR, HWC, HWC8 = trt.TensorFormat.LINEAR, trt.TensorFormat.HWC, trt.TensorFormat.HWC8
FLOAT = trt.DataType.FLOAT
TYPES = {
    torch.float16: trt.DataType.HALF,
    torch.bfloat16: trt.DataType.BF16,
    torch.float32: FLOAT,
}
CONVOLUTION = Convolution(
    channels=64,
    height=33,
    width=31,
    out_channels=128,
    out_height=17,
    out_width=16,
    offset_groups=4,
    kernel_height=3,
    kernel_width=3,
    stride=2,
    padding=1,
    dilation=1,
)


class Evaluated:
    """Takes the place of the C++ object that would carry an expression to the builder."""

    def __init__(self, expression: Any) -> None:
        self.value, self.text = expression._expr.value, repr(expression._expr)


class Extras(list[Any]):
    """What the builder collects the kernel's int32 arguments in."""

    nbSymExprs = 0  # noqa: N815

    def __setitem__(self, index: Any, value: Any) -> None:
        assert index == len(self)
        self.append(value)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("tensorrt.plugin")  # or there would be nothing to swap
    expr_fakes.install()
    monkeypatch.setattr(sys.modules["tensorrt_bindings.plugin._tensor"], "SymExprImpl", Evaluated)


def shapes(batch: int, convolution: Convolution) -> list[tuple[int, ...]]:
    """Of x, offset, mask, weight, bias, y."""
    c, area = convolution, (convolution.out_height, convolution.out_width)
    taps = c.kernel_height * c.kernel_width * c.offset_groups
    return [
        (batch, c.channels, c.height, c.width),
        (batch, 2 * taps, *area),
        (batch, taps, *area),
        (c.kernel_height, c.kernel_width, c.channels, c.out_channels),
        (c.out_channels,),
        (batch, c.out_channels, *area),
    ]


def described(dtype: torch.dtype, layout: Any, convolution: Convolution) -> list[Any]:
    """The tensors as a builder describes them, the batch open."""
    data = TYPES[dtype]
    descriptions = []
    for shape, kind, form in zip(
        shapes(-1, convolution),
        (data, FLOAT, FLOAT, data, data, data),
        (layout, LINEAR, LINEAR, LINEAR, LINEAR, layout),
        strict=True,
    ):
        description = trt.DynamicPluginTensorDesc()
        description.desc = trt.PluginTensorDesc()
        description.desc.dims, description.desc.type = trt.Dims(shape), kind
        description.desc.format = form
        descriptions.append(description)
    return descriptions


def inputs_of(convolution: Convolution, *, batch: int) -> list[list[Any]]:
    sizes = [[expr_fakes.Dim(n) for n in shape] for shape in shapes(batch, convolution)[:5]]
    for tensor in sizes[:3]:
        tensor[0] = expr_fakes.Dim(batch, "n")
    return sizes


def key_of(convolution: Convolution, dtype: torch.dtype) -> PluginKey:
    c = convolution
    return PluginKey(c.stride, c.padding, c.dilation, c.offset_groups, dtype)


def created(key: PluginKey, convolution: Convolution, *, batch: int) -> tuple[Any, list[Any]]:
    """The plugin as the builder makes it, and its output's shape."""
    plugin(key)
    creator = trt.get_plugin_registry().get_creator(key.name, "1", "vqfr")
    made = creator.create_plugin(
        key.name,
        "vqfr",
        trt.PluginFieldCollection([]),
        trt.TensorRTPhase.BUILD,
        trt.QuickPluginCreationRequest.STRICT_AOT,
    )
    data = TYPES[key.dtype]
    assert made.get_output_data_types([data, FLOAT, FLOAT, data, data], [4, 4, 4, 4, 1]) == [data]
    (shape,) = made.get_output_shapes(inputs_of(convolution, batch=batch), [], expr_fakes.Builder())
    return made, shape


def offered(made: Any, dtype: torch.dtype, convolution: Convolution) -> list[list[tuple[Any, Any]]]:
    found = made.get_supported_format_combinations(described(dtype, LINEAR, convolution), 5)
    pairs = [(tensor.type, tensor.format) for tensor in found]
    return [pairs[start : start + 6] for start in range(0, len(pairs), 6)]


def test_a_key_is_registered_once() -> None:
    key = PluginKey(1, 1, 1, 4, torch.float16)
    assert key.name == "deform_conv2d_s1p1d1g4_fp16"
    assert plugin(key) is plugin(key)
    assert plugin(key).plugin_id == "vqfr::deform_conv2d_s1p1d1g4_fp16"
    assert plugin(PluginKey(1, 1, 1, 4, torch.bfloat16)) is not plugin(key)
    with pytest.raises(ValueError, match=r"no deformable convolution for torch\.float64"):
        PluginKey(1, 1, 1, 4, torch.float64)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_output_formats_and_tactics(dtype: torch.dtype) -> None:
    made, shape = created(key_of(CONVOLUTION, dtype), CONVOLUTION, batch=5)
    assert [size.value for size in shape] == [5, 128, 17, 16]
    assert not shape[0].is_constant()
    assert all(size.is_constant() for size in shape[1:])
    data = TYPES[dtype]
    last = HWC if dtype == torch.float32 else HWC8
    assert offered(made, dtype, CONVOLUTION) == [
        [(data, form), *[(FLOAT, LINEAR)] * 2, *[(data, LINEAR)] * 2, (data, form)]
        for form in (LINEAR, last)
    ]
    for form in (LINEAR, last):
        tensors = described(dtype, form, CONVOLUTION)
        made.configure_plugin(tensors[:5], tensors[5:])
        assert sorted(made.get_valid_tactics()) == list(range(1, TACTICS + 1))


def test_padded_channels_are_not_offered() -> None:
    odd = Convolution(**(vars(CONVOLUTION) | {"channels": 20}))
    made, _ = created(key_of(odd, torch.float16), odd, batch=1)
    forms = [combination[0][1] for combination in offered(made, torch.float16, odd)]
    assert forms == [LINEAR]


@pytest.mark.parametrize("layout", [LINEAR, HWC8], ids=str)
def test_kernel_and_launch(layout: Any) -> None:
    dtype, batch = torch.float16, 5
    made, _ = created(key_of(CONVOLUTION, dtype), CONVOLUTION, batch=batch)
    offered(made, dtype, CONVOLUTION)
    tensors = described(dtype, layout, CONVOLUTION)
    made.configure_plugin(tensors[:5], tensors[5:])
    for tactic, tile in enumerate(tiles(CONVOLUTION, element_bytes=2), start=1):
        made.set_tactic(tactic)
        launch, extras = SimpleNamespace(), Extras()
        made.get_launch_params(
            inputs_of(CONVOLUTION, batch=batch), tensors, 5, launch, extras, expr_fakes.Builder()
        )
        kernel = compile_kernel(CONVOLUTION, tile, dtype=dtype, channels_last=layout != LINEAR)
        values = {name: value.value for name, value in vars(launch).items()}
        assert values == {
            "grid_x": tile.programs(CONVOLUTION, images=batch),
            "grid_y": 1,
            "grid_z": 1,
            "block_x": kernel.threads,
            "block_y": 1,
            "block_z": 1,
            "shared_mem": kernel.shared_bytes,
        }
        assert launch.grid_x.text.startswith("((")  # still an expression of the batch
        assert extras.nbSymExprs == 1
        assert [extra.value for extra in extras] == [batch * 17 * 16]
        name, text = made.get_kernel([t.desc for t in tensors[:5]], [t.desc for t in tensors[5:]])
        assert (name, text.decode()) == (kernel.name, kernel.ptx)


def test_tactic_0_is_the_smallest_tile_and_a_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, _ = created(key_of(CONVOLUTION, torch.float16), CONVOLUTION, batch=1)
    offered(made, torch.float16, CONVOLUTION)
    tensors = described(torch.float16, HWC8, CONVOLUTION)
    made.configure_plugin(tensors[:5], tensors[5:])

    def launch(tactic: int) -> Any:
        made.set_tactic(tactic)
        found = SimpleNamespace()
        made.get_launch_params(
            inputs_of(CONVOLUTION, batch=1), tensors, 5, found, Extras(), expr_fakes.Builder()
        )
        return found

    smallest = tiles(CONVOLUTION, element_bytes=2)[-1]
    assert launch(0).grid_x.value == smallest.programs(CONVOLUTION, images=1)
    with pytest.raises(ValueError, match=r"tactic 6 is not within 0\.\.5"):
        launch(6)
    (message,) = [m for m in caplog.messages if m.startswith(PLUGIN_FAULT)]
    assert message == (
        "the plugin deform_conv2d_s2p1d1g4_fp16 failed in implement: "
        "ValueError: deform_conv2d: tactic 6 is not within 0..5"
    )


class Network:
    """Collects what the converter adds; tensors are their shape, type and, if constant, value."""

    def __init__(self) -> None:
        self.casts: list[tuple[str, Any]] = []
        self.inputs: tuple[Any, ...] = ()
        self.layer = SimpleNamespace(name="", get_output=lambda index: ("y", index))

    def add_plugin(self, inputs: tuple[Any, ...], *, aot: bool) -> Any:
        assert aot
        self.inputs = inputs
        return self.layer

    def tensor(self, _context: Any, value: Any, name: str) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return SimpleNamespace(name=name, dtype=TYPES[value.dtype], value=value)

    def cast(self, _context: Any, tensor: Any, dtype: torch.dtype, name: str) -> Any:
        if tensor.dtype != TYPES[dtype]:
            self.casts.append((name, dtype))
        return tensor


def test_the_converter_passes_on_what_the_plugin_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("fake_cuda")  # answers what torch_tensorrt asks of a GPU
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS, converter_utils
    from vqfr_deform_conv import converter

    operator = torch.ops.vqfr.deform_conv2d.default
    assert operator not in DYNAMO_CONVERTERS
    converter.register()
    converter.register()
    (convert,), _ = DYNAMO_CONVERTERS.get_all_converters_with_target(operator)

    network, keys = Network(), list[PluginKey]()

    def plugin_of(key: PluginKey) -> Any:
        keys.append(key)
        return lambda *tensors: tensors

    monkeypatch.setattr(converter_utils, "get_trt_tensor", network.tensor)
    monkeypatch.setattr(converter_utils, "cast_trt_tensor", network.cast)
    monkeypatch.setattr(converter, "plugin", plugin_of)
    x, offset = SimpleNamespace(dtype=TYPES[torch.float16]), SimpleNamespace(dtype=FLOAT)
    mask = SimpleNamespace(dtype=TYPES[torch.float16])
    weight, bias = torch.randn(6, 8, 3, 2).half(), torch.randn(6)
    given = (x, offset, mask, weight, bias, 2, 1, 3, 4)
    output = convert(SimpleNamespace(net=network), operator, given, {}, "warp")
    assert output == ("y", 0)
    assert keys == [PluginKey(2, 1, 3, 4, torch.float16)]
    assert network.inputs[:3] == (x, offset, mask)
    assert torch.equal(network.inputs[3].value, weight.permute(2, 3, 1, 0))
    assert network.inputs[3].value.is_contiguous()
    assert torch.equal(network.inputs[4].value, bias)
    assert network.casts == [("warp_mask", torch.float32), ("warp_bias", torch.float16)]
    assert "warp" in network.layer.name
