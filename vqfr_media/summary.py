"""What was done to a file: counted while it is done, told at the end and in `--report`."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from vqfr_media.options import MAX_UPSCALE
from vqfr_media.values import AlignedFace, FrameFaces, RestoredFace, SkipReason, number_tracks

# Damaged frames that the lines of a summary name; the report names all.
_MOST = 5


@dataclass(kw_only=True)
class TrackRecord:
    """One person in one shot."""

    id: int
    """Number of the track, from 0 in order of appearance."""
    shot: int
    """Number of the shot, from 0."""
    first_frame: int
    """Index of the first restored frame."""
    last_frame: int
    """Index of the last restored frame."""
    restored: int = 0
    """Frames in which the face was restored."""
    filled: int = 0
    """Of these, frames in which the detector had lost the face."""
    mean_size: float = 0.0
    """Mean size of the face in display pixels."""
    mean_score: float = 0.0
    """Mean score of the detector."""
    mean_enlargement: float = 0.0
    """Mean number of pixels that the restored face has for one of the source's, along a line. What
    is restored beyond that one shows only where the picture is enlarged too."""


@dataclass(frozen=True, kw_only=True)
class DamagedFrame:
    """A picture that was damaged in the source, and was kept as it could be decoded."""

    index: int
    """Number of the frame."""
    seconds: float
    """Its time by the source's clock."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The outcome of one restoration."""

    source: Path
    """File that was read."""
    output: Path
    """File that was written."""
    model: str
    """Network that ran."""
    why: str
    """Why this one."""
    device: str
    """Where it ran."""
    backend: str
    """What ran it: torch, openvino, tensorrt, inductor; empty for an engine of the caller's own."""
    backend_why: str
    """Why this one."""
    precision: str
    """Its arithmetic."""
    engine: Path | None
    """Directory of the engine that ran it, where it was one on disk."""
    engine_identity: str
    """SHA-256 of that engine's identity, else empty."""
    detector: str
    """What found the faces."""
    detector_why: str
    """Why this one."""
    frames: int
    """Frames written."""
    resumed: int
    """Those of them that an earlier, interrupted call had finished."""
    seconds: float
    """Wall time from the first frame read to the file's renaming."""
    restored: int
    """Faces restored, over all frames."""
    skipped: dict[SkipReason, int]
    """Faces left alone, over all frames, by reason."""
    shots: tuple[int, ...]
    """Index of each shot's first frame, in the whole film; the first is that of the first frame."""
    tracks: tuple[TrackRecord, ...]
    """Every track of restored faces."""
    kind: Literal["video", "image"] = "video"
    """What the source is."""
    upscale: int = 1
    """How many times the picture was enlarged."""
    damaged: tuple[DamagedFrame, ...] = ()
    """Frames that were damaged in the source, and were kept as they could be decoded."""
    read_back: tuple[str, ...] = ()
    """What was found in the finished file when it was read back, all of which was put into it;
    empty where the container does not return packets as they were given, and for images."""
    warnings: tuple[str, ...] = ()
    """What the reader or the writer could not keep exactly, and why."""

    def lines(self) -> list[str]:
        """Returns what a user is told at the end."""
        worked = self.frames - self.resumed
        speed = f" ({worked / self.seconds:.1f} fps)" if worked > 1 else ""
        frames = counted(self.frames, "frame")
        if self.resumed:
            frames += f", {self.resumed} of them before,"
        shots = f", {counted(len(self.shots), 'shot')}"
        tracks = f" in {counted(len(self.tracks), 'track')}"
        if self.kind == "image":
            frames, shots, tracks = "1 photo", "", ""
        lines = [
            f"{self.output}: {frames} in {self.seconds:.1f} s{speed}{shots}",
            f"model {self.model} on {self.device} ({self.why})",
            *(
                [f"backend {self.backend}, {self.precision} ({self.backend_why})"]
                if self.backend
                else []
            ),
            f"detector {self.detector} ({self.detector_why})",
            f"{counted(self.restored, 'face')} restored{tracks}",
        ]
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            lines.append(f"{counted(sum(self.skipped.values()), 'face')} left alone: {reasons}")
        if not self.restored:
            lines.append("no face was restored: nothing in the picture was changed by the network")
        if (upscale := useful_upscale(self.tracks)) > self.upscale:
            lines.append(
                "most of the restored faces have more detail than a picture of this size can "
                f"show; --upscale {upscale} shows it"
            )
        if self.damaged:
            shown = [f"{frame.index} ({frame.seconds:.3f} s)" for frame in self.damaged[:_MOST]]
            more = len(self.damaged) - len(shown)
            lines.append(
                f"{counted(len(self.damaged), 'damaged frame')} kept as they are: "
                f"{', '.join(shown)}{f' and {more} more' if more else ''}"
            )
        if self.read_back:
            lines.append(f"output read back, and all there: {', '.join(self.read_back)}")
        return [*lines, *(f"note: {warning}" for warning in self.warnings)]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `json.dumps`."""
        values = asdict(self)
        engine = None if self.engine is None else str(self.engine)
        return {**values, "source": str(self.source), "output": str(self.output), "engine": engine}


@dataclass(frozen=True)
class FaceCounts:
    """What is counted of a restored face."""

    previous: int | None
    """Position of the same face among those restored in the frame before."""
    filled: bool
    """Whether the detector had lost it."""
    size: float
    """In display pixels."""
    score: float
    """Of the detector."""
    enlargement: float
    """Pixels of the restored face for one of the source's, along a line."""


