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


def is_mov(container: OutputContainer) -> bool:
    """Whether the output is one of the MP4 and QuickTime family."""
    return container.format.name in _MOV


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
        CodecError: the kind is unknown, or cannot hold exact times (AVI).
    """
    try:
        # Asked first, because options are given at opening and others know nothing of MP4's.
        with av.open(f"x{path.suffix}", "w", format=container) as trial:
            name = trial.format.name
        settings = _mov_settings(inputs, time_base) if name in _MOV else {}
        output = av.open(f"file:{temporary}", "w", format=name, container_options=settings)
    except (av.FFmpegError, ValueError) as error:
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
