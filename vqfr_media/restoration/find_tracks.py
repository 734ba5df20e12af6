"""From a path to the tracks of its faces, found and followed as a restoration would."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

from vqfr_media.choices import ChosenDetector, choose_detector
from vqfr_media.faces.cuts import CutMemo
from vqfr_media.faces.detect import Detector
from vqfr_media.faces.search import FaceSearch, NearDetector
from vqfr_media.faces.track import track
from vqfr_media.faces.tracks import Tracks, TracksSource, collect
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.cut import find_cut
from vqfr_media.media.image import is_image, read_image
from vqfr_media.media.index import FrameIndex, make_index, read_frames, without_false_keys
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions
from vqfr_media.preflight import refuse_range_of_image
from vqfr_media.prepare import load_detector
from vqfr_media.restoration.radii import FrameRadii, track_limits
from vqfr_media.values import Detected, FrameFaces, TrackedFace
from vqfr_media.windows import READ_AHEAD, Window, prefetch, sliding, widened


def find_tracks(
    source: Path | str,
    options: RestoreOptions | None = None,
    *,
    detector: Detector | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    on_detector: Callable[[ChosenDetector], None] | None = None,
) -> Tracks:
    """Finds the faces of a video or an image and follows them.

    With a range in the options, only there, and in so many frames around it that a restoration of
    the range with these tracks has the bits of one without. Frames are numbered in the whole film.

    Args:
        source: Video or image to read.
        options: How faces are found; those of what is done with them change nothing here.
        detector: Used instead of the one that `options.face` asks for.
        on_start: Called once, with what is known of the video.
        on_frame: Called with each frame, for progress.
        on_detector: Called once with which detector was chosen and why, where none is given.

    Raises:
        InputError: the source or an option is at fault.
        MachineError: the detector's weights or device are not here.
    """
    from vqfr_media.backends.torch_engine import resolve_device

    options, source = options or RestoreOptions(), Path(source)

    def reported(frames: Iterable[Frame]) -> Iterable[Frame]:
        for frame in frames:
            yield frame
            if on_frame is not None:
                on_frame(frame)

    def found() -> Detector:
        if detector is not None:
            return detector
        device = str(resolve_device(options.model.device))
        chosen = choose_detector(options.face, offline=options.offline)
        if on_detector is not None:
            on_detector(chosen)
        return load_detector(chosen, device=device, score=options.face.score)

    if is_image(source):
        refuse_range_of_image(source, options)
        frame, _ = read_image(source)
        return _collected(reported([frame]), source, info_of_image(frame), found(), options)
    with open_video(source) as reader:
        info, part = reader.info, None
        if not options.part.is_whole:
            part = _PartToSearch.of(source, info, options)
        detector_here = found()
        if on_start is not None:
            count = len(part.read) if part else info.frame_count_from_header
            on_start(replace(info, frame_count_from_header=count))
        pictures = part.frames() if part else reader
        with prefetch(pictures, READ_AHEAD) as frames:
            return _collected(reported(frames), source, info, detector_here, options, part)


@dataclass(frozen=True, kw_only=True)
class _PartToSearch:
    """The frames of a part of a film in which faces are looked for."""

    source: Path
    """The film."""
    index: FrameIndex
    """Its frames."""
    told: range
    """Numbers of the frames whose faces are told: the part, and what its restoration looks at."""
    read: range
    """Numbers of the frames in which faces are looked for: `told`, and what following looks at."""

    @classmethod
    def of(cls, source: Path, info: VideoInfo, options: RestoreOptions) -> Self:
        """Returns the part that the options ask for."""
        index = make_index(source, info)
        # More than is needed where the detector cannot, which is loaded later.
        radii = FrameRadii.of(options.temporal, info.frame_rate, searches_near=True)
        own = find_cut(source, index, info, options.part).frames
        told = widened(own, radii.after_track, len(index))
        read = widened(told, radii.detect + radii.track, len(index))
        index = without_false_keys(source, index, read.start)
        return cls(source=source, index=index, told=told, read=read)

    def frames(self) -> Iterator[Frame]:
        """Yields the frames to read."""
        return read_frames(self.source, self.index, self.read)

    def only_told(
        self, items: Iterable[FrameFaces[TrackedFace]]
    ) -> Iterator[FrameFaces[TrackedFace]]:
        """Yields what `track` gave of the frames to tell of; the first is linked to none before."""
        for item in items:
            if item.frame.index == self.told.start:
                faces = tuple(replace(face, previous=None) for face in item.faces)
                yield replace(item, faces=faces)
            elif item.frame.index in self.told:
                yield item


def info_of_image(frame: Frame) -> VideoInfo:
    """Describes an image as a video of one frame that lasts a second."""
    return VideoInfo(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        display=frame.display,
        time_base=Fraction(1),
        frame_rate=Fraction(1),
    )


def follow_faces(
    frames: Iterable[Frame], info: VideoInfo, detector: Detector, options: RestoreOptions
) -> Iterator[FrameFaces[TrackedFace]]:
    """Yields what `Restorer`'s search, detect and track give, without an engine; holds a window."""
    face, temporal = options.face, options.temporal
    near = isinstance(detector, NearDetector)
    radii = FrameRadii.of(temporal, info.frame_rate, searches_near=near)
    limits = track_limits(temporal, info.frame_rate)
    known_cuts = CutMemo()

    work = FaceSearch(
        detector=detector,
        face=face,
        step=radii.detect + 1,
        frame_rate=info.frame_rate,
        time_base=info.time_base,
    )

    def follow(window: Window[Detected]) -> FrameFaces[TrackedFace]:
        return track(window, limits, score=face.score, known_cuts=known_cuts)

    detected = map(work.detect, sliding(map(work.search, frames), radii.detect))
    return map(follow, sliding(detected, radii.track))


def _collected(
    frames: Iterable[Frame],
    source: Path,
    info: VideoInfo,
    detector: Detector,
    options: RestoreOptions,
    part: _PartToSearch | None = None,
) -> Tracks:
    followed = follow_faces(frames, info, detector, options)
    count, shots, tracks = collect(part.only_told(followed) if part else followed)
    if part is not None:
        count = len(part.index)
        shots = (0, *(shot for shot in shots if shot > 0))
    described = TracksSource(
        name=source.name,
        width=info.width,
        height=info.height,
        frame_count=count,
        time_base=info.time_base,
        frame_rate=info.frame_rate,
        display=info.display,
        frame_count_from_header=info.frame_count_from_header,
    )
    return Tracks(described, shots, tracks)
