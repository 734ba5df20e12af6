"""A stand-in for TensorRT's network that takes torch_tensorrt's layers and holds strong typing.

TensorRT refuses a layer whose inputs differ in type; without its library nobody would notice before
a GPU is at hand. Layers propagate shapes and types as TensorRT's documentation says; the converters
that make them are torch_tensorrt's and ours. To be imported before torch_tensorrt.
"""

import math
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorrt as trt

MOST_TOPK = 3840
_SAME_TYPES = ("elementwise", "concatenation", "matmul", "normalization")
_COMPARISONS = ("EQUAL", "GREATER", "LESS", "AND", "OR", "XOR")


class RecordedTensor:
    """What a layer gives; shape and type follow from the layer."""

    is_shape_tensor = False
    is_network_input = False
    location = trt.TensorLocation.DEVICE

    def __init__(self, layer: "RecordedLayer", index: int) -> None:
        self.layer, self.index = layer, index
        self.name = f"{layer.kind} {index}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layer.shape_of(self.index)

    @property
    def dtype(self) -> Any:
        return self.layer.dtype_of(self.index)

    def __repr__(self) -> str:
        return f"{self.name}{self.shape} {self.dtype}"


class RecordedLayer:
    """A layer; what converters set on it afterwards is kept under its own name."""

    def __init__(self, kind: str, inputs: Sequence[Any], **fixed: Any) -> None:
        self.__dict__.update(fixed, kind=kind, inputs=list(inputs), name=kind, known={})
        self.type = SimpleNamespace(name=kind)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.__dict__['kind']} has no {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.known.clear()
        self.__dict__[name] = value

    def get_output(self, index: int) -> RecordedTensor:
        made: RecordedTensor = self.__dict__.setdefault(
            f"output {index}", RecordedTensor(self, index)
        )
        return made

    def set_input(self, index: int, tensor: Any) -> None:
        self.known.clear()
        self.inputs[index:] = [tensor]

    def shape_of(self, index: int) -> tuple[int, ...]:
        if index not in self.known:
            self.known[index] = tuple(int(size) for size in self._shape())
        shape: tuple[int, ...] = self.known[index]
        return shape

    def dtype_of(self, index: int) -> Any:
        match self.kind:
            case "input" | "constant" | "cast":
                return self.given_dtype
            case "topk" if index == 1:
                return trt.DataType.INT32
            case "elementwise" if self.op.name in _COMPARISONS:
                return trt.DataType.BOOL
        return self.inputs[0].dtype

    def faults(self) -> list[str]:
        """Why TensorRT would refuse it."""
        types = [tensor.dtype for tensor in self.inputs]
        found = []
        if self.kind in _SAME_TYPES and len(set(types)) > 1:
            found.append(f"{self.name}: {self.inputs}")
        if self.kind == "convolution":
            found += [
                f"{self.name}: data {types[0]}, weights {weights.dtype}"
                for weights in (self.kernel, self.bias)
                if weights.size and weights.dtype != types[0]
            ]
        if self.kind == "topk" and self.inputs[0].shape[-1] > MOST_TOPK:
            found.append(f"{self.name}: {self.inputs[0]}")
        if self.kind == "deform":
            data, offset, mask, weight, bias = types
            if not (offset == mask == trt.DataType.FLOAT and data == weight == bias):
                found.append(f"{self.name}: {types}")
        self.shape_of(0)
        return found

    def _shape(self) -> Sequence[int]:
        first: tuple[int, ...] = self.inputs[0].shape if self.inputs else ()
        match self.kind:
            case "input" | "constant" | "slice":
                return tuple(self.given_shape)
            case "convolution":
                return (first[0], self.maps, *self._convolved(first[2:]))
            case "pooling":
                steps = self.__dict__.get("stride_nd", self.window)
                edges = self.__dict__.get("padding_nd", (0,) * len(self.window))
                windows = zip(first[2:], self.window, steps, edges, strict=True)
                return (*first[:2], *((d + 2 * e - w) // s + 1 for d, w, s, e in windows))
            case "reduce":
                left = [1 if self.axes >> d & 1 else size for d, size in enumerate(first)]
                return (
                    left
                    if self.keep_dims
                    else [size for d, size in enumerate(first) if not self.axes >> d & 1]
                )
            case "elementwise":
                return _broadcast(first, self.inputs[1].shape)
            case "shuffle":
                return self._shuffled(first)
            case "concatenation":
                axis = self.__dict__.get("axis", 1)
                joined = sum(tensor.shape[axis] for tensor in self.inputs)
                return (*first[:axis], joined, *first[axis + 1 :])
            case "resize":
                sizes = zip(first, self.__dict__.get("scales", first), strict=True)
                return self.__dict__.get("shape") or [math.floor(d * s) for d, s in sizes]
            case "matmul":
                return self._multiplied()
            case "topk":
                return [1 if self.axes >> d & 1 else size for d, size in enumerate(first)]
            case "gather":
                return (*first[: self.axis], *self.inputs[1].shape, *first[self.axis + 1 :])
            case "deform":
                out_channels = self.inputs[3].shape[3]
                assert self.inputs[3].shape[2] == first[1]
                return (first[0], out_channels, *self.inputs[1].shape[2:])
        return first

    def _convolved(self, sizes: Sequence[int]) -> list[int]:
        given, ones = self.__dict__, (1,) * len(sizes)
        both = given.get("padding_nd", (0,) * len(sizes))
        before, behind = given.get("pre_padding", both), given.get("post_padding", both)
        steps, gaps = given.get("stride_nd", ones), given.get("dilation_nd", ones)
        kernel = self.kernel_shape
        return [
            (sizes[d] + before[d] + behind[d] - gaps[d] * (kernel[d] - 1) - 1) // steps[d] + 1
            for d in range(len(sizes))
        ]

    def _shuffled(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        given, size = self.__dict__, math.prod(shape)
        shape = tuple(shape[d] for d in given.get("first_transpose", range(len(shape))))
        if "reshape_dims" in given:
            wanted = [shape[d] if n == 0 else n for d, n in enumerate(given["reshape_dims"])]
            if -1 in wanted:
                wanted[wanted.index(-1)] = size // -math.prod(wanted)
            assert math.prod(wanted) == size, f"{self.name}: {shape} into {wanted}"
            shape = tuple(wanted)
        return tuple(shape[d] for d in given.get("second_transpose", range(len(shape))))

    def _multiplied(self) -> tuple[int, ...]:
        sides = []
        for tensor, operation in zip(self.inputs, self.operations, strict=True):
            *outer, rows, columns = tensor.shape
            turned = operation == trt.MatrixOperation.TRANSPOSE
            sides.append((outer, (columns, rows) if turned else (rows, columns)))
        (left, (rows, inner)), (right, (other, columns)) = sides
        assert inner == other, f"{self.name}: {self.inputs}"
        return (*_broadcast(left, right), rows, columns)


def _broadcast(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(zip(one, other, strict=True))
    assert all(a == b or 1 in (a, b) for a, b in sizes), f"{one} with {other}"
    return tuple(max(pair) for pair in sizes)


class RecordedNetwork:
    """Takes layers by the names of `INetworkDefinition`; one it does not know is an error."""

    def __init__(self) -> None:
        self.layers: list[RecordedLayer] = []
        self.outputs: list[RecordedTensor] = []

    def __getattr__(self, name: str) -> Callable[..., RecordedLayer]:
        """Layers that need no more than their inputs, all of one type and shape."""
        kind = name.removeprefix("add_")
        if kind not in ("unary", "activation", "softmax", "identity", "shuffle", "resize"):
            raise AttributeError(name)
        return lambda x, *_, **__: self._add(kind, [x])

    def faults(self) -> list[str]:
        return [fault for layer in self.layers for fault in layer.faults()]

    def types(self, kind: str) -> set[str]:
        """Names of the types in which the layers of `kind` compute."""
        return {layer.inputs[0].dtype.name for layer in self.layers if layer.kind == kind}

    def _add(self, kind: str, inputs: Sequence[Any], **fixed: Any) -> RecordedLayer:
        assert all(isinstance(tensor, RecordedTensor) for tensor in inputs), (kind, inputs)
        self.layers.append(RecordedLayer(kind, inputs, **fixed))
        return self.layers[-1]

    def get_flag(self, flag: Any) -> bool:
        return bool(flag == trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def add_input(self, name: str, dtype: Any, shape: Sequence[int]) -> RecordedTensor:
        tensor = self._add("input", [], given_shape=shape, given_dtype=dtype).get_output(0)
        tensor.name = name
        return tensor

    def mark_output(self, tensor: RecordedTensor) -> None:
        self.outputs.append(tensor)

    def add_constant(self, shape: Sequence[int], weights: Any) -> RecordedLayer:
        dtype = _weights(weights).dtype
        return self._add("constant", [], given_shape=shape, given_dtype=dtype)

    def add_convolution_nd(
        self,
        input: Any,  # noqa: A002  it is called by these names
        num_output_maps: int,
        kernel_shape: Any,
        kernel: Any,
        bias: Any = None,
    ) -> RecordedLayer:
        return self._add(
            "convolution",
            [input],
            maps=num_output_maps,
            kernel_shape=kernel_shape,
            kernel=_weights(kernel),
            bias=_weights(bias),
        )

    def add_cast(self, x: Any, to: Any) -> RecordedLayer:
        return self._add("cast", [x], given_dtype=to)

    def add_elementwise(self, one: Any, other: Any, op: Any) -> RecordedLayer:
        return self._add("elementwise", [one, other], op=op)

    def add_concatenation(self, tensors: Sequence[Any]) -> RecordedLayer:
        return self._add("concatenation", tensors)

    def add_matrix_multiply(self, one: Any, first: Any, other: Any, second: Any) -> RecordedLayer:
        return self._add("matmul", [one, other], operations=(first, second))

    def add_pooling_nd(
        self,
        input: Any,  # noqa: A002  it is called by these names
        type: Any,  # noqa: A002
        window_size: Any,
    ) -> RecordedLayer:
        del type
        return self._add("pooling", [input], window=tuple(window_size))

    def add_reduce(self, x: Any, op: Any, axes: int, keep_dims: bool) -> RecordedLayer:
        return self._add("reduce", [x], op=op, axes=axes, keep_dims=keep_dims)

    def add_topk(self, x: Any, op: Any, k: int, axes: int) -> RecordedLayer:
        assert k == 1
        return self._add("topk", [x], op=op, axes=axes)

    def add_gather(self, x: Any, indices: Any, axis: int) -> RecordedLayer:
        return self._add("gather", [x, indices], axis=axis)

    def add_slice(self, x: Any, start: Any, shape: Any, stride: Any) -> RecordedLayer:
        del start, stride
        return self._add("slice", [x], given_shape=shape)

    def add_normalization(self, x: Any, scale: Any, bias: Any, axes: int) -> RecordedLayer:
        return self._add("normalization", [x, scale, bias], axes=axes)

    def add_plugin(self, inputs: Sequence[Any], aot: bool) -> RecordedLayer:
        assert aot, "a plugin in Python would be called at every run"
        return self._add("deform", inputs)


def _weights(values: Any) -> Any:
    if values is None:
        return trt.Weights()
    return trt.Weights(values) if isinstance(values, np.ndarray) else values


class RecordingBuilder:
    """In the place of `tensorrt.Builder`: keeps the network, and stops where it would be built."""

    latest: RecordedNetwork

    def __init__(self, logger: Any) -> None:
        del logger

    def create_network(self, flags: int) -> RecordedNetwork:
        del flags
        RecordingBuilder.latest = RecordedNetwork()
        return RecordingBuilder.latest

    def create_builder_config(self) -> None:
        raise RuntimeError("the network is recorded")


def install() -> None:
    """Takes the places of TensorRT's classes, and of our plugin, which is tested elsewhere."""
    for name in ("tensorrt", "tensorrt_bindings", "tensorrt_bindings.tensorrt"):
        vars(sys.modules[name])["ITensor"] = RecordedTensor
    trt.Builder = RecordingBuilder
    from vqfr_deform_conv import converter

    vars(converter)["plugin"] = lambda _: lambda *inputs: inputs
