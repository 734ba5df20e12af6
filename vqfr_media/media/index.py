"""Where every frame of a video is: its time, and at which frames a decoder can start."""

import logging
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from vqfr_media.errors import MediaError
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.damage import losses
from vqfr_media.media.input_container import (
    DAMAGE_ADVICE,
    find_stream,
    fraction,
    has_running_clock,
    open_container,
    reason_of,
)
from vqfr_media.media.quiet_damage import QuietDamage
from vqfr_media.media.read import VideoReader, matroska_frame_count, open_video

logger = logging.getLogger(__name__)

# A frame is shown at most so many places after the one at which its packet lies: more than any
# codec allows (16), less than where a clock jumps.
_REORDER = 32


class IndexMismatchError(MediaError):
    """The frames that the decoder gives are not those that the index says."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of a video by number."""

    times: npt.NDArray[np.int64]
    """pts of each frame, in order."""
    keys: npt.NDArray[np.int64]
    """Numbers of the frames at which decoding can start; none where the file cannot be sought."""
    decoded: bool
    """Whether the frames were decoded to find this out, rather than taken for the packets."""
    keeps_damaged: bool = False
    """Whether damaged frames are among them; such a file is always read from its start."""
    notes: tuple[str, ...] = ()
    """What a user must know of the file, such as what it has lost."""

    def __len__(self) -> int:
        return len(self.times)

    def starts(self, first: int) -> list[int]:
        """Returns the key frames to read frame `first` from: the nearest, then a surer one."""
        before: list[int] = self.keys[self.keys <= first].tolist()
        return before[-1:] + before[-3:-2]

    def without_keys(self) -> "FrameIndex":
        """Returns the same frames, to be read from the file's start only."""
        return replace(self, keys=self.keys[:0])


def index_packets(path: Path) -> FrameIndex | None:
    """Makes the index by the packets, without decoding; None where they are no measure of frames.

    Reads the whole file, all streams of it, so that damage to it is told before hours of work.

    Raises:
        MediaError: the file is damaged.
    """
    with open_container(path) as container:
        stream = find_stream(container, path)
        if stream.codec_context is None:
            return None
        quiet = QuietDamage(stream.codec_context.name)
        marks = _packet_marks(container, stream, path, quiet)
        base = float(fraction(stream.time_base))
        claimed = matroska_frame_count(stream)
    if marks is not None and claimed is not None and len(marks) < claimed:
        raise MediaError(
            f"{path}: damaged, {claimed - len(marks)} of {claimed} frames cannot be found; "
            f"{DAMAGE_ADVICE}"
        )
    if not marks or not marks[0][1]:
        return None
    times = np.array([time for time, _ in marks], np.int64)
    order = np.argsort(times, kind="stable")
    keys = np.array([key for _, key in marks], bool)[order]
    times = times[order]
    displaced = np.abs(order - np.arange(len(order))).max()
    # Pictures before the first key frame are dropped by some decoders.
    if order[0] != 0 or displaced > _REORDER or (np.diff(times) <= 0).any():
        return None
    notes = tuple(quiet.notes(base))
    return FrameIndex(times, np.flatnonzero(keys), decoded=False, notes=notes)


def _packet_marks(
    container: InputContainer, stream: VideoStream, path: Path, quiet: QuietDamage
) -> list[tuple[int, bool]] | None:
    """Reads time and key flag of each packet of the stream; None if one has no time."""
    marks: list[tuple[int, bool]] = []
    whole = True
    base = fraction(stream.time_base)
    try:
        for packet in container.demux():
            if packet.is_corrupt and not has_running_clock(container):
                raise _damaged(path, marks, base, "a packet is incomplete")
            if packet.stream_index != stream.index or not packet.size or packet.is_discard:
                continue
            quiet.look(packet)
            if packet.pts is None:
                whole = False
            else:
                marks.append((packet.pts, packet.is_keyframe))
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, MediaError):
            raise
        raise _damaged(path, marks, base, reason_of(error)) from error
    return marks if whole else None


def _damaged(path: Path, marks: list[tuple[int, bool]], base: Fraction, reason: str) -> MediaError:
    where = f" after {float(marks[-1][0] * base):.3f} s" if marks else ""
    return MediaError(f"{path}: damaged{where}: {reason}; {DAMAGE_ADVICE}")


