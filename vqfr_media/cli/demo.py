"""`vqfr-media demo`."""

from vqfr_media.cli.say import frame_progress, say
from vqfr_media.commands import Demo


def demo(command: Demo) -> int:
    """Makes a poor film of a photograph, restores it, and says what to look at."""
    from vqfr_media.demo.run import demonstrate

    with frame_progress(command.quiet) as (start, step):
        done = demonstrate(command.output, seconds=command.seconds, on_start=start, on_frame=step)
    if not command.quiet:
        say(
            *done.summary.lines(),
            f"{done.degraded}: the film before",
            f"{done.side_by_side}: before and after side by side",
            f"{done.sheet}: the face before, after, and as it really is",
            f"the face against the truth, PSNR: {done.psnr_before:.2f} dB before, "
            f"{done.psnr_after:.2f} dB after",
        )
    return 0
