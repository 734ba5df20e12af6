"""What is said of an engine that does not load: built with what, what is here, what to type."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from vqfr_media.errors import EngineFileError
from vqfr_media.manifest import BuiltBackend, read_manifest
from vqfr_media.values import EngineSpec


def rebuild_hint(
    folder: Path, spec: EngineSpec, *, backend: BuiltBackend, here: Mapping[str, str]
) -> str:
    """Says what differs between the engine in `folder` and `here`, and the build command.

    Args:
        folder: of the engine; its manifest may be absent or damaged.
        spec: of the engine.
        backend: that runs it.
        here: libraries, and what else it is bound to, by the names that the manifest has for them.
    """
    command = (
        f"vqfr-media engine build --backend {backend} --model {spec.model} "
        f"--precision {spec.precision} --batch-size {spec.batch_size}"
    )
    try:
        manifest = read_manifest(folder)
    except EngineFileError:
        return f"here is {_listed(here)}; build it again with `{command}`"
    built = {**manifest.identity.versions, **manifest.identity.machine}
    differing = [name for name in here if built.get(name) != here[name]] or list(here)
    there, now = ({n: side.get(n, "unknown") for n in differing} for side in (built, here))
    weights = shlex.quote(manifest.weights)
    return (
        f"it was built with {_listed(there)}, here is {_listed(now)}; "
        f"build it again with `{command} --weights {weights}`"
    )


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
