"""A media file opened for reading: what is wrong with it, and which of its streams is restored."""

import math
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vqfr_media.errors import MediaError
from vqfr_media.files import check_source
from vqfr_media.media.truncated import missing_bytes

# FFmpeg shows text files as films of scrolling letters.
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails


# FFmpeg's AVFMT_TS_DISCONT: transport and program streams, whose clock starts and jumps anywhere.
_RUNNING_CLOCK = 0x0200


def has_running_clock(container: InputContainer | OutputContainer) -> bool:
    """Whether times in this kind of container have no origin (MPEG transport and program)."""
    return bool(container.format.flags & _RUNNING_CLOCK)


def reason_of(error: Exception) -> str:
    """FFmpeg's words for an error, on one line and without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    log = getattr(error, "log", None)
    return " ".join(f"{text} ({log[2].strip()})".split()) if log else " ".join(text.split())


def open_container(path: Path) -> InputContainer:
    """A demuxer on `path`.

    Raises:
        MediaError: missing, a folder, a pipe, empty, not readable or not a media file.
    """
    check_source(path, kind="a video")
    try:
        missing = missing_bytes(path)
        if missing:
            raise MediaError(
                f"{path}: truncated, {missing} bytes are missing at its end; copy it again, or "
                f"save what is left with `ffmpeg -i {path.name} -c copy repaired.mkv`"
            )
        # Without the prefix, a colon in a name makes FFmpeg look for a protocol.
        container = av.open(f"file:{path}", "r")
    except MediaError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path}: not a video that can be read: {reason_of(error)}") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise MediaError(f"{path}: not a video but text")
    return container


def find_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream that is restored: the default one, then the largest, then the first.

    Raises:
        MediaError: there is none (cover art does not count), or it cannot be decoded here.
    """
    streams = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not streams:
        held = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
        cover = " (its cover art is no video)" if container.streams.video else ""
        raise MediaError(f"{path}: has no video stream, only {', '.join(held)}{cover}")
    if all(stream.codec_context is None for stream in streams):
        raise MediaError(f"{path}: no decoder for its video; convert it with ffmpeg first")

    def rank(stream: VideoStream) -> tuple[bool, bool, int]:
        known = stream.codec_context is not None
        area = stream.width * stream.height if known else 0
        return known, bool(stream.disposition & Disposition.default), area

    return max(streams, key=rank)


def quarter_turns(matrix: tuple[int, ...]) -> int:
    """Counter-clockwise quarter turns that a display matrix makes, to the nearest.

    Of a matrix that also mirrors, this is the turn after which the picture stands upright with
    left and right swapped.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a * d - b * c < 0:
        a = -a  # undo the mirroring: x' = a x + c y changes its sign
    return round(-math.atan2(b, a) / (math.pi / 2)) % 4
