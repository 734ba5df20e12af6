"""The stages of a restoration, streamed."""

from collections.abc import Iterable, Iterator

from vqfr_media.frames import Frame
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import (
    AlignedFace,
    EncodedFace,
    FrameFaces,
    RestoredFace,
    TrackedFace,
)
from vqfr_media.windows import in_batches, sliding


def restore_frames(
    frames: Iterable[Frame], restorer: Restorer, *, wanted: range | None = None
) -> Iterator[tuple[Frame, FrameFaces[RestoredFace]]]:
    """Yields every frame restored, and what was done to it; holds a few windows, never the film.

    With `wanted`, only frames with these numbers come out, and no stage works more than the later
    ones need for them: `restorer.radii.total` frames to each side have to be among `frames`, or
    all there are.
    """
    batch_size = restorer.engine.spec.batch_size
    radii = restorer.radii
    found: Iterable[FrameFaces[TrackedFace]]
    if restorer.tracks is None:
        detected = map(restorer.detect, frames)
        found = map(restorer.track, sliding(detected, radii.track))
    else:
        found = map(restorer.tracks.frame_faces, frames)
    tracked = near(found, wanted, radii.after_track)
    chosen = near(map(restorer.choose, sliding(tracked, radii.choose)), wanted, radii.after_choose)
    aligned = near(map(restorer.align, sliding(chosen, radii.align)), wanted, radii.after_align)
    encoded = in_batches(aligned, restorer.encode, size_of=num_faces, batch_size=batch_size)
    smoothed = near(
        map(restorer.smooth_latents, sliding(encoded, radii.latents)), wanted, radii.after_latents
    )
    decoded = in_batches(smoothed, restorer.decode, size_of=num_faces, batch_size=batch_size)
    finished = near(map(restorer.smooth_pixels, sliding(decoded, radii.pixels)), wanted, 0)
    return ((restorer.blend(frame_faces), frame_faces) for frame_faces in finished)


def near[F: (TrackedFace, AlignedFace, EncodedFace, RestoredFace)](
    items: Iterable[FrameFaces[F]], wanted: range | None, radius: int
) -> Iterator[FrameFaces[F]]:
    """Yields the items of the wanted frames and of `radius` more to each side."""
    for frame_faces in items:
        index = frame_faces.frame.index
        if wanted is None or wanted.start - radius <= index < wanted.stop + radius:
            yield frame_faces


def num_faces(frame_faces: FrameFaces[AlignedFace] | FrameFaces[EncodedFace]) -> int:
    """Returns what a frame adds to a batch."""
    return len(frame_faces.faces)
