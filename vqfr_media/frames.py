"""Pictures as the decoder gives them: planes, what their numbers mean, and how they are shown.

Coordinates are pixel centres: the first sample of a row has x = 0. Two spaces occur:
*plane* coordinates count the stored luma samples; *display* coordinates are those of the upright
picture with square pixels that a viewer sees. `Frame.to_display` maps the first to the second.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

Family = Literal["yuv", "rgb", "gray"]
Sample = Literal["int", "float"]
FieldOrder = Literal["", "top", "bottom"]
Matrix = Literal["bt601", "bt709", "bt2020nc", "smpte240m", "fcc", "ycgco"]
ChromaLocation = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]

# Horizontal and vertical place of a chroma sample among the luma samples it covers:
# 0 = on the first one, 0.5 = midway, 1 = on the second one (ITU-T H.273, figure 1).
CHROMA_SITES: dict[ChromaLocation, tuple[float, float]] = {
    "left": (0.0, 0.5),
    "center": (0.5, 0.5),
    "topleft": (0.0, 0.0),
    "top": (0.5, 0.0),
    "bottomleft": (0.0, 1.0),
    "bottom": (0.5, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """What the numbers in a frame's planes mean; every field is resolved, never 'unspecified'."""

    family: Family
    """`yuv` has planes Y, U, V; `rgb` has G, B, R; `gray` has one plane."""
    bits: int = 8
    """Bits per sample, 8 to 16. Eight bits are stored as uint8, more as uint16 (low bits).
    Floats have 32."""
    sample: Sample = "int"
    """`float` samples go from 0 (black) to 1 (white), chroma from -0.5 to 0.5; values beyond are
    kept. Only scripts have them: no file that this package reads or writes does."""
    subsampling: tuple[int, int] = (0, 0)
    """log2 of the horizontal and vertical chroma subsampling: 4:2:0 is (1, 1), 4:2:2 (1, 0)."""
    matrix: Matrix = "bt709"
    """Luma coefficients; meaningless for `rgb`."""
    full_range: bool = False
    """Whether code values use the whole range (always true for `rgb`, as decoders deliver it)."""
    chroma_location: ChromaLocation = "left"
    """Where chroma is sampled; meaningless without subsampling."""
    field: FieldOrder = ""
    """Which lines of an interlaced frame the planes are: `top` (0, 2 ...) or `bottom` (1, 3 ...),
    whose chroma lines lie between the luma lines elsewhere; empty for whole pictures."""

    def __post_init__(self) -> None:
        if self.sample == "float":
            if self.bits != 32 or not self.full_range:
                raise ValueError(f"float samples have 32 bits and the full range, got {self}")
        elif not 8 <= self.bits <= 16:
            raise ValueError(f"bits must be 8 to 16, got {self.bits}")
        if self.family != "yuv" and self.subsampling != (0, 0):
            raise ValueError(f"{self.family} has no chroma to subsample, got {self.subsampling}")
        if not all(s in (0, 1, 2) for s in self.subsampling):
            raise ValueError(f"subsampling must be 0, 1 or 2 per axis, got {self.subsampling}")

    @property
    def num_planes(self) -> int:
        """Planes of a frame in this format, without alpha."""
        return 1 if self.family == "gray" else 3

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16] | type[np.float32]:
        """NumPy type of a plane."""
        if self.sample == "float":
            return np.float32
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def peak(self) -> int:
        """Largest code value; of floats that of white, 1."""
        return 1 if self.sample == "float" else (1 << self.bits) - 1

    def plane_shape(self, plane: int, width: int, height: int) -> tuple[int, int]:
        """Returns rows and columns of plane number `plane` in a picture of `width` × `height`."""
        x, y = self.subsampling if plane in (1, 2) else (0, 0)
        return -(-height >> y), -(-width >> x)

    def luma_to_plane(self, plane: int) -> npt.NDArray[np.float64]:
        """Returns the (2, 3) affine matrix from luma coordinates to those of plane `plane`."""
        x, y = self.subsampling if plane in (1, 2) else (0, 0)
        site_x, site_y = CHROMA_SITES[self.chroma_location]
        if self.field:
            # Chroma line k of a frame belongs to the field of its parity, and lies where it does
            # in two whole pictures on top of each other (ISO/IEC 13818-2, figure 6-2).
            site_y = (site_y + (self.field == "bottom")) / 2
        # A 4:1:0 or 4:1:1 sample covers four luma samples; 'midway' is then at 1.5.
        shift_x, shift_y = site_x * ((1 << x) - 1), site_y * ((1 << y) - 1)
        return np.array(
            [
                [1 / (1 << x), 0, -shift_x / (1 << x)],
                [0, 1 / (1 << y), -shift_y / (1 << y)],
            ]
        )


