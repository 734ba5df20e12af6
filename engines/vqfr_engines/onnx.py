"""Writes a network as standard ONNX, for programs other than ours; see docs/onnx.md."""

import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vqfr_media.errors import BackendError, EngineError
from vqfr_media.files import first_line
from vqfr_media.manifest import Precision
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.options import DEFAULT_FIDELITY

EXTRA = "pip install 'vqfr-media[onnx]'"
LEAST_OPSET = 20
"""ONNX has DeformConv since opset 19; PyTorch's exporter writes it from 20 on."""
TOLERANCES: Mapping[Precision, float] = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 2e-1}
"""Largest difference from PyTorch with the same weights, same types and same latents: of latents
as a share of their RMS, of samples in [0, 1]."""
_MOST_FACES = 64


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the weights come from, for the files' metadata."""

    model: str
    """v1, v2 or lite."""
    weights_sha256: str
    """Of the weights file."""
    licence: str
    """SPDX name of the weights' licence."""


@dataclass(frozen=True, kw_only=True)
class ExportedOnnx:
    """What was written, and how near it is to PyTorch."""

    files: tuple[Path, ...]
    """`encoder.onnx` and `decoder.onnx`, or `restore.onnx` alone."""
    error: float | None
    """Largest difference from PyTorch in onnxruntime; None where it was not compared."""


class WholeNetwork(nn.Module):
    """Both modules in one: image to image, the fidelity fixed."""

    def __init__(self, network: VqfrV1 | VqfrV2, *, fidelity: float) -> None:
        super().__init__()
        self.encoder, self.decoder = EncoderModule(network), DecoderModule(network)
        self.has_fidelity = isinstance(network, VqfrV2)
        self.register_buffer("fidelity", torch.tensor([fidelity]))

    def forward(self, crops: Tensor) -> Tensor:
        """Restores `(N, 3, S, S)` RGB in [0, 1] float32."""
        fidelity_input = [cast(Tensor, self.fidelity)] if self.has_fidelity else []
        restored: Tensor = self.decoder(crops, self.encoder(crops), *fidelity_input)
        return restored


def check() -> None:
    """Checks that ONNX files can be written and tried here.

    Raises:
        BackendError: onnx, onnxscript or onnxruntime is not installed; says the way out.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise BackendError(f"{name} is not installed or does not load: {EXTRA}") from error


def export_onnx(
    network: VqfrV1 | VqfrV2,
    folder: Path,
    *,
    source: Source,
    batch_size: int | None = None,
    precision: Precision = "float32",
    opset: int = LEAST_OPSET,
    whole: bool = False,
    fidelity: float = DEFAULT_FIDELITY,
    verify: bool = True,
) -> ExportedOnnx:
    """Writes `encoder.onnx` and `decoder.onnx`, or with `whole` one `restore.onnx`.

    Files come to `folder` all together, after the check.

    Inputs are `crops` `(N, 3, S, S)`, `latents` `(N, C, h, w)` and v2's `fidelity`
    `(1,)`; outputs `latents` and `restored`; all float32, images RGB in [0, 1].

    Args:
        network: float32, on the CPU, in eval mode; used up.
        folder: exists; files of these names are replaced.
        source: where the weights come from.
        batch_size: N; None leaves it open, 1 to 64.
        precision: arithmetic of all but the layers kept in float32.
        opset: version of ONNX's operators, at least 20.
        whole: image to image in one file, for programs that know one input and one output.
        fidelity: v2's, with `whole`, 0 to 1; without it the fidelity is an input.
        verify: run the files with onnxruntime and compare them with PyTorch; it cannot run
            bfloat16.

    Raises:
        ValueError: `batch_size`, `opset` or `fidelity` is out of range.
        BackendError: a library is missing, or `verify` is asked for in bfloat16.
        EngineError: the network cannot be exported, or onnxruntime's result is another.
        OSError: `folder` cannot be written.
    """
    if opset < LEAST_OPSET:
        raise ValueError(f"opset must be at least {LEAST_OPSET}, not {opset}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for any, not {batch_size}")
    if not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity must be in [0, 1], not {fidelity!r}")
    check()
    if verify and precision == "bfloat16":
        raise BackendError(
            "onnxruntime does not compute in bfloat16 on CPUs, so nothing could check the files: "
            "use --precision float32 or float16"
        )
    parts = _parts(to_mixed_precision(network, precision), whole=whole, fidelity=fidelity)
    metadata = _metadata(network, source=source, precision=precision)
    if whole and isinstance(network, VqfrV2):
        metadata["fidelity"] = repr(fidelity)
    errors = []
    names = [f"{part.name}.onnx" for part in parts]
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=folder) as unchecked:
        for part, name in zip(parts, names, strict=True):
            # An open batch size is exported from two faces: from one, torch would take it for
            # fixed.
            part = part.of(batch_size or 2)
            path = Path(unchecked, name)
            _write(part, path, batch_size=batch_size, opset=opset, metadata=metadata)
            if verify:
                counts = (batch_size,) if batch_size else (1, 3)
                errors += [_compared(part.of(n), path, limit=TOLERANCES[precision]) for n in counts]
        for name in names:
            Path(unchecked, name).replace(folder / name)
    files = tuple(folder / name for name in names)
    return ExportedOnnx(files=files, error=max(errors) if errors else None)


@dataclass(frozen=True)
class _Part:
    """One file: its graph, and what is put through it to trace and to compare."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    output: str

    def of(self, faces: int) -> "_Part":
        """Returns the same part with inputs of so many faces."""
        inputs = {
            name: value if name == "fidelity" else value[:1].repeat(faces, 1, 1, 1)
            for name, value in self.inputs.items()
        }
        if faces > 1:  # faces that differ
            inputs["crops"][1:] = inputs["crops"][1:].flip(-1)
        return _Part(self.name, self.module, inputs, self.output)


