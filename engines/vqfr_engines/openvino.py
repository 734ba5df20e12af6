"""Builds engines with OpenVINO for CPUs: IR files of encoder, look-up and decoder.

The encoder and the choice of the codes are float32 in every engine. Measured on the lite network
and 24 degraded faces: an encoder in bfloat16 flips 1.9 % of the codes, and keeping its last two or
six convolutions in float32 leaves 1.9 %; a look-up in bfloat16 flips 10.2 % (of
12 faces). With both in float32 none flip, and they are a fifth of the work.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqfr_media.backends.openvino_library import (
    convert_model,
    failures,
    openvino,
    reason_of,
    version,
)
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.manifest import Precision
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

# Part of an engine's identity: raised with every change of what the conversion computes.
_CONVERSION = 3
# The mark that keeps a layer in float32. The CPU plugin heeds it in models read from a file.
_KEEP_FLOAT32 = "precise_0"
# What OpenVINO 2026 writes for it, which spares a layer from float16 alone, and what is meant.
_WRITTEN_MARK, _MEANT_MARK = 'value="dynamic:f16"', 'value="dynamic:bf16"'


def check(device: str) -> None:
    """Checks that an engine can run on `device` (auto or cpu).

    Raises:
        BackendError: OpenVINO is not installed, or another device is asked for.
    """
    if device not in ("auto", "cpu"):
        raise BackendError(
            f"the openvino backend runs on CPUs, not on {device}: "
            "use --device cpu, or --backend inductor or tensorrt"
        )
    openvino()


def versions() -> dict[str, str]:
    """Names the libraries that build an engine and run it; torchvision's operator is converted."""
    return {"openvino": version(), "torch": torch.__version__}


def machine(device: str) -> dict[str, str]:
    """Names the processor, and the arithmetic that OpenVINO has instructions for on it."""
    check(device)
    core = openvino().Core()
    capabilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return {
        "cpu": str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "capabilities": " ".join(capabilities),
    }


def settings(precision: Precision) -> dict[str, Any]:
    """Returns what decides the outcome beside network and versions.

    Raises:
        BackendError: OpenVINO does not compute in `precision` on this processor.
    """
    _check_precision(precision)
    return {
        "conversion": _CONVERSION,
        "encoder": "float32",
        "look_up": "float32",
        "decoder": precision,
        "weights": "float32",
    }


def build(
    network: VqfrV1 | VqfrV2, folder: Path, *, precision: Precision, batch_size: int, device: str
) -> None:
    """Writes `encoder`, `decoder.codes` and `decoder` as `.xml` and `.bin`; takes seconds.

    Args:
        network: float32, on the CPU, in eval mode; used up.
        folder: exists and is empty.
        precision: arithmetic of the decoder: float32 or bfloat16.
        batch_size: faces in one run; the graphs' shapes are fixed.
        device: auto or cpu.

    Raises:
        BackendError: OpenVINO or the arithmetic is not here.
        EngineError: OpenVINO cannot convert the network.
        OSError: `folder` cannot be written.
    """
    check(device)
    _check_precision(precision)
    config = network.requires_grad_(False).config
    crops = torch.zeros(batch_size, 3, config.image_size, config.image_size)
    latents = torch.zeros(batch_size, *config.latent_shape)
    fidelity_input = [torch.zeros(1)] if isinstance(network, VqfrV2) else []
    encoder = _converted(EncoderModule(network), (crops,), "encoder")
    look_up = _converted(_LookUp(network), (latents,), "decoder.codes")
    # The rest of the decoder begins behind the look-up: what it gets has been looked up already.
    network.quantize = _unchanged  # type: ignore[method-assign, assignment]
    decoder = _converted(DecoderModule(network), (crops, latents, *fidelity_input), "decoder")
    _ungroup_norms(encoder)
    if precision == "float32":
        _ungroup_norms(decoder)
    else:  # OpenVINO's own normalisation has float32 statistics inside; ours would have bfloat16
        _keep_coordinates(decoder)
        keep_image_in_float32(decoder)
    for name, model in (("encoder", encoder), ("decoder.codes", look_up), ("decoder", decoder)):
        _save(model, folder / f"{name}.xml")
    if precision == "bfloat16":
        spare_marked_from_bfloat16(folder / "decoder.xml")


class _LookUp(nn.Module):
    """Latents to code vectors."""

    def __init__(self, network: VqfrV1 | VqfrV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor) -> Tensor:
        """Maps latents `(N, C, h, w)` to code vectors `(N, C, h, w)`."""
        return self.network.quantize(latents)


def _unchanged(latents: Tensor) -> Tensor:
    return latents


def _check_precision(precision: Precision) -> None:
    if precision == "float16":
        raise BackendError(
            "OpenVINO computes in float32 or bfloat16 on CPUs, not in float16: "
            "use --precision float32"
        )
    capabilities = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and "BF16" not in capabilities:
        raise BackendError(
            "this processor has no instructions for bfloat16 (AVX512-BF16 or AMX): "
            "use --precision float32"
        )


