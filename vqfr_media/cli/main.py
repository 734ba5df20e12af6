"""The command line: parsed, run, and ended with an exit code.

Exit codes: 0 done, 1 our own failure, 2 the input or an option is at fault, 3 the machine lacks
something, 4 some of many files failed, 130 stopped by Ctrl-C.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import FrameType
from typing import assert_never

from vqfr_media.cli.batch import BatchCommand, batch
from vqfr_media.cli.compare import CompareCommand, compare
from vqfr_media.cli.console import WarningHandler, echo, quieted, warn
from vqfr_media.cli.demo import DemoCommand, demo
from vqfr_media.cli.doctor import DoctorCommand, doctor
from vqfr_media.cli.engine import EngineCommand, run_engine
from vqfr_media.cli.parsing import AnyCommand, parse
from vqfr_media.cli.preview import PreviewCommand, preview
from vqfr_media.cli.report import ReportCommand, report
from vqfr_media.cli.restore import RestoreCommand, restore
from vqfr_media.cli.studio import StudioCommand, studio
from vqfr_media.cli.tracks import TracksCommand, find_tracks
from vqfr_media.cli.weights import WeightsCommand, run_weights
from vqfr_media.errors import InputError, MachineError, VqfrMediaError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code."""
    _on_stop_signals(_stop)
    report_lost = sys.unraisablehook
    sys.unraisablehook = _without_stops(report_lost)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[WarningHandler()])
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["--version"]:
            echo(f"vqfr-media {version('vqfr-media')}")
            raise SystemExit(0)
        command = parse(words)
        with quieted(getattr(command, "quiet", False)):
            code = run(command)
        sys.stdout.flush()
    except VqfrMediaError as error:
        warn("; ".join([str(error), *getattr(error, "__notes__", ())]))
        code = exit_code(error)
    except KeyboardInterrupt as stopped:
        notes = getattr(stopped, "__notes__", ())
        warn("; ".join(["stopped; nothing was written under the output's name", *notes]))
        _let_python_exit_with_a_code()
        code = 130
    except BrokenPipeError:  # whoever read our words has gone: they are not missed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    _on_stop_signals(signal.SIG_IGN)  # nothing is left to stop; `_stop` may still be repeating
    sys.unraisablehook = report_lost
    raise SystemExit(code)


def _let_python_exit_with_a_code() -> None:
    """Makes `python -m vqfr_media` end with our exit code after an interrupt within `exec()`.

    While libraries are imported, they make dataclasses by `exec()` of a text. Interrupted there,
    the interpreter remembers it, and would end by the signal whatever exit code it is given. Each
    `exec()` begins by forgetting that, also one of nothing.
    """
    exec("")  # noqa: S102


def exit_code(error: VqfrMediaError) -> int:
    """Returns 2 where the input is at fault, 3 where the machine lacks something, else 1."""
    match error:
        case InputError():
            return 2
        case MachineError():
            return 3
        case _:
            return 1


def _on_stop_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    # SIGALRM is our own: it repeats what `_stop` has begun. Windows has no SIGHUP and no SIGALRM.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM"):
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue  # `nohup` asks that the command outlives its terminal
        signal.signal(number, handler)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Stops the command by a KeyboardInterrupt, until that has arrived in `main`.

    A library may lose it: Python drops what is raised in a destructor or a callback of C, and some
    imports catch everything. So it is raised again each second, unless the command is just cleaning
    up after it: that takes a moment, and another signal must not cut it short.
    """
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return
        error = error.__context__
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
    raise KeyboardInterrupt


def _without_stops(
    report: Callable[["sys.UnraisableHookArgs"], object],
) -> Callable[["sys.UnraisableHookArgs"], None]:
    """Returns what says nothing of a KeyboardInterrupt that is lost: `_stop` raises it again."""

    def report_others(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)

    return report_others


def run(command: AnyCommand) -> int:
    """Runs one parsed command; returns its exit code."""
    match command:
        case RestoreCommand():
            return restore(command)
        case BatchCommand():
            return batch(command)
        case PreviewCommand():
            return preview(command)
        case StudioCommand():
            return studio(command)
        case TracksCommand():
            return find_tracks(command)
        case CompareCommand():
            return compare(command)
        case ReportCommand():
            return report(command)
        case DemoCommand():
            return demo(command)
        case WeightsCommand():
            return run_weights(command)
        case EngineCommand():
            return run_engine(command)
        case DoctorCommand():
            return doctor()
        case _:
            assert_never(command)
