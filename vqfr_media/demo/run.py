"""The demonstration: films the photograph badly, restores the film, and compares with the truth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqfr_media.demo import scene
from vqfr_media.demo.picture import contact_sheet, face_tile, side_by_side
from vqfr_media.errors import OptionError
from vqfr_media.files import output_error
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.rgb_clip import Picture, read_pictures, write_clip, write_picture
from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

MOMENTS = 3  # rows of the contact sheet
SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 60.0
# Lossy too, but far better than what it shows.
_SHOWN_CRF = 14.0


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What was written, and how near it is to the truth."""

    degraded: Path
    """The degraded film, H.264."""
    restored: Path
    """The same, restored."""
    side_by_side: Path
    """Both, at twice their size."""
    sheet: Path
    """A PNG with the face at a few moments: before, after, and the truth."""
    frames: int
    """Frames in each film."""
    psnr_before: float
    """Mean over the frames of the face's PSNR against the truth, dB, on 8-bit RGB."""
    psnr_after: float
    """The same after restoration."""
    summary: Summary
    """What the restoration said."""


def demonstrate(
    folder: Path,
    *,
    seconds: float,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Demonstration:
    """Writes the films and the sheet into `folder`, with nothing but what this package holds.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        seconds: length of the film.
        on_start: called once, with what is known of the degraded film.
        on_frame: called with each restored frame, for progress.

    Raises:
        OptionError: `seconds` is out of range.
        OutputError: the folder cannot be made or written.
        WeightsError: this package's own weights are damaged.
    """
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise OptionError(
            f"seconds must be between {SHORTEST_SECONDS:g} and {LONGEST_SECONDS:g}, got {seconds:g}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    degraded, restored = folder / "degraded.mp4", folder / "restored.mp4"
    both, sheet = folder / "side_by_side.mp4", folder / "contact_sheet.png"
    count = round(seconds * scene.FRAME_RATE)
    write_clip(degraded, scene.recorded(count), frame_rate=scene.FRAME_RATE, quality=scene.CRF)
    options = RestoreOptions(
        face=FaceOptions(detector="bundled"), model=ModelOptions(model="lite"), offline=True
    )
    summary = restore_video(degraded, restored, options, on_start=on_start, on_frame=on_frame)

    psnrs: list[tuple[float, float]] = []
    tiles: list[list[Picture]] = []
    shown = {(2 * number + 1) * count // (2 * MOMENTS) for number in range(MOMENTS)}

    def compared() -> Iterator[Picture]:
        pairs = zip(read_pictures(degraded), read_pictures(restored), strict=True)
        for index, (before, after) in enumerate(pairs):
            real, box = scene.truth(index), scene.face_box(index)
            psnrs.append((face_psnr(before, real, box), face_psnr(after, real, box)))
            if index in shown:
                tiles.append([face_tile(picture, box) for picture in (before, after, real)])
            yield side_by_side(before, after)

    write_clip(both, compared(), frame_rate=scene.FRAME_RATE, quality=_SHOWN_CRF)
    write_picture(sheet, contact_sheet(tiles, ("before", "after", "truth")))
    before, after = (float(mean) for mean in np.mean(psnrs, axis=0))
    return Demonstration(
        degraded=degraded,
        restored=restored,
        side_by_side=both,
        sheet=sheet,
        frames=count,
        psnr_before=before,
        psnr_after=after,
        summary=summary,
    )


def face_psnr(picture: Picture, truth: Picture, box: tuple[int, int, int, int]) -> float:
    """Returns PSNR within the box (left, top, right, bottom), dB, on 8-bit RGB."""
    x0, y0, x1, y1 = box
    there, real = (p[y0:y1, x0:x1].astype(np.float64) for p in (picture, truth))
    error = max(float(np.mean((there - real) ** 2)), 1e-9)
    return float(10 * np.log10(255**2 / error))
