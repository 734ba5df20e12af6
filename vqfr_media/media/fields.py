"""Interlaced pictures: two fields of every second line, each with a time of its own."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext

from vqfr_media.errors import CodecError, OptionError
from vqfr_media.frames import FieldOrder, Frame, Plane, VideoInfo
from vqfr_media.media.combing import measure_combing
from vqfr_media.media.filter_graph import link, pulled
from vqfr_media.media.formats import find_layout, names_for, pack, unpack
from vqfr_media.options import FieldsChoice, RestoreOptions

# FFmpeg's AVFieldOrder by the field that is shown first.
_SHOWN_FIRST: dict[int, FieldOrder] = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}
FIELD_NUMBERS = {"top": 2, "bottom": 3}
_SETFIELD = {"top": "tff", "bottom": "bff"}
# Of these codecs each picture says whether it is interlaced; what is said of the whole stream may
# be true of the disc rather than of the film.
_SAID_BY_PICTURES = {"mpeg1video", "mpeg2video", "h264", "vc1"}
# DV's bottom field is first, and so is that of captures in its size for NTSC.
_BOTTOM_FIRST_ROWS = 480


def field_order(picture: av.VideoFrame, decoder: VideoCodecContext) -> FieldOrder:
    """Returns which field of a video's pictures is shown first; empty for whole pictures."""
    said = _SHOWN_FIRST.get(decoder.field_order)
    if picture.interlaced_frame or (said and decoder.name not in _SAID_BY_PICTURES):
        return said or ("bottom" if decoder.name == "dvvideo" else "top")
    return ""


def said_of_mixed(
    info: VideoInfo, choice: FieldsChoice, num_interlaced: int, num_pictures: int
) -> tuple[str, ...]:
    """Says what `mixed` does, unless pictures are taken as fields, or as whole ones by choice."""
    if info.first_field or choice == "whole":
        return ()
    return mixed(num_interlaced, num_pictures)


def mixed(num_interlaced: int, num_pictures: int) -> tuple[str, ...]:
    """Says what becomes of interlaced pictures in a video whose first picture is a whole one."""
    if not num_interlaced:
        return ()
    share = num_interlaced / num_pictures
    of_film = ", as of film with pictures repeated (3:2)" if 0.35 < share < 0.45 else ""
    return (
        f"{num_interlaced} of {num_pictures} pictures are interlaced{of_film}: all were restored "
        "as whole ones; use --fields keep, or for film undo the repetition with ffmpeg first",
    )


def with_fields(info: VideoInfo, choice: FieldsChoice, source: Path) -> VideoInfo:
    """Returns what is known of a video whose fields are treated as the option `fields` says.

    Where it does not say itself that it is interlaced, some of its pictures are looked at. If it is
    to be treated as interlaced, the field is first that is so in those of them that are interlaced;
    where there are too few of these, the bottom field of 480 lines, and of others the top field.

    Args:
        info: what the video says of itself.
        choice: the option.
        source: the video.

    Raises:
        MediaError: it cannot be read.
    """
    if choice == "whole":
        return replace(info, first_field="", tags=replace(info.tags, field_order=""))
    if info.tags.field_order:
        return info
    combing = measure_combing(source)
    info = replace(info, combing=combing)
    if choice == "auto":
        return replace(info, first_field=combing.first_field if combing is not None else "")
    measured: FieldOrder = combing.first_field_of_interlaced if combing is not None else ""
    order: FieldOrder = measured or ("bottom" if info.height == _BOTTOM_FIRST_ROWS else "top")
    return replace(info, first_field=order, tags=replace(info.tags, field_order=order))


def check_fields(source: Path, info: VideoInfo, options: RestoreOptions) -> tuple[str, ...]:
    """Says what becomes of an interlaced video, which errors name by `source`; else nothing.

    Raises:
        OptionError: an option cannot be followed with fields.
    """
    if not info.first_field:
        return _partly(info)
    if info.height % 2:
        raise OptionError(
            f"{source}: pictures of {info.height} lines have no two equal fields; "
            "crop one line with ffmpeg"
        )
    said = f"interlaced, {info.first_field} field first{_measured(info)}"
    if options.fields == "deinterlace":
        if options.tracks is not None:
            raise OptionError(
                f"{source}: tracks number its interlaced pictures, and deinterlacing makes others; "
                "use --fields keep"
            )
        if not options.part.is_whole:
            raise OptionError(
                f"{source}: a part of an interlaced video cannot be deinterlaced; use --fields keep"
            )
        return (f"{said}: each field was made a whole picture by bwdif",)
    if options.upscale > 1:
        # Tracks number the interlaced pictures.
        way_out = "add --fields deinterlace" if options.tracks is None else "deinterlace it first"
        raise OptionError(
            f"{source}: upscale ({options.upscale}) needs whole pictures, and this video "
            f"is interlaced; {way_out}"
        )
    flagged = (
        "and the output is interlaced too"
        if info.tags.field_order
        else "and woven again; the output does not say either that it is interlaced (--fields keep "
        "makes it say so, --fields whole takes its pictures for whole ones)"
    )
    return (
        f"{said}: its fields were restored one by one, {flagged}; "
        f"--fields deinterlace makes {float(2 * info.frame_rate):g} whole pictures a second",
    )


