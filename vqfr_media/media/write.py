"""Restored frames into a file that is otherwise the source: same times, tags and other streams."""

import math
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vqfr_media.errors import VqfrMediaError
from vqfr_media.files import atomic_output, is_medium_error, output_error, refuse_same
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media import stream_copy
from vqfr_media.media.chapters import chapters_of
from vqfr_media.media.codecs import can_encode
from vqfr_media.media.cut import Cut
from vqfr_media.media.encoder import FrameEncoder, add_encoder, refusal
from vqfr_media.media.input_container import AnyPacket, find_stream, fraction, open_container
from vqfr_media.media.output_container import (
    BRANDS,
    holds_chapters,
    naming,
    open_output,
    start_offset,
)
from vqfr_media.media.read_back import Promise, check_output
from vqfr_media.media.stream_trial import (
    NUM_PACKETS,
    READ_BYTES,
    Packets,
    cannot_hold,
    first_packets,
    try_stream,
)
from vqfr_media.options import EncodeOptions

__all__ = ["VideoWriter", "can_encode", "open_writer", "try_writer"]

# What is moved when the output counts time more coarsely, by the type of stream.
_MOVED = {"video": "frames", "audio": "sound", "subtitle": "subtitles", "data": "data"}


class VideoWriter:
    """Encodes frames and copies what else the source holds; made by `open_writer`."""

    warnings: list[str]
    """What the output cannot hold exactly, in sentences for the user."""
    read_back: tuple[str, ...] = ()
    """What was found in the finished file, as it was put into it; known when the block is left,
    and empty for containers that do not return packets as they were given."""
    codec: str
    """FFmpeg's name of the encoder."""
    time_base: Fraction
    """Seconds per unit of time in the output."""

    def __init__(
        self,
        output: Path,
        source: Path,
        info: VideoInfo,
        options: EncodeOptions,
        *,
        upscale: int,
        threads: int | None,
        folder: Path | None,
        cut: Cut | None,
        keep_damaged: bool,
        copies_pictures: bool = False,
    ) -> None:
        self.warnings = []
        self._cut, self._copies_pictures = cut, copies_pictures
        self.codec = options.codec  # until it is known
        self._path = output
        self._info, self._upscale = info, upscale
        self._moved: set[str] = set()
        self._num_attached = self._num_packets = 0
        self._stack = ExitStack()
        with ExitStack() as stack:  # undone if anything below fails
            temporary = stack.enter_context(atomic_output(output, folder=folder))
            inputs = open_container(source)
            stack.callback(inputs.close)
            video = find_stream(inputs, source)
            self._output = open_output(
                output, temporary, inputs,
                container=options.container, time_base=info.time_base,
                repeatable=threads is not None,
            )  # fmt: skip
            stack.callback(self._abandon)
            self._name = self._output.format.name
            self._offset = start_offset(
                self._output, inputs, info, self.warnings, begin=cut.begin if cut else None
            )
            self._copier = stream_copy.StreamCopier(
                inputs, source, output, self._offset, cut=cut, keep_damaged=keep_damaged
            )
            others = self._to_copy(inputs, video)
            packets = first_packets(source, others)
            try:
                for stream in inputs.streams:
                    if stream in others:
                        made = self._add_copy(stream, source, options, others, packets)
                        if stream.index == video.index and isinstance(made, VideoStream):
                            self._stream = made
                    elif stream.index == video.index:
                        self._stream = add_encoder(
                            self._output, video, info, options,
                            upscale=upscale, threads=threads, warnings=self.warnings,
                        )  # fmt: skip
                        self.codec = self._stream.codec_context.name
                if self._name == "mov":  # whose muxer makes a track of it
                    for stream in filter(stream_copy.is_timecode, inputs.streams):
                        self._stream.metadata.setdefault("timecode", stream.metadata["timecode"])
                self._output.metadata.update(
                    {key: value for key, value in inputs.metadata.items() if key not in BRANDS}
                )
                chapters = []
                if holds_chapters(self._output):
                    chapters = chapters_of(inputs, self._offset, cut)
                elif inputs.chapters():
                    self.warnings.append(f"{self._name} has no chapters; they were left out")
                self._num_chapters = len(chapters)
                self._output.set_chapters(chapters)
                self._output.start_encoding()
            except (av.FFmpegError, OSError, ValueError) as error:
                if isinstance(error, VqfrMediaError):
                    raise
                raise self._failure(error, self.codec) from error
            self.time_base = fraction(self._stream.time_base)
            self._encoder = FrameEncoder(output, self._stream, info, self._offset, upscale=upscale)
            if copies_pictures:
                self._encoder.abandon()
            self._temporary = temporary
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._mux_all(self._encoder.finish(), self.codec)
            self._copier.copy_until(None, self._output)
            self._close()
            self._warn_of_moved_times()

    def rehearse(self) -> None:
        """Writes a black frame and the first packets of every other stream, and reads them back.

        The writer is of no use then: end its `with` block by an error.

        Raises:
            CodecError: the container refuses something, or does not give it back.
            MediaError: the source is damaged.
            OutputError: the disk is full or gone.
        """
        info, alpha = self._info, self._info.tags.alpha
        size = (info.width * self._upscale, info.height * self._upscale)
        black: list[Any] = [
            np.zeros(info.format.plane_shape(plane, *size), info.format.dtype)
            for plane in range(info.format.num_planes + alpha)
        ]
        pts = math.ceil(self._offset / info.time_base)
        self._copier.copy_first(NUM_PACKETS, READ_BYTES, self._output)
        packets = self._encoder.encode(
            Frame(index=0, pts=pts, planes=tuple(black), format=info.format, display=info.display)
        )
        for packet in [*packets, *self._encoder.finish()]:
            packet.dts = packet.pts  # x265 tells it from later frames, which there are not
            self._put(packet, f"{self.codec} at the first frame")
        self._close()

    def _close(self) -> None:
        """Completes the file, and reads it back."""
        try:
            self._output.close()  # writes the index, so it fails when the disk is full
        except (av.FFmpegError, OSError, ValueError) as failure:
            raise self._failure(failure, self.codec) from failure
        encoded = (("video", "the restored video", self._num_packets),)
        promise = Promise(
            streams=(*encoded[self._copies_pictures :], *self._copier.written()),
            chapters=self._num_chapters,
            attachments=self._num_attached,
        )
        self.read_back = check_output(self._temporary, self._path, self._name, promise)

    def write(self, frame: Frame) -> None:
        """Encodes a frame; its pts must be later than that of the frame before.

        Raises:
            ValueError: size or format differ from what the writer was opened for, or the frame is
                not later than the one before.
            CodecError: the encoder or the container refuses it.
            OutputError: the disk is full or gone.
        """
        packets = self._encoder.encode(frame)
        self._mux_all(packets, f"{self.codec} at frame {frame.index}")

    def join(self, packets: Iterable[AnyPacket]) -> None:
        """Writes what `FrameEncoder` made elsewhere, with the same settings, instead of frames.

        Raises:
            CodecError: the container refuses a packet.
            OutputError: the disk is full or gone.
        """
        self._encoder.abandon()
        self._mux_all(packets, self.codec)

    @property
    def extradata(self) -> bytes:
        """What the encoder says of itself before its first packet."""
        return self._encoder.extradata

    def _mux_all(self, packets: Iterable[AnyPacket], what: str) -> None:
        for packet in packets:
            self._mux(packet, what)

    def _mux(self, packet: AnyPacket, what: str) -> None:
        base = fraction(packet.time_base)
        if packet.pts is not None and (packet.pts * base / self.time_base).denominator != 1:
            self._moved.add("video")
        time = packet.dts if packet.dts is not None else packet.pts
        if time is not None:
            self._copier.copy_until(time * base + self._offset, self._output)
        self._put(packet, what)

    def _put(self, packet: AnyPacket, what: str) -> None:
        packet.stream = self._stream
        try:
            self._output.mux(packet)
            self._num_packets += 1
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, what) from error

    def _warn_of_moved_times(self) -> None:
        self.warnings += self._copier.warnings()
        moved = self._moved | self._copier.rounded
        if moved:
            names = [name for kind, name in _MOVED.items() if kind in moved]
            self.warnings.append(
                f"{self._name} counts time in steps of {float(self.time_base):g} s, so "
                f"the times of {' and '.join(names)} move by up to half a step; .mp4 or .mov is "
                "exact"
            )

    def _abandon(self) -> None:
        # The file is about to be deleted, or was closed well: only its memory matters now.
        with suppress(av.FFmpegError, OSError, ValueError):
            self._output.close()

    def _failure(self, error: Exception, what: str) -> VqfrMediaError:
        if is_medium_error(error):
            return output_error(self._path, error)
        return refusal(self._path, error, f"written as {self._name} with {what}")

    def _to_copy(self, inputs: InputContainer, video: Stream) -> list[Stream]:
        """Returns the streams that are copied: all but what is made again or has no meaning."""
        streams = []
        for stream in inputs.streams:
            if stream_copy.is_menu(stream):
                self.warnings.append(
                    f"{stream_copy.label(stream)} says where things are on a DVD, which is true of "
                    "no other file; it was left out"
                )
            elif not (
                (stream.index == video.index and not self._copies_pictures)
                or stream_copy.is_chapter_text(stream)
                or (self._name == "mov" and stream_copy.is_timecode(stream))
            ):
                streams.append(stream)
        self.warnings += stream_copy.several_films(video, streams)
        return streams

    def _add_copy(
        self,
        stream: Stream,
        source: Path,
        options: EncodeOptions,
        others: list[Stream],
        packets: Packets,
    ) -> Stream | None:
        """Adds a stream to the copier; returns its copy, or None if it becomes something else."""
        name, attached = self._name, stream.type == "attachment" or stream_copy.is_cover(stream)
        if stream_copy.is_cover(stream) and name == "matroska":
            # Matroska keeps covers as attached files.
            picture = stream.metadata.get("filename", ""), stream.metadata.get("mimetype", "")
            kind = "png" if stream.codec_context.name == "png" else "jpeg"
            self._output.add_attachment(
                picture[0] or f"cover.{kind.replace('e', '')}",
                picture[1] or f"image/{kind}",
                stream_copy.cover_bytes(source, stream.index),
            )
            self._num_attached += 1
            return None
        verdict = try_stream(stream, name, packets[stream.index])
        if verdict.refusal is None:
            target = stream_copy.add_copy(self._output, stream, layout=verdict.layout)
            if self._cut is not None:
                for key in filter(stream_copy.is_stale, list(target.metadata)):
                    del target.metadata[key]
            self._copier.add(stream, target)
            self._num_attached += attached
            if verdict.layout:
                self.warnings.append(
                    f"{stream_copy.label(stream)} does not say which loudspeakers its channels are "
                    f"for, as {name} must: written as {verdict.layout}"
                )
            return target
        if not options.drop_unsupported_streams:
            raise cannot_hold(stream, name, verdict.refusal, others, packets)
        self.warnings.append(f"{name} cannot hold {stream_copy.label(stream)}; it was left out")
        return None