@dataclass(frozen=True)
class Display:
    """How stored samples become the upright picture that a viewer sees."""

    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a stored sample over its height, before the rotation."""
    quarter_turns: int = 0
    """Counter-clockwise quarter turns that the player applies, 0 to 3."""
    row_step: int = 1
    """Rows of the shown picture from one stored row to the next: 2 for a field."""
    first_row: int = 0
    """Row of the shown picture that is stored first."""

    def __post_init__(self) -> None:
        if self.sample_aspect_ratio <= 0:
            raise ValueError(f"{self.sample_aspect_ratio = } must be positive")
        if self.quarter_turns not in (0, 1, 2, 3):
            raise ValueError(f"{self.quarter_turns = } must be 0, 1, 2 or 3")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as the decoder gave it."""

    index: int
    """Number of the frame in presentation order, from 0."""
    pts: int
    """Presentation time in the source's time base."""
    planes: tuple[Plane, ...]
    """Rows × columns: Y, U, V or G, B, R or grey; one more for alpha where there is one."""
    format: PixelFormat
    """What the samples mean."""
    display: Display = Display()
    """How the picture is to be shown."""
    duration: int = 0
    """Duration in the source's time base, 0 where the source does not say."""
    cuts: tuple[bool | None, bool | None] = (None, None)
    """Whether a shot begins at this frame, and whether one ends with it; None where the source
    does not say, and the pictures have to."""
    damaged: bool = False
    """Whether parts of the picture were lost in the file, and are guessed or of another picture."""
    says_interlaced: bool = False
    """Whether the file says of this picture that it is interlaced, however it is treated."""
    is_still: bool = False
    """Whether it is an image of its own, whose faces are worth a longer search."""

    def __post_init__(self) -> None:
        count = self.format.num_planes
        if len(self.planes) not in (count, count + 1):
            raise ValueError(f"{self.format.family} needs {count} planes, got {len(self.planes)}")
        for number, plane in enumerate(self.planes):
            expected = self.format.plane_shape(number, self.width, self.height)
            if plane.shape != expected or plane.dtype != self.format.dtype:
                raise ValueError(
                    f"plane {number} must be {expected} {self.format.dtype.__name__}, "
                    f"got {plane.shape} {plane.dtype}"
                )

    @property
    def width(self) -> int:
        """Stored luma columns."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Stored luma rows."""
        return int(self.planes[0].shape[0])

    @property
    def display_size(self) -> tuple[float, float]:
        """Width and height of the upright picture, in display pixels (rows keep their pitch)."""
        width = self.width * float(self.display.sample_aspect_ratio)
        height = self.height * self.display.row_step
        return (height, width) if self.display.quarter_turns % 2 else (width, height)

    def to_display(self) -> npt.NDArray[np.float64]:
        """Returns the (2, 3) affine matrix from plane (luma) coordinates to display coordinates."""
        sar = float(self.display.sample_aspect_ratio)
        # In continuous corner coordinates (pixel i spans i..i+1): stretch, then turn.
        stretch = np.array([[sar, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        step, first = self.display.row_step, self.display.first_row
        rows = np.array([[1, 0, 0], [0, step, first], [0, 0, 1.0]])
        width, height = self.width * sar, float(self.height * step)
        turn = np.eye(3)
        for _ in range(self.display.quarter_turns):
            # Counter-clockwise, y down: (x, y) -> (y, width - x).
            turn = np.array([[0, 1, 0], [-1, 0, width], [0, 0, 1.0]]) @ turn
            width, height = height, width
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        matrix: npt.NDArray[np.float64] = (np.linalg.inv(half) @ turn @ stretch @ half @ rows)[:2]
        return matrix


@dataclass(frozen=True, kw_only=True)
class StreamTags:
    """What a video stream says about itself, unresolved, for a writer to repeat."""

    primaries: int = 2
    """H.273 colour primaries; 2 = unspecified."""
    transfer: int = 2
    """H.273 transfer characteristics; 2 = unspecified."""
    matrix: int = 2
    """H.273 matrix coefficients; 2 = unspecified."""
    color_range: int = 0
    """0 = unspecified, 1 = limited, 2 = full."""
    chroma_location: int = 0
    """0 = unspecified, else H.273 chroma sample location type + 1."""
    sample_aspect_ratio: Fraction | None = None
    """None where the stream has none."""
    display_matrix: tuple[int, ...] | None = None
    """Nine integers as MP4 has them (16.16, last column 2.30); None where the stream has none."""
    mastering_display: tuple[int, ...] | None = None
    """HDR10: x and y of red, green, blue and white in 1/50000, then the least and the most
    luminance in 1/10000 cd/m²."""
    content_light: tuple[int, int] | None = None
    """HDR10: the brightest sample, and the brightest frame's mean, in cd/m²."""
    field_order: FieldOrder = ""
    """Which field of interlaced frames is shown first; empty for whole pictures."""
    alpha: bool = False
    """Whether the frames have a plane of alpha."""


@dataclass(frozen=True, kw_only=True)
class Combing:
    """What FFmpeg's idet says of pictures of a film, each compared with its neighbours."""

    pictures: int
    """Pictures that were looked at."""
    top_first: int
    """Those with the motion of two fields, the top one first."""
    bottom_first: int
    """Those with the motion of two fields, the bottom one first."""
    whole: int
    """Those with motion, of whole pictures. In the others nothing moves, or nothing is told."""
    repeated: int
    """Those with a field of the picture before, as film has that was made video (3:2)."""

    @property
    def interlaced(self) -> int:
        """Pictures with the motion of two fields, of the order that more of them have."""
        return max(self.top_first, self.bottom_first)

    @property
    def first_field(self) -> FieldOrder:
        """Which field is first; empty unless the film is interlaced beyond doubt.

        That is: in 8 pictures at least, in half of those with motion, and not the other field in
        more than a tenth as many.
        """
        moving = self.top_first + self.bottom_first + self.whole
        return self.first_field_of_interlaced if 2 * self.interlaced >= moving else ""

    @property
    def first_field_of_interlaced(self) -> FieldOrder:
        """Which field is first in pictures that are interlaced beyond doubt, however few.

        Empty where there are not 8 of them, or they do not agree.
        """
        less = min(self.top_first, self.bottom_first)
        if self.interlaced < 8 or 10 * less > self.interlaced:
            return ""
        return "top" if self.top_first > self.bottom_first else "bottom"

    @property
    def is_partly_interlaced(self) -> bool:
        """Whether some are interlaced beyond doubt, but fewer than half of those with motion."""
        return self.first_field_of_interlaced != "" and not self.first_field

    @property
    def of_film(self) -> bool:
        """Whether it is film with fields repeated: two pictures of five, of which a few are missed
        or added."""
        return self.first_field != "" and 0.25 <= self.repeated / self.pictures <= 0.55


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of a video before its frames are read."""

    width: int
    """Stored luma columns."""
    height: int
    """Stored luma rows."""
    format: PixelFormat
    """Format of every frame."""
    display: Display
    """Sample aspect ratio and rotation."""
    time_base: Fraction
    """Seconds per unit of `Frame.pts`."""
    frame_rate: Fraction
    """Average frames per second; only for turning radii in seconds into frames, and progress."""
    frame_count_from_header: int | None = None
    """What the container claims; may be wrong or absent."""
    duration_seconds_from_header: float | None = None
    """What the container claims; may be wrong or absent."""
    picture_seconds_from_header: float | None = None
    """How long the container claims that the pictures alone last; may be wrong or absent."""
    clock_start: Fraction = Fraction(0)
    """Seconds by the container's clock at which it begins, which players show as 0."""
    tags: StreamTags = StreamTags()
    """What the stream says about itself, unresolved."""
    first_field: FieldOrder = ""
    """Which field is shown first of pictures that are taken as two fields: as the tags say, as was
    measured, or as was asked for. Empty where they are taken as whole."""
    combing: Combing | None = None
    """What was measured where the tags do not say that the pictures are interlaced."""
