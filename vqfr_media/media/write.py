"""Restored frames into a file that is otherwise the source: same times, tags and other streams."""

import math
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vqfr_media.errors import CodecError, InputError, VqfrMediaError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media import copy
from vqfr_media.media.codecs import can_encode, choose_codec, encoder_options
from vqfr_media.media.containers import BRANDS, is_mov, open_output
from vqfr_media.media.formats import pack
from vqfr_media.media.output import atomic_output, is_medium_error, output_error
from vqfr_media.media.source import find_stream, has_running_clock, open_container, reason_of
from vqfr_media.options import EncodeOptions

__all__ = ["VideoWriter", "can_encode", "open_writer"]

# Facts about the source's bytes rather than about its content.
_STALE = ("encoder", "DURATION", "BPS", "NUMBER_OF_", "_STATISTICS_")


class VideoWriter:
    """Encodes frames and copies what else the source holds; made by `open_writer`."""

    warnings: list[str]
    """What the output cannot hold exactly, in sentences for the user."""
    codec: str
    """FFmpeg's name of the encoder."""
    time_base: Fraction
    """Seconds per unit of time in the output."""

    def __init__(
        self, output: Path, source: Path, info: VideoInfo, options: EncodeOptions, upscale: int
    ) -> None:
        self.warnings = []
        self._path = output
        self._info = info
        self._size = (info.width * upscale, info.height * upscale)
        self._inexact = False
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}
        self._stack = ExitStack()
        with ExitStack() as stack:  # undone if anything below fails
            temporary = stack.enter_context(atomic_output(output))
            inputs = open_container(source)
            stack.callback(inputs.close)
            video = find_stream(inputs, source)
            self._output = open_output(
                output, temporary, inputs, container=options.container, time_base=info.time_base
            )
            stack.callback(self._abandon)
            form = self._output.format
            self._offset = self._start_offset(inputs)
            self._copier = copy.StreamCopier(inputs, source, self._offset)
            try:
                for stream in inputs.streams:
                    if stream.index == video.index:
                        self._stream = self._add_video(video, options, upscale)
                    elif not copy.is_chapter_text(stream, inputs):
                        self._add_copy(stream, source, options)
                self._output.metadata.update(
                    {key: value for key, value in inputs.metadata.items() if key not in BRANDS}
                )
                self._output.set_chapters(self._chapters(inputs))
                self._output.start_encoding()
            except (av.FFmpegError, OSError, ValueError) as error:
                if isinstance(error, VqfrMediaError):
                    raise
                raise self._failure(error, f"{form.name} with {self.codec}") from error
            self.time_base = _fraction(self._stream.time_base)
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
            try:
                for packet in self._stream.encode(None):
                    self._mux(packet)
                self._copier.copy_until(None, self._output)
                self._output.close()  # writes the index, so it fails when the disk is full
            except (av.FFmpegError, OSError) as failure:
                if isinstance(failure, VqfrMediaError):
                    raise
                raise self._failure(failure, self.codec) from failure

    def write(self, frame: Frame) -> None:
        """Encodes a frame; its pts must be later than that of the frame before.

        Raises:
            ValueError: size or format differ from what the writer was opened for, or the frame is
                not later than the one before.
            CodecError: the encoder or the container refuses it.
            OutputError: the disk is full or gone.
        """
        if (frame.width, frame.height) != self._size or frame.format != self._info.format:
            raise ValueError(
                f"expected {self._size[0]}×{self._size[1]} {self._info.format}, "
                f"got {frame.width}×{frame.height} {frame.format}"
            )
        picture = pack(frame.planes, self._pixel_format)
        base, ticks = self._info.time_base, _fraction(self._stream.codec_context.time_base)
        seconds = frame.pts * base - self._offset
        if not self._inexact and (seconds / self.time_base).denominator != 1:
            self._inexact = True
            self.warnings.append(
                f"{self._output.format.name} counts time in steps of {float(self.time_base):g} s, "
                "so frames are moved by up to half a step; .mp4 or .mov is exact"
            )
        picture.pts = round(seconds / ticks)
        if self._last_pts is not None and picture.pts <= self._last_pts:
            raise ValueError(f"frame {frame.index} ({frame.pts=}) must be later than the last one")
        if self._last_pts in self._durations:
            # Readers tell durations in decoding order, which is wrong where both vary.
            self._durations[self._last_pts] = picture.pts - self._last_pts
        self._last_pts = picture.pts
        picture.duration = round(frame.duration * base / ticks)
        picture.time_base = ticks
        self._durations[picture.pts] = picture.duration
        try:
            for packet in self._stream.encode(picture):
                self._mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, VqfrMediaError):
                raise
            raise self._failure(error, f"{self.codec} at frame {frame.index}") from error

    def _mux(self, packet: copy.AnyPacket) -> None:
        # Encoders guess durations from the frame rate, which a variable one makes wrong.
        duration = self._durations.pop(packet.pts, 0) if packet.pts is not None else 0
        if duration:
            packet.duration = duration
        time = packet.dts if packet.dts is not None else packet.pts
        if time is not None:
            seconds = time * _fraction(packet.time_base) + self._offset
            self._copier.copy_until(seconds, self._output)
        self._output.mux(packet)

    def _abandon(self) -> None:
        # The file is about to be deleted, or was closed well: only its memory matters now.
        with suppress(av.FFmpegError, OSError, ValueError):
            self._output.close()

    def _failure(self, error: Exception, what: str) -> VqfrMediaError:
        if is_medium_error(error):
            return output_error(self._path, error)
        return CodecError(
            f"{self._path}: cannot be encoded as {what}: "
            f"{reason_of(error)}; try another codec or container, such as .mkv"
        )

    def _start_offset(self, inputs: InputContainer) -> Fraction:
        """Seconds to take off: broadcast clocks start anywhere, and a file would start empty."""
        if not has_running_clock(inputs) or has_running_clock(self._output):
            return Fraction(0)
        base = self._info.time_base
        start = math.floor(Fraction(inputs.start_time or 0, av.time_base) / base) * base
        if start:
            self.warnings.append(
                f"the source's clock starts at {float(start):.3f} s, the output's at 0"
            )
        return start

    def _add_video(self, video: VideoStream, options: EncodeOptions, upscale: int) -> VideoStream:
        info, tags = self._info, self._info.tags
        self.codec, self._pixel_format = choose_codec(
            info,
            options,
            size=self._size,
            container=self._output.format.name,
            held=self._output.supported_codecs,
        )
        stream = self._output.add_stream(
            self.codec, rate=info.frame_rate, options=encoder_options(self.codec, options)
        )
        if not isinstance(stream, VideoStream):
            raise CodecError(f"{self.codec} is not a video encoder")
        context = stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = self._pixel_format
        # MP4 counts in whole fractions of a second: 1001/30000 becomes 1/30000, exactly.
        mov = is_mov(self._output)
        base = Fraction(1, info.time_base.denominator) if mov else info.time_base
        context.time_base = base
        stream.time_base = base
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        context.colorspace = tags.matrix
        context.color_range = tags.color_range
        context.chroma_sample_location = tags.chroma_location
        # Unsaid stays unsaid, except where the source's format implied what the new codec does
        # not: grey and JPEG mean full range, and JPEG chroma in the centre.
        implied = {"yuv": True, "gray": self.codec.startswith("libx26"), "rgb": False}
        if info.format.full_range and implied[info.format.family]:
            context.color_range = 2
        if info.format.subsampling != (0, 0) and info.format.chroma_location == "center":
            context.chroma_sample_location = 2
        if tags.sample_aspect_ratio is not None:
            context.sample_aspect_ratio = tags.sample_aspect_ratio
        if tags.display_matrix is not None:
            matrix = list(tags.display_matrix)
            matrix[6:8] = [shift * upscale for shift in matrix[6:8]]
            stream.set_display_matrix(matrix)
        if self.codec == "libx265" and mov:
            context.codec_tag = "hvc1"  # Apple's players know no other
        stream.metadata.update(
            {k: v for k, v in copy.stream_metadata(video).items() if not k.startswith(_STALE)}
        )
        stream.disposition = video.disposition
        return stream

    def _add_copy(self, stream: av.stream.Stream, source: Path, options: EncodeOptions) -> None:
        name = self._output.format.name
        if copy.is_cover(stream) and name == "matroska":
            # Matroska keeps covers as attached files.
            picture = stream.metadata.get("filename", ""), stream.metadata.get("mimetype", "")
            kind = "png" if stream.codec_context.name == "png" else "jpeg"
            self._output.add_attachment(
                picture[0] or f"cover.{kind.replace('e', '')}",
                picture[1] or f"image/{kind}",
                copy.cover_bytes(source, stream.index),
            )
            return
        reason = copy.refusal(stream, name)
        if reason is None:
            self._copier.add(stream, copy.add_copy(self._output, stream))
        elif options.drop_unsupported_streams:
            self.warnings.append(f"{name} cannot hold {copy.label(stream)}; it was left out")
        else:
            raise copy.cannot_hold(stream, name, reason)

    def _chapters(self, inputs: InputContainer) -> list[Any]:
        chapters = inputs.chapters()
        for chapter in chapters:
            shift = round(self._offset / _fraction(chapter["time_base"]))
            chapter["start"] -= shift
            chapter["end"] -= shift
        return chapters


def _fraction(value: av.rational.AVRational) -> Fraction:
    return Fraction(value.num, value.den)


def open_writer(
    output: Path, source: Path, info: VideoInfo, options: EncodeOptions, *, upscale: int = 1
) -> VideoWriter:
    """Opens a writer for the restored frames of `source`; use it in a `with` block.

    Raises:
        InputError: the output is the input.
        CodecError: encoder or container cannot hold the pictures or another stream as they are.
        OutputError: the folder is missing or not writable.
    """
    try:
        same = output.exists() and source.exists() and output.samefile(source)
    except OSError as error:  # a name too long, a forbidden folder
        raise output_error(output, error) from error
    if same:
        raise InputError(f"{output}: is the input itself; give the output another name")
    return VideoWriter(output, source, info, options, upscale)
