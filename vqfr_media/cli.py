"""Every command; the only file that prints or exits.

Exit codes: 0 done, 1 our own failure, 2 the input or an option is at fault, 3 the machine lacks
something, 130 stopped by Ctrl-C.
"""

import json
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, assert_never

import tyro
from tqdm import tqdm

from vqfr_media import doctor, weights
from vqfr_media.errors import InputError, MachineError, OutputError, VqfrMediaError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.image import is_image
from vqfr_media.options import RestoreOptions
from vqfr_media.pipeline import restore_image, restore_video
from vqfr_media.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Restore the faces of a video or an image; everything else in the file stays as it is."""

    source: tyro.conf.Positional[Path]
    """Video or image to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; its suffix chooses the container. An existing file is replaced at the end."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How the whole is done."""
    report: Path | None = None
    """Also write what was done, with every track and skipped face, as JSON to this file."""
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


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do and what is missing."""


Command = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code."""
    command = tyro.cli(
        Command,
        prog="vqfr-media",
        description="Restores the faces of a video with VQFR; nothing else in the file is touched.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    logging.basicConfig(level=logging.WARNING, format="vqfr-media: %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = run(command)
    except VqfrMediaError as error:
        print(f"vqfr-media: {error}", file=sys.stderr)
        code = exit_code(error)
    except KeyboardInterrupt:
        print("vqfr-media: stopped; nothing was written under the output's name", file=sys.stderr)
        code = 130
    raise SystemExit(code)


def exit_code(error: VqfrMediaError) -> int:
    """2 where the input is at fault, 3 where the machine lacks something, 1 where we are."""
    match error:
        case InputError():
            return 2
        case MachineError():
            return 3
        case _:
            return 1


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(command: Restore | Weights | Doctor) -> int:
    """Runs one parsed command; returns its exit code."""
    match command:
        case Restore():
            return _restore(command)
        case Weights(WeightsList()):
            return _list_weights()
        case Weights(WeightsFetch(names)):
            return _fetch_weights(names)
        case Weights(WeightsVerify()):
            return _verify_weights()
        case Doctor():
            return _doctor()
        case _:
            assert_never(command)  # type: ignore[arg-type]


def _restore(command: Restore) -> int:
    if command.report is not None and not command.report.parent.is_dir():
        raise OutputError(f"the folder of the report, {command.report.parent}, does not exist")
    if is_image(command.source):
        summary = restore_image(command.source, command.output, command.options)
    else:
        with tqdm(unit="frame", disable=command.quiet, dynamic_ncols=True) as bar:

            def start(info: VideoInfo) -> None:
                bar.total = info.frame_count_from_header
                bar.unpause()

            def step(_frame: Frame) -> None:
                bar.update()

            summary = restore_video(
                command.source, command.output, command.options, on_start=start, on_frame=step
            )
    if command.report is not None:
        try:
            command.report.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write the report {command.report}: {error}") from error
    if not command.quiet:
        print("\n".join(_told(summary)))
    return 0


def _told(summary: Summary) -> list[str]:
    speed = summary.frames / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.output}: {summary.frames} frames in {summary.seconds:.1f} s ({speed:.1f} fps), "
        f"{len(summary.shots)} shots",
        f"model {summary.model} on {summary.device} ({summary.why})",
        f"{summary.restored} faces restored in {len(summary.tracks)} tracks",
    ]
    if summary.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.skipped.items())
        lines.append(f"{sum(summary.skipped.values())} faces left alone: {reasons}")
    if not summary.restored:
        lines.append("no face was restored: the pictures went to the encoder untouched")
    return [*lines, *(f"note: {warning}" for warning in summary.warnings)]


def _list_weights() -> int:
    for state in weights.status():
        file = weights.WEIGHTS[state.name]
        print(f"{state.name:10} {state.state:9} {state.licence:11} {file.what}")
        print(f"{'':10} {state.path}{f' ({state.fault})' if state.fault else ''}")
    return 0


def _fetch_weights(names: Sequence[str]) -> int:
    for name in names or weights.WEIGHTS:
        with tqdm(desc=name, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:  # type: ignore[type-arg]
                bar.total = total
                bar.update(done - bar.n)

            path = weights.find(name, progress=show)
        print(f"{name}: {path}")
    return 0


def _verify_weights() -> int:
    states = weights.status()
    for state in states:
        verdict = (
            state.fault
            or {
                True: "the published file",
                False: "not the published file",
                None: "no published hash is known" if state.sha256 else "not here",
            }[state.published]
        )
        print(f"{state.name:10} {state.state:9} {verdict}: {state.path}")
    return 3 if any(state.state == "damaged" for state in states) else 0


def _doctor() -> int:
    for finding in doctor.examine():
        print(f"{finding.verdict:8} {finding.topic:20} {finding.detail}")
    return 0
