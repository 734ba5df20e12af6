"""Every command; the only file that prints or exits.

Exit codes: 0 done, 1 our own failure, 2 the input or an option is at fault, 3 the machine lacks
something, 130 stopped by Ctrl-C.
"""

import io
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from types import FrameType
from typing import assert_never

import tyro
from tqdm import tqdm

from vqfr_media import weights
from vqfr_media.commands import (
    Command,
    Doctor,
    FindTracks,
    Restore,
    Weights,
    WeightsFetch,
    WeightsList,
    WeightsVerify,
)
from vqfr_media.errors import (
    InputError,
    MachineError,
    OptionError,
    OutputError,
    VqfrMediaError,
)
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.options import (
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    logging.basicConfig(level=logging.WARNING, format="vqfr-media: %(message)s")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["--version"]:
            _say(f"vqfr-media {version('vqfr-media')}")
            raise SystemExit(0)
        code = run(_parse(words))
        sys.stdout.flush()
    except VqfrMediaError as error:
        _complain(str(error))
        code = exit_code(error)
    except KeyboardInterrupt:
        _complain("stopped; nothing was written under the output's name")
        code = 130
    except BrokenPipeError:  # whoever read our words has gone: they are not missed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)


def _parse(arguments: Sequence[str]) -> Restore | FindTracks | Weights | Doctor:
    """The command; a value out of range is told in our own words, without the parser's box."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                Command,
                prog="vqfr-media",
                description="Restores the faces of a video with VQFR; "
                "nothing else in the file is touched.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit:
        words = " ".join(re.sub("[─│╭╮╰╯|]|-{3,}", " ", said.getvalue()).split())
        refused = re.search(r"Error parsing \S+?: (.*?)(?: For full helptext|$)", words)
        if refused and "Value error" in words:
            raise OptionError(refused[1]) from None
        sys.stderr.write(said.getvalue())
        raise


def _say(*lines: str) -> None:
    """Prints lines; a file name that the terminal cannot show is escaped, not an error."""
    for line in lines:
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def _complain(message: str) -> None:
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    print(f"vqfr-media: {text}", file=sys.stderr)


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
    # Once is enough: stopping takes a second, and a second signal must not cut it short.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise KeyboardInterrupt


def run(command: Restore | FindTracks | Weights | Doctor) -> int:
    """Runs one parsed command; returns its exit code."""
    match command:
        case Restore():
            return _restore(command)
        case FindTracks():
            return _find_tracks(command)
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


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Callable[[VideoInfo], None], Callable[[Frame], None]]]:
    """Yields what to call at the start, and at each frame."""
    with tqdm(unit="frame", disable=quiet, dynamic_ncols=True) as bar:

        def start(info: VideoInfo) -> None:
            bar.total = info.frame_count_from_header
            bar.unpause()

        def step(_frame: Frame) -> None:
            bar.update()

        yield start, step


@contextmanager
def _fetching(quiet: bool) -> Iterator[weights.Progress]:
    """Yields what to call while a download goes on; the bar appears with its first bytes."""
    bars: list[tqdm] = []  # type: ignore[type-arg]

    def show(done: int, total: int | None) -> None:
        if not bars or bars[-1].total != total:
            bars.append(tqdm(total=total, unit="B", unit_scale=True, disable=quiet, desc="weights"))
        bars[-1].update(done - bars[-1].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


def _restore(command: Restore) -> int:
    from vqfr_media.media.image import is_image
    from vqfr_media.media.output import atomic_output, refuse_same
    from vqfr_media.pipeline import restore_image, restore_video

    source, output, report = command.source, command.output, command.report
    if report is not None:
        refuse_same(report, source)
        if command.options.tracks is not None:
            refuse_same(report, command.options.tracks)
        if report.resolve() == output.resolve():
            raise OptionError(f"the report and the output are both {report}; name another report")
        if report.is_dir() or not report.parent.is_dir():
            raise OutputError(f"the report {report} needs a file name in a folder that exists")
    with _fetching(command.quiet) as fetch:
        if is_image(source):
            summary = restore_image(source, output, command.options, on_fetch=fetch)
        else:
            with _progress(command.quiet) as (start, step):
                summary = restore_video(
                    source,
                    output,
                    command.options,
                    on_start=start,
                    on_frame=step,
                    on_fetch=fetch,
                )
    if report is not None:
        with atomic_output(report) as temporary:
            temporary.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
    if not command.quiet:
        _say(*summary.lines())
    return 0


def _find_tracks(command: FindTracks) -> int:
    options = RestoreOptions(
        face=FaceOptions(
            score=command.score,
            detector=command.detector,
            detector_weights=command.detector_weights,
            proxy=command.proxy,
        ),
        temporal=TemporalOptions(max_gap=command.max_gap),
        model=ModelOptions(device=command.device),
        offline=command.offline,
    )
    from vqfr_media.find import find_tracks
    from vqfr_media.media.output import refuse_same
    from vqfr_media.tracks_file import write_tracks

    refuse_same(command.output, command.source)
    if not command.output.parent.is_dir():  # said before the work, not after it
        raise OutputError(f"{command.output}: there is no folder {command.output.parent}")
    with _progress(command.quiet) as (start, step):
        tracks = find_tracks(command.source, options, on_start=start, on_frame=step)
    write_tracks(command.output, tracks)
    if not command.quiet:
        _say(
            f"{command.output}: {len(tracks.tracks)} tracks in {len(tracks.shots)} shots, "
            f"{tracks.source.frame_count} frames"
        )
    return 0


def _list_weights() -> int:
    for state in weights.status():
        file = weights.WEIGHTS[state.name]
        _say(f"{state.name:10} {state.state:9} {state.licence:11} {file.what}")
        _say(f"{'':10} {state.path}{f' ({state.fault})' if state.fault else ''}")
    return 0


def _fetch_weights(names: Sequence[str]) -> int:
    fetchable = [name for name, file in weights.WEIGHTS.items() if file.url is not None]
    for name in names or fetchable:
        with tqdm(desc=name, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:  # type: ignore[type-arg]
                bar.total = total
                bar.update(done - bar.n)

            path = weights.find(name, progress=show)
        _say(f"{name}: {path}")
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
        _say(f"{state.name:10} {state.state:9} {verdict}: {state.path}")
    return 3 if any(state.state == "damaged" for state in states) else 0


def _doctor() -> int:
    from vqfr_media import doctor

    for finding in doctor.examine():
        _say(f"{finding.verdict:8} {finding.topic:20} {finding.detail}")
    return 0
