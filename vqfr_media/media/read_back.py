"""A written file compared with what was put into it, before it gets its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard, Stream

from vqfr_media.errors import CodecError
from vqfr_media.media.input_container import reason_of
from vqfr_media.media.output_container import READABLE
from vqfr_media.media.stream_copy import is_cover

# Of these, each packet comes back as one. Sound may be cut again, and subtitles get fillers.
_COUNTED = {"video", "data"}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What was put into a file."""

    streams: tuple[tuple[str, str, int], ...]
    """Of each stream its type, how it is named in messages, and the packets written into it."""
    chapters: int
    """Chapters."""
    attachments: int
    """Attached files and covers."""


def check_output(
    temporary: Path, path: Path, format_name: str, promise: Promise
) -> tuple[str, ...]:
    """Reads all packets of a finished file, and compares.

    Of containers that do not return packets as they were given, such as MPEG-TS, nothing is asked.

    Returns:
        What is in the file, as it was promised; empty where nothing was asked.

    Args:
        temporary: where the file is.
        path: how it is named in messages.
        format_name: FFmpeg's name of the container.
        promise: what was put into it.

    Raises:
        CodecError: something is missing, or the file cannot be read.
    """
    if format_name not in READABLE:
        return ()
    try:
        with av.open(f"file:{temporary}", options=_options(format_name)) as back:
            missing = _missing(back, promise)
    except (av.FFmpegError, OSError, ValueError) as error:
        missing = f"it cannot be read: {reason_of(error)}"
    if missing:
        raise CodecError(
            f"{path}: does not come back from {format_name} as it was written: {missing}; use "
            "another container, such as .mkv, or leave such streams out with ffmpeg first"
        )
    found = [(written, "packet", f" of {name}") for _, name, written in promise.streams]
    found += [(promise.chapters, "chapter", ""), (promise.attachments, "attached file", "")]
    return tuple(
        f"{number} {noun}{'s' * (number != 1)}{of}" for number, noun, of in found if number
    )


def _options(format_name: str) -> dict[str, str]:
    # An edit list hides packets that are there.
    return {} if format_name in ("matroska", "webm") else {"ignore_editlist": "1"}


def _missing(back: InputContainer, promise: Promise) -> str:
    """Says what is not in the file; empty if all is."""
    chapters = len(back.chapters())
    if chapters != promise.chapters:
        return f"{chapters} of {promise.chapters} chapters"
    streams = [s for s in back.streams if s.discard != Discard.all]  # text of MP4's chapters
    attached = [s for s in streams if s.type == "attachment" or is_cover(s)]
    if len(attached) != promise.attachments:
        return f"{len(attached)} of {promise.attachments} attached files"
    counts = dict.fromkeys((s.index for s in streams), 0)
    for packet in back.demux():
        if packet.size and packet.stream_index in counts:
            counts[packet.stream_index] += 1
    for kind in dict.fromkeys(kind for kind, _, _ in promise.streams):
        found = [s for s in streams if s.type == kind and s not in attached]
        wanted = [entry for entry in promise.streams if entry[0] == kind]
        if kind == "audio":  # MP4 does not keep sound of which a damaged source gave nothing
            wanted = [entry for entry in wanted if entry[2]]
            found = [s for s in found if counts[s.index]]
        if missing := _missing_of_kind(kind, wanted, found, counts):
            return missing
    return ""


def _missing_of_kind(
    kind: str,
    wanted: Sequence[tuple[str, str, int]],
    found: Sequence[Stream],
    counts: dict[int, int],
) -> str:
    # A timecode is made by the muxer, behind the others.
    if len(found) < len(wanted):
        return f"{len(found)} of {len(wanted)} streams of {kind}"
    for (_, name, written), stream in zip(wanted, found, strict=False):
        read = counts[stream.index]
        if read < (written if kind in _COUNTED else min(written, 1)):
            return f"{read} of {written} packets of {name}"
    return ""
