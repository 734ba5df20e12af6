"""The self-test: outcomes are told apart, and what needs no GPU is checked without one."""

import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d
from vqfr_deform_conv.operator import deform_conv2d as our_operator
from vqfr_deform_conv.tiling import Convolution, Tile, tiles
from vqfr_engines import selftest
from vqfr_engines.activations import largest_activations
from vqfr_engines.engine_checks import CheckFailedError
from vqfr_engines.own_process import in_own_process
from vqfr_engines.parity import fixed_crops
from vqfr_engines.random_networks import published_config, random_network
from vqfr_engines.selftest_kernels import MOST, KernelInputs, by_torchvision, check_kernels, levels
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
from vqfr_engines.selftest_point import CheckResult, SelftestBackend, checked, points_of
from vqfr_engines.selftest_tensorrt import ALONE_RMS, TensorrtChecks, norms_in_float16
from vqfr_engines.selftest_torch import largest_batch
from vqfr_engines.tensorrt_graph import exported_modules, operators_not_in_float32

from tests.vqfr_engines.offline_tensorrt import LITE, network_called
from tests.vqfr_engines.small import small_network
from tests.vqfr_media.test_gpu_memory import exhausted
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.network.deform import ModulatedDeformConv
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
def test_every_outcome_is_told(check: Any, outcome: str, detail: str) -> None:
    found = checked(1, "first", check)
    assert (found.number, found.name, found.outcome, found.detail) == (1, "first", outcome, detail)
    assert found.seconds >= 0


def test_a_process_that_crashes_hangs_or_gives_nothing_is_one_clause() -> None:
    def ended(how: str, seconds: float = 300) -> tuple[Any, str]:
        end = in_own_process("tests.vqfr_engines.ending_process", {"how": how}, seconds=seconds)
        assert bool(end.answer) != bool(end.fault)
        return end.answer, end.fault

    assert ended("answer") == ({"asked": {"how": "answer"}}, "")
    assert ended("crash") == (None, "its process crashed (SIGSEGV): last words")
    assert ended("exit") == (None, "its process ended with exit code 7: last words")
    assert ended("nothing") == (None, "it ended without a result: last words")
    assert ended("hang", 1.5)[1].startswith("it was not done after 2 s and was ended")
    # What it has given stands, whatever comes after.
    assert ended("answer then crash") == ({"asked": {"how": "answer then crash"}}, "")


def test_each_point_is_a_process_of_its_own_and_may_end_alone(weights: Path) -> None:
    points = selftest.run("torch", device="cpu", weights=weights, seconds=0.01)
    first, second = islice(points, 2)
    assert [first.number, second.number] == [1, 2]
    assert first.name == "how large the values inside the network become"
    assert {first.outcome, second.outcome} == {"failed"}
    assert first.detail.startswith("it was not done after 0 s and was ended")


@pytest.mark.slow
def test_torch_holds_what_its_design_assumes(weights: Path) -> None:
    facts = selftest.machine("cpu")
    assert f"torch {torch.__version__.partition('+')[0]}" in selftest.facts_line(facts)
    results = outcomes("torch", "cpu", weights=weights)
    assert [result.outcome for result in results] == ["passed"] * 5 + ["skipped"]
    assert results[-1].detail == "only a GPU's memory is filled by batches"
    assert results[0].figures["encoder.conv_in"] > 0


def outcomes(
    backend: SelftestBackend, device: str, *, weights: Path | None = None
) -> list[CheckResult]:
    return list(selftest.run(backend, device=device, weights=weights))


