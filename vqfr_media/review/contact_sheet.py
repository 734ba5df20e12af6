"""One crop of each track, upright, with what the tracks file says of it."""

import cv2
import numpy as np

from vqfr_media.faces.affine import compose
from vqfr_media.faces.align import similarity
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks
from vqfr_media.frames import Frame
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.review.boxes import COLOURS, DISABLED, track_settings
from vqfr_media.review.picture import BACKGROUND, crop_square, draw_text, grid, text_size

SIDE = 192
"""Pixels of a crop's side."""
MOST = 600
"""Tracks that a sheet holds; of more, the longest are shown."""
_LINE = 20
_LETTERS = 10.0
_EDGE = 4
# How much of the aligned square around the face is shown: a bit more than the network sees.
_SHRINK = 0.8


def best_appearance(track: FaceTrack) -> Appearance:
    """Returns where the detector was surest of the face; of equals where it is largest."""
    return max(
        track.appearances,
        key=lambda one: (not one.filled, one.face.score, one.face.size, -one.frame),
    )


def shown_tracks(tracks: Tracks) -> tuple[FaceTrack, ...]:
    """Returns the tracks that fit on a sheet, by persons, then in the order of their numbers."""
    longest = sorted(tracks.tracks, key=lambda track: (-len(track.appearances), track.id))[:MOST]
    return tuple(
        sorted(
            (t for t in longest if t.appearances), key=lambda track: (track.person or 0, track.id)
        )
    )


def aligned_crop(frame: Frame, appearance: Appearance, *, size: int) -> Picture:
    """Returns (size, size, 3) RGB: the face upright, with a little of its surroundings.

    Raises:
        ValueError: the landmarks are none of a face.
    """
    middle = (size - 1) / 2
    shrink = np.array([[_SHRINK, 0, middle * (1 - _SHRINK)], [0, _SHRINK, middle * (1 - _SHRINK)]])
    return crop_square(frame, compose(shrink, similarity(appearance.face.landmarks, size)), size)


def tile(crop: Picture, track: FaceTrack, shot: int) -> Picture:
    """Frames the crop in its track's colour, with what is known of the track in three lines."""
    first, last = track.appearances[0].frame, track.appearances[-1].frame
    count = len(track.appearances)
    score = float(np.mean([one.face.score for one in track.appearances]))
    settings = " ".join(track_settings(track))
    lines = [
        f"#{track.id}  shot {shot}  {settings}",
        f"frames {first}-{last} ({count})",
        f"mean score {score:.2f}",
    ]
    colour = COLOURS[track.id % len(COLOURS)] if track.enabled else DISABLED
    side = crop.shape[0]
    if not track.enabled:
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) // 2
        crop = np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8, copy=False)
        cv2.line(crop, (0, 0), (side - 1, side - 1), colour, 2)
        cv2.line(crop, (0, side - 1), (side - 1, 0), colour, 2)
    sheet = np.full(
        (side + len(lines) * _LINE + 3 * _EDGE, side + 2 * _EDGE, 3), BACKGROUND, np.uint8
    )
    sheet[_EDGE : _EDGE + side, _EDGE : _EDGE + side] = crop
    cv2.rectangle(sheet, (2, 2), (side + 2 * _EDGE - 3, side + 2 * _EDGE - 3), colour, 2)
    for number, line in enumerate(lines):
        width, _ = text_size(line, _LETTERS)
        height = _LETTERS * min(1.0, side / width)
        draw_text(sheet, line, (_EDGE + 2, side + 2 * _EDGE + 2 + number * _LINE), height=height)
    return sheet


def contact_sheet(tiles: list[Picture], *, tracks: int) -> Picture:
    """Puts tiles in rows; where there are more `tracks` than tiles, a line below says so."""
    sheet = grid(tiles)
    if tracks == len(tiles):
        return sheet
    line = np.full((2 * _LINE, sheet.shape[1], 3), BACKGROUND, np.uint8)
    text = f"the {len(tiles)} longest of {tracks} tracks"
    draw_text(line, text, (_EDGE + 2, _LINE // 2), height=_LETTERS)
    return np.vstack([sheet, line])
