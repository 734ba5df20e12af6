"""The parts of `benchmarks.gpu`: what each measures, and in which order."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from vqfr_engines.bench import run_seconds
from vqfr_engines.engine_checks import FIDELITY, CheckFailedError
from vqfr_engines.random_networks import published_config, random_network
from vqfr_engines.selftest_engine import built_engine
from vqfr_engines.selftest_kernels import levels
from vqfr_engines.selftest_point import SelftestBackend, checked, points_of

from benchmarks import deform_conv
from benchmarks.engines import limit_of, operations
from vqfr_media.backends.batching import is_out_of_memory
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.engine import Engine
from vqfr_media.errors import BackendError, EngineMemoryError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_model, save_network
from vqfr_media.network.config import lite_config
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

MODELS = Path(__file__).parents[1] / "vqfr_media" / "models"
BATCHES = (8, 16, 4, 1)
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measurement."""

    name: str
    """Unique, for the record."""
    kind: str
    """Which function of this module measures."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments, as plain values."""
    seconds: float = 90.0
    """After so long it is ended, and those after it go on."""


def selftest_parts(backend: SelftestBackend, *, device: str, weights: Path) -> list[Part]:
    """Returns A part for each point of a backend's self-test."""
    points = points_of(backend, Path(), device=device, model="lite", weights=weights)
    given = {"backend": backend, "weights": str(weights)}
    return [
        Part(
            name=f"self-test {backend} {number}: {name}",
            kind="selftest",
            given={**given, "number": number},
            seconds=90.0 if backend == "torch" else 300.0,
        )
        for number, (name, _) in enumerate(points, start=1)
    ]


def kernel_parts(dtype: str, batch: int) -> list[Part]:
    """Returns A part for each level of v1 and v2."""
    return [
        Part(
            name=f"kernel {c.height} px x {c.channels}, {dtype}, {batch} faces",
            kind="kernel",
            given={
                "channels": c.channels,
                "size": c.height,
                "groups": c.offset_groups,
                "dtype": dtype,
                "batch": batch,
            },
        )
        for c in levels("v1", "v2")
    ]


def torch_part(model: str, precision: Precision) -> Part:
    """Returns plain PyTorch at every batch size."""
    return Part(
        name=f"torch {model} {precision}",
        kind="eager",
        given={"model": model, "precision": precision, "batches": BATCHES},
    )


def built_part(backend: BuiltBackend, model: str, precision: Precision, batch: int) -> Part:
    """Returns an engine, built for one batch size."""
    return Part(
        name=f"{backend} {model} {precision}, {batch} faces",
        kind="built",
        given={"backend": backend, "model": model, "precision": precision, "batch": batch},
        seconds=400.0,
    )


def all_parts() -> list[Part]:
    """Returns everything that is to be known of a GPU, in order of worth."""
    lite = MODELS / "lite.safetensors"
    halves: tuple[Precision, ...] = ("float16", "bfloat16", "float32")
    return [
        *selftest_parts("torch", device="cuda:0", weights=lite),
        *kernel_parts("float16", 8),
        *(torch_part(model, precision) for precision in halves for model in ("v2", "v1", "lite")),
        built_part("inductor", "v2", "float16", 8),
        built_part("inductor", "v1", "float16", 8),
        training_part("vqfr_v1", batch=16, precision="bfloat16", steps=4),
        Part(name="pipeline at 1080p", kind="pipeline", given={"scale": 4.0, "frames": 120}),
        built_part("tensorrt", "v2", "float16", 8),
        built_part("tensorrt", "v1", "float16", 8),
        *selftest_parts("inductor", device="cuda:0", weights=lite),
        *selftest_parts("tensorrt", device="cuda:0", weights=lite),
        training_part("vqfr_v1", batch=16, precision="float32", steps=2),
        *kernel_parts("float16", 1),
        *kernel_parts("float32", 1),
        *(
            built_part(backend, model, "float16", batch)
            for model in ("lite", "v2", "v1")
            for backend in cast(tuple[BuiltBackend, ...], ("inductor", "tensorrt"))
            for batch in BATCHES
            if model == "lite" or batch != 8
        ),
    ]


def training_part(recipe: str, *, batch: int, precision: str | None, steps: int) -> Part:
    """Returns training on random faces."""
    return Part(
        name=f"training {recipe}{f' {precision}' if precision else ''}, {batch} faces",
        kind="training",
        given={"recipe": recipe, "batch": batch, "precision": precision, "steps": steps},
        seconds=150.0,
    )


