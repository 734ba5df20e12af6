"""`vqfr-media studio`."""

import sys
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, fetch_progress, frame_progress
from vqfr_media.errors import OptionError
from vqfr_media.options import RestoreOptions

_STOPPED = 130


@dataclass(frozen=True, kw_only=True)
class StudioCommand:
    """Choose faces and settings on a page in your browser, and compare before and after there.

    The page shows persons and their faces, restores any frame with what you choose, and writes it
    to a tracks file for `restore --tracks`. Nothing leaves this machine. Needs
    `pip install 'vqfr-media[studio]'`; see docs/studio.md.
    """

    source: tyro.conf.Positional[Path]
    """Video or image to look at."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Tracks file that the page's button writes; by default the source's name with .tracks.json,
    in this folder."""
    port: int = 0
    """Port of this machine, for itself alone, at which the page is; 0 takes one that is free."""
    no_browser: bool = False
    """Only print the page's address."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How faces are found and restored, as for `restore`."""
    quiet: bool = False
    """Print nothing but the address and errors."""


def studio(command: StudioCommand) -> int:
    """Finds the faces, serves the page until Ctrl-C, and returns 130 as after every Ctrl-C."""
    from vqfr_media.choices import ChosenDetector, check_available
    from vqfr_media.files import check_place, check_source, refuse_same
    from vqfr_media.studio.libraries import check_studio_available

    source, options = command.source, command.options
    output = command.output or Path(f"{source.stem}.tracks.json")
    if options.damaged == "keep":
        raise OptionError("the studio needs a film that is whole; leave out --damaged keep")
    check_source(source, kind="a video or an image")
    refuse_same(output, source)
    check_place(output)
    check_available(options)
    check_studio_available()
    # Only now what takes seconds to import.
    from vqfr_media.studio.open_session import open_session
    from vqfr_media.studio.server import studio_server

    chosen: list[ChosenDetector] = []
    with (
        fetch_progress(command.quiet) as fetch,
        frame_progress(command.quiet) as (start, step),
        frame_progress(command.quiet) as (_, look),
    ):
        session = open_session(
            source,
            output,
            options,
            on_start=start,
            on_frame=step,
            on_look=look,
            on_detector=chosen.append,
            on_fetch=fetch,
        )
    server = studio_server(session, port=command.port)
    lines = [f"detector {one.name} ({one.why})" for one in chosen]
    if not command.quiet:
        echo(*lines, "Ctrl-C ends the studio; the page is at")
    echo(server.address)
    sys.stdout.flush()  # a pipe or a file is read for it
    if not command.no_browser:
        # A browser in the terminal would keep us from serving it.
        Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    try:
        server.run()
    except KeyboardInterrupt:
        if not command.quiet:
            written = f"{output} is there" if output.exists() else f"{output} was not written"
            echo(f"the studio has ended; {written}")
        return _STOPPED
    return 0
