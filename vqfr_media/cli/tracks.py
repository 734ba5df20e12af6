"""`vqfr-media tracks`, and how `tracks`, `compare` and `report` find faces."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from vqfr_media.cli.console import echo, frame_progress
from vqfr_media.errors import OptionError, OutputError
from vqfr_media.options import (
    DetectorChoice,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.summary import counted
from vqfr_media.time_range import TimeRange


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """How faces are found."""

    score: float = FaceOptions.score
    """How sure the detector must be of a face, 0.05 to 1: less finds more faces, and more that are
    none. A weaker find counts where a neighbouring frame confirms it."""
    detector: DetectorChoice = FaceOptions.detector
    """RetinaFace with the weights in this package (bundled), or with facexlib's: mobilenet is as
    fast, resnet50 finds more. auto takes mobilenet where its weights are here, else bundled."""
    detector_weights: Path | None = None
    """File with the weights for detector mobilenet or resnet50 (auto: mobilenet)."""
    proxy: int = FaceOptions.proxy
    """Faces are looked for in a reduced picture whose longer side has so many pixels: more finds
    smaller faces, and takes longer."""
    search_interval: float = TemporalOptions.search_interval
    """Seconds from one search of the whole picture for faces to the next; in the frames between,
    they are looked for near those that were found, which takes less time. At most 8 frames; 0
    searches all of every frame."""
    max_gap: float = TemporalOptions.max_gap
    """Longest time, in seconds, for which a lost face is filled in between two detections."""
    min_track: float = TemporalOptions.min_track
    """Shortest time, in seconds, that a face shows for: what comes and goes within a shot in less
    is taken for a false find, such as a sleeve or a print; 0 keeps all."""
    device: str = ModelOptions.device
    """Where the detector runs: auto, cpu, cuda or cuda:N."""
    offline: bool = False
    """Never fetches weights from the network."""

    def options(self, part: TimeRange | None = None) -> RestoreOptions:
        """The same as options of a restoration, of all of a film or part of it.

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
            temporal=TemporalOptions(
                search_interval=self.search_interval,
                max_gap=self.max_gap,
                min_track=self.min_track,
            ),
            model=ModelOptions(device=self.device),
            part=part or TimeRange(),
            offline=self.offline,
        )


@dataclass(frozen=True, kw_only=True)
class TracksCommand:
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
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    """How faces are found."""
    part: TimeRange = field(default_factory=TimeRange)
    """In which part of a film they are looked for; frames are numbered in the whole of it."""
    quiet: bool = False
    """Print nothing but errors."""


def find_tracks(command: TracksCommand) -> int:
    """Writes a video's faces to a file, draws them, or both."""
    from vqfr_media.choices import ChosenDetector, check_available
    from vqfr_media.files import check_place, check_source, refuse_same

    options, source = command.detection.options(command.part), command.source
    output, preview = command.output, command.preview
    if output is None and preview is None:
        raise OptionError("tracks needs a file to write: -o tracks.json, or --preview faces.mp4")
    if command.tracks is not None and output is not None:
        raise OptionError(
            f"--tracks {command.tracks} is drawn as it is, so there is nothing to write to "
            f"{output}; leave out one of the two"
        )
    if command.tracks is not None and not command.part.is_whole:
        raise OptionError(
            f"--tracks {command.tracks} is drawn as it is; leave out --start, --end and --duration"
        )
    for path in filter(None, (output, preview)):
        refuse_same(path, source)
        if not path.parent.is_dir():  # said before the work, not after it
            raise OutputError(f"{path}: there is no folder {path.parent}")
    check_source(source, kind="a video or an image")
    check_available(replace(options, tracks=command.tracks))
    # Only now what takes seconds to import.
    from vqfr_media.faces.tracks_file import read_tracks, write_tracks
    from vqfr_media.restoration.find_tracks import find_tracks as find
    from vqfr_media.restoration.persons import find_persons, load_describer
    from vqfr_media.review.preview import check_preview, write_preview

    if preview is not None:
        for other in filter(None, (output, command.tracks)):
            if preview.resolve() == other.resolve():
                raise OptionError(f"the preview and the tracks are both {preview}; name another")
        check_preview(source, preview)
        check_place(preview)
    lines: list[str] = []
    if command.tracks is not None:
        tracks = read_tracks(command.tracks)
    else:
        chosen: list[ChosenDetector] = []
        with frame_progress(command.quiet) as (start, step):
            tracks = find(source, options, on_start=start, on_frame=step, on_detector=chosen.append)
        lines += [f"detector {one.name} ({one.why})" for one in chosen]
        with frame_progress(command.quiet) as (_, step):
            tracks = find_persons(source, tracks, load_describer(), on_frame=step)
    persons = {track.person for track in tracks.tracks if track.person is not None}
    if output is not None:
        write_tracks(output, tracks)
        lines.insert(
            0,
            f"{output}: {counted(len(tracks.tracks), 'track')} of "
            f"{counted(len(persons), 'person')} in {counted(len(tracks.shots), 'shot')}, "
            f"{counted(tracks.source.frame_count, 'frame')}",
        )
    if preview is not None:
        with frame_progress(command.quiet) as (start, step):
            drawn = write_preview(source, preview, tracks, on_start=start, on_frame=step)
        lines += [f"{preview}: {drawn.what}", *(f"note: {warning}" for warning in drawn.warnings)]
    if not command.quiet:
        echo(*lines)
    return 0
