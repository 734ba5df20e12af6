"""Building an engine: once for all who ask, whole or not at all, and compared before it is used."""

import logging
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vqfr_engines.parity import Reference, faults
from vqfr_engines.request import EngineRequest, builder_of, identity_of, open_engine
from vqfr_engines.store import (
    check_identity,
    file_hashes,
    folder_name,
    predecessors,
    refuse_foreign,
)
from vqfr_media.backends.batching import spec_of
from vqfr_media.engines_folder import VARIABLE, engines_folder
from vqfr_media.errors import (
    EngineError,
    EngineFileError,
    InexactEngineError,
    OutputError,
    VqfrMediaError,
)
from vqfr_media.files import sync_file, sync_folder, wait_for_folder
from vqfr_media.manifest import MANIFEST, EngineIdentity, Manifest
from vqfr_media.network.checkpoint import load_model

# Less than this is left where a builder failed because it filled the disk: they say it unclearly.
_FULL_BYTES = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """An engine that can be used."""

    folder: Path
    """Where it lies."""
    manifest: Manifest
    """What it says of itself."""
    fresh: bool
    """Whether this call built it; else it was here, or another process built it meanwhile."""


def build_engine(
    request: EngineRequest, *, output: Path | None = None, unusable: Manifest | None = None
) -> BuildResult:
    """Finds the engine that `request` describes where it is sound, else builds it.

    Processes that want the same engine at once wait for the first one and take what it built. A
    stale or damaged engine in the engine's place is built again, and the log says so.

    Args:
        request: what is wanted.
        output: folder to build into, instead of one of the engine's own under `engines_folder()`.
        unusable: of an engine that is whole and yet does not load; while it is still that one, it
            is built again, and kept until the new one is complete.

    Raises:
        BackendError: the backend cannot build or run here, or not in this precision.
        CheckpointError: the weights do not fit.
        InexactEngineError: what was built computes something else than PyTorch.
        EngineError: the builder failed.
        OptionError: `output` holds what is no engine's.
        OutputError: the folder cannot be written, or its disk is full.
    """
    identity = identity_of(request)
    folder = output if output is not None else engines_folder() / folder_name(identity)
    folder = folder.absolute()
    with _writing(folder):
        # Another process may be replacing it: only who holds the lock can say what is wrong.
        with suppress(EngineFileError):
            if folder.exists() and (sound := check_identity(folder, identity)) != unusable:
                return BuildResult(folder=folder, manifest=sound, fresh=False)
        return _build_locked(request, identity, folder, kept=output is None, unusable=unusable)


def _build_locked(
    request: EngineRequest,
    identity: EngineIdentity,
    folder: Path,
    *,
    kept: bool,
    unusable: Manifest | None,
) -> BuildResult:
    with wait_for_folder(folder):
        if (sound := _find(folder, identity)) not in (None, unusable):
            return BuildResult(folder=folder, manifest=sound, fresh=False)
        for left in _leftovers(folder):
            shutil.rmtree(left)
        for older in predecessors(identity) if kept else []:
            different = "; ".join(older.identity.differences(identity))
            logger.warning(
                "the %s engine of %s that is here is stale: %s",
                request.backend,
                request.model,
                different,
            )
        what = f"{request.backend} engine of {request.model} ({request.precision})"
        logger.warning(
            "building the %s in %s: this is done once, and may take minutes", what, folder
        )
        part = _part(folder)
        part.mkdir()
        try:
            manifest = _build_into(part, request, identity)
            _put_in_place(part, folder)
        except RuntimeError as error:  # EngineError is one
            if shutil.disk_usage(part).free < _FULL_BYTES:
                raise _unwritable(folder, "the disk is full") from error
            if isinstance(error, VqfrMediaError):
                raise
            reason = " ".join(str(error).split())
            raise EngineError(
                f"the {what} cannot be built with batches of {request.batch_size}: "
                f"{type(error).__name__}: {reason}; take a smaller --batch-size, or --backend torch"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)  # gone already, where all went well
        logger.warning("built the %s in %.1f s", what, manifest.seconds)
    return BuildResult(folder=folder, manifest=manifest, fresh=True)


def _find(folder: Path, identity: EngineIdentity) -> Manifest | None:
    """Returns a sound engine's manifest in `folder`; the log says what is wrong with another.

    Only for who holds the lock.
    """
    if not folder.exists():
        return None
    try:
        return check_identity(folder, identity)
    except EngineFileError as error:
        refuse_foreign(folder, "is not replaced; name another folder")
        if any(folder.iterdir()):
            logger.warning("%s; it is built again", error)
        return None


def _build_into(folder: Path, request: EngineRequest, identity: EngineIdentity) -> Manifest:
    """Builds, loads and compares; the manifest is the last file that is written."""
    started = time.monotonic()
    backend, precision, device = request.backend, request.precision, request.device
    network = load_model(request.weights, model=request.model)
    spec = spec_of(
        network,
        model=request.model,
        batch_size=request.batch_size,
        precision=precision,
        device=device,
    )
    builder_of(backend).build(
        network, folder, precision=precision, batch_size=request.batch_size, device=device
    )
    del network  # consumed, and the comparison needs the memory
    engine = open_engine(folder, backend, spec)
    untouched = load_model(request.weights, model=request.model)
    parity = Reference(untouched, model=request.model, device=device).compare(engine)
    if beyond := faults(parity, precision):
        raise InexactEngineError(
            f"the {backend} engine of {request.model} in {precision} is refused: "
            f"{'; '.join(beyond)}; take another --precision, or --backend torch"
        )
    manifest = Manifest(
        identity=identity,
        spec=spec,
        weights=str(request.weights.absolute()),
        files=file_hashes(folder),
        parity=parity,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _put_in_place(part: Path, folder: Path) -> None:
    """Gives a complete engine its name, in place of what had it."""
    for path in part.iterdir():
        sync_file(path)  # a name must not outlive a crash that its content did not
    sync_folder(part)
    old = _part(folder)
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    sync_folder(folder.parent)
    if old.exists():
        shutil.rmtree(old)


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part-{secrets.token_hex(4)}")


def _leftovers(folder: Path) -> list[Path]:
    """Finds what killed builds of this engine have left; only for who holds the lock."""
    return [
        path for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}.part-")
    ]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turns what the operating system says of the place into our own words."""
    try:
        yield
    except OSError as error:
        if isinstance(error, VqfrMediaError):
            raise
        raise _unwritable(folder, error.strerror or str(error)) from error


def _unwritable(folder: Path, reason: str) -> OutputError:
    return OutputError(
        f"no engine can be written to {folder.parent}: {reason}; make room there or let it be "
        f"written, name another folder in {VARIABLE}, or give one to `vqfr-media engine build -o`"
    )
