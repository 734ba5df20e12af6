"""What flows between a frame in and a frame out: faces at each stage, frozen and checked.

Coordinates as in `frames.py`: landmarks and boxes are in display coordinates, crops in their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vqfr_media.frames import Frame


class SkipReason(StrEnum):
    """Why a face is left as it is; its text is what files and summaries say."""

    TOO_SMALL = "too small"
    """Smaller than the option `min_face`."""
    TOO_LARGE = "too large"
    """Larger than the option `max_face`."""
    NOT_CHOSEN = "not chosen"
    """The option `faces` asks for another face of the frame."""
    DISABLED = "disabled"
    """The tracks file says not to restore it."""
    DAMAGED = "damaged picture"
    """Parts of the picture that it is in were lost in the file."""

    @property
    def is_chosen(self) -> bool:
        """Whether the user asked for just this face to be left alone: `strict` accepts it."""
        return self in (SkipReason.NOT_CHOSEN, SkipReason.DISABLED)


def frozen_array(values: npt.ArrayLike, shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns a read-only float64 copy of `values`, which must have exactly `shape`.

    Raises:
        ValueError: the shape differs.
    """
    array = np.array(values, dtype=np.float64)
    if array.shape != tuple(shape):
        raise ValueError(f"expected an array of shape {tuple(shape)}, got {array.shape}")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Face:
    """A face as the detector saw it, in display coordinates."""

    box: npt.NDArray[np.float64]
    """(4,) x0, y0, x1, y1."""
    landmarks: npt.NDArray[np.float64]
    """(5, 2): left and right eye, nose, left and right corner of the mouth, as the viewer sees."""
    score: float
    """Confidence of the detector, 0 to 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", frozen_array(self.box, (4,)))
        object.__setattr__(self, "landmarks", frozen_array(self.landmarks, (5, 2)))

    @property
    def size(self) -> float:
        """Geometric mean of the box's width and height, in display pixels."""
        x0, y0, x1, y1 = self.box
        return float(np.sqrt(max(x1 - x0, 0) * max(y1 - y0, 0)))


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face with its link to the frame before."""

    face: Face
    """Detected, or filled in between two detections."""
    previous: int | None
    """Position of the same face among the previous frame's faces; None where a track begins."""
    filled: bool = False
    """Whether the face was put between two detections rather than detected."""
    skip: SkipReason | None = None
    """Why the face is to be left alone, None where it is to be restored."""
    fidelity: float | None = None
    """Overrides the `fidelity` option for this face."""
    strength: float | None = None
    """Overrides the `strength` option for this face."""


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face cut out of the planes, upright, at the network's size."""

    tracked: TrackedFace
    """Where it comes from."""
    landmarks: npt.NDArray[np.float64]
    """(5, 2) smoothed landmarks, display coordinates."""
    matrix: npt.NDArray[np.float64]
    """(2, 3) affine matrix from plane (luma) coordinates to crop coordinates."""
    crop: npt.NDArray[np.float32]
    """(S, S, 3) RGB, nominally 0 to 1, not clipped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "landmarks", frozen_array(self.landmarks, (5, 2)))
        object.__setattr__(self, "matrix", frozen_array(self.matrix, (2, 3)))
        if self.crop.ndim != 3 or self.crop.shape[0] != self.crop.shape[1]:
            raise ValueError(f"crop must be (S, S, 3), got {self.crop.shape = }")

    @property
    def previous(self) -> int | None:
        """Position of the same face among the previous frame's faces."""
        return self.tracked.previous

    @property
    def enlargement(self) -> float:
        """Pixels of the crop for one sample of luma, along the axis where they are fewer."""
        return float(np.linalg.norm(self.matrix[:, :2], -2))


@dataclass(frozen=True, eq=False)
class EncodedFace:
    """An aligned face and its place in the codebook's space."""

    aligned: AlignedFace
    """The network's input and its place in the frame."""
    latent: npt.NDArray[np.float32]
    """(C, h, w) output of the encoder, before the look-up."""

    def __post_init__(self) -> None:
        if self.latent.ndim != 3:
            raise ValueError(f"latent must be (C, h, w), got {self.latent.shape = }")

    @property
    def previous(self) -> int | None:
        """Position of the same face among the previous frame's faces."""
        return self.aligned.previous


