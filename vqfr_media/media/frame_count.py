"""How many frames a video has, guessed from its header alone: for estimates of time."""

from contextlib import suppress
from pathlib import Path

import av

from vqfr_media.media.input_container import duration, find_stream, open_container
from vqfr_media.media.read import matroska_frame_count
from vqfr_media.time_range import TimeRange


def guess_frame_count(path: Path, part: TimeRange) -> int:
    """Returns the frames of a part of a video by its header: their number, or duration by rate.

    At least 1, also where the header says neither. No frame is decoded.

    Raises:
        MediaError: the file is no video that can be read.
    """
    container = open_container(path)
    try:
        stream = find_stream(container, path)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = duration(container, stream) or 0.0
        count = stream.frames or matroska_frame_count(stream) or round(seconds * rate)
        if not part.is_whole:
            end = count / rate
            if part.stop_seconds is not None:
                end = min(end, float(part.stop_seconds))
            count = round((end - float(part.start_seconds)) * rate)
    finally:
        with suppress(av.FFmpegError):
            container.close()
    return max(1, count)