def smoke_parts(weights: Path) -> list[Part]:
    """Lists a part of each kind in tiny shapes, to see on a CPU that the code runs.

    Args:
        weights: of a small network of model lite.
    """
    given = {"model": "lite", "weights": str(weights)}
    kernel = {"channels": 8, "size": 16, "groups": 2, "dtype": "float32", "batch": 2}
    return [
        *selftest_parts("torch", device="cpu", weights=weights)[-2:],
        Part(name="kernel", kind="kernel", given=kernel),
        Part(
            name="torch", kind="eager", given={**given, "precision": "bfloat16", "batches": (2, 1)}
        ),
        Part(
            name="tensorrt",
            kind="built",
            given={**given, "backend": "tensorrt", "precision": "float16", "batch": 1},
        ),
        training_part("smoke_stage2", batch=1, precision=None, steps=1),
        Part(name="pipeline", kind="pipeline", given={"scale": 1.0, "frames": 2}),
    ]


def small_weights(folder: Path) -> Path:
    """Returns A file with random weights of a small network, of model lite's layout."""
    config = replace(
        lite_config(),
        image_size=64,
        channels=(8, 16),
        encoder_blocks=(0, 1),
        texture_blocks=(1, 1),
        offset_channels=(0, 8),
        codebook_size=16,
        code_channels=8,
    )
    path = folder / "small.safetensors"
    save_network(path, random_network(config))
    return path


def measured(part: Part, *, device: torch.device, folder: Path) -> dict[str, Any]:
    """Does one part; whatever it raises is its outcome.

    Args:
        part: what to measure.
        device: where.
        folder: in which engines are left for later parts.

    Returns:
        `outcome` (passed, failed or skipped), `detail`, `seconds` and `figures`, as plain values.
    """
    began = time.monotonic()
    outcome, detail = "passed", ""
    figures: dict[str, Any] = {}
    try:
        match part.kind:
            case "selftest":
                return selftest(part, device=device, folder=folder)
            case "kernel":
                figures = kernel(device=device, **part.given)
            case "eager":
                figures = eager(device=device, **part.given)
            case "built":
                figures = built(device=device, folder=folder, **part.given)
            case "training":
                figures = training(device=device, **part.given)
            case "pipeline":
                figures = pipeline(device=device, **part.given)
            case _:
                raise ValueError(f"no part of kind {part.kind!r}")
    except ModuleNotFoundError as error:
        outcome, detail = "skipped", f"{error.name} is not installed here"
    except BackendError as error:
        outcome, detail = "skipped", str(error)
    except CheckFailedError as error:
        outcome, detail = "failed", str(error)
    except Exception as error:  # whatever it is, it is the outcome, and the next part goes on
        outcome, detail = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {
        "outcome": outcome,
        "detail": detail,
        "seconds": round(time.monotonic() - began, 2),
        "figures": figures,
    }


def selftest(part: Part, *, device: torch.device, folder: Path) -> dict[str, Any]:
    """Does a point of the self-test."""
    given = part.given
    points = points_of(
        given["backend"],
        folder,
        device=str(device),
        model="lite",
        weights=Path(given["weights"]),
    )
    found = checked(given["number"], *points[given["number"] - 1])
    return {
        "outcome": found.outcome,
        "detail": found.detail,
        "seconds": round(found.seconds, 2),
        "figures": dict(found.figures),
    }


def kernel(
    *, device: torch.device, channels: int, size: int, groups: int, dtype: str, batch: int
) -> dict[str, Any]:
    """Times our deformable convolution beside torchvision's, and each of its tiles."""
    with torch.inference_mode():
        return deform_conv.measure(
            channels,
            size,
            batch=batch,
            groups=groups,
            dtype=getattr(torch, dtype),
            device=device,
        )


def eager(
    *,
    device: torch.device,
    model: str,
    precision: Precision,
    batches: tuple[int, ...],
    weights: str | None = None,
) -> dict[str, Any]:
    """Times plain PyTorch at each batch size; one that does not fit says so."""
    network = network_of(model, weights)
    work = operations(network)
    engine = TorchEngine(
        network, model=model, device=device, batch_size=batches[0], precision=precision
    )
    figures: dict[str, Any] = {}
    for batch in batches:
        try:
            figures[str(batch)] = engine_figures(engine.with_batch_size(batch), work, device)
        except EngineMemoryError:
            figures[str(batch)] = "does not fit"
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return figures


