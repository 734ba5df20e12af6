"""The command line: parsed, run, and ended with an exit code.

Exit codes: 0 done, 1 our own failure, 2 the input or an option is at fault, 3 the machine lacks
something, 4 some of many files failed, 130 stopped by Ctrl-C.
"""

import io
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib.metadata import version
from types import FrameType
from typing import assert_never

import tyro

from vqfr_media.cli.batch import batch
from vqfr_media.cli.demo import demo
from vqfr_media.cli.engine import engine
from vqfr_media.cli.look import compare, find_tracks, report
from vqfr_media.cli.models import doctor, fetch_weights, list_weights, verify_weights
from vqfr_media.cli.restore import restore
from vqfr_media.cli.say import Complaints, complain, hushed, say
from vqfr_media.commands import (
    AnyCommand,
    Command,
    Demo,
    Doctor,
    Engine,
    Restore,
    Weights,
    WeightsFetch,
    WeightsList,
    WeightsVerify,
)
from vqfr_media.commands_batch import Batch
from vqfr_media.commands_look import Compare, FindTracks, Report
from vqfr_media.errors import InputError, MachineError, OptionError, VqfrMediaError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Complaints()])
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["--version"]:
            say(f"vqfr-media {version('vqfr-media')}")
            raise SystemExit(0)
        command = _parse(words)
        with hushed(getattr(command, "quiet", False)):
            code = run(command)
        sys.stdout.flush()
    except VqfrMediaError as error:
        complain("; ".join([str(error), *getattr(error, "__notes__", ())]))
        code = exit_code(error)
    except KeyboardInterrupt as stopped:
        notes = getattr(stopped, "__notes__", ())
        complain("; ".join(["stopped; nothing was written under the output's name", *notes]))
        # Interrupted within exec() of a text, which makes dataclasses while libraries are imported,
        # the interpreter would end by a signal after all. Each exec() begins by forgetting that.
        exec("")  # noqa: S102
        code = 130
    except BrokenPipeError:  # whoever read our words has gone: they are not missed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)


def _parse(arguments: Sequence[str]) -> AnyCommand:
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


def run(command: AnyCommand) -> int:
    """Runs one parsed command; returns its exit code."""
    match command:
        case Restore():
            return restore(command)
        case Batch():
            return batch(command)
        case FindTracks():
            return find_tracks(command)
        case Compare():
            return compare(command)
        case Report():
            return report(command)
        case Demo():
            return demo(command)
        case Weights(WeightsList()):
            return list_weights()
        case Weights(WeightsFetch(names)):
            return fetch_weights(names)
        case Weights(WeightsVerify()):
            return verify_weights()
        case Engine(action):
            return engine(action)
        case Doctor():
            return doctor()
        case _:
            assert_never(command)  # type: ignore[arg-type]
