"""A detector's network in OpenVINO: half the time of PyTorch's, after a second to convert it."""

from collections import OrderedDict
from typing import Any

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


class OpenvinoNetwork:
    """Runs a network of one input on the CPU in float32, compiled for each shape that comes."""

    def __init__(self, network: nn.Module) -> None:
        """Converts `network`, which is in eval mode, without gradients, on the CPU and left so.

        Raises:
            BackendError: OpenVINO is not here.
            EngineError: OpenVINO cannot convert the network.
        """
        library = openvino()
        self._core = library.Core()
        self._tensor: Any = library.Tensor
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        try:
            self._model = convert_model(network, (torch.zeros(1, 3, 64, 96),))
        except failures() as error:
            raise EngineError(
                f"OpenVINO cannot convert the face detector: {reason_of(error)}"
            ) from error

    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Runs the network on (N, 3, h, w) float32; its outputs are new tensors.

        Raises:
            EngineError: OpenVINO failed.
        """
        try:
            request = self._request(tuple(batch.shape))
            given = batch.contiguous().numpy()
            request.set_input_tensor(0, self._tensor(given, shared_memory=True))
            request.infer()
        except failures() as error:
            raise EngineError(
                f"OpenVINO failed to look for faces in a picture of {tuple(batch.shape)}: "
                f"{reason_of(error)}"
            ) from error
        return [torch.from_numpy(output.data.copy()) for output in request.output_tensors]

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            if len(self._requests) == _SHAPES_KEPT:
                self._requests.popitem(last=False)
            model = self._model.clone()
            model.reshape({0: list(shape)})
            compiled = self._core.compile_model(model, "CPU", compile_settings("float32"))
            self._requests[shape] = compiled.create_infer_request()
        self._requests.move_to_end(shape)
        return self._requests[shape]