def index_by_decoding(path: Path, *, keep_damaged: bool = False) -> FrameIndex:
    """Makes the index by the frames themselves: always right, and as slow as the decoder.

    With `keep_damaged`, of all that can be decoded of a damaged file.

    Raises:
        MediaError: the file is damaged.
    """
    times: list[int] = []
    keys: list[int] = []
    with open_video(path, keep_damaged=keep_damaged) as reader:
        for frame, is_key in reader.marked():
            times.append(frame.pts)
            if is_key and not keep_damaged:
                keys.append(frame.index)
    return FrameIndex(
        np.array(times, np.int64),
        np.array(keys, np.int64),
        decoded=True,
        keeps_damaged=keep_damaged,
        notes=tuple(reader.notes),
    )


def make_index(path: Path, info: VideoInfo, *, keep_damaged: bool = False) -> FrameIndex:
    """Makes the index by the packets where they are a measure of frames, else by decoding.

    With `keep_damaged` it is made by decoding.

    Raises:
        MediaError: the file is damaged.
    """
    if keep_damaged:
        return index_by_decoding(path, keep_damaged=True)
    index = index_packets(path)
    if index is None:
        return _decoded_once(path)
    lost = losses(path, info, index.times.tolist())
    return replace(index, notes=(*index.notes, *lost))


def _decoded_once(path: Path) -> FrameIndex:
    logger.warning("%s: its packets do not tell its frames; decoding it once", path)
    return index_by_decoding(path)


def without_false_keys(path: Path, index: FrameIndex, first: int) -> FrameIndex:
    """Returns the index, without key frames where seeking to frame `first` gives another picture.

    Another, that is, than reading from two key frames further back, or from the start.

    Raises:
        MediaError: the file cannot be opened any more.
    """
    before: list[int] = index.keys[index.keys <= first].tolist()
    if not before or before[-1] == 0:
        return index
    wanted = range(first, first + 1)
    found = []
    for start in (before[-1], before[-3] if len(before) > 2 else 0):
        with closing(_from_key(path, index, wanted, start)) as frames, suppress(MediaError):
            found += [frame.planes for frame in frames]
    same = len(found) == 2 and all(map(np.array_equal, *found))
    if same:
        return index
    logger.warning("%s: seeking in it gives other pictures; reading it through", path)
    return index.without_keys()


def corrected_index(path: Path, index: FrameIndex) -> FrameIndex | None:
    """Returns the index to go on with after an `IndexMismatchError`; None if there is no better.

    Raises:
        MediaError: the file is damaged.
    """
    if not index.decoded:
        return _decoded_once(path)
    if len(index.keys):  # seeking itself leads astray
        logger.warning("%s: seeking in it fails; reading it through", path)
        return index.without_keys()
    return None


def read_frames(path: Path, index: FrameIndex, wanted: range) -> Iterator[Frame]:
    """Yields the frames with these numbers, from a key frame before them or from the start.

    Raises:
        IndexMismatchError: the decoder gives other frames than the index says.
        MediaError: the file is damaged.
    """
    for start in index.starts(wanted.start):
        frames = _from_key(path, index, wanted, start)
        first = None
        # What fails on the way from a key frame is tried from earlier on, at last from the start.
        with suppress(MediaError):
            first = next(frames, None)
        if first is not None:
            yield first
            yield from frames
            return
    with open_video(path, keep_damaged=index.keeps_damaged) as reader:
        yield from _checked(reader, path, index, wanted)


def _from_key(path: Path, index: FrameIndex, wanted: range, start: int) -> Generator[Frame]:
    """Yields the wanted frames by way of key frame `start`; none where it cannot be reached."""
    with open_video(path) as reader:
        if start == 0 or reader.go_to(int(index.times[start]), start):
            yield from _checked(reader, path, index, wanted)


def _checked(reader: VideoReader, path: Path, index: FrameIndex, wanted: range) -> Generator[Frame]:
    at = -1
    for frame in reader:
        at = frame.index
        if at >= len(index) or frame.pts != index.times[at]:
            raise IndexMismatchError(
                f"{path}: frame {at} is not where the file's packets say; "
                "restore it in one go with segment_seconds 0"
            )
        if at >= wanted.start:
            yield frame
        if at == wanted.stop - 1 < len(index) - 1:
            return  # of the last frame it is also seen that nothing comes after it
    if at < wanted.stop - 1:
        raise IndexMismatchError(
            f"{path}: ends after frame {at}, but its packets promise {len(index)} frames; "
            "restore it in one go with segment_seconds 0"
        )
