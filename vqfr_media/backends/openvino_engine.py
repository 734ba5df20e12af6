"""Runs engines made by OpenVINO, on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqfr_media.backends.batching import run_in_batches
from vqfr_media.backends.openvino_library import (
    compile_settings,
    failures,
    openvino,
    reason_of,
    version,
)
from vqfr_media.backends.rebuild_hint import rebuild_hint
from vqfr_media.errors import EngineFileError
from vqfr_media.values import EngineSpec


class OpenvinoEngine:
    """Runs OpenVINO models; see `vqfr_media.engine.Engine` for the contract.

    One thread at a time; Python's lock is free meanwhile. It uses as many threads as PyTorch did
    when it was loaded, always one stream, so the same crop gives the same bits at any time.
    """

    def __init__(self, folder: Path, spec: EngineSpec) -> None:
        """Reads and compiles the models in `folder`.

        Raises:
            BackendError: OpenVINO is not here.
            EngineFileError: a file is absent, damaged, or of another network.
        """
        self.spec = spec
        core = openvino().Core()
        crops = (spec.batch_size, 3, spec.size, spec.size)
        latents = (spec.batch_size, *spec.latent_shape)
        fidelity_input = [(1,)] if spec.has_fidelity else []
        self._encoder = _Program(core, folder / "encoder.xml", spec, [crops], latents, "float32")
        self._look_up = _Program(
            core, folder / "decoder.codes.xml", spec, [latents], latents, "float32"
        )
        self._decoder = _Program(
            core,
            folder / "decoder.xml",
            spec,
            [crops, latents, *fidelity_input],
            crops,
            spec.precision,
        )

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        return run_in_batches(self._encoder, self.spec, crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""
        fidelity_input = [torch.tensor([fidelity])] if self.spec.has_fidelity else []
        return run_in_batches(
            lambda part, before: self._decoder(part, self._look_up(before), *fidelity_input),
            self.spec,
            crops,
            latents,
        )


class _Program:
    """One compiled model; results are written straight into new tensors."""

    def __init__(
        self,
        core: Any,
        path: Path,
        spec: EngineSpec,
        inputs: list[tuple[int, ...]],
        output: tuple[int, ...],
        precision: str,
    ) -> None:
        self._tensor: Callable[..., Any] = openvino().Tensor
        self._output = output
        if not path.is_file():
            raise _unusable(path, "it is absent", spec)
        try:
            model = core.read_model(path)
            found = [tuple(port.get_shape()) for port in (*model.inputs, *model.outputs)]
            compiled = core.compile_model(model, "CPU", compile_settings(precision))
            self._request = compiled.create_infer_request()
        except failures() as error:
            raise _unusable(path, f"OpenVINO says: {reason_of(error)}", spec) from error
        if found != [*inputs, output]:
            raise _unusable(path, f"shapes {found} instead of {[*inputs, output]}", spec)

    def __call__(self, *given: Tensor) -> Tensor:
        result = torch.empty(self._output)
        arrays = [tensor.contiguous().numpy() for tensor in given]
        for place, array in enumerate(arrays):
            self._request.set_input_tensor(place, self._tensor(array, shared_memory=True))
        self._request.set_output_tensor(0, self._tensor(result.numpy(), shared_memory=True))
        self._request.infer()
        return result


def _unusable(path: Path, reason: str, spec: EngineSpec) -> EngineFileError:
    told = rebuild_hint(path.parent, spec, backend="openvino", here={"openvino": version()})
    return EngineFileError(f"{path} does not load: {reason}; {told}")
