"""What a user can type: each command is a frozen dataclass, its options and help come from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vqfr_media.commands_batch import Batch
from vqfr_media.commands_look import Compare, FindTracks, Report
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.options import (
    ModelChoice,
    ModelOptions,
    PrecisionChoice,
    RestoreOptions,
)


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Restore the faces of a video or an image; everything else in the file stays as it is."""

    sources: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATH")]
    """Video or image to read. Several are restored into a folder, as `batch` does."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, whose suffix chooses the container, or the folder for the outputs of several
    inputs. An existing file is replaced at the end."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How the whole is done."""
    report: Path | None = None
    """Also write what was done, with every track and skipped face, as JSON to this file."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Make a poor film of a photograph in this package, restore it, and compare with the truth.

    Needs no network, no GPU and no other file.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo")
    """Folder to write into; files of the same names are replaced."""
    seconds: float = 4.8
    """Length of the film."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True)
class WeightsList:
    """List every weights file, where it is and under which licence."""


@dataclass(frozen=True)
class WeightsFetch:
    """Download weights files into the cache."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names as in `weights list`; by default all."""


@dataclass(frozen=True)
class WeightsVerify:
    """Check the hashes of the weights files that are here."""


@dataclass(frozen=True)
class Weights:
    """List, fetch or verify model files."""

    action: (
        Annotated[WeightsList, tyro.conf.subcommand("list")]
        | Annotated[WeightsFetch, tyro.conf.subcommand("fetch")]
        | Annotated[WeightsVerify, tyro.conf.subcommand("verify")]
    )
    """What to do."""


@dataclass(frozen=True, kw_only=True)
class EngineBuild:
    """Build an engine for this machine, check it against PyTorch, and keep it."""

    backend: BuiltBackend
    """What is to run it: openvino on CPUs, tensorrt or inductor on NVIDIA GPUs."""
    model: ModelChoice = ModelOptions.model
    """Network; auto takes what `restore` would take."""
    precision: PrecisionChoice = ModelOptions.precision
    """Arithmetic inside; auto is float32 on a CPU and float16 on a GPU."""
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
    """Try everything that a backend needs, one point after the other."""

    backend: BuiltBackend
    """What to try."""
    model: Literal["v1", "v2", "lite"] = "lite"
    """Network to try it with; its weights must be here."""
    device: str = ModelOptions.device
    """auto, cpu, cuda or cuda:N."""


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
    """v2's knob, with --whole; without it the knob is an input."""


@dataclass(frozen=True)
class Engine:
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


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do and what is missing."""


AnyCommand = Restore | Batch | FindTracks | Compare | Report | Demo | Weights | Engine | Doctor
# The same with the words by which they are called.
Command = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Batch, tyro.conf.subcommand("batch")]
    | Annotated[FindTracks, tyro.conf.subcommand("tracks")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Engine, tyro.conf.subcommand("engine")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)
