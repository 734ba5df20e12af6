"""Whether a film's pictures are combed, as two fields of two times are: measured by FFmpeg's idet.

idet compares each field with its neighbours in time. Fine lines, noise and fast motion in whole
pictures favour neither field. Lines that were doubled and move up or down do, and so do credits
that roll by an even number of lines: so what idet takes for fields must be combed, too.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.video.stream import VideoStream

from vqfr_media.frames import Combing
from vqfr_media.media.filter_graph import link, pulled
from vqfr_media.media.input_container import duration, find_stream, fraction, open_container

# Places, spread over the film, at each of which so many pictures in a row are looked at. The first
# and the last of each have only one neighbour, and do not count.
_PLACES = 6
_PICTURES = 10
# Of samples that move, the difference from the next line over that from the next but one. Woven
# fields had 0.69 to 1.51 in motion across, whole pictures 0.50 to 0.66 at any size and motion.
_COMBED = 0.67
_MOVES = 8  # levels of 255 by which a sample has changed since the picture before
# Interlaced video has at most 1080 lines (1088 as coded).
_MOST_LINES = 1088
# Still pictures and animations are whole.
_WHOLE = {"gif", "png", "apng", "webp", "mjpegb", "jpegls", "bmp", "tiff", "qtrle"}


def measure_combing(path: Path) -> Combing | None:
    """Looks at pictures spread over a video; None where it cannot be interlaced or be told.

    Reads at most 120 pictures, from key frames, so that its time does not grow with the film. What
    cannot be read is passed over: damage is told by who reads the film.

    Raises:
        MediaError: not a video, or no video stream in it.
    """
    with open_container(path) as container:
        stream = find_stream(container, path)
        context = stream.codec_context
        if context is None or context.name in _WHOLE:
            return None
        if not 32 <= context.height <= _MOST_LINES or context.height % 2:
            return None
        stream.thread_type = "AUTO"
        kinds: Counter[str] = Counter()
        combed: list[float] = []
        for pictures in _places(container, stream):
            found, ratios = _kinds(pictures)
            kinds += found
            combed += ratios
    count = kinds["tff"] + kinds["bff"] + kinds["progressive"] + kinds["undetermined"]
    if not count:
        return None
    if combed and median(combed) < _COMBED:
        kinds["progressive"] += kinds.pop("tff", 0) + kinds.pop("bff", 0)
    return Combing(
        pictures=count,
        top_first=kinds["tff"],
        bottom_first=kinds["bff"],
        whole=kinds["progressive"],
        repeated=min(kinds["top"], kinds["bottom"]) * 2,
    )


def _places(container: InputContainer, stream: VideoStream) -> Iterator[list[av.VideoFrame]]:
    """Yields pictures in a row from each place; of a short film, of the whole film in one."""
    base = fraction(stream.time_base)
    seconds = duration(container, stream)
    rate = stream.average_rate or Fraction(25)
    if seconds is None or seconds * rate <= 2 * _PLACES * _PICTURES:
        pictures: list[av.VideoFrame] = []
        with suppress(av.FFmpegError, OSError):
            pictures += islice(container.decode(stream), 2 * _PLACES * _PICTURES)
        yield pictures
        return
    start = (stream.start_time or 0) * base
    last: int | None = None
    for place in range(_PLACES):
        time = start + Fraction(seconds) * Fraction(2 * place + 1, 2 * _PLACES)
        pictures = []
        with suppress(av.FFmpegError, OSError, OverflowError):
            container.seek(int(time / base), stream=stream, backward=True)
            pictures += islice(container.decode(stream), _PICTURES)
        times = [picture.pts for picture in pictures if picture.pts is not None]
        # Where there are few key frames, several places may lead to the same one.
        if times and times[0] != last:
            last = times[0]
            yield pictures


def _kinds(pictures: list[av.VideoFrame]) -> tuple[Counter[str], list[float]]:
    """Counts what idet says of pictures in a row, and of the fields that are repeated in them.

    With it goes how far those that it takes for fields are combed.
    """
    kinds: Counter[str] = Counter()
    combed: list[float] = []
    size = {(p.width, p.height, p.format.name) for p in pictures}
    if len(pictures) < 3 or len(size) > 1:
        return kinds, combed
    width, height, form = size.pop()
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1, 25))
    said: list[tuple[str, str]] = []
    try:
        link(graph, source, "idet")
        for number, picture in enumerate([*pictures, None]):
            if picture is not None:
                picture.pts, picture.time_base = number, Fraction(1, 25)
            graph.push(picture)
            said += ((_told(one, "single"), _told(one, "repeated")) for one in pulled(graph))
    except (av.FFmpegError, ValueError):
        return kinds, combed  # of such pictures it knows nothing
    for number, (kind, repeated) in enumerate(said[1:-1], start=1):
        kinds[kind] += 1
        kinds[repeated] += 1
        if kind in ("tff", "bff"):
            combed += _combed(pictures[number - 1], pictures[number])
    return kinds, combed


def _combed(before: av.VideoFrame, now: av.VideoFrame) -> list[float]:
    """Returns how far a picture is combed where it moves; nothing where it does not."""
    earlier, lines = (
        picture.reformat(format="gray").to_ndarray().astype(np.int16) for picture in (before, now)
    )
    moves = (np.abs(lines - earlier) > _MOVES)[:-2]
    over_two = int(np.abs(lines[:-2] - lines[2:])[moves].sum())
    return [float(np.abs(lines[:-2] - lines[1:-1])[moves].sum()) / over_two] if over_two else []


def _told(picture: av.VideoFrame, what: str) -> str:
    return picture.metadata[f"lavfi.idet.{what}.current_frame"]
