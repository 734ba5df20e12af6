"""A detector's network in OpenVINO, which takes half the time of PyTorch."""

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from vqfr_media.backends.openvino_library import (
    compile_settings,
    convert_model,
    failures,
    openvino,
    reason_of,
)
from vqfr_media.errors import EngineError

# A video's proxy pictures are of one shape, those of a folder of pictures of many.
_SHAPES_KEPT = 4


def converted(network: nn.Module) -> Any:
    """Converts `network`, which is in eval mode, without gradients, on the CPU and left so.

    Returns:
        OpenVINO's model, for pictures of any size.

    Raises:
        BackendError: OpenVINO is not here.
        EngineError: OpenVINO cannot convert the network.
    """
    openvino()  # what is missing is said by its own error
    try:
        return convert_model(network, (torch.zeros(1, 3, 64, 96),))
    except failures() as error:
        raise EngineError(
            f"OpenVINO cannot convert the face detector: {reason_of(error)}"
        ) from error


class OpenvinoNetwork:
    """Runs a network of one input on the CPU in float32."""

    def __init__(self, model: Any) -> None:
        """Takes OpenVINO's model of the network; see `converted`.

        Raises:
            BackendError: OpenVINO is not here.
        """
        library = openvino()
        self._model = model
        self._core = library.Core()
        self._tensor: Any = library.Tensor
        self._model_of: Any = library.Model
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def part(self, outputs: range) -> Self:
        """Returns a network that computes only these of the outputs."""
        part = copy(self)
        model = self._model.clone()
        part._model = self._model_of([model.output(at) for at in outputs], model.get_parameters())
        part._requests = OrderedDict()
        return part

    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Runs the network, compiled for this shape, on (N, 3, h, w) float32.

        Its outputs are new tensors.

        Raises:
            EngineError: OpenVINO failed.
        """
        return self._run(batch, lambda: self._request(tuple(batch.shape)))

    def in_any_size(self, batch: Tensor) -> list[Tensor]:
        """Does the same by a network that is compiled once for all shapes: a twentieth slower."""
        return self._run(batch, lambda: self._request_of_any_size)

    def _run(self, batch: Tensor, request_of: Callable[[], Any]) -> list[Tensor]:
        try:
            request = request_of()
            given = batch.contiguous().numpy()
            request.set_input_tensor(0, self._tensor(given, shared_memory=True))
            request.infer()
        except failures() as error:
            raise EngineError(
                f"OpenVINO failed to look for faces in a picture of {tuple(batch.shape)}: "
                f"{reason_of(error)}"
            ) from error
        return [torch.from_numpy(output.data.copy()) for output in request.output_tensors]

    @cached_property
    def _request_of_any_size(self) -> Any:
        return self._compiled(self._model)

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            if len(self._requests) == _SHAPES_KEPT:
                self._requests.popitem(last=False)
            model = self._model.clone()
            model.reshape({0: list(shape)})
            self._requests[shape] = self._compiled(model)
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _compiled(self, model: Any) -> Any:
        settings = compile_settings("float32")
        return self._core.compile_model(model, "CPU", settings).create_infer_request()
