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
    ones need for them: `reach` frames to each side have to be among `frames`, or all there are.
    """
    size = restorer.engine.spec.batch_size
    pixels, latents = restorer.pixel_radius, restorer.latent_radius
    aligns, chooses = restorer.align_radius, restorer.choose_radius
    found: Iterable[FrameFaces[TrackedFace]]
    if restorer.tracks is None:
        detected = map(restorer.detect, frames)
        found = map(restorer.track, sliding(detected, restorer.track_radius))
    else:
        found = map(restorer.tracks.frame_faces, frames)
    tracked = near(found, wanted, pixels + latents + aligns + chooses)
    chosen = near(
        map(restorer.choose, sliding(tracked, chooses)), wanted, pixels + latents + aligns
    )
    aligned = near(map(restorer.align, sliding(chosen, aligns)), wanted, pixels + latents)
    encoded = in_batches(aligned, restorer.encode, size_of=num_faces, batch_size=size)
    smoothed = near(map(restorer.smooth_latents, sliding(encoded, latents)), wanted, pixels)
    decoded = in_batches(smoothed, restorer.decode, size_of=num_faces, batch_size=size)
    finished = near(map(restorer.smooth_pixels, sliding(decoded, pixels)), wanted, 0)
    return ((restorer.blend(frame_faces), frame_faces) for frame_faces in finished)


def near[
    S: FrameFaces[TrackedFace]
    | FrameFaces[AlignedFace]
    | FrameFaces[EncodedFace]
    | FrameFaces[RestoredFace]
](items: Iterable[S], wanted: range | None, radius: int) -> Iterator[S]:
    """Yields the items of the wanted frames and of `radius` more to each side."""
    for frame_faces in items:
        if (
            wanted is None
            or wanted.start - radius <= frame_faces.frame.index < wanted.stop + radius
        ):
            yield frame_faces


def reach(restorer: Restorer) -> int:
    """Frames to each side of a frame that its result depends on."""
    found = 0 if restorer.tracks is not None else restorer.track_radius
    temporal = restorer.choose_radius + restorer.align_radius
    return found + temporal + restorer.latent_radius + restorer.pixel_radius


def num_faces(frame_faces: FrameFaces[AlignedFace] | FrameFaces[EncodedFace]) -> int:
    """What a frame adds to a batch."""
    return len(frame_faces.faces)
