"""Output containers: which one a name means, and how it keeps times and tags exactly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from vqfr_media.errors import CodecError
from vqfr_media.frames import VideoInfo
from vqfr_media.media.input_container import has_running_clock

# Metadata that describes the bytes of an MP4 rather than its content.
BRANDS = {"major_brand", "minor_version", "compatible_brands"}
_MOV = {"mov", "mp4", "ipod", "3gp", "3g2", "psp", "f4v", "ismv"}
# FFmpeg's names of the containers that give back the packets that were put into them.
READABLE = _MOV - {"ismv"} | {"matroska", "webm"}
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
    """Returns whether the output is one of the MP4 and QuickTime family."""
    return container.format.name in _MOV


def holds_rotation(container: OutputContainer) -> bool:
    """Returns whether the output can say how the picture is to be turned."""
    return container.format.name in _MOV | {"matroska", "webm"}


def holds_chapters(container: OutputContainer) -> bool:
    """Returns whether the output can have chapters."""
    return container.format.name in _MOV | {"matroska", "webm", "nut", "asf", "ogg", "ffmetadata"}


def takes_codec(format_name: str, codec: str) -> bool:
    """Returns whether readers of the container find the codec (FFmpeg's name) in it.

    Of most containers FFmpeg's muxer knows better; of those True says nothing.
    """
    return format_name != "mpegts" or codec in _TRANSPORTED


def takes_encoder(container: OutputContainer, name: str) -> bool:
    """Returns whether the output holds what the encoder `name` makes."""
    if container.format.name == "mpegts":
        # PyAV lists the defaults only, of which libx264 is none.
        return takes_codec("mpegts", av.Codec(name, "w").canonical_name)
    supported = container.supported_codecs
    return not supported or name in supported


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets every CodecError of the block begin with the name of the file that is written."""
    try:
        yield
    except CodecError as error:
        if str(path) in str(error):
            raise
        raise CodecError(f"{path}: {error}") from error


def open_output(
    path: Path,
    temporary: Path,
    inputs: InputContainer,
    *,
    container: str | None,
    time_base: Fraction,
    repeatable: bool = False,
) -> OutputContainer:
    """Opens a muxer on `temporary`, of the kind that `container` or the name `path` says.

    With `repeatable` it puts no random numbers into the file, as Matroska's and Ogg's do.

    Raises:
        CodecError: the kind is unknown, writes several files, or cannot hold exact times (AVI).
    """
    try:
        # Asked first, because options are given at opening and others know nothing of MP4's.
        with av.open(f"x{path.suffix}", "w", format=container) as trial:
            name, flags = trial.format.name, trial.format.flags
        if flags & _OPENS_ITS_OWN:
            kind = (
                f"{path.suffix} is for a single picture, and the source is a film"
                if name == "image2" and container is None
                else f"{name} writes several files"
            )
            raise CodecError(f"{path}: {kind}; use .mp4, .mkv or .mov")
        settings = _mov_settings(inputs, time_base) if name in _MOV else {}
        if repeatable:
            settings["fflags"] = "+bitexact"
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


def start_offset(
    output: OutputContainer,
    inputs: InputContainer,
    info: VideoInfo,
    warnings: list[str],
    *,
    begin: Fraction | None = None,
) -> Fraction:
    """Returns the seconds to take off, as broadcast clocks start anywhere: else it starts empty.

    With `begin`, a time by the source's clock, the output begins there.
    """
    if has_running_clock(output):
        warnings.append(
            f"{output.format.name} has no time 0: all times may be shifted by the same fraction of "
            "a second"
        )
        return begin or Fraction(0)
    if begin is not None:
        return begin
    if not has_running_clock(inputs):
        return Fraction(0)
    base = info.time_base
    start = math.floor(Fraction(inputs.start_time or 0, av.time_base) / base) * base
    if start:
        warnings.append(f"the source's clock starts at {float(start):.3f} s, the output's at 0")
    return start
