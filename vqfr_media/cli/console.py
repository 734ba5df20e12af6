"""What the commands print: lines on stdout, warnings and progress bars on stderr."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from vqfr_media import weights
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.logs import package_loggers


def echo(*lines: str) -> None:
    """Prints lines; a file name that the terminal cannot show is escaped, not an error."""
    for line in lines:
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def warn(message: str) -> None:
    """Prints one line to stderr, above the progress bars."""
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    tqdm.write(f"vqfr-media: {text}", file=sys.stderr)


class WarningHandler(logging.Handler):
    """Prints the package's log as warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one line; a log that cannot be written is no reason to fail."""
        try:
            warn(self.format(record))
        except (OSError, ValueError):
            self.handleError(record)


@contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """Logs errors only, while open and if `quiet`."""
    levels = {logger: logger.level for logger in package_loggers()}
    if quiet:
        for logger in levels:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def frame_progress(
    quiet: bool,
) -> Iterator[tuple[Callable[[VideoInfo], None], Callable[[Frame], None]]]:
    """Yields what to call at the start, and at each frame."""
    with resumable_progress(quiet) as (start, step, _):
        yield start, step


@contextmanager
def resumable_progress(
    quiet: bool,
) -> Iterator[tuple[Callable[[VideoInfo], None], Callable[[Frame], None], Callable[[int], None]]]:
    """Yields what to call at the start, at each frame, and with the number of those done before.

    The bar appears with the first of these: there is none while an engine is built or a file is
    refused.
    """
    bars: list[tqdm] = []  # type: ignore[type-arg]

    def bar() -> tqdm:  # type: ignore[type-arg]
        if not bars:
            bars.append(tqdm(unit="frame", disable=quiet, dynamic_ncols=True))
        return bars[0]

    def start(info: VideoInfo) -> None:
        bar().total = info.frame_count_from_header
        bar().unpause()

    def step(_frame: Frame) -> None:
        bar().update()

    def skip(count: int) -> None:
        bar().initial = count  # they do not count for the speed
        bar().update(count)

    try:
        yield start, step, skip
    finally:
        for shown in bars:
            shown.close()


@contextmanager
def fetch_progress(quiet: bool) -> Iterator[weights.Progress]:
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
