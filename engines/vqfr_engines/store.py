"""Where engines are kept, which are here, whether they can be believed; and deleting them."""

import shlex
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from vqfr_engines.request import build_command, identity_now
from vqfr_media.engines_folder import VARIABLE, engines_folder
from vqfr_media.errors import (
    BackendError,
    EngineFileError,
    OptionError,
    OutputError,
    VqfrMediaError,
)
from vqfr_media.files import file_sha256, wait_for_folder
from vqfr_media.manifest import (
    MANIFEST,
    BuiltBackend,
    EngineIdentity,
    Manifest,
    is_engine_file,
    read_manifest,
)

EngineState = Literal["ok", "stale", "damaged", "unknown"]


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """What is to be said of one engine on disk."""

    folder: Path
    """Where it lies."""
    state: EngineState
    """`stale`: sound, but for another machine, or of other libraries than those here. `unknown`:
    sound, but what would tell whether it fits (the backend, its device) is not here now."""
    why: str
    """What is wrong, or why it is unknown; empty where it is ok."""
    manifest: Manifest | None
    """None where it cannot be read."""


def folder_name(identity: EngineIdentity) -> str:
    """Names the folder of an engine: readable, and different for each identity."""
    kind = f"{identity.model}-{identity.backend}-{identity.precision}-b{identity.batch_size}"
    return f"{kind}-{identity.sha256[:12]}"


def file_hashes(folder: Path) -> dict[str, str]:
    """Hashes every file of the engine in `folder` but its manifest; SHA-256 by name.

    Hidden files are passed over: file managers and network file systems leave some anywhere.

    Raises:
        OSError: a file cannot be read.
    """
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST and not path.name.startswith("."):
            hashes[path.name] = file_sha256(path)
    return hashes


def check_files(folder: Path) -> Manifest:
    """Reads every file of an engine and holds it against the manifest.

    All of it, at each loading: 0.2 s for 300 MB, which is less than loading that much.

    Raises:
        EngineFileError: a file is missing, surplus or damaged.
    """
    manifest = read_manifest(folder)
    try:
        found = file_hashes(folder)
    except OSError as error:
        raise EngineFileError(f"{folder} is damaged: {error}") from error
    faults = [
        *(f"{name} is missing" for name in manifest.files if name not in found),
        *(f"{name} is not in its manifest" for name in found if name not in manifest.files),
        *(
            f"{name} is not what its manifest says (SHA-256 {found[name][:12]}... "
            f"instead of {digest[:12]}...)"
            for name, digest in manifest.files.items()
            if found.get(name, digest) != digest
        ),
    ]
    if faults:
        raise EngineFileError(f"{folder} is damaged: {'; '.join(faults)}")
    return manifest


def check_current(folder: Path, manifest: Manifest, *, device: str) -> None:
    """Holds an engine against this machine and the libraries on it.

    Raises:
        BackendError: such engines cannot run here.
        EngineFileError: it was built with other libraries or settings, or for another machine.
    """
    now = identity_now(manifest.identity, device=device)
    if different := manifest.identity.differences(now):
        raise EngineFileError(f"{folder} does not fit this machine: {'; '.join(different)}")


def named_manifest(folder: Path) -> Manifest:
    """Runs `read_manifest` for an engine that somebody names.

    Raises:
        EngineFileError: it cannot be used; the message ends with the command to build one.
    """
    try:
        return read_manifest(folder)
    except EngineFileError as error:
        raise EngineFileError(f"{error}; {rebuild_advice(folder)}") from error


def trusted(folder: Path, *, device: str | None = None) -> Manifest:
    """Reads the manifest of an engine that somebody names; it must be sound and fit here.

    Args:
        folder: of the engine.
        device: where it is to run; by default where it was built for.

    Raises:
        BackendError: such engines cannot run here.
        EngineFileError: it is damaged or stale; the message ends with the command to build it.
    """
    try:
        manifest = check_files(folder)
        check_current(folder, manifest, device=device or manifest.spec.device)
    except EngineFileError as error:
        raise EngineFileError(f"{error}; {rebuild_advice(folder)}") from error
    return manifest


def rebuild_advice(folder: Path) -> str:
    """Says what to do about a stale or damaged engine."""
    try:
        manifest = read_manifest(folder)
    except EngineFileError:
        command = f"vqfr-media engine build --backend BACKEND -o {shlex.quote(str(folder))}"
        return f"build it again with `{command}` (openvino, tensorrt or inductor)"
    kept = folder.absolute().parent == engines_folder().absolute()
    command = build_command(
        manifest.identity, weights=manifest.weights, output=None if kept else folder
    )
    return f"build it again with `{command}`"


