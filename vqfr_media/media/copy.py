"""Everything in a file but the restored video stream, copied packet by packet."""

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream

from vqfr_media.errors import CodecError, MediaError
from vqfr_media.media.containers import is_mov
from vqfr_media.media.source import open_container, reason_of

# PyAV declares packets as generic, but only to type checkers.
type AnyPacket = Packet[Any]

# Containers named in advice, by FFmpeg's name.
_ADVISED = {"matroska": ".mkv", "mov": ".mov", "mp4": ".mp4", "mpegts": ".ts"}


# A text of length 0.
_NO_TEXT = b"\0\0"


def stream_metadata(stream: Stream) -> dict[str, str]:
    """The stream's metadata by the names that muxers look for."""
    # FFmpeg reads a track's title from MP4 as `name`, but writes only `title`.
    renamed = {"name": "title"} if "title" not in stream.metadata else {}
    return {renamed.get(key, key): value for key, value in stream.metadata.items()}


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """A stream of `output` that takes the packets of `stream`.

    Raises:
        ValueError: the container cannot hold it (some say so only when the header is written).
    """
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream_metadata(stream))
    copy.disposition = stream.disposition
    return copy


def refusal(stream: Stream, format_name: str) -> str | None:
    """Why the container cannot hold `stream`; None if it can. Tried on a file in memory."""
    trial = av.open(io.BytesIO(), "w", format=format_name)
    try:
        add_copy(trial, stream)
        trial.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        return reason_of(error)
    finally:
        with suppress(av.FFmpegError, ValueError):  # a file without packets has no good end
            trial.close()
    return None


def label(stream: Stream) -> str:
    """The stream as a user would look it up."""
    context = stream.codec_context
    codec = context.name if context is not None else (stream.name or "unknown codec")
    return f"stream {stream.index} ({stream.type}, {codec})"


def cannot_hold(stream: Stream, format_name: str, reason: str) -> CodecError:
    """The error for a stream that the output's container refuses."""
    good = [
        suffix
        for name, suffix in _ADVISED.items()
        if name != format_name and refusal(stream, name) is None
    ]
    advice = f"use {' or '.join(good)}" if good else "no container here does"
    return CodecError(
        f"{format_name} cannot hold {label(stream)}: {reason}; {advice}, or leave such streams "
        "out with drop_unsupported_streams"
    )


def is_cover(stream: Stream) -> bool:
    """Whether the stream is a single picture attached to the file."""
    return bool(stream.disposition & Disposition.attached_pic)


def is_chapter_text(stream: Stream, source: InputContainer) -> bool:
    """Whether this is the hidden track by which MP4 shows chapters; chapters make a new one."""
    mov = "mov" in source.format.name.split(",")
    return mov and stream.type == "data" and stream.name == "bin_data" and bool(source.chapters())


def cover_bytes(path: Path, index: int) -> bytes:
    """The picture in the attached picture stream `index`."""
    container = open_container(path)
    try:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    finally:
        container.close()
    return b""


class StreamCopier:
    """Moves packets from a source into an output, up to a time that the caller moves on."""

    def __init__(self, source: InputContainer, path: Path, offset: Fraction) -> None:
        """`offset` seconds are taken off every time stamp; `path` is named in errors."""
        self._source = source
        self._path = path
        self._offset = offset
        self._targets: dict[int, Stream] = {}
        self._packets: Iterator[AnyPacket] | None = None
        self._waiting: AnyPacket | None = None

    def add(self, stream: Stream, target: Stream) -> None:
        """Copies the packets of `stream` into `target`."""
        self._targets[stream.index] = target

    def copy_until(self, seconds: Fraction | None, output: OutputContainer) -> None:
        """Writes the packets that come before `seconds`, or all that are left.

        Raises:
            MediaError: the source is damaged.
            av.FFmpegError: the output cannot be written.
        """
        if not self._targets:
            return
        if self._packets is None:
            for stream in self._source.streams:
                if stream.index not in self._targets:
                    stream.discard = Discard.all
            self._packets = self._source.demux(
                [stream for stream in self._source.streams if stream.index in self._targets]
            )
            self._waiting = self._next()
        while (packet := self._waiting) is not None:
            time = packet.dts if packet.dts is not None else packet.pts
            base = Fraction(packet.time_base.num, packet.time_base.den)
            if seconds is not None and time is not None and time * base >= seconds:
                return
            self._write(packet, base, output)
            self._waiting = self._next()

    def _next(self) -> AnyPacket | None:
        assert self._packets is not None  # noqa: S101 - copy_until made it
        try:
            for packet in self._packets:
                if packet.size or packet.dts is not None:  # the others only flush decoders
                    return packet
        except (av.FFmpegError, OSError) as error:
            raise MediaError(
                f"{self._path}: damaged while its other streams were copied: {reason_of(error)}; "
                "copy it again, or repair it with ffmpeg first"
            ) from error
        return None

    def _write(self, packet: AnyPacket, base: Fraction, output: OutputContainer) -> None:
        context = packet.stream.codec_context
        timed_text = is_mov(output) and context is not None and context.name == "mov_text"
        if timed_text and bytes(packet) == _NO_TEXT:
            return  # the muxer fills the gaps between subtitles by itself
        if self._offset:
            shift = round(self._offset / base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        if packet.dts is None:
            packet.dts = packet.pts
        packet.stream = self._targets[packet.stream_index]
        output.mux(packet)
