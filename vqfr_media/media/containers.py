"""Output containers: which one a name means, and how it keeps times and tags exactly."""

import math
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from vqfr_media.errors import CodecError

# Metadata that describes the bytes of an MP4 rather than its content.
BRANDS = {"major_brand", "minor_version", "compatible_brands"}
_MOV = {"mov", "mp4", "ipod", "3gp", "3g2", "psp", "f4v", "ismv"}
# The tags for which MP4 has a place; others need FFmpeg's key-value tags, which few players read.
_MP4_TAGS = {
    "title", "artist", "album_artist", "composer", "album", "date", "encoder", "comment", "genre",
    "copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network",
    "keywords", "episode_sort", "season_number", "media_type", "hd_video", "gapless_playback",
    "compilation", "track", "disc", "creation_time",
}  # fmt: skip
# FFmpeg's AVFMT_NOFILE: the muxer opens its files by itself, and as many as it likes.
_OPENS_ITS_OWN = 0x0001
# What an MPEG transport stream has a number for. FFmpeg's muxer takes anything else too, as bytes
# that nobody can read back, so it cannot be asked.
_TRANSPORTED = {
    "mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc", "mp2", "mp3", "aac", "aac_latm", "ac3",
    "eac3", "dts", "truehd", "opus", "dvb_subtitle", "dvb_teletext",
}  # fmt: skip


def is_mov(container: OutputContainer) -> bool:
    """Whether the output is one of the MP4 and QuickTime family."""
    return container.format.name in _MOV


def holds_rotation(container: OutputContainer) -> bool:
    """Whether the output can say how the picture is to be turned."""
    return container.format.name in _MOV | {"matroska", "webm"}


def holds_chapters(container: OutputContainer) -> bool:
    """Whether the output can have chapters."""
    return container.format.name in _MOV | {"matroska", "webm", "nut", "asf", "ogg", "ffmetadata"}


def takes_codec(format_name: str, codec: str) -> bool:
    """Whether readers of the container find the codec (by its FFmpeg name) in it.

    Of most containers FFmpeg's muxer knows better; of those True says nothing.
    """
    return format_name != "mpegts" or codec in _TRANSPORTED


def takes_encoder(container: OutputContainer, name: str) -> bool:
    """Whether the output holds what the encoder `name` makes."""
    if container.format.name == "mpegts":
        # PyAV lists the defaults only, of which libx264 is none.
        return takes_codec("mpegts", av.Codec(name, "w").canonical_name)
    supported = container.supported_codecs
    return not supported or name in supported


def open_output(
    path: Path,
    temporary: Path,
    inputs: InputContainer,
    *,
    container: str | None,
    time_base: Fraction,
) -> OutputContainer:
    """A muxer that writes to `temporary`, of the kind that `container` or the name `path` says.

    Raises:
        CodecError: the kind is unknown, writes several files, or cannot hold exact times (AVI).
    """
    try:
        # Asked first, because options are given at opening and others know nothing of MP4's.
        with av.open(f"x{path.suffix}", "w", format=container) as trial:
            name, flags = trial.format.name, trial.format.flags
        if flags & _OPENS_ITS_OWN:
            raise CodecError(f"{path}: {name} writes several files; use .mp4, .mkv or .mov")
        settings = _mov_settings(inputs, time_base) if name in _MOV else {}
        output = av.open(f"file:{temporary}", "w", format=name, container_options=settings)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(
            f"{path}: unknown container {container or path.suffix!r}; use .mp4, .mkv or .mov"
        ) from error
    if name == "avi":
        output.close()
        raise CodecError(f"{path}: AVI cannot hold exact times; use .mkv or .mp4")
    return output


def _mov_settings(inputs: InputContainer, time_base: Fraction) -> dict[str, str]:
    scale = time_base.denominator
    # The empty stretch before a track starts is counted in the film's own ticks: let all fit.
    bases = [s.time_base.den for s in inputs.streams if s.type == "audio" and s.time_base]
    film = math.lcm(scale, *bases)
    settings = {
        "video_track_timescale": str(scale),
        "movie_timescale": str(film if film < 2**31 else scale),
    }
    if not inputs.metadata.keys() <= _MP4_TAGS | BRANDS:
        settings["movflags"] = "use_metadata_tags"
    return settings
