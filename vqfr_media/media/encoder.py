"""The encoder of an output: its settings from the source, and frames into packets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vqfr_media.errors import CodecError, OptionError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media import stream_copy
from vqfr_media.media.codecs import (
    choose_codec,
    encoder_options,
    interlaced_options,
    light_parameters,
)
from vqfr_media.media.fields import FIELD_NUMBERS, FieldFlags
from vqfr_media.media.formats import pack
from vqfr_media.media.input_container import (
    AnyPacket,
    find_stream,
    fraction,
    open_container,
    reason_of,
)
from vqfr_media.media.output_container import (
    holds_rotation,
    is_mov,
    open_output,
    start_offset,
    takes_encoder,
)
from vqfr_media.options import EncodeOptions

# Codecs whose own bytes say how wide a pixel is. PyAV cannot have it written by Matroska.
_WITH_PIXEL_SHAPE = {"h264", "hevc", "mpeg4", "mjpeg"}
# 16.16 fixed point, the last column 2.30.
_UPRIGHT = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
# FFmpeg's options by the names of ours.
_OPTION_NAMES = {"crf": "quality", "global_quality": "quality"}


def add_encoder(
    output: OutputContainer,
    video: VideoStream,
    info: VideoInfo,
    options: EncodeOptions,
    *,
    upscale: int,
    threads: int | None,
    warnings: list[str],
) -> VideoStream:
    """Adds a started encoder to `output` for frames of `info`, enlarged, with the tags of `video`.

    Takes a `warnings` list for what will be lost. With a number of `threads` it gives the same bits
    every time, on every processor; with None it may not, and takes what the machine has.

    Raises:
        CodecError: encoder or container cannot hold the pictures, or the encoder cannot start.
        OptionError: the encoder does not know an option, or not with this value.
    """
    tags, size = info.tags, (info.width * upscale, info.height * upscale)
    container = output.format.name
    codec, pixel_format = choose_codec(
        info,
        options,
        size=size,
        container=container,
        takes=lambda name: takes_encoder(output, name),
        source_codec=video.codec_context.name,
    )
    settings = encoder_options(codec, options, repeatable=threads is not None)
    if tags.mastering_display or tags.content_light:
        if codec == "libx265":
            settings["x265-params"] += light_parameters(tags)
        else:
            warnings.append(f"{codec} drops HDR10's mastering display and content light levels")
    if tags.field_order:
        coding = interlaced_options(codec, tags.field_order)
        if coding is None:
            warnings.append(
                f"{codec} codes no fields, so players may show their pictures as combs; libx264 "
                "does, or use --fields deinterlace"
            )
        for name, value in (coding or {}).items():
            joint = "" if name == "flags" else ":"
            settings[name] = f"{settings[name]}{joint}{value}" if name in settings else value
    stream = output.add_stream(codec, rate=info.frame_rate, options=settings)
    if not isinstance(stream, VideoStream):
        raise CodecError(f"{codec} is not a video encoder")
    context = stream.codec_context
    context.width, context.height = size
    if threads is not None:
        context.thread_count = threads
    context.pix_fmt = pixel_format
    # MP4 counts in whole fractions of a second: 1001/30000 becomes 1/30000, exactly.
    mov = is_mov(output)
    base = Fraction(1, info.time_base.denominator) if mov else info.time_base
    context.time_base = base
    stream.time_base = base
    if tags.field_order:
        context.field_order = FIELD_NUMBERS[tags.field_order]
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.colorspace = tags.matrix
    context.color_range = tags.color_range
    context.chroma_sample_location = tags.chroma_location
    # Unsaid stays unsaid, except where the source's format implied what the new codec does
    # not: grey and JPEG mean full range, and JPEG chroma in the centre.
    implied = {"yuv": True, "gray": codec.startswith("libx26"), "rgb": False}
    if info.format.full_range and implied[info.format.family]:
        context.color_range = 2
    if info.format.subsampling != (0, 0) and info.format.chroma_location == "center":
        context.chroma_sample_location = 2
    if tags.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = tags.sample_aspect_ratio
        named = av.Codec(codec, "w").canonical_name in _WITH_PIXEL_SHAPE
        if tags.sample_aspect_ratio != 1 and not (mov or named):
            ratio = f"{tags.sample_aspect_ratio.numerator}:{tags.sample_aspect_ratio.denominator}"
            warnings.append(
                f"{codec} in {container} does not say that pixels are {ratio}, so players will "
                "show them square; libx264 and libx265 say it"
            )
    if tags.display_matrix is not None:
        matrix = list(tags.display_matrix)
        matrix[6:8] = [shift * upscale for shift in matrix[6:8]]
        if tuple(matrix) != _UPRIGHT and not holds_rotation(output):
            raise CodecError(
                f"{container} cannot hold the source's rotation, so it would lie on its side; "
                "use .mp4, .mov or .mkv"
            )
        stream.set_display_matrix(matrix)
    if codec == "libx265" and mov:
        context.codec_tag = "hvc1"  # Apple's players know no other
    stream.metadata.update(
        {k: v for k, v in stream_copy.stream_metadata(video).items() if not stream_copy.is_stale(k)}
    )
    stream.disposition = video.disposition
    _start(codec, context, base, options)
    return stream


def _start(codec: str, context: VideoCodecContext, base: Fraction, options: EncodeOptions) -> None:
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError) as error:
        # PyAV crashes when asked for anything about a context that failed to open.
        del context
        if _counts_frames(codec, base):
            raise CodecError(
                f"{codec} counts time in frames of a common rate, such as 1/25 s, and cannot in "
                f"the source's steps of {base} s: {reason_of(error)}; use another codec, such as "
                "libx264"
            ) from error
        given = [
            f"{name}={value}"
            for name, value in (("preset", options.preset), ("quality", options.quality))
            if value is not None
        ]
        raise CodecError(
            f"encoder {codec} cannot start on this machine"
            f"{' with ' * bool(given)}{' '.join(given)}: {reason_of(error)}; "
            "use another codec, such as libx264"
        ) from error
    unused = sorted({_OPTION_NAMES.get(name, name) for name in context.options})
    if unused:
        names = " or ".join(unused)
        raise OptionError(f"{codec} has no {names}; leave {names} out, or choose libx264")


def _counts_frames(codec: str, base: Fraction) -> bool:
    """Returns whether the encoder knows certain frame rates only, and `base` is finer than they."""
    # MPEG-4 part 2 takes any step of up to 16 bits.
    finest = {"mpeg1video": 60, "mpeg2video": 60, "mpeg4": 65535}.get(codec)
    return finest is not None and base.denominator > finest * base.numerator


class FrameEncoder:
    """Frames into the packets of a started encoder, with the frames' own times and durations."""

    def __init__(
        self, path: Path, stream: VideoStream, info: VideoInfo, offset: Fraction, *, upscale: int
    ) -> None:
        """Takes `offset` seconds off every time stamp; `path` is named in errors."""
        self._path = path
        self._stream = stream
        self._info = info
        self._offset = offset
        self._flags = FieldFlags(info.tags.field_order)
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
        """Returns the packets that are ready after this frame.

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
        return self._packets(self._flags.mark(picture), f"at frame {frame.index}")

    def finish(self) -> list[AnyPacket]:
        """Returns the packets that the encoder still holds.

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
    begin: Fraction | None = None,
) -> Iterator[FrameEncoder]:
    """Yields the encoder that a writer of `output` would have, without any file.

    Where the output begins amid the source, `begin` is the time there by the source's clock.

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
            offset = start_offset(nowhere, inputs, info, [], begin=begin)
            yield FrameEncoder(output, stream, info, offset, upscale=upscale)
        finally:
            with suppress(av.FFmpegError, OSError, ValueError):  # nothing was to be written
                nowhere.close()


def encoder_threads() -> int:
    """Returns three threads for two cores, as x264 has it, and at most 16, as x265 wants it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(16, max(1, (cores or 1) * 3 // 2))


def refusal(path: Path, error: Exception, done: str) -> CodecError:
    """Returns the error for what an encoder or a container does not take."""
    return CodecError(
        f"{path}: cannot be {done}: "
        f"{reason_of(error)}; try another codec or container, such as .mkv"
    )