@dataclass(frozen=True)
class FrameCounts:
    """What is counted of a frame: a segment's can be kept, and counted in order later."""

    index: int
    """Number of the frame."""
    new_shot: bool
    """Whether a shot begins with it."""
    faces: tuple[FaceCounts, ...]
    """Those that were restored."""
    skipped: tuple[SkipReason, ...]
    """Why others were left alone."""
    damaged_pts: int | None = None
    """Time of the frame, in the source's time base, if it was damaged there; else None."""
    interlaced: bool = False
    """Whether the file says of its picture that it is interlaced."""


def counts_of(frame_faces: FrameFaces[RestoredFace]) -> FrameCounts:
    """Returns what `RunCounts` counts of a finished frame."""
    return FrameCounts(
        frame_faces.frame.index,
        frame_faces.new_shot,
        tuple(_face_counts(face.aligned) for face in frame_faces.faces),
        tuple(skipped.reason for skipped in frame_faces.skipped),
        frame_faces.frame.pts if frame_faces.frame.damaged else None,
        frame_faces.frame.says_interlaced,
    )


def _face_counts(face: AlignedFace) -> FaceCounts:
    found = face.tracked.face
    return FaceCounts(face.previous, face.tracked.filled, found.size, found.score, face.enlargement)


@dataclass
class RunCounts:
    """Folds the finished frames of one run, in order, into the figures of a `Summary`."""

    frames: int = 0
    """Frames so far."""
    restored: int = 0
    """Faces restored, over all frames."""
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    """Faces left alone, by reason."""
    shots: list[int] = field(default_factory=list)
    """Index of each shot's first frame."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Index and pts of each frame that was damaged in the source."""
    interlaced: int = 0
    """Frames so far of whose pictures the file says that they are interlaced."""
    tracks: list[TrackRecord] = field(default_factory=list)
    """Every track of restored faces; its position is its number."""
    _last_index: int = -1
    """Of the last frame."""
    _numbers: list[int] = field(default_factory=list)
    """Numbers of the tracks of the last frame's faces."""

    def damaged_frames(self, time_base: Fraction) -> tuple[DamagedFrame, ...]:
        """Returns the frames that were damaged; `time_base` is seconds per unit of their pts."""
        return tuple(
            DamagedFrame(index=index, seconds=float(pts * time_base)) for index, pts in self.damaged
        )

    def add(self, frame_faces: FrameFaces[RestoredFace]) -> None:
        """Counts one frame."""
        self.count(counts_of(frame_faces))

    def count(self, frame: FrameCounts) -> None:
        """Counts one frame, or field; a face continues the track of the face it is linked to."""
        index = frame.index
        # In a part of a film the first frame is linked to one that is not in it.
        new_shot = frame.new_shot or not self.frames
        is_second_field = index == self._last_index
        self._last_index = index
        self.frames += not is_second_field
        self.interlaced += frame.interlaced and not is_second_field
        if new_shot:
            self.shots.append(index)
        links = [face.previous for face in frame.faces]
        self._numbers = number_tracks(
            links, self._numbers, new_shot=new_shot, count=len(self.tracks)
        )
        for face, number in zip(frame.faces, self._numbers, strict=True):
            if number == len(self.tracks):
                shot = len(self.shots) - 1
                self.tracks.append(
                    TrackRecord(id=number, shot=shot, first_frame=index, last_frame=index)
                )
            track = self.tracks[number]
            track.last_frame = index
            track.restored += 1
            track.filled += face.filled
            track.mean_size += (face.size - track.mean_size) / track.restored
            track.mean_score += (face.score - track.mean_score) / track.restored
            track.mean_enlargement += (face.enlargement - track.mean_enlargement) / track.restored
        self.restored += len(frame.faces)
        self.skipped.update(frame.skipped)
        if frame.damaged_pts is not None and not is_second_field:
            self.damaged.append((index, frame.damaged_pts))


def useful_upscale(tracks: Sequence[TrackRecord]) -> int:
    """Returns how many times to enlarge the source so that half of the restored faces show in full.

    From 1 to `MAX_UPSCALE`. Up to three quarters of a size are let go: what they would show is
    little.
    """
    shown, total = 0, sum(track.restored for track in tracks)
    for track in sorted(tracks, key=lambda track: track.mean_enlargement):
        shown += track.restored
        if 2 * shown >= total:
            return min(MAX_UPSCALE, max(1, math.floor(track.mean_enlargement + 0.25)))
    return 1


def counted(number: int, noun: str) -> str:
    """Returns `1 frame`, `2 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
