"""Whether an engine on disk can still be believed: its files, its machine, its results."""

from dataclasses import dataclass, replace
from pathlib import Path

from vqfr_engines.parity import Reference, faults
from vqfr_engines.request import BuiltEngine, open_engine, sha256_of
from vqfr_engines.store import rebuild_advice, trusted
from vqfr_media import weights
from vqfr_media.errors import EngineFileError, WeightsError
from vqfr_media.manifest import Manifest, Parity
from vqfr_media.network.checkpoint import load_model
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """An engine that passed every test."""

    manifest: Manifest
    """What it says of itself."""
    parity: Parity
    """How exact it was just now."""


def verify_engine(folder: Path) -> VerifyResult:
    """Reads every file, holds it against this machine, runs it beside PyTorch.

    Raises:
        BackendError: such engines cannot run here.
        EngineFileError: it is damaged or stale, or computes something else than PyTorch.
        EngineError: it failed while it ran.
        WeightsError: the weights that it was built from are not here.
    """
    manifest, engine = open_trusted(folder)
    spec = manifest.spec
    network = network_of(manifest)
    described = replace(manifest.identity, network=network.config.to_dict())
    if different := manifest.identity.differences(described):
        raise EngineFileError(
            f"{folder} is of another network: {'; '.join(different)}; {rebuild_advice(folder)}"
        )
    parity = Reference(network, model=spec.model, device=spec.device).compare(engine)
    if beyond := faults(parity, manifest.identity.precision):
        raise EngineFileError(
            f"{folder} does not compute what PyTorch does: {'; '.join(beyond)}; "
            f"{rebuild_advice(folder)}"
        )
    return VerifyResult(manifest=manifest, parity=parity)


def open_trusted(folder: Path, *, device: str | None = None) -> tuple[Manifest, BuiltEngine]:
    """Loads an engine that somebody names, onto `device` or where it was built for.

    Raises:
        BackendError: such engines cannot run here.
        EngineFileError: it is damaged or stale; the message ends with the command to build it.
    """
    manifest = trusted(folder, device=device)
    spec = replace(manifest.spec, device=device or manifest.spec.device)
    return manifest, open_engine(folder, manifest.identity.backend, spec)


def network_of(manifest: Manifest) -> VqfrV1 | VqfrV2:
    """Loads the network that an engine was built from, in float32 on the CPU.

    Raises:
        CheckpointError: its weights cannot be read.
        WeightsError: its weights are neither where they were nor in the known places.
    """
    identity = manifest.identity
    for path in (Path(manifest.weights), weights.locate(identity.model)):
        if path is not None and path.is_file() and sha256_of(path) == identity.weights_sha256:
            return load_model(path, model=identity.model)
    raise WeightsError(
        f"the weights that the engine was built from, SHA-256 {identity.weights_sha256[:12]}..., "
        f"are no longer in {manifest.weights}; put them back, or build another engine"
    )
