"""`vqfr-media engine`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_never

import tyro

from vqfr_media.cli.console import echo, fetch_progress
from vqfr_media.engines_folder import engines_folder
from vqfr_media.errors import OptionError, VqfrMediaError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.options import DEFAULT_FIDELITY, ModelChoice, ModelOptions, PrecisionChoice

if TYPE_CHECKING:
    from vqfr_engines.bench import BenchResult
    from vqfr_engines.selftest_point import CheckResult
    from vqfr_engines.store import EngineStatus


@dataclass(frozen=True, kw_only=True)
class EngineBuild:
    """Build an engine for this machine, check it against PyTorch, and keep it."""

    backend: BuiltBackend
    """What is to run it: openvino on CPUs, tensorrt or inductor on NVIDIA GPUs."""
    model: ModelChoice = ModelOptions.model
    """Network; auto takes what `restore` would take."""
    precision: PrecisionChoice = ModelOptions.precision
    """Arithmetic inside; auto is float32 on a CPU, float16 on a GPU (bfloat16 where that fails)."""
    batch_size: int | None = None
    """Faces in one run, fixed in the engine; by default 1 on a CPU and 8 on a GPU."""
    weights: Path | None = None
    """File with the network's weights, instead of the known places."""
    device: str = ModelOptions.device
    """auto, cpu, cuda or cuda:N: where it is built and checked, and for which it is."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Directory to write, for `restore --engine`; by default it is kept where engines are found."""


@dataclass(frozen=True)
class EngineList:
    """List the engines that are kept, and whether they can be used here."""


@dataclass(frozen=True)
class EngineVerify:
    """Check an engine's files, that it fits this machine, and its results against PyTorch's."""

    engine: tyro.conf.Positional[str]
    """Its directory, or its name as in `engine list`."""


@dataclass(frozen=True)
class EngineBench:
    """Time an engine per face, in turns with eager PyTorch."""

    engine: tyro.conf.Positional[str]
    """Its directory, or its name as in `engine list`."""
    runs: int = 5
    """Runs of each; the median is told."""
    json: Path | None = None
    """Also write the figures to this file."""


@dataclass(frozen=True)
class EngineRemove:
    """Delete engines."""

    engines: tyro.conf.Positional[tuple[str, ...]] = ()
    """Their directories, or their names as in `engine list`."""
    every: Annotated[bool, tyro.conf.arg(name="all")] = False
    """All that are kept."""
    stale: bool = False
    """Those that are kept but damaged or no longer fit this machine."""


@dataclass(frozen=True, kw_only=True)
class EngineSelftest:
    """Try everything that a backend needs, one point after the other, each in its own process."""

    backend: Literal["torch", "openvino", "tensorrt", "inductor"]
    """What to try."""
    model: Literal["v1", "v2", "lite"] = "lite"
    """Network to try it with; its weights must be here."""
    device: str = ModelOptions.device
    """auto, cpu, cuda or cuda:N."""
    weights: Path | None = None
    """File with the network's weights, instead of the known places."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("selftest.json")
    """JSON file for all that was seen, written anew after each point."""


@dataclass(frozen=True, kw_only=True)
class EngineExport:
    """Write a network as files for other programs; see docs/onnx.md."""

    onnx: bool = False
    """As ONNX; the only kind there is so far."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Directory to write to."""
    model: ModelChoice = ModelOptions.model
    """Network; auto takes what `restore` would take."""
    weights: Path | None = None
    """File with the network's weights, instead of the known places."""
    precision: Precision = "float32"
    """Arithmetic inside; inputs and outputs are float32 whatever it is."""
    batch_size: int | None = None
    """Faces in one run, fixed in the files; by default it stays open."""
    whole: bool = False
    """One file, image to image, instead of encoder and decoder."""
    fidelity: float | None = None
    """v2's fidelity, with --whole; without it the fidelity is an input."""


@dataclass(frozen=True)
class EngineCommand:
    """Build, list, check, time or delete engines: networks made ready for this machine."""

    action: (
        Annotated[EngineBuild, tyro.conf.subcommand("build")]
        | Annotated[EngineList, tyro.conf.subcommand("list")]
        | Annotated[EngineVerify, tyro.conf.subcommand("verify")]
        | Annotated[EngineBench, tyro.conf.subcommand("bench")]
        | Annotated[EngineRemove, tyro.conf.subcommand("remove")]
        | Annotated[EngineSelftest, tyro.conf.subcommand("selftest")]
        | Annotated[EngineExport, tyro.conf.subcommand("export")]
    )
    """What to do."""


