"""Encoder and decoder of a network as graphs for TensorRT, and the types inside them."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vqfr_media.backends.tensorrt_library import import_torch_tensorrt
from vqfr_media.errors import EngineError
from vqfr_media.network.deform import use_operator
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

# Float32 throughout: statistics, the choice of a code, and softmax.
_FLOAT32_OPERATORS = (
    "aten.group_norm",
    "aten.native_group_norm",
    "aten.layer_norm",
    "aten.native_layer_norm",
    "aten.scaled_dot_product_attention",
    "aten.softmax",
    "aten._softmax",
    "aten.argmin",
    "aten.argmax",
)
_CHOICES = ("aten.argmin", "aten.argmax")
_CONVOLUTIONS = ("aten.conv2d", "aten.convolution")
_DEFORM = "vqfr.deform_conv2d"
_OFFSET_AND_MASK = slice(1, 3)


@dataclass(frozen=True, kw_only=True)
class ExportedModule:
    """The encoder or the decoder of a network, exported for a fixed number of faces."""

    name: str
    """encoder or decoder."""
    program: torch.export.ExportedProgram
    """Its graph."""
    arguments: tuple[Tensor, ...]
    """Tensors of the shapes, types and device it was exported with."""
    inputs: tuple[str, ...]
    """Names of the arguments, which TensorRT's bindings get too."""
    output: str
    """Name of the one output."""


def exported_modules(
    network: VqfrV1 | VqfrV2, *, batch_size: int, device: torch.device, check_float32: bool = True
) -> Iterator[ExportedModule]:
    """Exports the encoder's graph, then the decoder's, with our deformable convolution.

    Args:
        network: moved to `device`, again for the decoder: a builder may have moved it away.
        batch_size: faces in one run.
        device: where the graphs' constants lie.
        check_float32: refuse a graph that computes in half precision what must stay float32; only
            a measurement does without.

    Raises:
        EngineError: a graph computes in half precision where it must not.
    """
    from vqfr_deform_conv.operator import deform_conv2d

    use_operator(network, deform_conv2d)
    side = network.config.image_size
    crops = torch.zeros(batch_size, 3, side, side, device=device)
    latents = torch.zeros(batch_size, *network.config.latent_shape, device=device)
    fidelity_input = (
        {"fidelity": torch.zeros(1, device=device)} if isinstance(network, VqfrV2) else {}
    )
    decoder_inputs = {"crops": crops, "latents": latents, **fidelity_input}
    for name, module, inputs, output in (
        ("encoder", EncoderModule(network), {"crops": crops}, "latents"),
        ("decoder", DecoderModule(network), decoder_inputs, "output"),
    ):
        network.to(device)
        arguments = tuple(inputs.values())
        with torch.no_grad():
            program = torch.export.export(module.eval(), arguments, strict=False)
        if check_float32:
            check_float32_operators(program.graph, name=name)
        yield ExportedModule(
            name=name, program=program, arguments=arguments, inputs=tuple(inputs), output=output
        )


def check_float32_operators(graph: fx.Graph, *, name: str) -> None:
    """Refuses a graph that computes in half precision what decides more than it costs.

    Raises:
        EngineError: naming the first few places.
    """
    places = operators_not_in_float32(graph)
    if places:
        raise EngineError(
            f"the {name}'s graph computes in half precision what must stay float32: "
            f"{'; '.join(places[:4])}; this is a fault of ours, --precision float32 avoids it"
        )


def operators_not_in_float32(graph: fx.Graph) -> list[str]:
    """Finds where `graph` leaves float32 though it should not; empty is good.

    Looked at are group and layer normalisation, softmax and attention; everything that a choice of
    codes depends on; the offsets and masks of deformable convolutions, and the graph's outputs,
    each back to the convolution that computes it.
    """
    found = []
    for node in graph.nodes:
        operator = _operator(node)
        if operator in _FLOAT32_OPERATORS:
            found += _not_float32((node, *node.all_input_nodes), f"{operator} {node.name}")
        if operator in _CHOICES:
            found += _not_float32(_before(node, stop=()), f"what {node.name} chooses by")
        if operator == _DEFORM:
            for source in node.args[_OFFSET_AND_MASK]:
                nodes = (source, *_before(source, stop=_CONVOLUTIONS))
                found += _not_float32(nodes, f"the coordinates of {node.name}")
        if node.op == "output":
            for source in node.all_input_nodes:
                nodes = (source, *_before(source, stop=_CONVOLUTIONS))
                found += _not_float32(nodes, f"the output {source.name}")
    return list(dict.fromkeys(found))


def dry_run(exported: ExportedModule, settings: dict[str, Any]) -> list[fx.Graph]:
    """Returns what torch_tensorrt would hand to TensorRT: one graph per engine, nothing is built.

    Args:
        exported: of a network on any device; without a GPU see docs/tensorrt.md.
        settings: of the torch_tensorrt compiler.

    Returns:
        The engines' graphs as TensorRT gets them; a module that converts whole gives exactly one.

    Raises:
        BackendError: torch_tensorrt is not here.
        EngineError: an operator has no converter.
    """
    torch_tensorrt = import_torch_tensorrt()
    from vqfr_deform_conv.converter import register

    register()
    # It prints its statistics whether or not anyone asks.
    with contextlib.redirect_stdout(io.StringIO()) as statistics:
        module = torch_tensorrt.dynamo.compile(
            exported.program, arg_inputs=list(exported.arguments), dryrun=True, **settings
        )
    engines = [
        part.graph for name, part in module.named_children() if name.startswith("_run_on_acc")
    ]
    if not engines:
        raise EngineError(
            f"torch_tensorrt converts nothing of the {exported.name}: "
            f"{statistics.getvalue().strip()}"
        )
    return engines


def _operator(node: fx.Node) -> str:
    """Returns `aten.conv2d` of `aten.conv2d.default`; empty where no operator is called."""
    return str(node.target).rpartition(".")[0] if node.op == "call_function" else ""


def _before(node: fx.Node, *, stop: tuple[str, ...]) -> Iterator[fx.Node]:
    """Finds all that `node` depends on, through operators other than those of `stop`.

    A stopping operator's own inputs are still given, but not what lies before them. The band gains
    are float32 from end to end, so their convolutions do not stop it.
    """
    seen, waiting = {node}, [node]
    while waiting:
        current = waiting.pop()
        for source in current.all_input_nodes:
            if source in seen:
                continue
            seen.add(source)
            yield source
            if _operator(current) not in stop or weighs_bands(current):
                waiting.append(source)


def weighs_bands(node: fx.Node) -> bool:
    """Tells whether `node` belongs to the module of the band gains."""
    modules = node.meta.get("nn_module_stack", {}).values()
    return any("band_gains" in path.split(".") for path, _ in modules)


def _not_float32(nodes: Any, what: str) -> list[str]:
    places = []
    for node in nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float32:
            places.append(f"{what} ({node.name} is {str(value.dtype).removeprefix('torch.')})")
    return places
