"""Looks for the faces of a film: in the whole picture a few times a second, else near those found.

A search of the whole picture is most of what a frame costs beside the network. Faces hardly move
within a fifth of a second, so in the frames between two such searches they are looked for where the
two have found them. What a frame shows still depends on a finite window around it alone: which
frames are searched as a whole is decided by their numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import invert
from vqfr_media.faces.cuts import are_of_two_shots
from vqfr_media.faces.detect import Detector, detect, detected_by, thumbnail_of
from vqfr_media.faces.still import detect_still
from vqfr_media.faces.turned import placed
from vqfr_media.frames import Frame
from vqfr_media.media.colour import proxy_to_display, rgb_proxy
from vqfr_media.options import FaceOptions
from vqfr_media.values import Detected, Face
from vqfr_media.windows import Window

# At most so many frames from one search of the whole picture to the next: all are kept so long.
_MOST_FRAMES = 8
# Where frames are missing, two searches lie further apart in time than was asked for. From so many
# times as long on, the faces of one say too little of those of the other.
_TOO_LONG = 2


@runtime_checkable
class NearDetector(Detector, Protocol):
    """A detector that finds known faces again for less than a search of the whole picture."""

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        """Finds faces in an (h, w, 3) RGB picture where `known` ones are or close to them.

        Best first; all in the picture's pixel-centre coordinates.
        """


@dataclass(frozen=True, eq=False)
class Unsearched:
    """A frame between two that are searched as a whole."""

    frame: Frame
    """The picture."""
    picture: npt.NDArray[np.uint8]
    """(h, w, 3) small upright RGB picture of it."""
    thumbnail: npt.NDArray[np.uint8]
    """As in `Detected`."""


def search_step(interval: float, frame_rate: Fraction) -> int:
    """Returns how many frames it is from one search of the whole picture to the next, 1 to 8.

    Args:
        interval: Seconds; 0 searches every frame.
        frame_rate: Frames per second.
    """
    return int(np.clip(int(interval * frame_rate + 1e-6), 1, _MOST_FRAMES))


def search(
    frame: Frame, detector: Detector, *, proxy: int, score: float, step: int
) -> Detected | Unsearched:
    """Searches the whole of a frame if its number is a multiple of `step`, or if it is an image.

    Args:
        frame: The picture.
        detector: As in `faces.detect.detect`.
        proxy: Longer side of the small picture; it is never enlarged.
        score: Score of a face that counts by itself; faces from `WEAK` of it are kept.
        step: Of `search_step`.
    """
    if frame.is_still:
        return detect_still(frame, detector, proxy=proxy, score=score)
    if frame.index % step == 0:
        return detect(frame, detector, proxy=proxy, score=score)
    picture = rgb_proxy(frame, proxy)
    return Unsearched(frame, picture, thumbnail_of(picture))


def detect_between(
    window: Window[Detected | Unsearched],
    detector: Detector,
    *,
    score: float,
    interval: float,
    time_base: Fraction,
) -> Detected:
    """Returns the faces of the centre frame, which was searched as a whole or lies between such.

    Between, faces are looked for near those of the last frame before and of the next one after that
    were searched, as far as they look like pictures of the same shot. The whole picture is searched
    where neither does, where one of them is missing (the film begins or ends), where too much time
    lies between them, and where a sure face that both have is not found.

    Args:
        window: So many frames to each side that one of them was searched, but for the film's ends.
        detector: As in `search`.
        score: As in `search`.
        interval: Seconds from one search to the next where no frame is missing.
        time_base: Seconds per unit of pts.
    """
    here = window.items[window.centre]
    if isinstance(here, Detected):
        return here
    before = _nearest(window.items[window.centre - 1 :: -1] if window.centre else ())
    after = _nearest(window.items[window.centre + 1 :])
    if before is None or after is None or not isinstance(detector, NearDetector):
        return _whole(here, detector, score=score)
    apart = (after.frame.pts - before.frame.pts) * time_base
    alike = [
        other for other in (before, after) if not are_of_two_shots(other.thumbnail, here.thumbnail)
    ]
    if not alike or apart > _TOO_LONG * interval:
        return _whole(here, detector, score=score)
    to_display = proxy_to_display(here.frame, here.picture.shape)
    from_display = invert(to_display)
    known = [placed(face, from_display) for other in alike for face in other.faces]
    found = _placed_in_frame(here, detector, detector.near(here.picture, known), score=score)
    if any(_is_lost(face, alike, found, score=score) for face in alike[0].faces):
        return _whole(here, detector, score=score)
    return found


def _is_lost(face: Face, alike: Sequence[Detected], found: Detected, *, score: float) -> bool:
    """Whether a sure face of the one frame is in the others that are alike, too, but not found."""
    return face.score >= score and (
        all(_is_among(face, other.faces) for other in alike) and not _is_among(face, found.faces)
    )


def _is_among(face: Face, others: Sequence[Face]) -> bool:
    """Whether one of the others is about there: not further away than the face is large."""
    middle = face.box.reshape(2, 2).mean(axis=0)
    return any(
        np.linalg.norm(other.box.reshape(2, 2).mean(axis=0) - middle) <= face.size
        for other in others
    )


def _nearest(items: Sequence[Detected | Unsearched]) -> Detected | None:
    """Returns the first that was searched."""
    return next((item for item in items if isinstance(item, Detected)), None)


def _whole(unsearched: Unsearched, detector: Detector, *, score: float) -> Detected:
    """Searches the whole picture."""
    return _placed_in_frame(unsearched, detector, detector(unsearched.picture), score=score)


def _placed_in_frame(
    unsearched: Unsearched, detector: Detector, found: Sequence[Face], *, score: float
) -> Detected:
    """Returns what was found in the picture; see `detected_by`."""
    frame, picture, thumbnail = unsearched.frame, unsearched.picture, unsearched.thumbnail
    return detected_by(detector, frame, picture, thumbnail, found, score=score)


@dataclass(frozen=True, kw_only=True)
class FaceSearch:
    """How the faces of one film are looked for: `search`, then `detect_between`."""

    detector: Detector
    """Finds them; one thread at a time."""
    face: FaceOptions
    """Which may count, and in how small a picture they are looked for."""
    step: int
    """Frames from one search of the whole picture to the next."""
    frame_rate: Fraction
    """Frames per second."""
    time_base: Fraction
    """Seconds per unit of pts."""

    def search(self, frame: Frame) -> Detected | Unsearched:
        """Searches the whole picture, if it is this frame's turn."""
        face = self.face
        return search(frame, self.detector, proxy=face.proxy, score=face.score, step=self.step)

    def detect(self, window: Window[Detected | Unsearched]) -> Detected:
        """Finds the faces of the centre frame; the window has `step` - 1 frames to each side."""
        return detect_between(
            window,
            self.detector,
            score=self.face.score,
            interval=float(self.step / self.frame_rate),
            time_base=self.time_base,
        )
