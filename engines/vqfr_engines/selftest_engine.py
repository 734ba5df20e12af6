"""What an engine of any backend must hold: it builds, is exact, deterministic, and how fast."""

import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from vqfr_engines.engine_checks import (
    CheckFailedError,
    Findings,
    Point,
    check_batch_invariance,
    check_parity,
    milliseconds_per_face,
)
from vqfr_engines.parity import fixed_crops
from vqfr_engines.random_networks import published_config, random_network
from vqfr_engines.request import BuiltEngine, builder_of, open_engine
from vqfr_engines.selftest_kernels import check_published_kernels
from vqfr_media.backends.batching import full_batch, spec_of
from vqfr_media.backends.torch_engine import resolve_device
from vqfr_media.errors import BackendError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_model
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2
from vqfr_media.options import DEFAULT_FIDELITY

_GPU_BATCH = 8


class EngineChecks:
    """Builds one engine into a folder, which later processes find there, and looks at it."""

    def __init__(
        self, folder: Path, *, backend: BuiltBackend, device: str, model: str, weights: Path
    ) -> None:
        self._folder, self._backend, self._device = folder, backend, device
        self._model, self._weights = model, weights
        self._precision: Precision = "float32" if device == "cpu" else "float16"

    def points(self) -> Sequence[Point]:
        """Lists the points, in order."""
        found: list[Point] = [
            ("an engine builds and loads", self.loads),
            ("it computes what PyTorch computes", self.is_exact),
            ("a face's bits do not depend on its batch", self.is_batch_invariant),
            ("how long a face takes", self.takes),
        ]
        if self._backend == "inductor":
            from vqfr_engines import inductor

            def has_compiler() -> str:
                inductor.check(self._device)
                return inductor.check_compiler(self._device)

            found.insert(0, ("what compiles an engine is here", has_compiler))
            found.append(("our kernel at every level and tile of v1 and v2", self.kernels))
            found.append(("v2 builds and runs in its default batch", self.v2_runs))
        return found

    def loads(self) -> str:
        """Builds and opens the engine."""
        started = time.perf_counter()
        spec = self._engine.spec
        files = ", ".join(
            f"{path.name} {path.stat().st_size / 1e6:.1f} MB"
            for path in sorted((self._folder / "engine").iterdir())
        )
        return f"{spec.precision}, {time.perf_counter() - started:.0f} s, {files}"

    def is_exact(self) -> str:
        """Compares it with PyTorch in float32."""
        return check_parity(self._engine, load_model(self._weights, model=self._model))

    def is_batch_invariant(self) -> str:
        """Runs crops alone, in a batch and again."""
        return check_batch_invariance(self._engine)

    def takes(self) -> Findings:
        """Times encoder and decoder."""
        encode, decode = milliseconds_per_face(self._engine)
        return Findings(
            detail=f"encode {encode:.2f} ms, decode {decode:.2f} ms per face",
            figures={"encode_ms": encode, "decode_ms": decode},
        )

    def kernels(self) -> Findings:
        """Compares every tile of our kernel with torchvision."""
        return check_published_kernels(self._device)

    def v2_runs(self) -> Findings:
        """Builds v2 with random weights and runs a full batch."""
        return v2_in_its_batch(self._folder / "v2", backend=self._backend, device=self._device)

    @cached_property
    def _engine(self) -> BuiltEngine:
        network = load_model(self._weights, model=self._model)
        return built_engine(
            self._folder / "engine",
            network,
            backend=self._backend,
            model=self._model,
            precision=self._precision,
            batch_size=2,
            device=self._device,
        )


def built_engine(
    folder: Path,
    network: VqfrV1 | VqfrV2,
    *,
    backend: BuiltBackend,
    model: str,
    precision: Precision,
    batch_size: int,
    device: str,
) -> BuiltEngine:
    """Opens the engine in `folder`, built there unless an earlier process has done so.

    Args:
        folder: made if it is not there; what an unfinished build left in it is deleted.
        network: float32, on the CPU, in eval mode; used up.
        backend, model, precision, batch_size, device: of the engine.

    Raises:
        BackendError: it cannot be built or run here.
        EngineError: the builder failed.
    """
    builder = builder_of(backend)
    builder.check(device)
    spec = spec_of(network, model=model, batch_size=batch_size, precision=precision, device=device)
    complete = folder.with_name(f"{folder.name}.complete")
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        builder.build(network, folder, precision=precision, batch_size=batch_size, device=device)
        complete.touch()
    del network
    return open_engine(folder, backend, spec)


def v2_in_its_batch(folder: Path, *, backend: BuiltBackend, device: str) -> Findings:
    """Builds v2 with random weights for the default batch of a GPU, and runs it.

    Raises:
        BackendError: there is no GPU, or the backend is not here.
        EngineError: it cannot be built.
        CheckFailedError: its values are not finite.
    """
    place = resolve_device(device)
    if place.type != "cuda":
        raise BackendError("only a GPU runs v2 in batches")
    started = time.perf_counter()
    engine = built_engine(
        folder,
        random_network(published_config("v2")),
        backend=backend,
        model="v2",
        precision="float16",
        batch_size=_GPU_BATCH,
        device=device,
    )
    seconds = time.perf_counter() - started
    crops = full_batch(fixed_crops(engine.spec.size), _GPU_BATCH).to(place)
    latents = engine.encode(crops)
    images = engine.decode(crops, latents, fidelity=DEFAULT_FIDELITY)
    if not all(bool(values.isfinite().all()) for values in (latents, images)):
        raise CheckFailedError("v2 with random weights gives values that are not finite")
    encode, decode = milliseconds_per_face(engine)
    free, total = torch.cuda.mem_get_info(place)
    figures = {
        "batch": _GPU_BATCH,
        "build_seconds": seconds,
        "encode_ms": encode,
        "decode_ms": decode,
        "used_gib": (total - free) / 2**30,
    }
    return Findings(
        detail=f"float16, {_GPU_BATCH} faces at once: built in {seconds:.0f} s, "
        f"{encode + decode:.1f} ms a face, {(total - free) / 2**30:.1f} GiB in use on the GPU",
        figures=figures,
    )
