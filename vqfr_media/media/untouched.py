"""A film in which nothing was restored: written as it was, without encoding its pictures again."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vqfr_media.errors import CodecError, MediaError
from vqfr_media.files import atomic_output, output_error
from vqfr_media.frames import VideoInfo
from vqfr_media.media.write import VideoWriter
from vqfr_media.options import EncodeOptions


@dataclass(frozen=True, kw_only=True)
class UntouchedFilm:
    """What was written of a film in which nothing was restored."""

    said: tuple[str, ...]
    """What the user is to know, in sentences."""
    read_back: tuple[str, ...] = ()
    """What was found in the finished file; nothing is looked for in a copy of the bytes."""


def copy_untouched(
    source: Path, output: Path, info: VideoInfo, options: EncodeOptions
) -> UntouchedFilm | None:
    """Writes the source again: its bytes, or its streams where the container is another.

    What was encoded before stays where it is until then; where that has to do, because an encoder
    was asked for or the container does not take the pictures as they are, None is returned.

    Raises:
        OutputError: the disk is full or gone.
    """
    if options.codec != "auto" or options.preset is not None or options.quality is not None:
        return None
    if options.container is None and source.suffix.lower() == output.suffix.lower():
        with atomic_output(output) as temporary:
            try:
                shutil.copyfile(source, temporary)
            except OSError as error:
                raise output_error(output, error) from error
        return UntouchedFilm(said=("no face was restored: the output is the input, byte for byte",))
    with suppress(CodecError, MediaError):
        with VideoWriter(
            output, source, info, options, upscale=1, threads=None, folder=None, cut=None,
            keep_damaged=False, copies_pictures=True,
        ) as writer:  # fmt: skip
            pass
        return UntouchedFilm(
            said=(
                "no face was restored: the pictures are the input's, and were not encoded again",
                *writer.warnings,
            ),
            read_back=writer.read_back,
        )
    return None
