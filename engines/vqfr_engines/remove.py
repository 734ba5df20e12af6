"""Deleting engines, and nothing else that may lie where one is expected."""

import shutil
from pathlib import Path

from vqfr_engines.lock import locked
from vqfr_media.errors import OptionError, OutputError, VqfrMediaError
from vqfr_media.manifest import is_engine_file


def remove_engine(folder: Path) -> None:
    """Deletes an engine, and never anything else; waits for who is building it.

    Raises:
        OptionError: there is no such folder, or it holds what is not an engine's.
        OutputError: it cannot be deleted.
    """
    refuse_foreign(folder, "is not removed")  # before a lock is made beside a foreign folder
    try:
        with locked(folder.absolute()):
            refuse_foreign(folder, "is not removed")
            shutil.rmtree(folder)
    except OSError as error:
        if isinstance(error, VqfrMediaError):
            raise
        raise OutputError(f"{folder} cannot be removed: {error.strerror or error}") from error


def refuse_foreign(folder: Path, consequence: str) -> None:
    """Makes sure that `folder` holds an engine, whole or in pieces, or nothing.

    Hidden files beside an engine's count as nothing: file managers and network file systems leave
    some anywhere. Hidden files alone do not: somebody keeps them.

    Raises:
        OptionError: there is no such folder, or it holds other things.
    """
    try:
        files = {path.name: path.is_file() for path in sorted(folder.iterdir())}
    except OSError as error:
        raise OptionError(f"{folder} is no engine's folder: {error.strerror}") from error
    is_ours = any(is_engine_file(name) for name in files)
    for name, is_file in files.items():
        litter = is_ours and name.startswith(".")
        if not is_file or not (litter or is_engine_file(name)):
            raise OptionError(f"{folder} holds {name}, which is no engine's; it {consequence}")
