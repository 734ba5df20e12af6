"""Interlaced films restored field by field: each at its own time, and with its own lines."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace

from vqfr_media.faces.tracks import by_fields
from vqfr_media.frames import FieldOrder, Frame
from vqfr_media.media.fields import split, weave
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import FrameFaces, RestoredFace


def frames_around(restorer: Restorer, order: FieldOrder) -> int:
    """Returns how many frames to each side the stages look at, whole or by their fields.

    Args:
        restorer: the stages, with the film's time base and rate.
        order: the field that is shown first; empty for whole pictures.
    """
    if not order:
        return restorer.radii.total
    return -(-_of_fields(restorer).radii.total // 2)


def _of_fields(restorer: Restorer) -> Restorer:
    tracks = None if restorer.tracks is None else by_fields(restorer.tracks)
    return replace(
        restorer,
        time_base=restorer.time_base / 2,
        frame_rate=2 * restorer.frame_rate,
        tracks=tracks,
    )


def restore_pictures(
    frames: Iterable[Frame], restorer: Restorer, *, order: FieldOrder, wanted: range | None
) -> Iterator[tuple[Frame, tuple[FrameFaces[RestoredFace], ...]]]:
    """Yields every frame restored, whole or by its fields, and what was done to each part of it.

    Args:
        frames: of a film, whose time base and rate `restorer` has.
        restorer: the stages.
        order: the field that is shown first; empty for whole pictures.
        wanted: as in `restore_frames`.
    """
    if not order:
        with closing(restore_frames(frames, restorer, wanted=wanted)) as pictures:
            for frame, frame_faces in pictures:
                yield frame, (frame_faces,)
        return
    sources: deque[Frame] = deque()

    def fields() -> Iterator[Frame]:
        for frame in frames:
            if wanted is None or frame.index in wanted:
                sources.append(frame)
            yield from split(frame, order)

    doubled = None if wanted is None else range(2 * wanted.start, 2 * wanted.stop)
    with closing(restore_frames(fields(), _of_fields(restorer), wanted=doubled)) as restored:
        for (one, one_faces), (other, other_faces) in zip(restored, restored, strict=True):
            frame = sources.popleft()
            parts = (replace(one_faces, frame=frame), replace(other_faces, frame=frame))
            yield weave(frame, (one, other)), parts
