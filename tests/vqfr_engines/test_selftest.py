"""The self-test: outcomes are told apart, and what needs no GPU is checked without one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d
from vqfr_deform_conv.operator import deform_conv2d as our_operator
from vqfr_engines import selftest
from vqfr_engines.engine_checks import CheckFailedError
from vqfr_engines.selftest import CheckResult
from vqfr_engines.selftest_plugin import (
    FACES,
    GROUPS,
    SIDE,
    AloneInputs,
    alone_inputs,
    convolutions_of,
    data_formats,
    is_channels_last,
    num_reformats,
    parsed_layers,
)
from vqfr_engines.selftest_tensorrt import ALONE_RMS, TensorrtChecks, norms_in_float16
from vqfr_engines.tensorrt_graph import exported_modules, operators_not_in_float32

from tests.vqfr_engines.offline_tensorrt import LITE, network_called
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.manifest import BuiltBackend
from vqfr_media.network.precision import to_mixed_precision


def raising(error: Exception) -> Any:
    def check() -> str:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "outcome", "detail"),
    [
        (lambda: "seen\n  twice", "passed", "seen twice"),
        (raising(BackendError("no GPU")), "skipped", "no GPU"),
        (raising(CheckFailedError("too far")), "failed", "too far"),
        (raising(EngineError("it broke")), "failed", "EngineError: it broke"),
        (raising(ZeroDivisionError("ours")), "failed", "ZeroDivisionError: ours"),
    ],
)
def test_every_outcome_is_told(
    check: Any, outcome: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [("first", check), ("second", lambda: "goes on")]
    monkeypatch.setattr(selftest, "_points", lambda *_, **__: points)
    first, second = selftest.run("tensorrt", device="cuda")
    assert (first.number, first.name, first.outcome, first.detail) == (1, "first", outcome, detail)
    assert (second.number, second.outcome, second.detail) == (2, "passed", "goes on")
    assert min(first.seconds, second.seconds) >= 0


def outcomes(backend: BuiltBackend, device: str) -> list[CheckResult]:
    return list(selftest.run(backend, device=device))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_without_a_gpu_every_tensorrt_point_is_skipped_and_says_why() -> None:
    results = outcomes("tensorrt", "cuda")
    assert [result.number for result in results] == list(range(1, 8))
    assert {result.outcome for result in results} == {"skipped"}
    assert "bytes of shared memory, compiled but not loaded" in results[0].detail
    for result in results[1:]:
        assert "pip install" in result.detail or "NVIDIA" in result.detail


@pytest.mark.slow
@pytest.mark.needs_cuda
def test_tensorrt_holds_what_its_design_assumes() -> None:
    results = outcomes("tensorrt", "cuda:0")
    if all(result.outcome == "skipped" for result in results):
        pytest.skip(results[-1].detail)
    assert [result for result in results if result.outcome != "passed"] == []


@pytest.mark.slow
def test_openvino_holds_what_its_design_assumes() -> None:
    results = outcomes("openvino", "cpu")
    assert [(result.number, result.outcome) for result in results] == [
        (number, "passed") for number in range(1, 5)
    ], results


def relative_rms(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def test_the_lone_plugin_is_judged_against_our_operator() -> None:
    inputs = alone_inputs()
    numbers = (1, 1, 1, GROUPS)
    tensors = (inputs.x, inputs.offset, inputs.mask, inputs.weight, inputs.bias)
    exact = our_operator(*tensors, *numbers)
    torch.testing.assert_close(exact, inputs.expected(), atol=1e-5, rtol=1e-5)
    x, weight, bias = (t.half() for t in (inputs.x, inputs.weight, inputs.bias))
    rounded = our_operator(x, inputs.offset, inputs.mask, weight, bias, *numbers).float()
    assert relative_rms(rounded, exact) < ALONE_RMS


def test_coordinates_in_half_precision_would_be_noticed() -> None:
    """What TensorRT's own plugin does: a place is a half-precision number of pixels."""
    inputs = alone_inputs()
    expected = inputs.expected()
    rounded = deform_conv2d(
        inputs.x,
        half_places(inputs),
        inputs.weight,
        inputs.bias,
        padding=1,
        mask=inputs.mask,
    )
    assert relative_rms(rounded, expected) > 2 * ALONE_RMS


def half_places(inputs: AloneInputs) -> Tensor:
    """The offsets that lead to where half-precision coordinates would."""
    lines = torch.arange(SIDE, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(lines, lines, indexing="ij"))
    taps = torch.stack(torch.meshgrid(*[torch.arange(-1.0, 2.0)] * 2, indexing="ij")).flatten(1)
    base = (taps.t()[:, :, None, None] + places).flatten(0, 1).repeat(GROUPS, 1, 1)
    assert base.shape == (18 * GROUPS, SIDE, SIDE)
    return (base + inputs.offset).half().float() - base


