"""The command line that restores a film as it was chosen on the page."""

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from vqfr_media.options import RestoreOptions
from vqfr_media.studio.settings import StudioSettings


def restore_words(
    source: Path, output: Path, tracks: Path, options: RestoreOptions, settings: StudioSettings
) -> list[str]:
    """Returns the words of a `restore` that gives what the page shows.

    Args:
        source: the film.
        output: what the restored film is called.
        tracks: the file with the settings of persons and tracks.
        options: those of the studio's own command line.
        settings: what was chosen since.
    """
    chosen = replace(
        options,
        blend=replace(options.blend, strength=settings.strength, grain=settings.grain),
        model=replace(options.model, fidelity=settings.fidelity),
        tracks=tracks,
    )
    words = ["vqfr-media", "restore", _file(source), "-o", _file(output)]
    return [*words, *option_words(chosen, RestoreOptions())]


def as_typed(words: list[str]) -> str:
    """Returns a command line as a shell takes it."""
    return shlex.join(words)


def option_words(options: Any, defaults: Any) -> Iterator[str]:
    """Yields the options that differ from the defaults, as they are typed.

    Args:
        options: a dataclass of options, with such dataclasses in it.
        defaults: another one of the same class.
    """
    for one in fields(options):
        value, default = getattr(options, one.name), getattr(defaults, one.name)
        if is_dataclass(value):
            yield from option_words(value, default)
        elif value != default:
            name = f"--{one.name.replace('_', '-')}"
            if value is True:
                yield name
            elif isinstance(value, float):
                yield from (name, f"{value:.6g}" if float(f"{value:.6g}") == value else repr(value))
            else:
                yield from (name, _file(value) if isinstance(value, Path) else str(value))


def _file(path: Path) -> str:
    """Returns a file's name so that it is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
