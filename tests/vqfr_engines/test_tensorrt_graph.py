"""The graphs that TensorRT gets compute in float32 what must; what does not is found."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from vqfr_engines.tensorrt_graph import (
    ExportedModule,
    check_float32_operators,
    exported_modules,
    operators_not_in_float32,
    weighs_bands,
)

from tests.vqfr_engines.offline_tensorrt import LITE
from tests.vqfr_engines.small import small_network, tiny_v1, tiny_v2
from vqfr_media.errors import EngineError
from vqfr_media.manifest import Precision
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

type Exporter = Callable[[str, Precision], tuple[ExportedModule, ...]]


def network_called(name: str) -> VqfrV1 | VqfrV2:
    """Lite as it is shipped, or one of the published layouts at three levels."""
    one, channels = (1, 1, 1), (8, 8, 16)
    levels: dict[str, Any] = {"channels": channels, "encoder_blocks": one, "texture_blocks": one}
    v2 = replace(tiny_v2().config, **levels)
    match name:
        case "lite":
            return load_network(LITE)
        case "v1_small":
            return VqfrV1(replace(tiny_v1().config, **levels, offset_channels=channels)).eval()
        case "v2_small":
            return VqfrV2(v2).eval()
        case "v2_nearest_small":
            return VqfrV2(replace(v2, look_up="nearest")).eval()
    raise ValueError(name)


@pytest.fixture(scope="module")
def modules_of() -> Exporter:
    """Exports a network for three faces, each only once."""

    @cache
    def export(name: str, precision: Precision) -> tuple[ExportedModule, ...]:
        network = to_mixed_precision(network_called(name), precision)
        return tuple(exported_modules(network, batch_size=3, device=torch.device("cpu")))

    return export


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["lite", "v1_small", "v2_small", "v2_nearest_small"])
def test_exported_graphs_keep_layers_in_float32(
    name: str, precision: Precision, modules_of: Exporter
) -> None:
    half = getattr(torch, precision)
    found = {module.name: module.program.graph for module in modules_of(name, precision)}
    assert list(found) == ["encoder", "decoder"]
    for graph in found.values():
        assert operators_not_in_float32(graph) == []
        types = [
            node.meta["val"].dtype
            for node in graph.nodes
            if "conv2d" in str(node.target) and not weighs_bands(node)
        ]
        assert types.count(half) > len(types) / 2  # or there would be nothing to be gained
    deformable = [n for n in found["decoder"].nodes if "vqfr.deform_conv2d" in str(n.target)]
    assert len(deformable) == (4 if name == "lite" else 3)
    assert {node.meta["val"].dtype for node in deformable} == {half}


@pytest.mark.parametrize("name", ["lite", "v2_small"])
def test_encoder_and_decoder_take_and_give_float32(name: str, modules_of: Exporter) -> None:
    config = network_called(name).config
    size, latent = config.image_size, list(config.latent_shape)
    encoder, decoder = modules_of(name, "float16")
    fidelity_input = [("fidelity", [1])] if name == "v2_small" else []
    crops, latents = ("crops", [3, 3, size, size]), ("latents", [3, *latent])
    for module, inputs, output in (
        (encoder, [crops], latents),
        (decoder, [crops, latents, *fidelity_input], ("output", crops[1])),
    ):
        given = [list(argument.shape) for argument in module.arguments]
        assert list(zip(module.inputs, given, strict=True)) == inputs
        (result,) = module.program.graph.output_node().all_input_nodes
        assert (module.output, list(result.meta["val"].shape)) == output
        ends = [*(n for n in module.program.graph.nodes if n.name in module.inputs), result]
        assert {node.meta["val"].dtype for node in ends} == {torch.float32}
        assert len(ends) == len(inputs) + 1


def exported(module: nn.Module, *arguments: torch.Tensor) -> torch.fx.Graph:
    graph: torch.fx.Graph = torch.export.export(module.eval(), arguments, strict=False).graph
    return graph


class Chooser(nn.Module):
    """Distances in half, compared in float32: too late."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.half() @ x.half().t()).float().argmin(dim=-1).float()


class Sampler(nn.Module):
    """Offsets through half, rounded to an eighth of a pixel at 256."""

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        from vqfr_deform_conv.operator import deform_conv2d

        rounded = offset.half().float()
        mask, weight = offset[:, :9], x.new_ones(4, 4, 3, 3)
        return deform_conv2d(x, rounded, mask, weight, x.new_ones(4), 1, 1, 1, 1)


class Norm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.group_norm(x.half(), 2).float()


class Out(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv(x.half())
        return result.float().clamp(0, 1)


@pytest.mark.parametrize(
    ("module", "shapes", "complaint"),
    [
        (Norm(), [(1, 4, 8, 8)], "aten.group_norm"),
        (Chooser(), [(5, 3)], "what argmin chooses by"),
        (Sampler(), [(1, 4, 8, 8), (1, 18, 8, 8)], "the coordinates of deform_conv2d"),
        (Out(), [(1, 4, 8, 8)], "the output clamp"),
    ],
)
def test_a_lost_island_is_found(
    module: nn.Module, shapes: list[tuple[int, ...]], complaint: str
) -> None:
    graph = exported(module, *(torch.zeros(shape) for shape in shapes))
    with pytest.raises(EngineError, match=complaint) as error:
        check_float32_operators(graph, name="decoder")
    assert "--precision float32" in str(error.value)


def test_lost_islands_within_the_band_gains_are_found() -> None:
    network = small_network()
    for module in network.band_gains.blocks.modules():
        if isinstance(module, nn.Conv2d):
            module.half()
            module.register_forward_pre_hook(lambda _, given: (given[0].half(),))
            module.register_forward_hook(lambda _, __, result: result.float())
    with pytest.raises(EngineError, match="the output clamp"):
        list(exported_modules(network, batch_size=1, device=torch.device("cpu")))


def test_half_precision_elsewhere_is_accepted() -> None:
    class Inner(Out):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = nn.functional.group_norm(super().forward(x), 2)
            return nn.functional.conv2d(wide, wide.new_ones(4, 4, 1, 1))

    graph = exported(Inner(), torch.zeros(1, 4, 8, 8))
    assert operators_not_in_float32(graph) == []
    values = [node.meta.get("val") for node in graph.nodes if node.op == "call_function"]
    assert torch.float16 in {value.dtype for value in values if isinstance(value, torch.Tensor)}