@torch.no_grad()
def _parts(network: VqfrV1 | VqfrV2, *, whole: bool, fidelity: float) -> list[_Part]:
    size = network.config.image_size
    # Smooth and in range, as pictures are; the generator is its own, so nobody's numbers change.
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    crops = nn.functional.interpolate(noise, size=(size, size), mode="bilinear")
    if whole:
        module = WholeNetwork(network, fidelity=fidelity).eval()
        return [_Part("restore", module, {"crops": crops}, "restored")]
    encoder, decoder = EncoderModule(network).eval(), DecoderModule(network).eval()
    inputs = {"crops": crops, "latents": encoder(crops)}
    if isinstance(network, VqfrV2):
        inputs["fidelity"] = torch.tensor([fidelity])
    return [
        _Part("encoder", encoder, {"crops": crops}, "latents"),
        _Part("decoder", decoder, inputs, "restored"),
    ]


def _write(
    part: _Part, path: Path, *, batch_size: int | None, opset: int, metadata: Mapping[str, str]
) -> None:
    onnx: Any = importlib.import_module("onnx")
    shapes: tuple[Any, ...] | None = None
    if batch_size is None:
        faces = torch.export.Dim("faces", min=1, max=_MOST_FACES)
        shapes = tuple(None if name == "fidelity" else {0: faces} for name in part.inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # onnxscript's own use of Python, and torch's note on a dimension that it names itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            program: Any = torch.onnx.export(
                part.module,
                tuple(part.inputs.values()),
                dynamo=True,
                opset_version=opset,
                input_names=list(part.inputs),
                output_names=[part.output],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except RuntimeError as error:  # what the exporter's errors derive from
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter's own message is a page of advice
            cause = cause.__cause__
        reason = first_line(cause)
        raise EngineError(
            f"PyTorch {torch.__version__} cannot export {part.name} to ONNX: {reason}"
        ) from error
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _metadata(network: VqfrV1 | VqfrV2, *, source: Source, precision: Precision) -> dict[str, str]:
    return {
        "model": source.model,
        "weights_sha256": source.weights_sha256,
        "licence": source.licence,
        "precision": precision,
        "size": str(network.config.image_size),
        "latent_shape": json.dumps(network.config.latent_shape),
        "value_range": "RGB in [0, 1], inputs and outputs float32",
        "network": json.dumps(network.config.to_dict()),
    }


@torch.no_grad()
def _compared(part: _Part, path: Path, *, limit: float) -> float:
    """Returns the largest difference between onnxruntime and PyTorch on the part's inputs.

    Raises:
        EngineError: it exceeds `limit`, or onnxruntime cannot run the file.
    """
    onnxruntime: Any = importlib.import_module("onnxruntime")
    wanted: Tensor = part.module(*part.inputs.values())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given = {name: value.contiguous().numpy() for name, value in part.inputs.items()}
        (found,) = session.run([part.output], given)
    except Exception as error:  # its exceptions derive from nothing narrower
        logging.getLogger(__name__).debug("onnxruntime", exc_info=error)
        reason = first_line(error)
        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} cannot run {path.name}: {reason}; nothing is "
            f"written; it needs version 1.25 or later: {EXTRA}"
        ) from error
    scale = float(wanted.square().mean().sqrt()) if part.output == "latents" else 1.0
    difference = float((torch.from_numpy(found) - wanted).abs().max()) / scale
    if not difference <= limit:  # NaN included
        raise EngineError(
            f"{path.name} differs from PyTorch by {difference:.2g} in onnxruntime "
            f"{onnxruntime.__version__}, {limit:g} is allowed; nothing is written: "
            "use --precision float32, or another version of onnxruntime"
        )
    return difference