def _converted(module: nn.Module, inputs: tuple[Tensor, ...], name: str) -> Any:
    """Converts `module` to an OpenVINO model, all shapes those of `inputs`."""
    try:
        model = convert_model(module, inputs)
        # The front end leaves shapes open; closed, the plugin plans layouts once and folds more.
        model.reshape({place: list(given.shape) for place, given in enumerate(inputs)})
    except failures() as error:  # what tracing raises among them: RuntimeErrors
        raise EngineError(
            f"OpenVINO {version()} cannot convert {name}: {reason_of(error)}; use --backend torch"
        ) from error
    return model


def _ungroup_norms(model: Any) -> None:
    """Spells group normalisation out so that no layer leaves the convolutions' layout.

    The plugin computes it on a view in which a group's channels lie together, for which every
    feature is copied from channels-last to planar and back: on lite a third of the time.
    """
    op = openvino().opset14
    space = op.constant(np.array([2, 3], np.int64))
    last = op.constant(np.array([2], np.int64))
    for norm in _of_type(model, "GroupNormalization"):
        x, scale, shift = (norm.input_value(place) for place in range(3))
        batch, channels = tuple(x.get_shape())[:2]
        groups = int(norm.get_attributes()["num_groups"])
        grouped = op.constant(np.array([batch, groups, channels // groups], np.int64))
        flat = op.constant(np.array([batch, channels, 1, 1], np.int64))

        def mean(values: Any, grouped: Any = grouped) -> Any:
            """Averages over each group, (N, G, 1); two steps also keep the sums short."""
            of_channels = op.reshape(op.reduce_mean(values, space, True), grouped, False)
            return op.reduce_mean(of_channels, last, True)

        of_groups = op.broadcast(mean(x), grouped)
        centred = op.subtract(x, op.reshape(of_groups, flat, False))
        # Of the centred values: the mean of squares less the squared mean would lose digits.
        variance = mean(op.multiply(centred, centred))
        epsilon = op.constant(np.float32(norm.get_attributes()["epsilon"]))
        inverse = op.power(op.add(variance, epsilon), op.constant(np.float32(-0.5)))
        factor = op.multiply(inverse, op.reshape(scale, op.constant(_shape(1, groups, -1)), False))
        scaled = op.multiply(centred, op.reshape(factor, flat, False))
        shifted = op.add(scaled, op.reshape(shift, op.constant(_shape(1, -1, 1, 1)), False))
        norm.output(0).replace(shifted.output(0))
    model.validate_nodes_and_infer_types()


def _shape(*sides: int) -> Any:
    return np.array(sides, np.int64)


def _keep_coordinates(model: Any) -> None:
    """Marks what computes offsets and masks of the deformable convolutions to stay float32."""
    for warp in _of_type(model, "DeformableConvolution"):
        warp.get_rt_info()[_KEEP_FLOAT32] = ""
        for place in (1, 3):
            for node in _back_from(warp.input_value(place).get_node(), stop=_is_convolution):
                node.get_rt_info()[_KEEP_FLOAT32] = ""


def keep_image_in_float32(model: Any) -> None:
    """Marks what computes a decoder's output from what its main branch has drawn: the band gains.

    Eight bits of significand do not hold the pictures that are taken apart into bands.
    """
    for node in _back_from(model.get_results()[0].input_value(0).get_node(), stop=_draws_an_image):
        node.get_rt_info()[_KEEP_FLOAT32] = ""


def spare_marked_from_bfloat16(path: Path) -> None:
    """Lets the marks in a model's XML file keep layers from bfloat16, not only from float16.

    Without that the plugin computes the gains in bfloat16 on some processors, and on those with AMX
    it cannot load the model at all. Python cannot set the mark that is meant. Older versions of
    OpenVINO write none of these, and spare what is marked from either.
    """
    path.write_text(path.read_text(encoding="utf-8").replace(_WRITTEN_MARK, _MEANT_MARK), "utf-8")


def _is_convolution(node: Any) -> bool:
    return str(node.get_type_name()) == "Convolution"


def _draws_an_image(node: Any) -> bool:
    """Tells whether a convolution makes three channels of features, not of an image."""
    if not _is_convolution(node):
        return False
    return int(node.get_output_shape(0)[1]) == 3 < int(node.get_input_shape(0)[1])


def _back_from(last: Any, *, stop: Callable[[Any], bool]) -> Iterator[Any]:
    """Yields `last` and what it is computed from, each once, up to nodes where to `stop`."""
    waiting, seen = [last], set[str]()
    while waiting:
        node = waiting.pop()
        name = node.get_name()
        # A shape is of integers, and may be taken from anywhere it is the same.
        if node.get_type_name() in ("Constant", "Parameter", "ShapeOf") or name in seen:
            continue
        seen.add(name)
        yield node
        if not stop(node):  # a convolution's bias is added behind it
            waiting += [value.get_node() for value in node.input_values()]


def _of_type(model: Any, name: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == name]


def _save(model: Any, path: Path) -> None:
    try:
        openvino().save_model(model, path, compress_to_fp16=False)
    except failures() as error:
        raise OSError(f"OpenVINO cannot write {path}: {reason_of(error)}") from error