def test_lone_inputs_are_what_float16_holds_and_leave_the_image() -> None:
    inputs = alone_inputs()
    for tensor in (inputs.x, inputs.weight, inputs.bias):
        assert torch.equal(tensor.half().float(), tensor)
    assert inputs.x.shape[0] == FACES
    assert float(inputs.offset.abs().max()) > SIDE / 4
    again = alone_inputs()
    assert torch.equal(inputs.x, again.x)
    assert torch.equal(inputs.offset, again.offset)


# As TensorRT's documentation shows them: names alone, and with formats where they are asked for.
NAMES = """{"Layers": ["Reformatting CopyNode for Input Tensor 0 to before", "before",
"[vqfr.deform_conv2d.default]-[vqfr_deform_conv2d_1]"], "I/O Tensors": []}"""
DETAILED = """{"Layers": [
{"Name": "cast", "LayerType": "Reformat", "Inputs": [], "Outputs": []},
{"Name": "deform_conv2d", "LayerType": "PluginV3",
 "Inputs": [{"Name": "a", "Format/Datatype": "FIRST"}, {"Name": "b", "Format/Datatype": "other"}],
 "Outputs": [{"Name": "c", "Format/Datatype": "LAST"}]}]}"""
HWC8 = "Channel major FP16 format where channel % 8 == 0"
LINEAR = "Row major linear FP16 format"


def test_layers_are_read_in_both_of_their_forms() -> None:
    names = parsed_layers(NAMES)
    assert [layer["Name"] for layer in names][1:] == [
        "before",
        "[vqfr.deform_conv2d.default]-[vqfr_deform_conv2d_1]",
    ]
    assert num_reformats(names) == 1
    assert data_formats(names) is None
    detailed = parsed_layers(DETAILED)
    assert num_reformats(detailed) == 1
    assert data_formats(detailed) == ("FIRST", "LAST")


@pytest.mark.parametrize(
    ("data_format", "expected"),
    [(HWC8, True), ("Channel last FP16 (kHWC8)", True), (LINEAR, False), ("Half", False)],
)
def test_channels_last_is_told_from_other_layouts(data_format: str, expected: bool) -> None:
    assert is_channels_last(data_format) is expected


def layout_checks(first: str, last: str, monkeypatch: pytest.MonkeyPatch) -> TensorrtChecks:
    """Checks in which TensorRT tells `first` and `last` of the plugin, and few reformats."""
    layers = parsed_layers(DETAILED.replace("FIRST", first).replace("LAST", last))
    names: list[Mapping[str, Any]] = parsed_layers(NAMES)
    checks = TensorrtChecks(Path("nowhere"), device="cuda", model="lite", weights=LITE)
    monkeypatch.setattr(TensorrtChecks, "_alone", "alone")
    monkeypatch.setattr(TensorrtChecks, "_plan", lambda *_, **__: "decoder")
    monkeypatch.setattr(
        "vqfr_engines.selftest_tensorrt.layers_of",
        lambda plan: layers if plan == "alone" else names,
    )
    return checks


def test_a_plugin_on_channels_last_data_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = layout_checks(HWC8, HWC8, monkeypatch).layout_is_kept()
    assert said.endswith("1 reformats; decoder: 1 reformats among 3 layers")


def test_a_plugin_on_other_data_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailedError, match="channels last was offered and not taken"):
        layout_checks(HWC8, LINEAR, monkeypatch).layout_is_kept()


def test_the_convolutions_of_a_graph_are_found() -> None:
    *_, decoder = exported_modules(network_called("lite"), batch_size=1, device=torch.device("cpu"))
    found = [
        (c.channels, c.height, c.out_channels, c.out_height, c.offset_groups, c.kernel_height)
        for c in convolutions_of(decoder.program.graph)
    ]
    assert found == [
        (channels, side, channels, side, 2, 3)
        for channels, side in ((192, 16), (128, 32), (64, 64), (32, 128))
    ]


@pytest.mark.parametrize("name", ["lite", "v2_small"])
def test_norms_in_float16_are_found(name: str) -> None:
    network = norms_in_float16(to_mixed_precision(network_called(name), "float16"))
    cpu = torch.device("cpu")
    for module in exported_modules(network, batch_size=1, device=cpu, check_float32=False):
        lost = operators_not_in_float32(module.program.graph)
        assert lost
        assert all("aten.group_norm" in place for place in lost)
    with pytest.raises(EngineError, match=r"aten\.group_norm"):
        list(exported_modules(network, batch_size=1, device=cpu))
