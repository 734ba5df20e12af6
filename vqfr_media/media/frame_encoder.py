"""Frames into packets: an encoder with the times of the source, in a file or without one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.rational import AVRational
from av.video.stream import VideoStream

from vqfr_media.errors import CodecError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.containers import open_output, start_offset
from vqfr_media.media.encoder import add_encoder
from vqfr_media.media.formats import pack
from vqfr_media.media.seek import AnyPacket
from vqfr_media.media.source import find_stream, open_container, reason_of
from vqfr_media.options import EncodeOptions


class FrameEncoder:
    """Frames into the packets of a started encoder, with the frames' own times and durations."""

    def __init__(
        self, path: Path, stream: VideoStream, info: VideoInfo, offset: Fraction, *, upscale: int
    ) -> None:
        """`offset` seconds are taken off every time stamp; `path` is named in errors."""
        self._path = path
        self._stream = stream
        self._info = info
        self._offset = offset
        self._size = (info.width * upscale, info.height * upscale)
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}
        self._abandoned = False

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of the packets' times."""
        return fraction(self._stream.codec_context.time_base)

    @property
    def extradata(self) -> bytes:
        """What the encoder says of itself before its first packet."""
        return bytes(self._stream.codec_context.extradata or b"")

    def abandon(self) -> None:
        """Lets `finish` ask nothing of an encoder that was given nothing."""
        self._abandoned = True

    def encode(self, frame: Frame) -> list[AnyPacket]:
        """The packets that are ready after this frame.

        Raises:
            ValueError: see `VideoWriter.write`.
            CodecError: the encoder refuses the frame.
        """
        if (frame.width, frame.height) != self._size or frame.format != self._info.format:
            raise ValueError(
                f"expected {self._size[0]}×{self._size[1]} {self._info.format}, "
                f"got {frame.width}×{frame.height} {frame.format}"
            )
        name = self._stream.codec_context.pix_fmt
        assert name is not None  # noqa: S101 - the encoder has started with one
        picture = pack(frame.planes, name)
        base, ticks = self._info.time_base, self.time_base
        picture.pts = round((frame.pts * base - self._offset) / ticks)
        if self._last_pts is not None and picture.pts <= self._last_pts:
            raise ValueError(f"frame {frame.index} ({frame.pts=}) must be later than the last one")
        if self._last_pts in self._durations:
            # Readers tell durations in decoding order, which is wrong where both vary.
            self._durations[self._last_pts] = picture.pts - self._last_pts
        self._last_pts = picture.pts
        picture.duration = round(frame.duration * base / ticks)
        picture.time_base = ticks
        self._durations[picture.pts] = picture.duration
        return self._packets(picture, f"at frame {frame.index}")

    def finish(self) -> list[AnyPacket]:
        """The packets that the encoder still holds.

        Raises:
            CodecError: the encoder fails.
        """
        return [] if self._abandoned else self._packets(None, "at its end")

    def _packets(self, picture: av.VideoFrame | None, where: str) -> list[AnyPacket]:
        try:
            packets: list[AnyPacket] = list(self._stream.encode(picture))
        except (av.FFmpegError, OSError, ValueError) as error:
            done = f"encoded as {self._stream.codec_context.name} {where}"
            raise refusal(self._path, error, done) from error
        for packet in packets:
            # Encoders guess durations from the frame rate, which a variable one makes wrong.
            duration = self._durations.pop(packet.pts, 0) if packet.pts is not None else 0
            if duration:
                packet.duration = duration
        return packets


@contextmanager
def open_encoder(
    output: Path,
    source: Path,
    info: VideoInfo,
    options: EncodeOptions,
    *,
    upscale: int,
    threads: int,
) -> Iterator[FrameEncoder]:
    """Yields the encoder that a writer of `output` would have, without any file.

    Raises:
        InputError: what `open_writer` raises.
    """
    with open_container(source) as inputs:
        nowhere = open_output(
            output,
            Path(os.devnull),
            inputs,
            container=options.container,
            time_base=info.time_base,
        )
        try:
            stream = add_encoder(
                nowhere, find_stream(inputs, source), info, options,
                upscale=upscale, threads=threads, warnings=[],
            )  # fmt: skip
            offset = start_offset(nowhere, inputs, info, [])
            yield FrameEncoder(output, stream, info, offset, upscale=upscale)
        finally:
            with suppress(av.FFmpegError, OSError, ValueError):  # nothing was to be written
                nowhere.close()


def refusal(path: Path, error: Exception, done: str) -> CodecError:
    """The error for what an encoder or a container does not take."""
    return CodecError(
        f"{path}: cannot be {done}: "
        f"{reason_of(error)}; try another codec or container, such as .mkv"
    )


def fraction(value: AVRational) -> Fraction:
    """PyAV's ratio as Python's."""
    return Fraction(value.num, value.den)