def open_writer(
    output: Path,
    source: Path,
    info: VideoInfo,
    options: EncodeOptions,
    *,
    upscale: int = 1,
    threads: int | None = None,
    folder: Path | None = None,
    cut: Cut | None = None,
    keep_damaged: bool = False,
) -> VideoWriter:
    """Opens a writer for the restored frames of `source`; use it in a `with` block.

    Args:
        output: File to write; its suffix chooses the container.
        source: File whose other streams are copied.
        info: What is known of the source's video.
        options: Encoder and container.
        upscale: How much larger the frames will be.
        threads: See `add_encoder`.
        folder: Where the unfinished file lies; by default beside the output.
        cut: The part of the source that the frames are of; by default all of it.
        keep_damaged: End the other streams where they cannot be read any more, and say so.

    Raises:
        InputError: the output is the input.
        CodecError: encoder or container cannot hold the pictures or another stream as they are.
        OutputError: the folder is missing or not writable.
    """
    refuse_same(output, source)
    with naming(output):
        return VideoWriter(
            output, source, info, options,
            upscale=upscale, threads=threads, folder=folder, cut=cut, keep_damaged=keep_damaged,
        )  # fmt: skip


def try_writer(
    output: Path,
    source: Path,
    info: VideoInfo,
    options: EncodeOptions,
    *,
    upscale: int = 1,
    threads: int | None = None,
    folder: Path | None = None,
) -> bytes:
    """Opens a writer as `open_writer` does, writes a little, and leaves nothing behind.

    So what the output cannot hold is told before any work is done for it.

    Returns:
        What the encoder says of itself before its first packet.

    Raises:
        InputError, CodecError, OutputError: as `open_writer`.
    """
    try:
        with open_writer(
            output, source, info, options, upscale=upscale, threads=threads, folder=folder
        ) as writer:
            extradata = writer.extradata
            with naming(output):
                writer.rehearse()
            raise _TrialOverError
    except _TrialOverError:
        return extradata


class _TrialOverError(Exception):
    """Ends a trial of the writer, which then leaves nothing behind."""
