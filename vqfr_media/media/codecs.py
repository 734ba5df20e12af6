"""Which encoder and container take which pictures, and with what settings."""

from collections.abc import Callable

import av

from vqfr_media.errors import CodecError, OptionError
from vqfr_media.frames import FieldOrder, PixelFormat, StreamTags, VideoInfo
from vqfr_media.media.formats import names_for
from vqfr_media.options import EncodeOptions

# Tried in this order: what plays everywhere first, what holds everything last. The lossy encoders
# that take alpha (x265) are hardly supported by players, so alpha goes to FFV1.
AUTOMATIC = ("libx264", "libx264rgb", "libx265", "ffv1")
AUTOMATIC_ALPHA = ("ffv1",)
# FFmpeg decodes grey H.264 as 4:2:0, so grey would not come back as grey.
AUTOMATIC_GRAY = ("libx265", "ffv1")
AUTOMATIC_DEEP_HEVC = ("libx265", "libx264", "ffv1")
# WebM holds nothing of the above. FFmpeg's own decoder would lose the alpha in it.
AUTOMATIC_WEBM = ("libvpx-vp9",)

# Lossless, or with a quality that the profile fixes.
_WITHOUT_QUALITY = {"ffv1", "utvideo", "huffyuv", "ffvhuff", "rawvideo", "png", "v210", "v410"}
_ARCHIVAL = {"matroska", "nut"}
_X26_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower",
    "veryslow", "placebo",
)  # fmt: skip
# Lowest and highest quality, and the default, by the encoder's name. The others count in their
# quantiser, of which FFmpeg's own encoders have 31.
_QUALITIES: dict[str, tuple[float, float, float]] = {
    "libx264": (0, 51, 16),
    "libx264rgb": (0, 51, 16),
    "libx265": (0, 51, 16),
    "libvpx": (0, 63, 24),
    "libvpx-vp9": (0, 63, 20),
    "libsvtav1": (0, 63, 24),
    "libaom-av1": (0, 63, 24),
}
_CODES_FIELDS = {"mpeg2video", "mpeg4", "prores", "prores_ks"}
_QUANTISER = {"mpeg1video", "mpeg2video", "mpeg4", "mjpeg"}


def can_encode(name: str) -> bool:
    """Returns whether this build of PyAV has the video encoder `name`."""
    try:
        return av.Codec(name, "w").type == "video"
    except ValueError:  # PyAV's UnknownCodecError
        return False


def encoder_formats(name: str) -> tuple[str, ...]:
    """Returns FFmpeg's names of the pixel formats the encoder takes; empty where it takes any."""
    return tuple(form.name for form in av.Codec(name, "w").video_formats or ())


def describe(pixel_format: PixelFormat, *, alpha: bool) -> str:
    """Returns the format by FFmpeg's name, for messages."""
    return next(iter(names_for(pixel_format, alpha=alpha)), f"{pixel_format} with alpha {alpha}")


def _fits(
    name: str, pixel_format: PixelFormat, *, alpha: bool, size: tuple[int, int], fields: bool
) -> str:
    """Names the pixel format in which encoder `name` takes the pictures exactly, or ''."""
    if name.startswith("libx26"):
        x, y = pixel_format.subsampling
        if size[0] % (1 << x) or size[1] % (1 << y + fields):
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
    takes: Callable[[str], bool],
    source_codec: str = "",
) -> tuple[str, str]:
    """Chooses the encoder and its pixel format; depth and subsampling are never changed.

    Args:
        info: the source.
        options: the codec asked for.
        size: columns and rows of the output.
        container: FFmpeg's name of the muxer.
        takes: whether the container holds what the encoder of this name makes.
        source_codec: FFmpeg's name of the source's codec.

    Raises:
        CodecError: no encoder, or not the one asked for, takes the format in this container.
    """
    alpha, fields = info.tags.alpha, bool(info.tags.field_order)
    wanted = describe(info.format, alpha=alpha)
    if options.codec != "auto":
        name = options.codec
        if not can_encode(name):
            raise CodecError(
                f"there is no video encoder {name!r} in this build of PyAV; "
                f"use one of {', '.join(n for n in AUTOMATIC if can_encode(n))} or auto"
            )
        form = _fits(name, info.format, alpha=alpha, size=size, fields=fields)
        if not form:
            raise CodecError(
                f"{name} cannot hold {wanted} at {size[0]}×{size[1]} as it is; it takes "
                f"{', '.join(encoder_formats(name))}; use the codec auto or convert the source"
            )
        if not takes(name):
            raise CodecError(f"{container} cannot hold {name}; use another container, such as .mkv")
        return name, form
    gray = info.format.family == "gray"
    candidates: tuple[str, ...]
    candidates = AUTOMATIC_ALPHA if alpha else AUTOMATIC_GRAY if gray else AUTOMATIC
    if source_codec == "hevc" and info.format.bits > 8 and not (gray or alpha):
        # Hardly any player decodes H.264 in ten bits, and this one decodes HEVC.
        candidates = AUTOMATIC_DEEP_HEVC
    if container == "webm" and not alpha:
        candidates += AUTOMATIC_WEBM
    able = {
        name: form
        for name in candidates
        if can_encode(name)
        and (form := _fits(name, info.format, alpha=alpha, size=size, fields=fields))
    }
    for name, form in able.items():
        # FFmpeg would put FFV1 into MP4, where few programs look for it.
        if takes(name) and (name != "ffv1" or container in _ARCHIVAL):
            return name, form
    if able:
        x, y = info.format.subsampling
        odd = bool(size[0] % (1 << x) or size[1] % (1 << y))
        what = "its alpha" if alpha else "an odd size" if odd else "its depth or subsampling"
        raise CodecError(
            f"{container} cannot hold {wanted} at {size[0]}×{size[1]} without loss: for {what} it "
            f"needs {' or '.join(able)}; use .mkv"
        )
    raise CodecError(
        f"no encoder here takes {wanted} at {size[0]}×{size[1]} as it is; convert the source to "
        "a common format such as yuv420p or yuv444p16le first"
    )


