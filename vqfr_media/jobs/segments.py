"""A long video as segments, each worked by itself into a file: same bits in any order, anywhere.

Between two segments the encoder starts again, and nothing else: windows reach across the border,
because a segment reads `FrameRadii.total` frames more on both sides than it writes.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from vqfr_media.engine import Engine
from vqfr_media.errors import CodecError, MediaError
from vqfr_media.faces.detect import Detector
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.jobs.work_folder import segment_name
from vqfr_media.media.cut import Cut, find_cut
from vqfr_media.media.encoder import open_encoder
from vqfr_media.media.index import FrameIndex, IndexMismatchError, read_frames
from vqfr_media.media.segment_file import open_segment
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import load_tracks
from vqfr_media.restoration.fields import frames_around, restore_pictures
from vqfr_media.restoration.radii import FrameRadii
from vqfr_media.restoration.restore import Restorer, refuse_skipped
from vqfr_media.summary import counts_of
from vqfr_media.windows import READ_AHEAD, prefetch, widened

# Length of a segment where the caller does not say, and the largest share of faces that two
# segments may both send through the network (benchmarks/segments.py).
DEFAULT_SECONDS = 20.0
OVERLAP_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class Job:
    """A restoration in segments: all that its workers must agree on. Can be pickled."""

    source: Path
    """Video to read."""
    size: int
    """Its bytes."""
    modified_ns: int
    """When it was written last, to tell if it changes under the work."""
    output: Path
    """File that will be written; its suffix chooses the container."""
    info: VideoInfo
    """What is known of the source."""
    options: RestoreOptions
    """What is done to it, and to which part of it."""
    index: FrameIndex
    """Its frames, of the whole film."""
    length: int
    """Frames in a segment; the last may have fewer."""
    threads: int
    """Of the encoder, whose bits depend on it."""
    extradata: bytes
    """What the encoder says of itself; one stream has one of these."""

    @cached_property
    def cut(self) -> Cut:
        """What of the source comes out."""
        return find_cut(self.source, self.index, self.info, self.options.part)

    @property
    def count(self) -> int:
        """Segments."""
        return -(-len(self.cut.frames) // self.length)

    def frames(self, number: int) -> range:
        """Returns the frames of segment `number`, by their numbers in the whole film."""
        return self.cut.frames[number * self.length : (number + 1) * self.length]


def segment_length(options: RestoreOptions, info: VideoInfo) -> int:
    """Returns the frames of a segment; 0 where the video is not to be cut.

    By default 20 s, or as long as it takes for at most 2 % of the faces to be computed twice.
    """
    if info.first_field and options.fields == "deinterlace":
        return 0  # its whole pictures are numbered otherwise than its frames
    if options.segment_seconds is not None:
        return math.ceil(options.segment_seconds * info.frame_rate)
    measured = options.blend.grain > 0
    radius = FrameRadii.of(options.temporal, info.frame_rate, grain=measured).after_align
    return max(math.ceil(DEFAULT_SECONDS * info.frame_rate), math.ceil(2 * radius / OVERLAP_SHARE))


def restore_segments(
    job: Job,
    numbers: range,
    folder: Path,
    *,
    engine: Engine,
    detector: Detector | None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Iterator[int]:
    """Works consecutive segments into files of `folder`; yields each one's number when it is there.

    Neighbours in one call share what they both need, which changes no bit of them.

    Args:
        job: What is to be done.
        numbers: The segments, one after the other.
        folder: A folder that exists.
        engine: Runs the network.
        detector: Finds faces; None where the options name tracks.
        on_frame: Called with each frame handed to the encoder.

    Raises:
        IndexMismatchError: the source's frames are not where its packets say.
        InputError: the source is damaged or has changed, or the encoder is not the job's.
        OutputError: the disk is full or gone.
        EngineError: the network failed, or a face is left alone in spite of `strict`.
    """
    info, options = job.info, job.options
    tracks = load_tracks(options.tracks, info.width, info.height, info.display)
    # Beyond its own frames a segment's windows are cut short, so that faces there prove nothing.
    without_strict = replace(options, strict=False)
    restorer = Restorer(engine, detector, without_strict, info.time_base, info.frame_rate, tracks)
    wanted = range(job.frames(numbers[0]).start, job.frames(numbers[-1]).stop)
    borders = _BorderChecksums(job, frames_around(restorer, info.first_field))
    read = widened(wanted, borders.radius, len(job.index))
    by_seeking = read.start > 0 and len(job.index.keys) > 0
    with (
        prefetch(borders.watch(read_frames(job.source, job.index, read)), READ_AHEAD) as frames,
        prefetch(
            restore_pictures(frames, restorer, order=info.first_field, wanted=wanted), READ_AHEAD
        ) as restored,
    ):
        for number in numbers:
            own = job.frames(number)
            with (
                unchanged(job),
                open_segment(folder / segment_name(number)) as file,
                open_encoder(
                    job.output, job.source, info, options.encode,
                    upscale=options.upscale, threads=job.threads, begin=job.cut.begin,
                ) as encoder,
            ):  # fmt: skip
                check_encoder(job, encoder.extradata)
                counts, written = [], []
                for frame, parts in islice(restored, len(own)):
                    for frame_faces in parts:
                        if options.strict:
                            refuse_skipped(frame.index, frame_faces.skipped)
                        counts.append(asdict(counts_of(frame_faces)))
                    file.add(encoder.encode(frame))
                    written.append(frame.index)
                    if on_frame is not None:
                        on_frame(frame)
                if written != list(own):
                    raise IndexMismatchError(f"{job.source}: lacks frames of {own}")
                file.add(encoder.finish())
                file.finish(
                    {
                        "counts": counts,
                        "time_base": str(encoder.time_base),
                        "begins": borders.checksums.get(number),
                        "ends": borders.checksums.get(number + 1),
                        "sought": by_seeking,
                    }
                )
            yield number


def check_encoder(job: Job, extradata: bytes) -> None:
    """Raises CodecError if an encoder here is not the one with which the job began."""
    if extradata != job.extradata:
        raise CodecError(
            f"{job.output}: the encoder on this machine writes another header than the one with "
            "which the work began; go on where it began, or start again with another output name"
        )


@contextmanager
def unchanged(job: Job) -> Iterator[None]:
    """Raises MediaError if the source is another file at the end of the block."""
    yield
    try:
        now = job.source.stat()
    except OSError as error:
        raise MediaError(f"{job.source}: cannot be read any more: {error.strerror}") from error
    if (now.st_size, now.st_mtime_ns) != (job.size, job.modified_ns):
        raise MediaError(
            f"{job.source}: was changed while it was being restored; give the same command again"
        )


class _BorderChecksums:
    """Checksums of the pictures around each border, which both of its segments see.

    They differ where seeking in the source gives other pictures than reading it through.
    """

    def __init__(self, job: Job, radius: int) -> None:
        self.radius = radius
        self.checksums: dict[int, int] = {}
        self._job = job

    def watch(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Passes frames on, in order, and adds each to the borders that it is near to."""
        length, start = self._job.length, self._job.cut.frames.start
        for frame in frames:
            first, last = (
                (frame.index - start - self.radius) // length,
                (frame.index - start + self.radius) // length,
            )
            for border in range(max(1, first + 1), min(last + 1, self._job.count)):
                value = self.checksums.get(border, 0)
                for plane in frame.planes:
                    value = zlib.crc32(np.ascontiguousarray(plane).data, value)
                self.checksums[border] = value
            yield frame