@dataclass(frozen=True, eq=False)
class PlaneGrain:
    """Grain of the planes that share a grid: luma; both chroma planes; or all of them."""

    planes: tuple[int, ...]
    """Numbers of the planes."""
    covariance: npt.NDArray[np.float64]
    """(k, k) of the k planes' noise, in code values squared: its strength and its colour."""
    correlation: tuple[float, float]
    """Correlation of a sample's noise with the next one's in its row and in its column: its size,
    0 where every sample has a grain of its own."""

    def __post_init__(self) -> None:
        count = len(self.planes)
        if self.covariance.shape != (count, count):
            raise ValueError(f"{self.covariance.shape = } does not fit {self.planes = }")
        if not all(-1 <= value < 1 for value in self.correlation):
            raise ValueError(f"{self.correlation = } must be from -1 to below 1")


@dataclass(frozen=True, eq=False)
class Grain:
    """The noise of a film at one face in one frame."""

    groups: tuple[PlaneGrain, ...]
    """One for each grid of the frame's planes."""
    enlarged: int = 1
    """How many times the frame has been enlarged since the noise was measured."""


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """An aligned face and what the network made of it."""

    aligned: AlignedFace
    """The network's input and its place in the frame."""
    image: npt.NDArray[np.float32]
    """(S, S, 3) RGB in 0 to 1."""
    grain: Grain | None = None
    """The film's grain here, which the image has lost; None where there is none."""
    covered: npt.NDArray[np.float32] | None = None
    """(n, n) over the crop, 0 to 1: how much of the input stays, because something is in front of
    the face; None where nothing is."""

    def __post_init__(self) -> None:
        if self.image.shape != self.aligned.crop.shape:
            raise ValueError(f"{self.image.shape = } differs from {self.aligned.crop.shape = }")

    @property
    def previous(self) -> int | None:
        """Position of the same face among the previous frame's faces."""
        return self.aligned.previous


@dataclass(frozen=True, eq=False)
class Skipped:
    """A face that is left as it is."""

    face: Face
    """The face."""
    reason: SkipReason
    """Why."""


@dataclass(frozen=True, eq=False)
class Detected:
    """A frame and what the detector saw in it."""

    frame: Frame
    """The picture."""
    faces: tuple[Face, ...]
    """All faces above the lower score bound, best first, display coordinates."""
    thumbnail: npt.NDArray[np.uint8]
    """(rows, columns) small luma picture, for finding cuts."""


@dataclass(frozen=True, eq=False)
class FrameFaces[F: (TrackedFace, AlignedFace, EncodedFace, RestoredFace)]:
    """A frame with its faces at one stage of the work: tracked, aligned, encoded, restored."""

    frame: Frame
    """The picture, untouched until the faces are mixed in."""
    faces: tuple[F, ...]
    """The faces at this stage, in the order in which they were tracked."""
    new_shot: bool
    """Whether a cut separates this frame from the one before (true for the first frame)."""
    skipped: tuple[Skipped, ...] = ()
    """Faces left as they are."""


def number_tracks(
    links: Sequence[int | None], before: Sequence[int], *, new_shot: bool, count: int
) -> list[int]:
    """Returns the number of the track of each face of a frame.

    A face that is linked has the number of the face that it is linked to; the others begin new
    tracks, which are numbered on from `count` in order.

    Args:
        links: For each face, the position of the same face in the frame before, or None.
        before: Numbers of the tracks of the faces in the frame before.
        new_shot: Whether a shot begins with the frame, which cuts all links.
        count: How many tracks there were before.
    """
    numbers = []
    for link in links:
        if link is None or new_shot:
            numbers.append(count)
            count += 1
        else:
            numbers.append(before[link])
    return numbers


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """What a caller must know of an engine to feed it."""

    model: str
    """Name of the network: v1, v2, lite or that of a custom checkpoint."""
    size: int
    """Side of the square crops, in pixels."""
    latent_shape: tuple[int, int, int]
    """(C, h, w) of one face's latent."""
    batch_size: int
    """Faces in one run of the network. Every run has exactly this many, so that a face's result
    does not depend on the others in its batch."""
    precision: str
    """Arithmetic of the network: float32, float16 or bfloat16."""
    device: str
    """Where crops and latents have to be: cpu, cuda:0 ..."""
    has_fidelity: bool
    """Whether `fidelity` makes a difference."""