def examine(folder: Path) -> EngineStatus:
    """Says what is to be said of the engine in `folder`; reads all its files."""
    try:
        manifest = check_files(folder)
    except EngineFileError as error:
        try:
            known = read_manifest(folder)
        except EngineFileError:
            known = None
        return EngineStatus(folder=folder, state="damaged", why=str(error), manifest=known)
    try:
        check_current(folder, manifest, device=manifest.spec.device)
    except BackendError as error:
        return EngineStatus(folder=folder, state="unknown", why=str(error), manifest=manifest)
    except EngineFileError as error:
        return EngineStatus(folder=folder, state="stale", why=str(error), manifest=manifest)
    return EngineStatus(folder=folder, state="ok", why="", manifest=manifest)


def list_engines() -> list[EngineStatus]:
    """Lists every engine that is kept, by name; what is still being built is not."""
    return [examine(folder) for folder in engine_folders()]


def engine_folders() -> list[Path]:
    """Lists the directories of all engines that are kept, sound or not.

    Raises:
        EngineFileError: where they are kept is no folder that can be read.
    """
    root = engines_folder()
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EngineFileError(
            f"{root}, where engines are kept, is no folder that can be read: {error.strerror}; "
            f"name another folder in {VARIABLE}"
        ) from error
    return [folder for folder in folders if not folder.name.startswith(".")]


def is_kept(identity: EngineIdentity) -> bool:
    """Tells whether the place of this engine is taken, by it or by what is left of it.

    Raises:
        EngineFileError: where they are kept is no folder that can be read.
    """
    return (engines_folder() / folder_name(identity)) in engine_folders()


def kept_manifests(backend: BuiltBackend, model: str) -> list[Manifest]:
    """Lists what is kept of one backend and network, the newest first; reads no files.

    Raises:
        EngineFileError: where they are kept is no folder that can be read.
    """
    found = []
    for folder in engine_folders():
        try:
            manifest = read_manifest(folder)
        except EngineFileError:  # `list_engines` says so, to who asks for it
            continue
        if (manifest.identity.backend, manifest.identity.model) == (backend, model):
            found.append(manifest)
    return sorted(found, key=lambda one: datetime.fromisoformat(one.built), reverse=True)


def predecessors(identity: EngineIdentity) -> list[Manifest]:
    """Lists what is kept of the same network, backend, precision for other versions or machines."""
    found = []
    for manifest in kept_manifests(identity.backend, identity.model):
        here = replace(
            identity,
            options=manifest.identity.options,
            versions=manifest.identity.versions,
            machine=manifest.identity.machine,
        )
        if manifest.identity.sha256 == here.sha256 != identity.sha256:
            found.append(manifest)
    return found


def check_identity(folder: Path, wanted: EngineIdentity) -> Manifest:
    """Reads the engine in `folder`, which must be sound and of exactly this identity.

    Raises:
        EngineFileError: it is not.
    """
    manifest = check_files(folder)
    if manifest.identity.sha256 != wanted.sha256:
        different = "; ".join(manifest.identity.differences(wanted))
        raise EngineFileError(f"{folder} is another engine than the one wanted: {different}")
    return manifest


def locate_engine(name: str) -> Path:
    """Finds the directory of an engine named by its path, or as `list_engines` shows it.

    Raises:
        OptionError: there is neither.
    """
    given, kept = Path(name), engines_folder() / name
    for folder in (given, kept):
        try:
            if folder.is_dir():
                return folder
        except OSError as error:
            raise OptionError(f"{folder} cannot be looked at: {error.strerror}") from error
    raise OptionError(
        f"there is no engine {name}, neither as a directory nor in {engines_folder()}; "
        "`vqfr-media engine list` shows those that are kept"
    )


def remove_engine(folder: Path) -> None:
    """Deletes an engine, and never anything else; waits for who is building it.

    Raises:
        OptionError: there is no such folder, or it holds what is not an engine's.
        OutputError: it cannot be deleted.
    """
    refuse_foreign(folder, "is not removed")  # before a lock is made beside a foreign folder
    try:
        with wait_for_folder(folder.absolute()):
            refuse_foreign(folder, "is not removed")
            shutil.rmtree(folder)
    except OSError as error:
        if isinstance(error, VqfrMediaError):
            raise
        raise OutputError(f"{folder} cannot be removed: {error.strerror or error}") from error


def refuse_foreign(folder: Path, consequence: str) -> None:
    """Makes sure that `folder` holds an engine, whole or in pieces, or nothing.

    Hidden files beside an engine's count as nothing: file managers and network file systems leave
    some anywhere. Hidden files alone do not: somebody keeps them.

    Raises:
        OptionError: there is no such folder, or it holds other things.
    """
    try:
        files = {path.name: path.is_file() for path in sorted(folder.iterdir())}
    except OSError as error:
        raise OptionError(f"{folder} is no engine's folder: {error.strerror}") from error
    is_ours = any(is_engine_file(name) for name in files)
    for name, is_file in files.items():
        litter = is_ours and name.startswith(".")
        if not is_file or not (litter or is_engine_file(name)):
            raise OptionError(f"{folder} holds {name}, which is no engine's; it {consequence}")
