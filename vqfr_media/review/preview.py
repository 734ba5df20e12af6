"""What a file of tracks holds, drawn on the pictures it was made of."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vqfr_media.errors import InputError
from vqfr_media.faces.tracks import FaceTrack, Tracks
from vqfr_media.files import refuse_same
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.image import is_image, read_image
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import Picture, write_picture
from vqfr_media.review.boxes import draw_frame
from vqfr_media.review.contact_sheet import SIDE, aligned_crop, best_appearance, contact_sheet, tile
from vqfr_media.review.contact_sheet import shown_tracks as tracks_on_sheet
from vqfr_media.review.drawn_video import is_picture_file, refuse_video_of_images, write_drawn
from vqfr_media.summary import counted
from vqfr_media.windows import READ_AHEAD, prefetch


@dataclass(frozen=True)
class Preview:
    """What was drawn."""

    what: str
    """In a few words: `12 frames with their faces`, `a sheet of 3 faces`."""
    warnings: tuple[str, ...] = ()
    """What of the source could not be carried over."""


def check_preview(source: Path, preview: Path) -> None:
    """Raises what `write_preview` would for the names alone, before the faces are looked for.

    Raises:
        InputError: the preview is the source, or a video is asked for of an image.
        OutputError: the preview's name is no name, or lies in a forbidden folder.
    """
    refuse_same(preview, source)
    if is_image(source):
        refuse_video_of_images(preview)


def write_preview(
    source: Path,
    preview: Path,
    tracks: Tracks,
    *,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Preview:
    """Draws tracks: of a video as a video or, by the suffix of `preview`, as a contact sheet.

    A video is upright, with square pixels, the source's times, sound and subtitles; boxes,
    landmarks, numbers and scores are drawn on it. A sheet has one upright crop of each track, where
    its score is best. An image is drawn on as it is.

    Args:
        source: video or image in which the faces were found.
        preview: file to write.
        tracks: found in `source`.
        on_start: called once, with what is known of the video.
        on_frame: called with each frame that is drawn or looked through, for progress.

    Raises:
        InputError: the tracks are another video's, there is nothing to put on a sheet, or the
            source or the names are at fault.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    check_preview(source, preview)
    if is_image(source):
        frame, _ = read_image(source)
        tracks.check_picture(frame.width, frame.height, frame.display)
        tracks.check_count(1)
        faces = tracks.faces_of(0)
        write_picture(preview, draw_frame(frame, faces))
        return Preview(f"the picture with {counted(len(faces), 'face')}")
    with open_video(source) as reader:
        info = reader.info
        tracks.check_picture(info.width, info.height, info.display)
        tracks.check_claim(info.frame_count_from_header)
        if on_start is not None:
            on_start(info)

        def seen(frames: Iterator[Frame]) -> Iterator[Frame]:
            for frame in frames:
                yield frame
                if on_frame is not None:
                    on_frame(frame)

        if is_picture_file(preview):
            shown = tracks_on_sheet(tracks)
            if not shown:
                raise InputError(f"{source}: no face was found, so there is none to show")
            tiles = _tiles(seen(iter(reader)), shown, tracks)
            write_picture(preview, contact_sheet(tiles, tracks=len(tracks.tracks)))
            return Preview(f"a sheet of {counted(len(shown), 'face')}")
        count = 0

        def drawn(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Picture]]:
            nonlocal count
            for frame in frames:
                count = frame.index + 1
                yield frame, draw_frame(frame, tracks.faces_of(frame.index))
            tracks.check_count(count)

        with prefetch(reader, READ_AHEAD) as frames:
            warnings = write_drawn(preview, source, info, drawn(seen(frames)))
    return Preview(f"{count} frames with their faces", tuple(warnings))


def _tiles(frames: Iterator[Frame], shown: tuple[FaceTrack, ...], tracks: Tracks) -> list[Picture]:
    """Makes a tile a track, in the order of `shown`; reads no further than the last one needs."""
    wanted: dict[int, list[FaceTrack]] = {}
    for track in shown:
        wanted.setdefault(best_appearance(track).frame, []).append(track)
    made: dict[int, Picture] = {}
    count = 0
    for frame in frames:
        count = frame.index + 1
        for track in wanted.get(frame.index, []):
            crop = aligned_crop(frame, best_appearance(track), size=SIDE)
            shot = bisect_right(tracks.shots, frame.index) - 1
            made[track.id] = tile(crop, track, max(0, shot))
        if len(made) == len(shown):
            return [made[track.id] for track in shown]
    raise tracks.other_clip(f"{tracks.source.frame_count} frames", f"{count}")
