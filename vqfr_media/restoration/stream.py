"""The stages of a restoration, streamed."""

from collections.abc import Iterable, Iterator

from vqfr_media.frames import Frame
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import (
    AlignedFace,
    EncodedFace,
    RestoredFace,
    Stage,
    TrackedFace,
)
from vqfr_media.windows import in_batches, sliding


def restore_frames(
    frames: Iterable[Frame], restorer: Restorer, *, wanted: range | None = None
) -> Iterator[tuple[Frame, Stage[RestoredFace]]]:
    """Yields every frame restored, and what was done to it; holds a few windows, never the film.

    With `wanted`, only frames with these numbers come out, and no stage works more than the later
    ones need for them: `reach` frames to each side have to be among `frames`, or all there are.
    """
    size = restorer.engine.spec.max_batch
    pixels, latents = restorer.pixel_radius, restorer.latent_radius
    aligns, chooses = restorer.align_radius, restorer.choose_radius
    found: Iterable[Stage[TrackedFace]]
    if restorer.tracks is None:
        detected = map(restorer.detect, frames)
        found = map(restorer.track, sliding(detected, restorer.track_radius))
    else:
        found = map(restorer.tracks.stage, frames)
    tracked = near(found, wanted, pixels + latents + aligns + chooses)
    chosen = near(
        map(restorer.choose, sliding(tracked, chooses)), wanted, pixels + latents + aligns
    )
    aligned = near(map(restorer.align, sliding(chosen, aligns)), wanted, pixels + latents)
    encoded = in_batches(aligned, restorer.encode, size_of=num_faces, batch_size=size)
    settled = near(map(restorer.settle, sliding(encoded, latents)), wanted, pixels)
    decoded = in_batches(settled, restorer.decode, size_of=num_faces, batch_size=size)
    steadied = near(map(restorer.steady, sliding(decoded, pixels)), wanted, 0)
    return ((restorer.blend(stage), stage) for stage in steadied)


def near[S: Stage[TrackedFace] | Stage[AlignedFace] | Stage[EncodedFace] | Stage[RestoredFace]](
    stages: Iterable[S], wanted: range | None, radius: int
) -> Iterator[S]:
    """The stages of the wanted frames and of `radius` more to each side."""
    for stage in stages:
        if wanted is None or wanted.start - radius <= stage.frame.index < wanted.stop + radius:
            yield stage


def reach(restorer: Restorer) -> int:
    """Frames to each side of a frame that its result depends on."""
    found = 0 if restorer.tracks is not None else restorer.track_radius
    temporal = restorer.choose_radius + restorer.align_radius
    return found + temporal + restorer.latent_radius + restorer.pixel_radius


def num_faces(stage: Stage[AlignedFace] | Stage[EncodedFace]) -> int:
    """What a frame adds to a batch."""
    return len(stage.faces)
