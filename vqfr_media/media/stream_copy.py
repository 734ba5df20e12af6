"""Everything in a file but the restored video stream, copied packet by packet."""

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream

from vqfr_media.errors import CodecError, MediaError, VqfrMediaError
from vqfr_media.files import is_medium_error, output_error
from vqfr_media.media.cut import Cut
from vqfr_media.media.input_container import (
    DAMAGE_ADVICE,
    AnyPacket,
    fraction,
    open_container,
    reason_of,
)
from vqfr_media.media.output_container import is_mov
from vqfr_media.media.rising_times import RisingTimes

# Names of metadata that tell of the source's bytes rather than of its content begin so.
_STALE = ("ENCODER", "ALPHA_MODE", "DURATION", "BPS", "NUMBER_OF_", "_STATISTICS_")
# A text of length 0.
_NO_TEXT = b"\0\0"


def stream_metadata(stream: Stream) -> dict[str, str]:
    """Returns the stream's metadata by the names that muxers look for."""
    # FFmpeg reads a track's title from MP4 as `name`, but writes only `title`.
    renamed = {"name": "title"} if "title" not in stream.metadata else {}
    return {renamed.get(key, key): value for key, value in stream.metadata.items()}


def is_stale(key: str) -> bool:
    """Returns whether metadata of this name tells of the source's bytes, not of its content."""
    return key.upper().startswith(_STALE)


def add_copy(output: OutputContainer, stream: Stream, *, layout: str | None = None) -> Stream:
    """Adds a stream to `output` that takes the packets of `stream`.

    A `layout` names the loudspeakers of sound that does not say.

    Raises:
        ValueError: the container cannot hold it (some say so only when the header is written).
    """
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream_metadata(stream))
    copy.disposition = stream.disposition
    if layout is not None:
        assert isinstance(copy, AudioStream)  # noqa: S101 - others have no loudspeakers
        copy.codec_context.layout = layout
    return copy


def codec_name(stream: Stream) -> str:
    """Returns FFmpeg's name of the stream's codec, by whatever decoder."""
    context = stream.codec_context
    if context is not None:
        return context.codec.canonical_name
    # Sound and pictures without a decoder have no name at all in PyAV.
    return getattr(stream, "name", None) or ""


def label(stream: Stream) -> str:
    """Names the stream as a user would look it up."""
    name = "timecode" if is_timecode(stream) else codec_name(stream)
    return f"stream {stream.index} ({stream.type}, {name or 'unknown codec'})"


def is_timecode(stream: Stream) -> bool:
    """Returns whether this is MP4's track with the time of day of the first frame."""
    return stream.type == "data" and stream.codec_context is None and "timecode" in stream.metadata


def is_menu(stream: Stream) -> bool:
    """Returns whether this is a DVD's navigation, which says where things are on that disc."""
    return codec_name(stream) == "dvd_nav_packet"


def is_cover(stream: Stream) -> bool:
    """Returns whether the stream is a single picture attached to the file."""
    return bool(stream.disposition & Disposition.attached_pic)


def several_films(restored: Stream, copied: Sequence[Stream]) -> list[str]:
    """Says which of several video streams is restored; nothing where there is one."""
    others = [s for s in copied if s.type == "video" and not is_cover(s) and s != restored]
    if not others or restored in copied:
        return []
    return [
        f"of {len(others) + 1} video streams, {label(restored)} was restored; copied: "
        f"{', '.join(map(label, others))}"
    ]


