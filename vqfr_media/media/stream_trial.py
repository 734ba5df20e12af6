"""Whether a container holds a stream: tried with the stream's own first packets, and read back."""

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.stream import Stream

from vqfr_media.errors import CodecError
from vqfr_media.media.input_container import AnyPacket, open_container, reason_of
from vqfr_media.media.output_container import READABLE, takes_codec
from vqfr_media.media.stream_copy import add_copy, codec_name, is_cover, is_timecode, label

# Containers named in advice, by FFmpeg's name.
_ADVISED = {"matroska": ".mkv", "mov": ".mov", "mp4": ".mp4"}
# A trial takes so many packets of a stream, from the first bytes of packets of the file. Of a
# second film it takes the key frame only, because the times of others depend on their order.
NUM_PACKETS = 3
READ_BYTES = 32 << 20
# FFmpeg's av_channel_layout_default: what it takes a number of channels for.
_LAYOUTS = {
    1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1",
}  # fmt: skip

Packets = Mapping[int, Sequence[AnyPacket]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of offering a stream to a container."""

    refusal: str | None
    """Why it cannot hold the stream; None if it can."""
    layout: str | None = None
    """FFmpeg's name of the loudspeakers that it must be told, where the source does not say."""


def first_packets(path: Path, streams: Sequence[Stream]) -> Packets:
    """Returns the first packets of each stream; none of one that begins late in the file.

    Raises:
        MediaError: the file cannot be opened.
    """
    wanted = {s.index: 1 if s.type == "video" else NUM_PACKETS for s in streams}
    found: dict[int, list[AnyPacket]] = {index: [] for index in wanted}
    num_bytes = 0
    with open_container(path) as container, suppress(av.FFmpegError, OSError):
        # Damage is told where the streams are copied, with the place of it.
        for packet in container.demux():
            index = packet.stream_index
            num_bytes += packet.size
            if packet.size and len(found.get(index, ())) < wanted.get(index, 0):
                found[index].append(_copied(packet))
            if num_bytes > READ_BYTES or all(len(found[i]) == n for i, n in wanted.items()):
                break
    return found


def _copied(packet: AnyPacket) -> AnyPacket:
    copy: AnyPacket = av.Packet(bytes(packet))
    copy.pts = packet.pts if packet.pts is not None else packet.dts
    copy.dts = packet.dts if packet.dts is not None else packet.pts
    copy.duration = packet.duration
    copy.time_base = packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy


def try_stream(stream: Stream, format_name: str, packets: Sequence[AnyPacket]) -> Verdict:
    """Writes the stream with these first packets into a file in memory, and reads it back."""
    if stream.type == "attachment":
        # WebM's muxer takes them and drops them.
        takes = format_name == "matroska"
    else:
        takes = takes_codec(format_name, codec_name(stream))
    if not takes:
        return Verdict(refusal="such files have no place for it")
    if is_cover(stream) and format_name == "matroska":
        return Verdict(refusal=None)  # becomes an attached file
    refusal = _refusal(stream, format_name, packets, None)
    layout = _unsaid_layout(stream)
    if refusal is not None and layout and _refusal(stream, format_name, packets, layout) is None:
        return Verdict(refusal=None, layout=layout)
    return Verdict(refusal=refusal)


def _unsaid_layout(stream: Stream) -> str | None:
    """Names the usual loudspeakers of sound that says only how many channels it has."""
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        return None
    channels = stream.codec_context.layout.channels
    return _LAYOUTS.get(len(channels)) if all(c.name == "NONE" for c in channels) else None


def _refusal(
    stream: Stream, format_name: str, packets: Sequence[AnyPacket], layout: str | None
) -> str | None:
    memory = io.BytesIO()
    trial = av.open(memory, "w", format=format_name)
    try:
        target = add_copy(trial, stream, layout=layout)
        trial.start_encoding()
        for packet in packets:
            copy = _copied(packet)
            copy.stream = target
            trial.mux(copy)
        if packets:
            trial.close()  # the index at its end can be what fails
    except (av.FFmpegError, ValueError) as error:
        return reason_of(error)
    finally:
        with suppress(av.FFmpegError, ValueError):  # a file without packets has no good end
            trial.close()
    if not packets or format_name not in READABLE:
        return None
    memory.seek(0)
    try:
        with av.open(memory, "r") as back:
            whole = any(packet.size and _is_like(packet.stream, stream) for packet in back.demux())
    except (av.FFmpegError, ValueError) as error:
        return f"what is written cannot be read again: {reason_of(error)}"
    return None if whole else "what is written of it cannot be found again"


def _is_like(read: Stream, given: Stream) -> bool:
    """Returns whether a stream that was read is the one that was written."""
    # MOV takes data that it has no name for, and then nobody can tell what it is. Of subtitles the
    # name may change: Matroska has one for all plain text.
    named = given.type != "data" or codec_name(read) == codec_name(given)
    return read.type == given.type and named


def cannot_hold(
    stream: Stream, format_name: str, reason: str, others: Sequence[Stream], packets: Packets
) -> CodecError:
    """Returns the error for a stream that the output's container refuses.

    Args:
        stream: the stream.
        format_name: FFmpeg's name of the container.
        reason: why not.
        others: all streams that are to be copied; a container is advised that holds each of them.
        packets: the first packets of each.
    """

    def holds(name: str, other: Stream) -> bool:
        if is_timecode(other) and name == "mov":
            return True
        return try_stream(other, name, packets.get(other.index, ())).refusal is None

    suitable = [
        suffix
        for name, suffix in _ADVISED.items()
        if name != format_name and all(holds(name, other) for other in others)
    ]
    advice = f"use {' or '.join(suitable)}, or " if suitable else "no other holds all the streams: "
    return CodecError(
        f"{format_name} cannot hold {label(stream)}: {reason}; {advice}leave such streams out "
        "with --drop-unsupported-streams"
    )