def encoder_options(
    name: str, options: EncodeOptions, *, repeatable: bool = False
) -> dict[str, str]:
    """Returns FFmpeg's options for the encoder.

    Args:
        name: FFmpeg's name of the encoder.
        options: What the caller chose.
        repeatable: Give the same bits every time, on every processor.

    Raises:
        OptionError: the encoder has no preset or no quality, or not the one that was asked for.
    """
    result: dict[str, str] = {}
    if options.preset is not None:
        _check_preset(name, options.preset)
        result["preset"] = options.preset
    if name in _WITHOUT_QUALITY:
        if options.quality is not None:
            raise OptionError(f"{name} has no quality to set; leave it out, or choose libx264")
        if name == "ffv1":
            # Version 3 with checksums is what archives ask for.
            result |= {"level": "3", "slicecrc": "1", "g": "1"}
    elif name in _QUALITIES:
        low, high, default = _QUALITIES[name]
        quality = default if options.quality is None else options.quality
        _check_quality(name, quality, low, high)
        result["crf"] = f"{quality:g}"
        if name == "libx265":
            # It writes to the terminal by itself, past every log.
            result["x265-params"] = "log-level=none"
        if repeatable and name.startswith("libx264"):
            # Its vector code for the macroblock tree rounds differently from processor to
            # processor, and even from run to run.
            result["x264-params"] = "cpu-independent=1"
    elif options.quality is not None:
        if name in _QUANTISER:
            _check_quality(name, options.quality, 1, 31)
        result |= {"flags": "+qscale", "global_quality": str(round(options.quality * 118))}
    return result


def interlaced_options(name: str, order: FieldOrder) -> dict[str, str] | None:
    """Returns FFmpeg's options by which the encoder codes fields; None where it cannot say so.

    Args:
        name: FFmpeg's name of the encoder.
        order: which field is shown first.
    """
    if name.startswith("libx264"):
        return {"x264-params": "tff=1" if order == "top" else "bff=1"}
    if name in _CODES_FIELDS:
        return {"flags": "+ildct+ilme"}
    return {} if name in _WITHOUT_QUALITY else None


def light_parameters(tags: StreamTags) -> str:
    """Returns x265's parameters for HDR10's static metadata, to be put behind others."""
    text = ""
    if tags.mastering_display is not None:
        rx, ry, gx, gy, bx, by, wx, wy, low, high = tags.mastering_display
        text += f":master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"
    if tags.content_light is not None:
        text += f":max-cll={tags.content_light[0]},{tags.content_light[1]}"
    return text


def _check_quality(name: str, quality: float, low: float, high: float) -> None:
    if not low <= quality <= high:
        raise OptionError(
            f"the quality of {name} must be between {low:g} and {high:g}, got {quality:g}"
        )


def _check_preset(name: str, preset: str) -> None:
    """Raises an OptionError unless the encoder says that it has this preset."""
    private = av.CodecContext.create(name, "w").supported_options.private
    option = next((option for option in private if option.name == "preset"), None)
    if option is None:
        raise OptionError(f"{name} has no preset to set; leave it out, or choose libx264")
    names = [choice.name for choice in option.choices]
    low, high = int(option.min), int(option.max)
    if name.startswith("libx26"):  # which take a text, and count their names too
        names, low, high = list(_X26_PRESETS), 0, len(_X26_PRESETS) - 1
    if preset in names or (low < high and preset in map(str, range(low, high + 1))):
        return
    if names or low < high:
        choice = f"one of {', '.join(names)}" if names else f"a number from {low} to {high}"
        raise OptionError(f"the preset of {name} must be {choice}, got {preset!r}")
