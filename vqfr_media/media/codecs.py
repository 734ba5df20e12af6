"""Which encoder and container take which pictures, and with what settings."""

import av

from vqfr_media.errors import CodecError, OptionError
from vqfr_media.frames import PixelFormat, VideoInfo
from vqfr_media.media.formats import names_for
from vqfr_media.options import EncodeOptions

# Tried in this order: what plays everywhere first, what holds everything last. The lossy encoders
# that take alpha (x265) are hardly supported by players, so alpha goes to FFV1.
AUTOMATIC = ("libx264", "libx264rgb", "libx265", "ffv1")
AUTOMATIC_ALPHA = ("ffv1",)
# FFmpeg decodes grey H.264 as 4:2:0, so grey would not come back as grey.
AUTOMATIC_GRAY = ("libx265", "ffv1")

# Lossless, or with a quality that the profile fixes.
_WITHOUT_QUALITY = {"ffv1", "utvideo", "huffyuv", "ffvhuff", "rawvideo", "png", "v210", "v410"}
_ARCHIVAL = {"matroska", "nut"}
_CRF = ("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx", "libvpx-vp9", "libaom-av1")


def can_encode(name: str) -> bool:
    """Whether this build of PyAV has the video encoder `name`."""
    try:
        return av.Codec(name, "w").type == "video"
    except ValueError:  # PyAV's UnknownCodecError
        return False


def encoder_formats(name: str) -> tuple[str, ...]:
    """FFmpeg's names of the pixel formats that the encoder takes; empty where it takes any."""
    return tuple(form.name for form in av.Codec(name, "w").video_formats or ())


def describe(pixel_format: PixelFormat, *, alpha: bool) -> str:
    """The format by FFmpeg's name, for messages."""
    return next(iter(names_for(pixel_format, alpha=alpha)), f"{pixel_format} with alpha {alpha}")


def _fits(name: str, pixel_format: PixelFormat, *, alpha: bool, size: tuple[int, int]) -> str:
    """Name of the pixel format in which encoder `name` takes the pictures exactly, or ''."""
    if name.startswith("libx26"):
        x, y = pixel_format.subsampling
        if size[0] % (1 << x) or size[1] % (1 << y):
            return ""
    taken = encoder_formats(name)
    return next(
        (form for form in names_for(pixel_format, alpha=alpha) if form in taken or not taken), ""
    )


def choose_codec(
    info: VideoInfo,
    options: EncodeOptions,
    *,
    size: tuple[int, int],
    container: str,
    held: set[str],
) -> tuple[str, str]:
    """Names of the encoder and of its pixel format; depth and subsampling are never changed.

    Args:
        info: the source.
        options: the codec asked for.
        size: columns and rows of the output.
        container: FFmpeg's name of the muxer.
        held: the encoders whose streams the container takes; empty where it does not say.

    Raises:
        CodecError: no encoder, or not the one asked for, takes the format in this container.
    """
    alpha = info.tags.alpha
    wanted = describe(info.format, alpha=alpha)
    if options.codec != "auto":
        name = options.codec
        if not can_encode(name):
            raise CodecError(
                f"there is no video encoder {name!r} in this build of PyAV; "
                f"use one of {', '.join(n for n in AUTOMATIC if can_encode(n))} or auto"
            )
        form = _fits(name, info.format, alpha=alpha, size=size)
        if not form:
            raise CodecError(
                f"{name} cannot hold {wanted} at {size[0]}×{size[1]} as it is; it takes "
                f"{', '.join(encoder_formats(name))}; use the codec auto or convert the source"
            )
        if held and name not in held:
            raise CodecError(f"{container} cannot hold {name}; use another container, such as .mkv")
        return name, form
    gray = info.format.family == "gray"
    able = {
        name: form
        for name in (AUTOMATIC_ALPHA if alpha else AUTOMATIC_GRAY if gray else AUTOMATIC)
        if can_encode(name) and (form := _fits(name, info.format, alpha=alpha, size=size))
    }
    for name, form in able.items():
        # FFmpeg would put FFV1 into MP4, where few programs look for it.
        if (name in held or not held) and (name != "ffv1" or container in _ARCHIVAL):
            return name, form
    if able:
        raise CodecError(
            f"{container} cannot hold {wanted} at {size[0]}×{size[1]} without loss of depth or "
            f"subsampling: that needs {' or '.join(able)}; use .mkv"
        )
    raise CodecError(
        f"no encoder here takes {wanted} at {size[0]}×{size[1]} as it is; convert the source to "
        "a common format such as yuv420p or yuv444p16le first"
    )


def encoder_options(name: str, options: EncodeOptions) -> dict[str, str]:
    """FFmpeg's options for the encoder.

    Raises:
        OptionError: a quality was asked of an encoder that has none.
    """
    result: dict[str, str] = {}
    if options.preset is not None:
        result["preset"] = options.preset
    if name in _WITHOUT_QUALITY:
        if options.quality is not None:
            raise OptionError(f"{name} has no quality to set; leave it out, or choose libx264")
        if name == "ffv1":
            # Version 3 with checksums is what archives ask for.
            result |= {"level": "3", "slicecrc": "1", "g": "1"}
    elif name in _CRF:
        default = 16 if name.startswith("libx26") else 24
        result["crf"] = f"{default if options.quality is None else options.quality:g}"
        if name == "libx265":
            # It writes to the terminal by itself, past every log.
            result["x265-params"] = "log-level=none"
    elif options.quality is not None:
        result |= {"flags": "+qscale", "global_quality": str(round(options.quality * 118))}
    return result