def _partly(info: VideoInfo) -> tuple[str, ...]:
    """Says that a video is interlaced in parts that are too few to treat all of it so."""
    combing = info.combing
    if combing is None or not combing.is_partly_interlaced:
        return ()
    return (
        f"{combing.interlaced} of {combing.pictures} pictures looked at are interlaced, though the "
        "file does not say so: all were restored as whole ones; --fields keep restores all by "
        "their fields",
    )


def _measured(info: VideoInfo) -> str:
    """Says by what measure a video is interlaced that does not say so itself."""
    combing = info.combing
    if combing is None or not combing.first_field:
        return ""
    film = " (film with fields repeated, 3:2)" if combing.of_film else ""
    return (
        f" in {combing.interlaced} of {combing.pictures} pictures looked at{film}, though the file "
        "does not say so"
    )


def split(frame: Frame, first: FieldOrder) -> tuple[Frame, Frame]:
    """Takes a frame apart into its fields, in the order in which they are shown.

    Their numbers and times count twice as fast as the frame's. They keep the frame's display
    coordinates, so that a face has one place in both.
    """
    second: FieldOrder = "bottom" if first == "top" else "top"
    return _field(frame, first, 0), _field(frame, second, 1)


def _field(frame: Frame, which: FieldOrder, number: int) -> Frame:
    parity = int(which == "bottom")
    shapes = [
        frame.format.plane_shape(plane, frame.width, frame.height // 2)
        for plane in range(len(frame.planes))
    ]
    return replace(
        frame,
        index=2 * frame.index + number,
        pts=2 * frame.pts + number * max(frame.duration, 1),
        duration=frame.duration,
        planes=tuple(
            _lines(plane, parity, shape[0])
            for plane, shape in zip(frame.planes, shapes, strict=True)
        ),
        format=replace(frame.format, field=which),
        display=replace(frame.display, row_step=2, first_row=parity),
    )


def _lines(plane: Plane, parity: int, rows: int) -> Plane:
    numbers = list(range(parity, len(plane), 2))
    # Of an odd number of chroma lines the bottom field has one less.
    lines: Plane = plane[[*numbers, *numbers[-1:]][:rows]].copy()
    lines.flags.writeable = False
    return lines


def weave(frame: Frame, fields: Iterable[Frame]) -> Frame:
    """Puts restored fields of `frame` together again."""
    planes = [np.empty_like(plane) for plane in frame.planes]
    for field in fields:
        parity = field.display.first_row
        for plane, lines in zip(planes, field.planes, strict=True):
            target = plane[parity::2]
            target[:] = lines[: len(target)]
    for plane in planes:
        plane.flags.writeable = False
    return replace(frame, planes=tuple(planes))


def deinterlaced_info(info: VideoInfo) -> VideoInfo:
    """Returns what is known of the whole pictures that `deinterlaced` makes."""
    count = info.frame_count_from_header
    return replace(
        info,
        time_base=info.time_base / 2,
        frame_rate=info.frame_rate * 2,
        frame_count_from_header=None if count is None else 2 * count,
        tags=replace(info.tags, field_order=""),
        first_field="",
    )


def deinterlaced(frames: Iterable[Frame], info: VideoInfo) -> Iterator[Frame]:
    """Yields a whole picture for each field, made by FFmpeg's bwdif; times count twice as fast.

    Args:
        frames: of an interlaced video.
        info: what is known of it.

    Raises:
        CodecError: FFmpeg knows no filter for such pictures.
    """
    name = names_for(info.format, alpha=info.tags.alpha)[0]
    layout = find_layout(name)
    assert layout is not None  # noqa: S101 - named by it
    order = _SETFIELD[info.first_field]
    graph = Graph()
    source = graph.add_buffer(
        width=info.width, height=info.height, format=name, time_base=Fraction(info.time_base)
    )
    try:
        link(graph, source, "bwdif", f"mode=send_field:parity={order}:deint=all")
    except (av.FFmpegError, ValueError) as error:
        raise CodecError(f"FFmpeg cannot deinterlace {name}; use --fields keep") from error
    number = 0
    waiting: deque[Frame] = deque()

    def taken() -> Iterator[Frame]:
        nonlocal number
        for picture in pulled(graph):
            origin = waiting[0]
            pts = 2 * origin.pts + (number % 2) * max(origin.duration, 1)
            yield replace(
                origin,
                index=number,
                pts=pts if picture.pts is None else picture.pts,
                planes=unpack(picture, layout, name),
            )
            number += 1
            if number % 2 == 0:
                waiting.popleft()

    for frame in frames:
        waiting.append(frame)
        picture = pack(frame.planes, name)
        picture.pts, picture.time_base = frame.pts, info.time_base
        graph.push(picture)
        yield from taken()
    graph.push(None)
    yield from taken()


class FieldFlags:
    """Marks pictures as interlaced, as encoders want to know it."""

    def __init__(self, order: FieldOrder) -> None:
        self._order = order
        self._graph: Graph | None = None

    def mark(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Returns the picture with the flags of its fields; of whole pictures, the picture."""
        if not self._order:
            return picture
        if self._graph is None:
            self._graph = Graph()
            source = self._graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format.name,
                time_base=picture.time_base,
            )  # fmt: skip
            link(self._graph, source, "setfield", f"mode={_SETFIELD[self._order]}")
        self._graph.push(picture)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)  # noqa: S101 - no sound goes in
        return marked
