"""What is asked of a builder, and what an engine built so would say of its identity."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from vqfr_engines import source_hash
from vqfr_media.errors import CheckpointError
from vqfr_media.files import file_sha256
from vqfr_media.manifest import BuiltBackend, EngineIdentity, Precision
from vqfr_media.values import EngineSpec

if TYPE_CHECKING:
    from vqfr_media.backends.inductor_engine import InductorEngine
    from vqfr_media.backends.openvino_engine import OpenvinoEngine
    from vqfr_media.backends.tensorrt_engine import TensorrtEngine
    from vqfr_media.network.vqfr_v1 import VqfrV1
    from vqfr_media.network.vqfr_v2 import VqfrV2


class Builder(Protocol):
    """What `engines/openvino.py`, `tensorrt.py` and `inductor.py` each are: a module of these."""

    def check(self, device: str) -> None:
        """Raises BackendError, with the way out, where it cannot build for `device` here."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that build and run its engines, by name."""
        ...

    def machine(self, device: str) -> dict[str, str]:
        """Returns what its engines are bound to."""
        ...

    def settings(self, precision: Precision) -> dict[str, Any]:
        """Returns its own settings that decide what an engine computes; plain JSON values.

        Raises BackendError, with the way out, where it does not compute in `precision` here.
        """
        ...

    def build(
        self,
        network: "VqfrV1 | VqfrV2",
        folder: Path,
        *,
        precision: Precision,
        batch_size: int,
        device: str,
    ) -> None:
        """Writes `encoder.*` and `decoder.*` into the empty `folder`; may consume `network`."""
        ...


type BuiltEngine = OpenvinoEngine | TensorrtEngine | InductorEngine
"""An engine from disk; the contract of each is `vqfr_media.engine.Engine`."""


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """An engine that somebody wants."""

    backend: BuiltBackend
    """What runs it."""
    model: str
    """v1, v2 or lite."""
    weights: Path
    """File with the network's weights."""
    precision: Precision
    """Arithmetic inside."""
    batch_size: int
    """Faces in one run."""
    device: str
    """cpu, or cuda:N: where it is built, checked and run."""


def builder_of(backend: BuiltBackend) -> Builder:
    """Returns the module that builds engines for `backend`; it imports libraries when used."""
    match backend:
        case "openvino":
            from vqfr_engines import openvino

            return openvino
        case "tensorrt":
            from vqfr_engines import tensorrt

            return tensorrt
        case "inductor":
            from vqfr_engines import inductor

            return inductor
        case _:
            assert_never(backend)


def open_engine(folder: Path, backend: BuiltBackend, spec: EngineSpec) -> BuiltEngine:
    """Loads the engine in `folder` onto `spec.device`; its files are believed.

    Raises:
        BackendError: what runs it is not here.
        EngineFileError: its files do not load.
    """
    match backend:
        case "openvino":
            from vqfr_media.backends.openvino_engine import OpenvinoEngine

            return OpenvinoEngine(folder, spec)
        case "tensorrt":
            from vqfr_media.backends.tensorrt_engine import TensorrtEngine

            return TensorrtEngine(folder, spec)
        case "inductor":
            from vqfr_media.backends.inductor_engine import InductorEngine

            return InductorEngine(folder, spec)
        case _:
            assert_never(backend)


def identity_of(request: EngineRequest) -> EngineIdentity:
    """Returns the identity of an engine that is built for `request` on this machine, now.

    Raises:
        BackendError: it cannot be built or run here.
        CheckpointError: the weights cannot be read.
    """
    from vqfr_media.network.checkpoint import read_config

    builder = builder_of(request.backend)
    check_backend(request.backend, precision=request.precision, device=request.device)
    network = read_config(request.weights, model=request.model).to_dict()
    return EngineIdentity(
        backend=request.backend,
        model=request.model,
        weights_sha256=sha256_of(request.weights),
        network=network,
        precision=request.precision,
        batch_size=request.batch_size,
        options=_options(request.backend, request.precision),
        versions=builder.versions(),
        machine=builder.machine(request.device),
    )


def check_backend(backend: BuiltBackend, *, precision: Precision, device: str) -> None:
    """Checks that `backend` can run on `device` here, and computes in `precision`.

    Raises:
        BackendError: it cannot, or does not; says the way out.
    """
    builder = builder_of(backend)
    builder.check(device)
    builder.settings(precision)


def _options(backend: BuiltBackend, precision: Precision) -> dict[str, Any]:
    """Returns the builder's settings, and our code: a new version may compute something else."""
    code = source_hash.code_sha256(source_hash.modules_of(backend))
    return {**builder_of(backend).settings(precision), "sources": code}


def sha256_of(weights: Path) -> str:
    """Returns SHA-256 of a weights file, in hexadecimal.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return file_sha256(weights)
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read: {error.strerror}") from error


def identity_now(identity: EngineIdentity, *, device: str) -> EngineIdentity:
    """Returns `identity` with the settings, libraries and machine that it would get here and now.

    Raises:
        BackendError: such engines cannot run on `device` here.
    """
    builder = builder_of(identity.backend)
    builder.check(device)
    return replace(
        identity,
        options=_options(identity.backend, identity.precision),
        versions=builder.versions(),
        machine=builder.machine(device),
    )


def build_command(
    identity: EngineIdentity | EngineRequest,
    *,
    weights: str,
    device: str | None = None,
    output: Path | None = None,
) -> str:
    """Returns what to type for an engine like the one of `identity`, from the file `weights`."""
    words = [
        f"vqfr-media engine build --backend {identity.backend} --model {identity.model}",
        f"--precision {identity.precision} --batch-size {identity.batch_size}",
        f"--weights {shlex.quote(weights)}",
    ]
    if device is not None:
        words.append(f"--device {device}")
    if output is not None:
        words.append(f"-o {shlex.quote(str(output))}")
    return " ".join(words)
