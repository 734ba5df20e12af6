"""Everything in a file but the restored video stream, copied packet by packet."""

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream

from vqfr_media.errors import CodecError, MediaError, VqfrMediaError
from vqfr_media.files import is_medium_error, output_error
from vqfr_media.media.input_container import AnyPacket, fraction, open_container, reason_of
from vqfr_media.media.output_container import is_mov, takes_codec

# Containers named in advice, by FFmpeg's name.
_ADVISED = {"matroska": ".mkv", "mov": ".mov", "mp4": ".mp4"}


# A text of length 0.
_NO_TEXT = b"\0\0"


def stream_metadata(stream: Stream) -> dict[str, str]:
    """Returns the stream's metadata by the names that muxers look for."""
    # FFmpeg reads a track's title from MP4 as `name`, but writes only `title`.
    renamed = {"name": "title"} if "title" not in stream.metadata else {}
    return {renamed.get(key, key): value for key, value in stream.metadata.items()}


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Adds a stream to `output` that takes the packets of `stream`.

    Raises:
        ValueError: the container cannot hold it (some say so only when the header is written).
    """
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream_metadata(stream))
    copy.disposition = stream.disposition
    return copy


def refusal(stream: Stream, format_name: str) -> str | None:
    """Says why the container cannot hold `stream`; None if it can. Tried on a file in memory."""
    if stream.type == "attachment":
        # WebM's muxer takes them and drops them.
        takes = format_name == "matroska"
    else:
        takes = takes_codec(format_name, codec_name(stream))
    if not takes:
        return "such files have no place for it"
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


def codec_name(stream: Stream) -> str:
    """Returns FFmpeg's name of the stream's codec, by whatever decoder."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else (stream.name or "")


def label(stream: Stream) -> str:
    """Names the stream as a user would look it up."""
    return f"stream {stream.index} ({stream.type}, {codec_name(stream) or 'unknown codec'})"


def cannot_hold(stream: Stream, format_name: str, reason: str) -> CodecError:
    """Returns the error for a stream that the output's container refuses."""
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
    """Returns whether the stream is a single picture attached to the file."""
    return bool(stream.disposition & Disposition.attached_pic)


def is_chapter_text(stream: Stream, source: InputContainer) -> bool:
    """Returns whether this is the hidden track by which MP4 shows chapters, which are made anew."""
    mov = "mov" in source.format.name.split(",")
    return mov and stream.type == "data" and stream.name == "bin_data" and bool(source.chapters())


def cover_bytes(path: Path, index: int) -> bytes:
    """Returns the picture in the attached picture stream `index`."""
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

    rounded: set[str]
    """The types of streams with times that the output counts in coarser steps than the source."""

    def __init__(
        self, source: InputContainer, path: Path, output_path: Path, offset: Fraction
    ) -> None:
        """Takes `offset` seconds off every time stamp; the paths are named in errors."""
        self.rounded = set()
        self._source = source
        self._path = path
        self._output_path = output_path
        self._offset = offset
        self._targets: dict[int, Stream] = {}
        self._packets: Iterator[AnyPacket] | None = None
        self._waiting: AnyPacket | None = None
        self._undated: dict[int, list[AnyPacket]] = {}

    def add(self, stream: Stream, target: Stream) -> None:
        """Copies the packets of `stream` into `target`."""
        self._targets[stream.index] = target

    def copy_until(self, seconds: Fraction | None, output: OutputContainer) -> None:
        """Writes the packets that come before `seconds`, or all that are left.

        Raises:
            MediaError: the source is damaged.
            CodecError: the container refuses a packet.
            OutputError: the disk is full or gone.
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
            if (
                seconds is not None
                and time is not None
                and time * fraction(packet.time_base) >= seconds
            ):
                return
            for dated in self._date(packet):
                self._write(dated, output)
            self._waiting = self._next()
        for packets in self._undated.values():
            for dated in _date_by_order(packets):
                self._write(dated, output)
        self._undated = {}

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

    def _date(self, packet: AnyPacket) -> list[AnyPacket]:
        """Returns the packets that can be written now `packet` is here, all with decoding times.

        Matroska has none, and FFmpeg can tell them only from the first few pictures on.
        """
        if packet.dts is None and packet.stream.type == "video":
            self._undated.setdefault(packet.stream_index, []).append(packet)
            return []
        if packet.dts is None:
            packet.dts = packet.pts
            return [packet]
        waiting = self._undated.pop(packet.stream_index, [])
        for back, early in enumerate(reversed(waiting), 1):
            early.dts = packet.dts - back * max(packet.duration or 1, 1)
        return [*waiting, packet]

    def _write(self, packet: AnyPacket, output: OutputContainer) -> None:
        stream, target = packet.stream, self._targets[packet.stream_index]
        context, base = stream.codec_context, fraction(packet.time_base)
        timed_text = is_mov(output) and context is not None and context.name == "mov_text"
        if timed_text and bytes(packet) == _NO_TEXT:
            return  # the muxer fills the gaps between subtitles by itself
        if self._offset:
            shift = round(self._offset / base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        step = fraction(target.time_base)
        if step > base and packet.pts is not None and (packet.pts * base / step).denominator != 1:
            self.rounded.add(stream.type)
        packet.stream = target
        try:
            output.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, VqfrMediaError):
                raise
            if is_medium_error(error):
                raise output_error(self._output_path, error) from error
            raise CodecError(
                f"{self._output_path}: {label(stream)} cannot be copied into {output.format.name}: "
                f"{reason_of(error)}; use another container, such as .mkv, or leave the stream out "
                "with ffmpeg first"
            ) from error


def _date_by_order(packets: list[AnyPacket]) -> list[AnyPacket]:
    """Gives packets without any decoding time those of their pictures in order, early enough."""
    shown = [packet.pts or 0 for packet in packets]
    in_order = sorted(shown)
    late = max(due - pts for due, pts in zip(in_order, shown, strict=True))
    for packet, due in zip(packets, in_order, strict=True):
        packet.dts = due - late
    return packets
