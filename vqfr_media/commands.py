"""What a user can type: each command is a frozen dataclass, its options and help come from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vqfr_media.options import (
    DetectorChoice,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Restore the faces of a video or an image; everything else in the file stays as it is."""

    source: tyro.conf.Positional[Path]
    """Video or image to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; its suffix chooses the container. An existing file is replaced at the end."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """How the whole is done."""
    report: Path | None = None
    """Also write what was done, with every track and skipped face, as JSON to this file."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class FindTracks:
    """Find and follow the faces of a video or an image, and write them to a file for editing.

    `restore --tracks` then restores what the file says: see docs/tracks.md.
    """

    source: tyro.conf.Positional[Path]
    """Video or image to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, JSON. An existing file is replaced at the end."""
    score: float = FaceOptions.score
    """Lowest detector score of a face; weaker ones count where a neighbouring frame vouches."""
    detector: DetectorChoice = FaceOptions.detector
    """RetinaFace backbone: mobilenet is fast, resnet50 finds more."""
    detector_weights: Path | None = None
    """File with the detector's weights, instead of the known places."""
    proxy: int = FaceOptions.proxy
    """Longer side, in pixels, of the small picture that the detector sees."""
    max_gap: float = TemporalOptions.max_gap
    """Longest time for which a lost face is filled in between two detections."""
    device: str = ModelOptions.device
    """Where the detector runs: auto, cpu, cuda or cuda:N."""
    offline: bool = False
    """Never fetches weights from the network."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True)
class WeightsList:
    """List every weights file, where it is and under which licence."""


@dataclass(frozen=True)
class WeightsFetch:
    """Download weights files into the cache."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names as in `weights list`; by default all."""


@dataclass(frozen=True)
class WeightsVerify:
    """Check the hashes of the weights files that are here."""


@dataclass(frozen=True)
class Weights:
    """List, fetch or verify model files."""

    action: (
        Annotated[WeightsList, tyro.conf.subcommand("list")]
        | Annotated[WeightsFetch, tyro.conf.subcommand("fetch")]
        | Annotated[WeightsVerify, tyro.conf.subcommand("verify")]
    )
    """What to do."""


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do and what is missing."""


Command = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[FindTracks, tyro.conf.subcommand("tracks")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)