def built(
    *,
    device: torch.device,
    folder: Path,
    backend: BuiltBackend,
    model: str,
    precision: Precision,
    batch: int,
    weights: str | None = None,
) -> dict[str, Any]:
    """Times an engine that is built here, or was by an earlier part."""
    network = network_of(model, weights)
    work, began = operations(network), time.monotonic()
    engine = built_engine(
        folder / f"{backend}-{model}-{precision}-{batch}",
        network,
        backend=backend,
        model=model,
        precision=precision,
        batch_size=batch,
        device=str(device),
    )
    seconds = time.monotonic() - began
    return {"build_seconds": round(seconds, 1), **engine_figures(engine, work, device)}


def network_of(model: str, weights: str | None) -> VqfrV1 | VqfrV2:
    """Loads the weights of a file, or draws the published network's at random."""
    if weights is None:
        return random_network(published_config(model))
    return load_model(Path(weights), model=model).eval()


def engine_figures(engine: Engine, work: float, device: torch.device) -> dict[str, Any]:
    """Measures milliseconds a face, memory, and the share of the arithmetic limit.

    Args:
        engine: to be timed.
        work: operations for a face.
        device: where it runs.
    """
    spec = engine.spec
    torch.manual_seed(0)
    crops = torch.rand(spec.batch_size, 3, spec.size, spec.size, device=device)
    latents = torch.randn(spec.batch_size, *spec.latent_shape, device=device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    parts = {
        "encode_ms": lambda: engine.encode(crops),
        "decode_ms": lambda: engine.decode(crops, latents, fidelity=FIDELITY),
    }
    figures: dict[str, Any] = {}
    for name, run in parts.items():
        taken = [run_seconds(run, device) for _ in range(1 + (REPEATS if on_gpu else 1))]
        figures[name] = 1000 * sorted(taken[1:])[len(taken[1:]) // 2] / spec.batch_size
    figures["both_ms"] = figures["encode_ms"] + figures["decode_ms"]
    if on_gpu:
        free, total = torch.cuda.mem_get_info(device)
        # What TensorRT and compiled code take for themselves is in the second alone.
        figures["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        figures["used_on_the_gpu_gib"] = (total - free) / 2**30
        limit = limit_of(device, spec.precision)
        if limit is not None:
            figures["share_of_limit"] = work / (figures["both_ms"] / 1000) / limit
    return figures


def training(
    *, device: torch.device, recipe: str, batch: int, precision: str | None, steps: int
) -> dict[str, Any]:
    """Measures images a second; where the batch does not fit, of its halves, and so on."""
    from benchmarks.stand_ins import stand_in

    stand_in("cv2", "skimage", "sklearn", "tqdm")  # they prepare photographs
    from benchmarks.gpu_training import time_training

    accumulate = 1
    while True:
        try:
            return time_training(
                recipe,
                device=device,
                batch=batch,
                accumulate=accumulate,
                precision=precision,
                steps=steps,
            )
        except RuntimeError as error:
            if accumulate == batch or not is_out_of_memory(error):
                raise
        # Behind the handler: until its end the error's traceback holds the tensors of the step.
        accumulate *= 2
        torch.cuda.empty_cache()


def pipeline(*, device: torch.device, scale: float, frames: int) -> dict[str, Any]:
    """Films a photograph at 1080p and restores the film from file to file: frames a second."""
    import cv2

    from vqfr_media.demo import scene
    from vqfr_media.media.rgb_clip import write_clip
    from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions
    from vqfr_media.pipeline import restore_video

    size = (int(480 * scale), int(270 * scale))

    def filmed() -> Iterator[Any]:
        for index in range(frames):
            shift = [[scale, 0, -scale * (20 + 0.3 * index)], [0, scale, -scale * 20]]
            yield cv2.warpAffine(
                scene.photograph(), np.array(shift), size, borderMode=cv2.BORDER_REFLECT_101
            )

    figures: dict[str, Any] = {"width": size[0], "height": size[1], "frames": frames}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        write_clip(source, filmed(), frame_rate=Fraction(25), quality=18)
        options = RestoreOptions(
            model=ModelOptions(model="lite", backend="torch", device=str(device)),
            face=FaceOptions(detector="bundled"),
        )
        for run in ("cold", "warm"):
            began = time.monotonic()
            summary = restore_video(source, output, options)
            output.unlink()
            figures[f"fps_{run}"] = frames / (time.monotonic() - began)
        figures["faces"] = summary.restored
    return figures
