"""`vqfr-media demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, frame_progress


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Make a degraded film of a photograph in this package, restore it, and compare with the truth.

    Needs no network, no GPU and no other file.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo")
    """Folder to write into; files of the same names are replaced."""
    seconds: float = 4.8
    """Length of the film."""
    quiet: bool = False
    """Print nothing but errors."""


def demo(command: DemoCommand) -> int:
    """Makes a degraded film of a photograph, restores it, and says what to look at."""
    from vqfr_media.demo.run import demonstrate

    with frame_progress(command.quiet) as (start, step):
        done = demonstrate(command.output, seconds=command.seconds, on_start=start, on_frame=step)
    if not command.quiet:
        echo(
            *done.summary.lines(),
            f"{done.degraded}: the film before",
            f"{done.side_by_side}: before and after side by side",
            f"{done.sheet}: the face before, after, and as it really is",
            f"the face against the truth, PSNR: {done.psnr_before:.2f} dB before, "
            f"{done.psnr_after:.2f} dB after",
        )
    return 0
