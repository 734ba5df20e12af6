"""Runs torch_tensorrt without a GPU, in a process of its own; prints one line of JSON.

usage: python offline_tensorrt.py COMMAND [+ COMMAND]...

COMMAND is check DEVICE, builder NETWORK, dry-run PRECISION NETWORK..., convert PRECISION NETWORK...
or faults. The results are a list in their order: what takes long to import and to export is shared.
A check comes first, and a builder not beside conversions, which have a stand-in for TensorRT's.

Needs the folder that `trt_offline/setup.sh` makes on PYTHONPATH and LD_LIBRARY_PATH.
"""

import functools
import importlib
import itertools
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from vqfr_engines import tensorrt
from vqfr_engines.tensorrt_graph import (
    ExportedModule,
    dry_run,
    exported_modules,
    operators_not_in_float32,
    weighs_bands,
)

import vqfr_media
from tests.vqfr_engines.small import tiny_v2
from vqfr_media.errors import VqfrMediaError
from vqfr_media.manifest import Precision
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config

LITE = Path(vqfr_media.__file__).parent / "models" / "lite.safetensors"
SMALL = (32, 32, 64, 64, 64, 128)


def network_called(name: str) -> VqfrV1 | VqfrV2:
    """lite, v1, v2, or a small or tiny one of the published layout; float32, in eval mode."""
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "image_size": 128,
        "channels": SMALL,
        "codebook_size": 64,
        "code_channels": 64,
    }
    match name:
        case "lite":
            return load_network(LITE)
        case "v1":
            return VqfrV1(vqfr_v1_config()).eval()
        case "v1_small":
            return VqfrV1(replace(vqfr_v1_config(), **small, offset_channels=SMALL)).eval()
        case "tiny_v2":
            return tiny_v2()
        case "v2":
            return VqfrV2(vqfr_v2_config()).eval()
        case "v2_small" | "v2_nearest_small":
            blocks: dict[str, Any] = {"encoder_blocks": (1,) * 6, "texture_blocks": (1,) * 6}
            config = replace(vqfr_v2_config(), **small, **blocks)
            if "nearest" in name:
                config = replace(config, look_up="nearest")
            return VqfrV2(config).eval()
    raise ValueError(name)


def main(arguments: list[str]) -> Any:
    match arguments:
        case ["check", device]:
            return said(lambda: tensorrt.check(device))
        case ["builder", name]:
            modules = exported_modules(
                network_called(name), batch_size=1, device=torch.device("cpu")
            )
            return {module.name: said(lambda module=module: build(module)) for module in modules}
        case ["dry-run", precision, *names]:
            return {name: dry_runs(name, cast(Precision, precision)) for name in names}
        case ["faults"]:
            return refused()
        case ["convert", precision, *names]:
            return {name: conversions(name, cast(Precision, precision)) for name in names}
    raise ValueError(arguments)


@functools.cache
def exported(name: str, precision: Precision) -> tuple[ExportedModule, ...]:
    """Encoder and decoder for two faces."""
    network = to_mixed_precision(network_called(name), precision)
    return tuple(exported_modules(network, batch_size=2, device=torch.device("cpu")))


def dry_runs(name: str, precision: Precision) -> dict[str, Any]:
    options = tensorrt.BuilderOptions().compiler()
    found = {}
    for module in exported(name, precision):
        graphs = dry_run(module, options)
        nodes = [node for graph in graphs for node in graph.nodes if node.op == "call_function"]
        # The gains of bands are float32 on purpose.
        convolutions = [
            node
            for node in nodes
            if "aten.convolution" in str(node.target) and not weighs_bands(node)
        ]
        found[module.name] = {
            "engines": len(graphs),
            "operators": len(nodes),
            "not_in_float32": [
                place for graph in graphs for place in operators_not_in_float32(graph)
            ],
            "convolutions": [str(node.meta["val"].dtype) for node in convolutions],
            "deformable": [
                str(node.meta["val"].dtype) for node in nodes if "deform_conv2d" in str(node.target)
            ],
            "inputs": [list(argument.shape) for argument in module.arguments],
        }
    return found


def conversions(name: str, precision: Precision) -> dict[str, Any]:
    from tests.vqfr_engines.typed_network import RecordingBuilder

    found = {}
    for module in exported(name, precision):
        ended = said(lambda module=module: build(module))
        recorded = RecordingBuilder.latest
        kinds = [layer.kind for layer in recorded.layers]
        found[module.name] = {
            "ended": ended,
            "faults": recorded.faults(),
            "inputs": [
                layer.get_output(0).name for layer in recorded.layers if layer.kind == "input"
            ],
            "outputs": [[t.name, list(t.shape), t.dtype.name] for t in recorded.outputs],
            "types": {
                kind: sorted(recorded.types(kind)) for kind in set(kinds) - {"input", "constant"}
            },
            "deformable": kinds.count("deform"),
        }
    return found


def refused() -> list[str]:
    """What the recorded network says of layers that TensorRT would refuse."""
    import numpy as np
    import tensorrt as trt  # not the module of ours

    from tests.vqfr_engines.typed_network import RecordedNetwork

    network = RecordedNetwork()
    half = network.add_input("half", trt.DataType.HALF, (1, 8, 4, 4))
    single = network.add_input("single", trt.DataType.FLOAT, (1, 8, 4, 4))
    weights = np.zeros((8, 8, 1, 1), np.float32)
    network.add_elementwise(half, single, trt.ElementWiseOperation.SUM)
    network.add_elementwise(half, half, trt.ElementWiseOperation.SUM)
    network.add_convolution_nd(half, 8, (1, 1), weights)
    network.add_convolution_nd(single, 8, (1, 1), weights)
    kernel = network.add_input("kernel", trt.DataType.HALF, (3, 3, 8, 8))
    network.add_plugin((half, half, single, kernel, half), aot=True)
    return [fault.partition(":")[0] for fault in network.faults()]


def build(module: ExportedModule) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tensorrt.plan_of(
            module,
            device=torch.device("cuda:0"),
            options=tensorrt.BuilderOptions(),
            timing_cache=Path(folder, "timing"),
        )


def said(call: Any) -> list[str]:
    """The error that `call` ends with, as its class and its message."""
    try:
        call()
    except VqfrMediaError as error:
        return [type(error).__name__, str(error)]
    return []


def prepare(command: str) -> None:
    """Puts in place what `command` runs with."""
    if command != "check":  # the answers of a GPU that is not there
        importlib.import_module("fake_cuda")
    if command in ("dry-run", "convert", "faults"):  # a dry run builds nothing
        importlib.import_module("tests.vqfr_engines.typed_network").install()


if __name__ == "__main__":
    words = itertools.groupby(sys.argv[1:], "+".__eq__)
    results = []
    for command in [list(group) for separates, group in words if not separates]:
        prepare(command[0])
        results.append(main(command))
    sys.stdout.write(json.dumps(results) + "\n")
