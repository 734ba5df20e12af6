"""How far the stages of a restoration look around a frame: seconds as frames, and their sums."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from vqfr_media.faces.search import search_step
from vqfr_media.faces.track import TrackLimits
from vqfr_media.options import TemporalOptions

# Frames to each side whose differences tell the film's grain. In a film shown at another rate some
# frames come twice, and two neighbours that are the same picture say nothing of it.
GRAIN_RADIUS = 3
# Seconds to each side over which the way from a face's mesh to its five landmarks is averaged.
MESH_RADIUS = 0.3


def frames_within(seconds: float, frame_rate: Fraction) -> int:
    """Returns the frames that a radius of `seconds` reaches to each side."""
    return math.ceil(seconds * frame_rate - 1e-6)


def frames_in_gap(seconds: float, frame_rate: Fraction) -> int:
    """Returns the frames that a face may be lost for, so that at most `seconds` are filled in."""
    return math.floor(seconds * frame_rate + 1e-6)


def frames_of_track(seconds: float, frame_rate: Fraction) -> int:
    """Returns the fewest frames, at least 1, that last `seconds` from the first to the last."""
    return max(1, frames_within(seconds, frame_rate))


def track_limits(options: TemporalOptions, frame_rate: Fraction) -> TrackLimits:
    """Returns what `track` is told, in frames."""
    return TrackLimits(
        max_gap=frames_in_gap(options.max_gap, frame_rate),
        fewest=frames_of_track(options.min_track, frame_rate),
    )


def motion_radius(landmarks_radius: float) -> float:
    """Returns the seconds over which the mesh's motion is smoothed, for that of the landmarks."""
    # By a parabola, not a line: as much of a nod at 2 Hz is left (85 % and 92 %), half the tremble.
    return 2.8 * landmarks_radius


@dataclass(frozen=True, kw_only=True)
class FrameRadii:
    """The frames to each side that each stage with a window looks at, in the order of the stages.

    The sums say for how many frames to each side an earlier stage has to have worked, so that the
    later ones can work one frame.
    """

    detect: int
    """Of `detect`, between two searches of the whole picture; 0 where every frame is searched."""
    track: int
    """Of `track`; 0 where the faces are known before."""
    choose: int
    """Of `choose`."""
    align: int
    """Of `align`, which smooths the landmarks; one at least, for the links."""
    latents: int
    """Of `smooth_latents`."""
    pixels: int
    """Of `smooth_pixels`, which measures the grain too."""

    @classmethod
    def of(
        cls,
        options: TemporalOptions,
        frame_rate: Fraction,
        *,
        faces_known: bool = False,
        searches_near: bool = False,
        grain: bool = True,
    ) -> Self:
        """Returns the radii of a restoration at `frame_rate` frames per second.

        Args:
            options: Radii in seconds.
            frame_rate: Frames per second.
            faces_known: Whether the faces come from a tracks file.
            searches_near: Whether the detector can look for faces near known ones.
            grain: Whether the film's grain is measured.
        """
        around = options.landmarks_radius
        if options.landmarks == "mesh":
            around = max(motion_radius(around), MESH_RADIUS)
        step = search_step(options.search_interval, frame_rate) if searches_near else 1
        return cls(
            detect=0 if faces_known else step - 1,
            track=0 if faces_known else track_limits(options, frame_rate).radius,
            choose=frames_within(options.choice_radius, frame_rate),
            align=max(1, frames_within(around, frame_rate)),
            latents=frames_within(options.latent_radius, frame_rate),
            pixels=max(
                frames_within(options.pixel_radius, frame_rate), GRAIN_RADIUS if grain else 0
            ),
        )

    @property
    def after_latents(self) -> int:
        """What is looked at after the latents are smoothed."""
        return self.pixels

    @property
    def after_align(self) -> int:
        """What is looked at after the crops are cut."""
        return self.latents + self.after_latents

    @property
    def after_choose(self) -> int:
        """What is looked at after faces are chosen."""
        return self.align + self.after_align

    @property
    def after_track(self) -> int:
        """What is looked at after faces are tracked."""
        return self.choose + self.after_choose

    @property
    def after_detect(self) -> int:
        """What is looked at after faces are found."""
        return self.track + self.after_track

    @property
    def total(self) -> int:
        """Frames to each side of a frame that its result depends on."""
        return self.detect + self.after_detect
