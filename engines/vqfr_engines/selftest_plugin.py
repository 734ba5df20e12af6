"""The deformable convolution alone in a TensorRT network, and what TensorRT made of a network.

A plain convolution before and behind it lets TensorRT choose the layout, as in the real network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx
from torchvision.ops import deform_conv2d
from vqfr_deform_conv.tensorrt_plugin import LOG as PLUGIN_LOG
from vqfr_deform_conv.tiling import Convolution

from vqfr_media.backends.tensorrt_engine import TensorrtPlan
from vqfr_media.backends.tensorrt_library import (
    collected_errors,
    import_tensorrt,
    last_reasons,
    log_bridge,
)
from vqfr_media.errors import EngineError

CHANNELS, SIDE, GROUPS, FACES = 64, 64, 4, 2
# Samples reach this far, so that some fall outside the image.
OFFSET_PIXELS = 8.0


@dataclass(frozen=True, kw_only=True)
class AloneInputs:
    """One deformable convolution's tensors, in float32 on the CPU, exact in float16."""

    x: Tensor
    """(FACES, CHANNELS, SIDE, SIDE)."""
    offset: Tensor
    """(FACES, 18 * GROUPS, SIDE, SIDE) pixels."""
    mask: Tensor
    """(FACES, 9 * GROUPS, SIDE, SIDE)."""
    weight: Tensor
    """(CHANNELS, CHANNELS, 3, 3)."""
    bias: Tensor
    """(CHANNELS,)."""

    def expected(self) -> Tensor:
        """Computes what torchvision makes of them in float32."""
        result: Tensor = deform_conv2d(
            self.x, self.offset, self.weight, self.bias, padding=1, mask=self.mask
        )
        return result


def alone_inputs() -> AloneInputs:
    """Draws the same tensors at every call."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale).half().float()

    return AloneInputs(
        x=normal(FACES, CHANNELS, SIDE, SIDE),
        offset=normal(FACES, 18 * GROUPS, SIDE, SIDE, scale=OFFSET_PIXELS),
        mask=torch.sigmoid(normal(FACES, 9 * GROUPS, SIDE, SIDE)),
        weight=normal(CHANNELS, CHANNELS, 3, 3, scale=1 / 24),
        bias=normal(CHANNELS),
    )


def alone_plan(path: Path, inputs: AloneInputs, *, device: torch.device) -> TensorrtPlan:
    """Builds the network around one deformable convolution in float16 to `path`, and loads it.

    Raises:
        BackendError: TensorRT is not here.
        EngineError: it refuses the network or the plugin.
    """
    tensorrt = import_tensorrt()
    with torch.cuda.device(device), collected_errors(PLUGIN_LOG) as errors:
        builder = tensorrt.Builder(log_bridge(tensorrt))
        aot = 1 << int(tensorrt.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS)
        network = builder.create_network(aot)
        kept = _describe(tensorrt, network, inputs)
        config = builder.create_builder_config()
        config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
        plan = builder.build_serialized_network(network, config)
        del kept  # TensorRT does not copy the weights before it builds
    if plan is None:
        raise EngineError(f"TensorRT refuses the plugin: {last_reasons(errors, 'no reason')}")
    path.write_bytes(bytes(plan))
    shapes = {name: tuple(getattr(inputs, name).shape) for name in ("x", "offset", "mask")}
    return TensorrtPlan(path, device=device, inputs=shapes, outputs={"y": shapes["x"]})


def _describe(tensorrt: ModuleType, network: Any, inputs: AloneInputs) -> list[Any]:
    """Adds cast, 1x1 identity, deformable convolution, 1x1 identity, cast; gives what must live."""
    from vqfr_deform_conv.tensorrt_plugin import PluginKey, plugin

    half, single = tensorrt.DataType.HALF, tensorrt.DataType.FLOAT
    x, offset, mask = (
        network.add_input(name, single, tuple(getattr(inputs, name).shape))
        for name in ("x", "offset", "mask")
    )
    identity = torch.eye(CHANNELS).reshape(CHANNELS, CHANNELS, 1, 1).half().numpy()
    weight = inputs.weight.permute(2, 3, 1, 0).contiguous().half().numpy()
    bias, zero = inputs.bias.half().numpy(), torch.zeros(CHANNELS).half().numpy()

    def convolved(data: Any, name: str) -> Any:
        layer = network.add_convolution_nd(
            data, CHANNELS, (1, 1), tensorrt.Weights(identity), tensorrt.Weights(zero)
        )
        layer.name = name
        return layer.get_output(0)

    constants = (
        network.add_constant(values.shape, tensorrt.Weights(values)).get_output(0)
        for values in (weight, bias)
    )
    before = convolved(network.add_cast(x, half).get_output(0), "before")
    key = PluginKey(1, 1, 1, GROUPS, torch.float16)
    layer = network.add_plugin(plugin(key)(before, offset, mask, *constants), aot=True)
    layer.name = "deform_conv2d"
    behind = convolved(layer.get_output(0), "behind")
    y = network.add_cast(behind, single).get_output(0)
    y.name = "y"
    network.mark_output(y)
    return [identity, weight, bias, zero]


def layers_of(plan: TensorrtPlan) -> list[Mapping[str, Any]]:
    """Reads what TensorRT tells of each layer: its name alone, unless built to tell more."""
    tensorrt = import_tensorrt()
    inspector = plan.engine.create_engine_inspector()
    # Only with a context it names the formats in full.
    inspector.execution_context = plan.context
    return parsed_layers(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))


def parsed_layers(text: str) -> list[Mapping[str, Any]]:
    """Reads the layers in the inspector's JSON; a mere name becomes `{"Name": name}`."""
    found = json.loads(text, strict=False)["Layers"]
    return [layer if isinstance(layer, dict) else {"Name": str(layer)} for layer in found]


def num_reformats(layers: Sequence[Mapping[str, Any]]) -> int:
    """Counts the layers that only turn one memory layout into another."""
    return sum(
        layer.get("LayerType") == "Reformat" or "reformatting copynode" in layer["Name"].lower()
        for layer in layers
    )


def data_formats(layers: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Formats of the deformable convolution's data in and out, in TensorRT's words.

    None where no layer of that name tells them: on some GPUs it is fused under another name.
    """
    for layer in layers:
        if "deform_conv2d" in layer["Name"] and layer.get("Inputs") and layer.get("Outputs"):
            tensors = (layer["Inputs"][0], layer["Outputs"][0])
            first, last = (str(t.get("Format/Datatype", t.get("Format", ""))) for t in tensors)
            return first, last
    return None


def is_channels_last(data_format: str) -> bool:
    """Tells whether TensorRT's name of a format means channels last, 8 together: HWC8."""
    return "HWC8" in data_format or "channel % 8 == 0" in data_format


def convolutions_of(graph: fx.Graph) -> list[Convolution]:
    """Finds the shapes of the deformable convolutions in an exported graph, each once, in order."""
    found = []
    for node in graph.nodes:
        if "vqfr.deform_conv2d" in str(node.target):
            x, offset, mask, weight, bias = (node.meta["val"].shape for node in node.args[:5])
            stride, padding, dilation, offset_groups = node.args[5:9]
            found.append(
                Convolution.of(
                    x=x,
                    offset=offset,
                    mask=mask,
                    weight=weight,
                    bias=bias,
                    stride=stride,
                    padding=padding,
                    dilation=dilation,
                    offset_groups=offset_groups,
                )
            )
    return list(dict.fromkeys(found))
