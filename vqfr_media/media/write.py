"""Restored frames into a file that is otherwise the source: same times, tags and other streams."""

import math
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer

from vqfr_media.errors import CodecError, VqfrMediaError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media import copy
from vqfr_media.media.codecs import can_encode
from vqfr_media.media.containers import BRANDS, holds_chapters, open_output
from vqfr_media.media.encoder import add_encoder
from vqfr_media.media.formats import pack
from vqfr_media.media.output import atomic_output, is_medium_error, output_error, refuse_same
from vqfr_media.media.source import find_stream, has_running_clock, open_container, reason_of
from vqfr_media.options import EncodeOptions

__all__ = ["VideoWriter", "can_encode", "open_writer"]

# What is moved when the output counts time more coarsely, by the type of stream.
_MOVED = {"video": "frames", "audio": "sound", "subtitle": "subtitles", "data": "data"}


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
        self.codec = options.codec  # until it is known
        self._path = output
        self._info = info
        self._size = (info.width * upscale, info.height * upscale)
        self._moved: set[str] = set()
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
            self._name = self._output.format.name
            self._offset = self._start_offset(inputs)
            self._copier = copy.StreamCopier(inputs, source, output, self._offset)
            try:
                for stream in inputs.streams:
                    if stream.index == video.index:
                        self._stream = add_encoder(
                            self._output, video, info, options,
                            upscale=upscale, warnings=self.warnings,
                        )  # fmt: skip
                        self.codec = self._stream.codec_context.name
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
                raise self._failure(error, self.codec) from error
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
            self._encode(None, self.codec)
            self._copier.copy_until(None, self._output)
            try:
                self._output.close()  # writes the index, so it fails when the disk is full
            except (av.FFmpegError, OSError) as failure:
                raise self._failure(failure, self.codec) from failure
            self._say_what_moved()

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
        name = self._stream.codec_context.pix_fmt
        assert name is not None  # noqa: S101 - the encoder has started with one
        picture = pack(frame.planes, name)
        base, ticks = self._info.time_base, _fraction(self._stream.codec_context.time_base)
        seconds = frame.pts * base - self._offset
        if (seconds / self.time_base).denominator != 1:
            self._moved.add("video")
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
        self._encode(picture, f"{self.codec} at frame {frame.index}")

    def _encode(self, picture: av.VideoFrame | None, what: str) -> None:
        """Encodes a picture, or all that the encoder still holds, and writes what is ready."""
        try:
            packets = self._stream.encode(picture)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._refusal(error, f"encoded as {what}") from error
        for packet in packets:
            self._mux(packet, what)

    def _mux(self, packet: copy.AnyPacket, what: str) -> None:
        # Encoders guess durations from the frame rate, which a variable one makes wrong.
        duration = self._durations.pop(packet.pts, 0) if packet.pts is not None else 0
        if duration:
            packet.duration = duration
        time = packet.dts if packet.dts is not None else packet.pts
        if time is not None:
            seconds = time * _fraction(packet.time_base) + self._offset
            self._copier.copy_until(seconds, self._output)
        try:
            self._output.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, what) from error

    def _say_what_moved(self) -> None:
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
        return self._refusal(error, f"written as {self._name} with {what}")

    def _refusal(self, error: Exception, done: str) -> CodecError:
        return CodecError(
            f"{self._path}: cannot be {done}: "
            f"{reason_of(error)}; try another codec or container, such as .mkv"
        )

    def _start_offset(self, inputs: InputContainer) -> Fraction:
        """Seconds to take off: broadcast clocks start anywhere, and a file would start empty."""
        if has_running_clock(self._output):
            self.warnings.append(
                f"{self._name} has no time 0: all times may be shifted by the same fraction of a "
                "second"
            )
            return Fraction(0)
        if not has_running_clock(inputs):
            return Fraction(0)
        base = self._info.time_base
        start = math.floor(Fraction(inputs.start_time or 0, av.time_base) / base) * base
        if start:
            self.warnings.append(
                f"the source's clock starts at {float(start):.3f} s, the output's at 0"
            )
        return start

    def _add_copy(self, stream: av.stream.Stream, source: Path, options: EncodeOptions) -> None:
        name = self._name
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
        if chapters and not holds_chapters(self._output):
            self.warnings.append(f"{self._name} has no chapters; they were left out")
            return []
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
    refuse_same(output, source)
    return VideoWriter(output, source, info, options, upscale)