def test_without_its_library_a_point_is_skipped_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    points = points_of("tensorrt", tmp_path, device="cuda", model="lite", weights=LITE)
    # The first compiles kernels, which takes long.
    found = [checked(number, *point) for number, point in enumerate(points[1:], start=2)]
    assert [result.outcome for result in found] == ["skipped"] * 8
    for result in found:
        assert (
            "pip install" in result.detail or "CUDA" in result.detail or "NVIDIA" in result.detail
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_kernels_and_v2_want_a_gpu_and_say_so(tmp_path: Path) -> None:
    points = points_of("inductor", tmp_path, device="cpu", model="lite", weights=LITE)
    found = [checked(number, *point) for number, point in enumerate(points[-2:], start=6)]
    assert [result.outcome for result in found] == ["skipped"] * 2
    assert [result.detail for result in found] == [
        "our kernel runs on NVIDIA GPUs only",
        "only a GPU runs v2 in batches",
    ]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_without_a_gpu_every_tensorrt_point_is_skipped_and_says_why() -> None:
    results = outcomes("tensorrt", "cuda")
    assert [result.number for result in results] == list(range(1, 10))
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


@pytest.mark.parametrize("name", ["lite", "tiny_v2"])
def test_norms_in_float16_are_found(name: str) -> None:
    network = norms_in_float16(to_mixed_precision(network_called(name), "float16"))
    cpu = torch.device("cpu")
    for module in exported_modules(network, batch_size=1, device=cpu, check_float32=False):
        lost = operators_not_in_float32(module.program.graph)
        assert lost
        assert all("aten.group_norm" in place for place in lost)
    with pytest.raises(EngineError, match=r"aten\.group_norm"):
        list(exported_modules(network, batch_size=1, device=cpu))


def by_our_operator(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    convolution: Convolution,
    tile: Tile,
) -> Tensor:
    """Rounds where the kernel does: on the CPU it is torchvision's, result in the data's type."""
    del tile
    return our_operator(x, offset, mask, weight, bias, 1, 1, 1, convolution.offset_groups)


SMALL = Convolution(
    channels=16,
    height=32,
    width=32,
    out_channels=16,
    out_height=32,
    out_width=32,
    offset_groups=2,
    kernel_height=3,
    kernel_width=3,
    stride=1,
    padding=1,
    dilation=1,
)


def test_every_tile_is_compared_in_both_layouts() -> None:
    cpu = torch.device("cpu")
    tried: list[tuple[bool, torch.dtype, Tile]] = []

    def run(*given: Any) -> Tensor:
        tried.append((given[0].is_contiguous(), given[0].dtype, given[-1]))
        return by_our_operator(*given)

    found = check_kernels([SMALL], device=cpu, run=run, types=tuple(MOST))
    wanted = [
        (plain, dtype, tile)
        for dtype in MOST
        for plain in (False, True)
        for tile in dict.fromkeys(tiles(SMALL, element_bytes=dtype.itemsize))
    ]
    assert tried == wanted
    assert len(found.figures) == len(wanted)
    assert max(found.figures.values()) <= max(MOST.values())


def test_one_wrong_tile_of_one_type_is_named() -> None:
    wrong = tiles(SMALL, element_bytes=2)[1]

    def run(*given: Any) -> Tensor:
        result = by_our_operator(*given)
        return result * 1.01 if given[-1] == wrong and given[0].is_contiguous() else result

    with pytest.raises(CheckFailedError) as error:
        check_kernels([SMALL], device=torch.device("cpu"), run=run, types=(torch.float16,))
    name = f"32 px x 16 float16 NCHW {wrong.pixels}x16x16 {wrong.warps}w {wrong.stages}s"
    assert f"1 of 10 kernels are off: {name} 1.0e-02, 1e-03 may be" in str(error.value)


def test_the_published_levels_are_all_there_once() -> None:
    found = [(c.height, c.channels) for c in levels("v1", "v2")]
    assert found == [
        (512, 64), (512, 128), (256, 128), (128, 128), (128, 256), (64, 256), (32, 256), (16, 512),
    ]  # fmt: skip


def test_coordinates_in_half_precision_are_beyond_what_a_kernel_may() -> None:
    def run(*given: Any) -> Tensor:
        x, offset, mask, weight, bias, *_ = given
        # Places between 256 and 512, where float16 holds multiples of a quarter.
        rounded = (offset + 256).half().float() - 256
        inputs = KernelInputs(x=x, offset=rounded, mask=mask, weight=weight, bias=bias)
        return by_torchvision(inputs).half()

    with pytest.raises(CheckFailedError, match="kernels are off"):
        check_kernels([SMALL], device=torch.device("cpu"), run=run, types=(torch.float16,))


def test_the_largest_activation_is_that_of_the_layer() -> None:
    network = small_network()
    crops = fixed_crops(64)[:2]
    largest = largest_activations(network, crops, fidelity=0.5)
    with torch.inference_mode():
        seen = network.encoder.conv_in(crops * 2 - 1).abs().max()
    assert largest["encoder.conv_in"] == pytest.approx(float(seen), rel=1e-6)
    assert list(largest.values()) == sorted(largest.values(), reverse=True)
    with torch.no_grad():
        network.encoder.conv_in.weight.fill_(float("nan"))
    broken = largest_activations(network, crops, fidelity=0.5)
    assert broken["encoder.conv_in"] == float("inf")
    assert not any(module._forward_hooks for module in network.modules())


def test_random_networks_are_the_same_every_time_and_their_warps_move() -> None:
    before = torch.get_rng_state()
    one, other = (random_network(published_config("lite")) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    moving = [m for m in one.modules() if isinstance(m, ModulatedDeformConv)]
    assert moving
    assert all(float(m.conv_offset.weight.detach().std()) > 0.01 for m in moving)
    with pytest.raises(ValueError, match="no network 'v3'; there are v1, v2 and lite"):
        published_config("v3")


@pytest.mark.parametrize(("most", "fits"), [(2, 2), (5, 4), (99, 16)])
def test_the_largest_batch_is_found_by_doubling(most: int, fits: int) -> None:
    engine = exhausted(most=most, batch_size=2)
    assert largest_batch(engine, start=2, most=16) == fits
    assert engine.spec.batch_size == 2
