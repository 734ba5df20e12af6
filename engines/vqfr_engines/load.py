"""Engines for who wants to run one: the one that is named, or what `--backend auto` can have."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vqfr_engines.build import BuildResult, build_engine
from vqfr_engines.request import (
    BuiltEngine,
    EngineRequest,
    build_command,
    builder_of,
    identity_now,
    identity_of,
    open_engine,
    sha256_of,
)
from vqfr_engines.store import engine_folders, is_kept, kept_manifests
from vqfr_media.errors import (
    BackendError,
    EngineError,
    EngineFileError,
    InexactEngineError,
    OptionError,
    OutputError,
)
from vqfr_media.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedEngine:
    """An engine that runs, and where it came from."""

    engine: BuiltEngine
    """What runs."""
    folder: Path
    """Where it lies."""
    manifest: Manifest
    """What it says of itself."""


def load_built(request: EngineRequest) -> LoadedEngine:
    """Finds or builds the engine that `request` describes; builds again what does not load.

    Raises:
        BackendError: the backend, the precision or the device is not here.
        CheckpointError: the weights do not fit.
        EngineError: it cannot be built, or does not compute what PyTorch does.
        EngineFileError: what was built just now does not load.
        OptionError: its place holds what is no engine's.
        OutputError: there is no room for it.
    """
    built = build_engine(request)
    try:
        return _loaded(request, built)
    except EngineFileError as error:
        if built.fresh:
            raise
        logger.warning("%s; it is built again", error)
    return _loaded(request, build_engine(request, unusable=built.manifest))


def in_exact_precision[R](
    request: EngineRequest, *, is_open: bool, work: Callable[[EngineRequest], R]
) -> R:
    """Does `work` for `request`; for bfloat16, where nobody asked for the float16 that is refused.

    float16 ends at 65,504, and what is off by too much in it may be well in bfloat16. Where an
    earlier call has kept the bfloat16 engine for that reason, it is taken at once.

    Args:
        request: what is wanted.
        is_open: whether its precision may be another.
        work: builds or loads an engine.

    Raises:
        InexactEngineError: from `work`, in every precision that is tried.
    """
    wider = replace(request, precision="bfloat16")
    if not is_open or request.precision != "float16":
        return work(request)
    if is_kept(identity_of(wider)) and not is_kept(identity_of(request)):
        return work(wider)
    try:
        return work(request)
    except InexactEngineError as error:
        logger.warning("%s; it is built in bfloat16 instead", error)
    return work(wider)


def load_automatically(
    requests: Sequence[EngineRequest], *, any_precision: bool, any_batch_size: bool
) -> LoadedEngine | str:
    """Returns the first engine of `requests` that can be had, or a clause why there is none.

    On a CPU it is built where it is not here. On a GPU, where that takes minutes, only what
    somebody has built before is used, and built again where it has become stale.

    Args:
        requests: in the order of preference, all for the same network and device.
        any_precision: whether an engine of another precision will do on a GPU, where one is kept.
        any_batch_size: the same for the batch size.
    """
    on_gpu = requests[0].device != "cpu"
    reasons = []
    for request in requests:
        try:
            # On a CPU a trial of bfloat16 must not decide all that is done later.
            kept = _as_kept(
                request, any_precision=any_precision and on_gpu, any_batch_size=any_batch_size
            )
            if kept is not None or not on_gpu:
                return in_exact_precision(
                    kept or request, is_open=any_precision and on_gpu, work=load_built
                )
        except (BackendError, EngineError, EngineFileError, OptionError, OutputError) as error:
            reasons.append(f"there is no {request.backend} engine: {error}")
    return "; ".join(reasons) or _nothing_built(requests)


def _loaded(request: EngineRequest, built: BuildResult) -> LoadedEngine:
    spec = replace(built.manifest.spec, device=request.device)
    engine = open_engine(built.folder, request.backend, spec)
    return LoadedEngine(engine=engine, folder=built.folder, manifest=built.manifest)


def _as_kept(
    request: EngineRequest, *, any_precision: bool, any_batch_size: bool
) -> EngineRequest | None:
    """Returns `request` as the newest engine answers it that is kept and fits this machine.

    None where none is kept. On a GPU one for another machine or version counts: it
    shows that somebody wants one.
    """
    place = request.device.partition(":")[0]
    kept = [
        manifest
        for manifest in kept_manifests(request.backend, request.model)
        if manifest.spec.device.partition(":")[0] == place
        and (any_precision or manifest.identity.precision == request.precision)
        and (any_batch_size or manifest.identity.batch_size == request.batch_size)
    ]
    if kept:
        weights_sha256 = sha256_of(request.weights)
        kept = [one for one in kept if one.identity.weights_sha256 == weights_sha256]
    if not kept:
        # One whose manifest cannot be read has only its name to be known by.
        begins = f"{request.model}-{request.backend}-"
        alike = any(folder.name.startswith(begins) for folder in engine_folders())
        return request if alike and is_kept(identity_of(request)) else None
    builder_of(request.backend).check(request.device)
    fitting = [manifest for manifest in kept if _fits(manifest, request.device)]
    if not fitting and place == "cpu":
        return None
    identity = (fitting or kept)[0].identity
    return replace(request, precision=identity.precision, batch_size=identity.batch_size)


def _fits(manifest: Manifest, device: str) -> bool:
    try:
        return identity_now(manifest.identity, device=device).sha256 == manifest.identity.sha256
    except BackendError:  # its precision is not to be had on this machine: it is another's
        return False


def _nothing_built(requests: Sequence[EngineRequest]) -> str:
    here = importlib.util.find_spec("torch_tensorrt") is not None
    preferred = "tensorrt" if here else "inductor"
    request = next(one for one in requests if one.backend == preferred)
    command = build_command(request, weights=str(request.weights), device=request.device)
    return f"no engine of {request.model} is built for {request.device}: build one with `{command}`"