def run_engine(command: EngineCommand) -> int:
    """Runs one of the commands under `engine`; returns its exit code."""
    match action := command.action:
        case EngineBuild():
            return build(action)
        case EngineList():
            return list_kept()
        case EngineVerify(name):
            return verify(name)
        case EngineBench():
            return bench(action)
        case EngineRemove():
            return remove(action)
        case EngineSelftest():
            return selftest(action)
        case EngineExport():
            return export(action)
        case _:
            assert_never(action)


def build(command: EngineBuild) -> int:
    """Builds one engine, or finds it."""
    from vqfr_engines.build import build_engine
    from vqfr_engines.load import in_exact_precision

    from vqfr_media.engine import request_engine

    options = ModelOptions(
        model=command.model,
        weights=command.weights,
        backend=command.backend,
        precision=command.precision,
        device=command.device,
        batch_size=command.batch_size,
    )
    with fetch_progress(quiet=False) as fetch:
        request = request_engine(options, command.backend, progress=fetch)
    built = in_exact_precision(
        request,
        is_open=command.precision == "auto",
        work=lambda wanted: build_engine(wanted, output=command.output),
    )
    took = f"built in {built.manifest.seconds:.1f} s" if built.fresh else "was here already"
    echo(f"{built.folder}: {took}", built.manifest.parity.line())
    return 0


def list_kept() -> int:
    """Says of every engine that is kept whether it can be used."""
    from vqfr_engines.store import list_engines

    echo(*status_lines(list_engines()) or [f"no engines in {engines_folder()}"])
    return 0


def status_lines(statuses: Sequence["EngineStatus"]) -> list[str]:
    """Writes a line for each engine, and one more for what is wrong with it."""
    lines = []
    for status in statuses:
        manifest = status.manifest
        built = (
            f"  built {manifest.built[:10]}  {manifest.parity.psnr_db:.1f} dB" if manifest else ""
        )
        lines.append(f"{status.state:8} {status.folder.name}{built}")
        if status.why:
            lines.append(f"{'':8} {status.why}")
    return lines


def verify(name: str) -> int:
    """Says how exact an engine is; 3 where it can no longer be believed."""
    from vqfr_engines.store import locate_engine

    folder = locate_engine(name)
    from vqfr_engines.verify import verify_engine  # only now: it imports PyTorch

    verified = verify_engine(folder)
    echo(f"{folder}: sound, and fits this machine", verified.parity.line())
    return 0


def bench(command: EngineBench) -> int:
    """Says what an engine is worth."""
    from vqfr_engines.store import locate_engine

    from vqfr_media.files import write_text

    if command.runs < 1:
        raise OptionError(f"runs must be at least 1, got {command.runs}")
    folder = locate_engine(command.engine)
    from vqfr_engines.bench import bench_engine  # only now: it imports PyTorch

    result = bench_engine(folder, runs=command.runs)
    echo(*bench_lines(result))
    if command.json is not None:
        write_text(command.json, json.dumps(bench_json(result), indent=2) + "\n")
    return 0


def bench_lines(result: "BenchResult") -> list[str]:
    """Writes the figures as a table."""
    identity, spec = result.manifest.identity, result.manifest.spec
    lines = [
        f"{identity.model} on {spec.device}, {identity.precision}, batch {identity.batch_size}: "
        f"ms per face, median of {result.runs}",
        f"{'':8} {identity.backend:>10} {'torch':>10} {'faster':>8}",
    ]
    for timing in result.timings:
        lines.append(
            f"{timing.part:8} {timing.engine_ms:10.1f} {timing.torch_ms:10.1f} "
            f"{timing.speedup:7.2f}×"
        )
    return lines