def is_chapter_text(stream: Stream) -> bool:
    """Returns whether this is the hidden track by which MP4 shows chapters, which are made again.

    FFmpeg has read it when it opened the file, and gives out nothing of it. Ask this of a
    container that was just opened, before streams are chosen.
    """
    return stream.type == "data" and stream.discard == Discard.all


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
    num_written: Counter[int]
    """Packets written of each stream, by its number in the source."""

    def __init__(
        self,
        source: InputContainer,
        path: Path,
        output_path: Path,
        offset: Fraction,
        *,
        cut: Cut | None = None,
        keep_damaged: bool = False,
    ) -> None:
        """Takes `offset` seconds off every time stamp; the paths are named in errors.

        With a `cut`, packets whose time is not in it are left out. With `keep_damaged`, the streams
        end where they cannot be read any more, and `warnings` says so.
        """
        self._keep_damaged = keep_damaged
        self._end: str | None = None  # why the streams ended early
        self._cut = cut
        self._begun: set[int] = set()
        self.rounded = set()
        self.num_written = Counter()
        self._source = source
        self._path = path
        self._output_path = output_path
        self._offset = offset
        self._targets: dict[int, Stream] = {}
        self._times: dict[int, RisingTimes] = {}
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
        self._start()
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
        self._write_undated(output)

    def copy_first(self, count: int, num_bytes: int, output: OutputContainer) -> None:
        """Writes up to `count` packets of each stream, of about the first `num_bytes` of them.

        Raises:
            MediaError, CodecError, OutputError: as `copy_until`.
        """
        if not self._targets:
            return
        self._start()
        while (packet := self._waiting) is not None and num_bytes > 0:
            num_bytes -= packet.size
            if self.num_written[packet.stream_index] < count:
                for dated in self._date(packet):
                    self._write(dated, output)
            if all(self.num_written[index] >= count for index in self._targets):
                break
            self._waiting = self._next()
        self._write_undated(output)  # such as a cover, which is one packet without any time

    def _write_undated(self, output: OutputContainer) -> None:
        for packets in self._undated.values():
            for dated in _date_by_order(packets):
                self._write(dated, output)
        self._undated = {}

    def written(self) -> list[tuple[str, str, int]]:
        """Returns type, name and packets written of each stream that is no picture or file."""
        return [
            (stream.type, label(stream), self.num_written[index])
            for index in self._targets  # in the order of the output
            if not is_cover(stream := self._source.streams[index]) and stream.type != "attachment"
        ]

    def warnings(self) -> list[str]:
        """Returns what a user must know of the streams, in sentences."""
        return [
            f"{label(self._source.streams[index])}: "
            + (
                "the time of 1 packet was not later than the one before and was"
                if times.num_moved == 1
                else f"the times of {times.num_moved} packets were not later than the one before "
                "and were"
            )
            + f" moved by the least step (at most {times.farthest_seconds:.2g} s)"
            for index, times in self._times.items()
            if times.num_moved
        ] + [*([f"{self._end}; they end there"] if self._end else []), *self._empty()]

    def _empty(self) -> list[str]:
        """Names sound of which the header promises something, and nothing could be read."""
        return [
            f"{label(stream)}: its header promises sound, and none can be read"
            for stream in self._source.streams
            if stream.index in self._targets
            and self._cut is None
            and stream.type == "audio"
            and (stream.frames or stream.duration)
            and not self.num_written[stream.index]
        ]

    def _start(self) -> None:
        if self._packets is None:
            for stream in self._source.streams:
                if stream.index not in self._targets:
                    stream.discard = Discard.all
            self._packets = self._source.demux(
                [stream for stream in self._source.streams if stream.index in self._targets]
            )
            self._waiting = self._next()

    def _next(self) -> AnyPacket | None:
        assert self._packets is not None  # noqa: S101 - copy_until made it
        try:
            for packet in self._packets:
                # Those without content or time only flush decoders.
                if (packet.size or packet.dts is not None) and self._is_wanted(packet):
                    return packet
        except (av.FFmpegError, OSError) as error:
            self._end = f"damaged while its other streams were copied: {reason_of(error)}"
            if not self._keep_damaged:
                raise MediaError(f"{self._path}: {self._end}; {DAMAGE_ADVICE}") from error
        return None

    def _is_wanted(self, packet: AnyPacket) -> bool:
        """Returns whether a packet lies in the cut, and shortens a subtitle that outlasts it."""
        stream, cut = packet.stream, self._cut
        time = packet.pts if packet.pts is not None else packet.dts
        if cut is None or time is None or is_cover(stream):
            return True
        base = fraction(packet.time_base)
        if not cut.holds(time * base):
            return False
        if stream.type == "video" and stream.index not in self._begun:
            if not packet.is_keyframe and cut.begin is not None:
                return False  # made of pictures that are not there
            self._begun.add(stream.index)
        if stream.type == "subtitle" and cut.end is not None and packet.duration:
            packet.duration = min(packet.duration, max(1, int((cut.end - time * base) / base)))
        return True

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
        index = packet.stream_index
        if index not in self._times:
            self._times[index] = RisingTimes(output, stream.type)
        self._times[index].mend(packet, step)
        base = fraction(packet.time_base)
        if step > base and packet.pts is not None and (packet.pts * base / step).denominator != 1:
            self.rounded.add(stream.type)
        packet.stream = target
        try:
            output.mux(packet)
            self.num_written[index] += 1
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, VqfrMediaError):
                raise
            if is_medium_error(error):
                raise output_error(self._output_path, error) from error
            raise CodecError(
                f"{self._output_path}: {label(stream)} cannot be copied into {output.format.name}: "
                f"{reason_of(error)}; use another container, such as .mkv, or leave such "
                "streams out with ffmpeg first"
            ) from error


def _date_by_order(packets: list[AnyPacket]) -> list[AnyPacket]:
    """Gives packets without any decoding time those of their pictures in order, early enough."""
    shown = [packet.pts or 0 for packet in packets]
    in_order = sorted(shown)
    late = max(due - pts for due, pts in zip(in_order, shown, strict=True))
    for packet, due in zip(packets, in_order, strict=True):
        packet.dts = due - late
    return packets
