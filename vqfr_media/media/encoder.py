"""The video stream of an output: encoder settings from the source, and why one may not start."""

from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vqfr_media.errors import CodecError, OptionError
from vqfr_media.frames import VideoInfo
from vqfr_media.media import copy
from vqfr_media.media.codecs import choose_codec, encoder_options
from vqfr_media.media.containers import holds_rotation, is_mov, takes_encoder
from vqfr_media.media.source import reason_of
from vqfr_media.options import EncodeOptions

# Facts about the source's bytes rather than about its content.
_STALE = ("encoder", "DURATION", "BPS", "NUMBER_OF_", "_STATISTICS_")
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
    """A started encoder in `output` for frames of `info`, enlarged, with the tags of `video`.

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
    )
    settings = encoder_options(codec, options, repeatable=threads is not None)
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
        {k: v for k, v in copy.stream_metadata(video).items() if not k.startswith(_STALE)}
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
    """Whether the encoder knows certain frame rates only, and `base` is finer than they are."""
    # MPEG-4 part 2 takes any step of up to 16 bits.
    finest = {"mpeg1video": 60, "mpeg2video": 60, "mpeg4": 65535}.get(codec)
    return finest is not None and base.denominator > finest * base.numerator
