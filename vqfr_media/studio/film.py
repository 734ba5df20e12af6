"""A film's frames by number, as a restoration reads them, in any order and from any thread."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import cast

import numpy as np

from vqfr_media.faces.tracks import Tracks, by_fields
from vqfr_media.frames import Frame, Plane, VideoInfo
from vqfr_media.media.cut import find_cut
from vqfr_media.media.fields import check_fields, split
from vqfr_media.media.image import is_image, read_image
from vqfr_media.media.index import (
    FrameIndex,
    IndexMismatchError,
    corrected_index,
    make_index,
    read_frames,
    without_false_keys,
)
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions
from vqfr_media.preflight import refuse_range_of_image
from vqfr_media.restoration.find_tracks import info_of_image

# Frames that are kept besides as many as were asked for at once: who goes back and forth decodes
# them once.
_KEPT = 32


class Film:
    """A video, or an image as a film of one frame; keeps the frames that were read last."""

    def __init__(
        self,
        source: Path,
        info: VideoInfo,
        shown: range,
        index: FrameIndex | None,
        still: Frame | None,
    ) -> None:
        """Takes an index of a video, or the frame of an image; `open_film` makes both."""
        self.source = source
        self.info = info
        """What is known of it."""
        self.shown = shown
        """Numbers of the frames that a restoration would write."""
        self._index = index
        self._kept: OrderedDict[int, Frame] = OrderedDict({} if still is None else {0: still})
        self._fields: dict[int, tuple[Frame, ...]] = {}
        """Of kept frames."""
        self._widest = 0
        self._lock = Lock()
        self._tried_keys: set[int] = set()

    @property
    def count(self) -> int:
        """Frames of the whole film."""
        return 1 if self._index is None else len(self._index)

    @property
    def parts_of_frame(self) -> int:
        """Parts of a frame that are restored on their own: two fields if it is interlaced, or 1."""
        return 2 if self.info.first_field else 1

    def numbers_of_parts(self, number: int) -> range:
        """Returns the numbers of a frame's parts."""
        return range(number * self.parts_of_frame, (number + 1) * self.parts_of_frame)

    def parts(self, frame: Frame) -> tuple[Frame, ...]:
        """Returns the parts of one of the film's frames, in the order in which they are shown."""
        order = self.info.first_field
        if not order:
            return (frame,)
        with self._lock:
            if frame.index not in self._kept:
                return split(frame, order)
            if frame.index not in self._fields:
                self._fields[frame.index] = split(frame, order)
            return self._fields[frame.index]

    def tracks_of_parts(self, tracks: Tracks) -> Tracks:
        """Returns where the faces are in the parts of the film's frames."""
        return by_fields(tracks) if self.info.first_field else tracks

    def seconds(self, number: int) -> float:
        """Returns when a frame is shown, from the film's beginning."""
        if self._index is None:
            return 0.0
        return float(int(self._index.times[number]) * self.info.time_base - self.info.clock_start)

    def frames(self, wanted: range) -> dict[int, Frame]:
        """Returns frames by their numbers, which are within the film.

        Raises:
            MediaError: the file is damaged, or is not the one that was opened.
        """
        with self._lock:
            missing = [number for number in wanted if number not in self._kept]
            for number in wanted:
                if number in self._kept:
                    self._kept.move_to_end(number)
            if missing:
                for frame in self._read(range(missing[0], missing[-1] + 1)):
                    self._kept.setdefault(frame.index, frame)
            self._widest = max(self._widest, len(wanted))
            while len(self._kept) > self._widest + _KEPT:
                number, _ = self._kept.popitem(last=False)
                self._fields.pop(number, None)
            return {number: self._kept[number] for number in wanted}

    def blank(self, number: int) -> Frame:
        """Returns a part with this number and nothing on it: for what looks at faces alone.

        Its lines are those of the field that is shown first, whichever it is.
        """
        return replace(self._blank, index=number, pts=number)

    @cached_property
    def _blank(self) -> Frame:
        info = self.info
        nothing = np.zeros((), info.format.dtype)
        shapes = (
            info.format.plane_shape(plane, info.width, info.height)
            for plane in range(info.format.num_planes)
        )
        planes = tuple(cast(Plane, np.broadcast_to(nothing, shape)) for shape in shapes)
        return self.parts(Frame(0, 0, planes, info.format, info.display))[0]

    def _read(self, wanted: range) -> Iterator[Frame]:
        assert self._index is not None  # noqa: S101 - the frame of an image is always kept
        while True:
            keys = self._index.keys[self._index.keys <= wanted.start].tolist()
            if keys and keys[-1] not in self._tried_keys:
                self._index = without_false_keys(self.source, self._index, wanted.start)
                self._tried_keys.add(keys[-1])
            try:
                yield from read_frames(self.source, self._index, wanted)
                return
            except IndexMismatchError:
                better = corrected_index(self.source, self._index)
                if better is None:
                    raise
                self._index = better


def open_film(source: Path, options: RestoreOptions) -> Film:
    """Opens a video or an image whose faces are to be chosen.

    Args:
        source: the file.
        options: which part of it, and how its fields are treated; `tracks` names the file to come.

    Raises:
        MediaError: it is no video or image, or is damaged.
        OptionError: it has no such part, or is to be deinterlaced, so that no tracks file fits it.
    """
    if is_image(source):
        refuse_range_of_image(source, options)
        still, _ = read_image(source)
        return Film(source, info_of_image(still), range(1), None, replace(still, index=0))
    with open_video(source, fields=options.fields) as reader:
        info = reader.info
    check_fields(source, info, options)
    index = make_index(source, info)
    return Film(source, info, find_cut(source, index, info, options.part).frames, index, None)
