"""A piece of work in a process of its own: what crashes or hangs there ends there."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG_LINES = 40


@dataclass(frozen=True, kw_only=True)
class ProcessEnd:
    """How a process ended."""

    answer: Any
    """What its work gave, as plain JSON values; None where it gave nothing."""
    fault: str
    """One clause on how it ended instead; empty where it gave an answer."""
    log: tuple[str, ...]
    """The last lines of what it wrote to its standard output and error."""


def in_own_process(module: str, request: Mapping[str, Any], *, seconds: float) -> ProcessEnd:
    """Runs `module` in a new process, which calls `answer_request`, and waits for its end.

    Args:
        module: its dotted name; found as this process finds modules.
        request: plain JSON values for it.
        seconds: it is ended after so long, whatever it has done.
    """
    with tempfile.TemporaryDirectory(prefix="vqfr-media-process-") as name:
        folder = Path(name)
        asked, answered = folder / "request.json", folder / "answer.json"
        asked.write_text(json.dumps(dict(request)), encoding="utf-8")
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with (folder / "log").open("wb") as log:
            fault = _fault(
                [sys.executable, "-m", module, str(asked), str(answered)],
                environment={**os.environ, "PYTHONPATH": paths},
                log=log,
                seconds=seconds,
            )
        answer = json.loads(answered.read_text("utf-8")) if answered.is_file() else None
        lines = (folder / "log").read_text("utf-8", errors="replace").splitlines()
    last = tuple(line.rstrip() for line in lines if line.strip())[-_LOG_LINES:]
    if answer is not None:  # whatever happened to the process after that
        return ProcessEnd(answer=answer, fault="", log=last)
    said = f": {last[-1]}" if last else ""
    return ProcessEnd(answer=None, fault=f"{fault or 'it ended without a result'}{said}", log=last)


def answer_request(work: Callable[[Any], Any]) -> None:
    """Answers a request: `work` gets it, and its result, plain values, is the answer.

    The file of the answer gets its name when it is whole.
    """
    asked, answered = (Path(argument) for argument in sys.argv[1:3])
    result = work(json.loads(asked.read_text("utf-8")))
    arriving = answered.with_suffix(".part")
    arriving.write_text(json.dumps(result), encoding="utf-8")
    arriving.replace(answered)


def _fault(command: list[str], *, environment: Mapping[str, str], log: Any, seconds: float) -> str:
    """Tells how the command ended, in words; empty where it ended well."""
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=max(seconds, 0),
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {seconds:.0f} s and was ended"
    if done.returncode < 0:
        return f"its process crashed ({signal.Signals(-done.returncode).name})"
    return f"its process ended with exit code {done.returncode}" if done.returncode else ""
