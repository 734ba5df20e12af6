"""What is known of a restoration after it was measured; plain values, no pictures to decode."""

from dataclasses import asdict, dataclass
from typing import Any

from vqfr_media.review.figures import Figures
from vqfr_media.values import SkipReason


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A file that was measured."""

    name: str
    """Its name without the folder."""
    size_bytes: int
    """Its size."""
    width: int
    """Columns of the upright picture with square pixels."""
    height: int
    """Rows of it."""
    bits: int
    """Bits per sample."""
    frame_rate: float
    """Frames per second, on average."""
    image: bool
    """Whether it is an image."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One face at one time, before and after."""

    what: str
    """Why this moment is shown."""
    frame: int
    """Number of the frame."""
    seconds: float
    """Since the first frame."""
    before: bytes
    """JPEG of the aligned face in the source."""
    after: bytes
    """The same in the result."""


@dataclass(frozen=True, kw_only=True)
class MeasuredTrack:
    """One person in one shot."""

    id: int
    """Number of the track: that of the tracks file, else in order of appearance."""
    shot: int
    """Number of the shot, from 0."""
    first_frame: int
    """Index of the first frame."""
    last_frame: int
    """Index of the last frame."""
    first_seconds: float
    """Time of the first frame since the first frame of the film."""
    last_seconds: float
    """Time of the last frame."""
    mean_size: float
    """Mean size of the face, display pixels of the source."""
    mean_score: float
    """Mean score of the detector."""
    figures: Figures
    """Over all its frames."""
    reasons: dict[SkipReason, int]
    """Frames in which the face was left alone, by reason, as far as that is known."""
    series: tuple[Figures, ...] = ()
    """Over time; empty where there are more tracks than are shown."""
    person: int | None = None
    """Number of the person, where the tracks file says it."""
    moments: tuple[Moment, ...] = ()
    """Pictures; empty where there are more tracks than are shown."""

    @property
    def frames(self) -> int:
        """Frames in which there is the face."""
        return self.figures.faces


@dataclass(frozen=True, kw_only=True)
class MeasuredRestoration:
    """A restoration, measured."""

    source: Clip
    """What went in."""
    restored: Clip
    """What came out."""
    pairs: int
    """Frames that were compared."""
    seconds: float
    """Time of the last frame since the first."""
    shots: int
    """Shots in the source."""
    figures: Figures | None
    """Over all faces; None where there are none."""
    reasons: dict[SkipReason, int]
    """Faces left alone, over all frames, by reason, as far as that is known."""
    tracks: tuple[MeasuredTrack, ...]
    """Every track of the source, in order of appearance."""
    detector: str
    """What found the faces in both, and why this one."""

    def lines(self) -> list[str]:
        """Returns what a user is told at the end."""
        whole = self.figures
        if whole is None:
            return ["no face was found: there is nothing to measure"]
        lines = [
            f"{name} {before:.2f} {unit} before, {after:.2f} after"
            for name, unit, before, after in (
                ("landmark jitter", "px", whole.jitter_before, whole.jitter_after),
                ("flicker", "levels", whole.flicker_before, whole.flicker_after),
            )
            if before is not None and after is not None
        ]
        if whole.sharpness is not None:
            lines.append(f"sharpness {whole.sharpness:.2f} times that of the source")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `json.dumps`, without pictures."""
        values = asdict(self)
        for track in values["tracks"]:
            del track["moments"]
        return values
