"""What a user can type to look: `tracks`, `compare` and `report`; see `commands.py`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vqfr_media.options import (
    DetectorChoice,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How faces are found."""

    score: float = FaceOptions.score
    """Lowest detector score of a face; weaker ones count where a neighbouring frame vouches."""
    detector: DetectorChoice = FaceOptions.detector
    """RetinaFace with the weights in this package (bundled), or with facexlib's: mobilenet is as
    fast, resnet50 finds more. auto takes facexlib's mobilenet where it is already, else bundled."""
    detector_weights: Path | None = None
    """File with the weights for detector mobilenet or resnet50 (auto: mobilenet)."""
    proxy: int = FaceOptions.proxy
    """Longer side, in pixels, of the small picture that the detector sees."""
    max_gap: float = TemporalOptions.max_gap
    """Longest time for which a lost face is filled in between two detections."""
    device: str = ModelOptions.device
    """Where the detector runs: auto, cpu, cuda or cuda:N."""
    offline: bool = False
    """Never fetches weights from the network."""

    def options(self) -> RestoreOptions:
        """The same as options of a restoration.

        Raises:
            OptionError: one is out of its range.
        """
        return RestoreOptions(
            face=FaceOptions(
                score=self.score,
                detector=self.detector,
                detector_weights=self.detector_weights,
                proxy=self.proxy,
            ),
            temporal=TemporalOptions(max_gap=self.max_gap),
            model=ModelOptions(device=self.device),
            offline=self.offline,
        )


@dataclass(frozen=True, kw_only=True)
class FindTracks:
    """Find and follow the faces of a video or an image, and write them to a file for editing.

    `restore --tracks` then restores what the file says: see docs/tracks.md.
    """

    source: tyro.conf.Positional[Path]
    """Video or image to read."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write, JSON. An existing file is replaced at the end."""
    preview: Path | None = None
    """Also draw the faces: a video (.mp4, .mkv ...) with boxes, numbers and scores, or a picture
    (.png) with one crop of each track."""
    tracks: Path | None = None
    """Draw the faces of this file, which may have been edited, instead of looking for them."""
    finding: Finding = field(default_factory=Finding)
    """How faces are found."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Draw two videos of the same moments, or two images, into one: before and after.

    See docs/look.md.
    """

    before: tyro.conf.Positional[Path]
    """Video or image, usually what went into `restore`."""
    after: tyro.conf.Positional[Path]
    """The same moments, usually what came out."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write: a video, or a picture (.png) with a few evenly spaced moments."""
    mode: Literal["side-by-side", "wipe", "faces"] = "side-by-side"
    """Both pictures whole, one picture with a divider, or the faces enlarged."""
    labels: tuple[str, str] = ("before", "after")
    """Names of the two, written on the picture."""
    divider: float | None = None
    """Place of a wipe's divider, 0 (left) to 1 (right); by default it moves, and stands in the
    middle of a picture."""
    sweep_seconds: float = 4.0
    """Time in which a moving divider goes to both sides and comes back."""
    moments: int = 6
    """Evenly spaced moments of a video on a sheet, where the output is a picture."""
    rows: int = 3
    """Most faces that mode faces shows at the same time."""
    tracks: Path | None = None
    """File of the faces for mode faces, made by `vqfr-media tracks`; by default they are looked
    for in the first video."""
    finding: Finding = field(default_factory=Finding)
    """How faces are found."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Measure what a restoration did to each face, and write it as one HTML page.

    Needs `pip install 'vqfr-media[report]'`; the figures are defined in docs/look.md.
    """

    source: tyro.conf.Positional[Path]
    """Video or image that went into `restore`."""
    restored: tyro.conf.Positional[Path]
    """What came out."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, HTML, with everything in it."""
    restore_report: Path | None = None
    """File that `restore --report` wrote: says the options, and why faces were left alone."""
    tracks: Path | None = None
    """File of the faces, if `restore --tracks` was given one; by default they are looked for in
    the source."""
    max_tracks: int = 40
    """Tracks with plots and pictures, the longest ones; the others have a line in a table."""
    json: Path | None = None
    """Also write the figures to this file."""
    finding: Finding = field(default_factory=Finding)
    """How faces are found, in the source and in the result."""
    quiet: bool = False
    """Print nothing but errors."""