def bench_json(result: "BenchResult") -> dict[str, Any]:
    """Returns the figures, and what they were taken with, as plain values."""
    identity = result.manifest.identity
    return {
        "date": result.date,
        "identity": identity.sha256,
        "backend": identity.backend,
        "model": identity.model,
        "precision": identity.precision,
        "batch_size": identity.batch_size,
        "versions": dict(identity.versions),
        "machine": dict(identity.machine),
        "device": result.manifest.spec.device,
        "torch_threads": result.threads,
        "runs": result.runs,
        "ms_per_face": {
            timing.part: {"engine": timing.engine_ms, "torch": timing.torch_ms}
            for timing in result.timings
        },
    }


def remove(command: EngineRemove) -> int:
    """Deletes engines; names each."""
    from vqfr_engines.store import list_engines, locate_engine, remove_engine

    if [bool(command.engines), command.every, command.stale].count(True) != 1:
        raise OptionError("say which engines to remove: names or directories, --all, or --stale")
    if command.engines:
        folders = [locate_engine(name) for name in command.engines]
    else:
        kept = list_engines()
        unfit = ("stale", "damaged")  # what cannot be judged here now is kept
        folders = [status.folder for status in kept if command.every or status.state in unfit]
    for folder in folders:
        remove_engine(folder)
        echo(f"{folder}: removed")
    return 0


def selftest(command: EngineSelftest) -> int:
    """Tries one point after the other; 1 where one fails, 3 where nothing could be tried."""
    from vqfr_engines.selftest import facts_line, machine, report_json, run

    from vqfr_media.backends.torch_engine import resolve_device
    from vqfr_media.files import write_text

    # Where there is no GPU, its points say so themselves.
    home = {"openvino": "cpu", "tensorrt": "cuda:0"}.get(command.backend, "auto")
    named = command.device if command.device != "auto" else home
    device = named if named == "cuda:0" else str(resolve_device(named))
    facts = machine(device)
    echo(facts_line(facts))
    results: list[CheckResult] = []
    write_text(command.output, report_json(command.backend, facts, results))
    for result in run(command.backend, device=device, model=command.model, weights=command.weights):
        echo(selftest_line(result))
        results.append(result)
        write_text(command.output, report_json(command.backend, facts, results))
    echo(f"all of it is in {command.output}")
    outcomes = {result.outcome for result in results}
    if "failed" in outcomes:
        return 1
    return 0 if "passed" in outcomes else 3


def selftest_line(result: "CheckResult") -> str:
    """Writes one point."""
    head = f"{result.number:2}  {result.outcome:8} {result.name} ({result.seconds:.1f} s)"
    return f"{head}: {result.detail}" if result.detail else head


def export(command: EngineExport) -> int:
    """Writes a network for other programs, and says how near their results are to ours."""
    from vqfr_engines.onnx import Source, export_onnx
    from vqfr_engines.request import sha256_of

    from vqfr_media.backends.torch_engine import resolve_device
    from vqfr_media.choices import choose_model
    from vqfr_media.files import output_error
    from vqfr_media.network.checkpoint import load_model
    from vqfr_media.weights import WEIGHTS

    if not command.onnx:
        raise OptionError("say what to write: --onnx")
    if command.fidelity is not None and not command.whole:
        raise OptionError("--fidelity is an input of the decoder; only --whole fixes it")
    options = ModelOptions(
        model=command.model,
        weights=command.weights,
        fidelity=command.fidelity,
        batch_size=command.batch_size,
    )
    on_gpu = resolve_device("auto").type == "cuda"
    with fetch_progress(quiet=False) as fetch:
        chosen = choose_model(options, has_gpu=on_gpu, offline=False, progress=fetch)
    ours = command.weights is None
    licence = WEIGHTS[chosen.name].licence if ours else f"that of {command.weights}"
    source = Source(model=chosen.name, weights_sha256=sha256_of(chosen.weights), licence=licence)
    try:
        command.output.mkdir(parents=True, exist_ok=True)
        written = export_onnx(
            load_model(chosen.weights, model=chosen.name),
            command.output,
            source=source,
            batch_size=command.batch_size,
            precision=command.precision,
            whole=command.whole,
            fidelity=DEFAULT_FIDELITY if command.fidelity is None else command.fidelity,
        )
    except OSError as error:
        if isinstance(error, VqfrMediaError):
            raise
        raise output_error(command.output, error) from error
    echo(*(str(path) for path in written.files))
    if written.error is not None:
        echo(f"onnxruntime is within {written.error:.1e} of PyTorch")
    return 0
