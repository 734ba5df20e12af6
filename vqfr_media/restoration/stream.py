"""The stages of a restoration, streamed, in groups that work side by side."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from threading import Event

import torch

from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.frames import Frame
from vqfr_media.restoration.opencv_threads import opencv_threads_for
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import (
    AlignedFace,
    EncodedFace,
    FrameFaces,
    RestoredFace,
    TrackedFace,
)
from vqfr_media.windows import in_batches, prefetch, sliding

# Frames that a group of stages may be ahead of the next one. More would only cost memory.
STEP_AHEAD = 2


def restore_frames(
    frames: Iterable[Frame], restorer: Restorer, *, wanted: range | None = None
) -> Generator[tuple[Frame, FrameFaces[RestoredFace]]]:
    """Yields every frame restored, and what was done to it; holds a few windows, never the film.

    Four groups of stages work side by side: detection; tracks and crops; the network; and, in the
    caller's thread, smoothing of pixels and blending. Each group is one thread, so the order of the
    frames and all bits are those of one thread alone. The threads begin with the first frame that
    is asked for and end with the last one, with an error, or when the generator is closed. As long
    OpenCV has one thread, unless pictures are enlarged: it has one number of them for all.

    With `wanted`, only frames with these numbers come out, and no stage works more than the later
    ones need for them: `restorer.radii.total` frames to each side have to be among `frames`, or
    all there are.

    Args:
        frames: Taken in a thread of this generator's own.
        restorer: The stages.
        wanted: Numbers of frames; all of them by default.

    Raises:
        Exception: whatever `frames` or a stage raises, after the frames before it.
    """
    batch_size = restorer.engine.spec.batch_size
    radii = restorer.radii
    chain = Event()
    # A batch goes on as a whole; a network that could not leave it here would wait for blending.
    depth = max(STEP_AHEAD, batch_size)
    with ExitStack() as threads:
        # PyTorch's settings are the process's: what the engine sets for itself while it works must
        # not come and go under the detector, which works at the same time.
        threads.enter_context(exact_float32(torch.device(restorer.engine.spec.device)))
        threads.enter_context(opencv_threads_for(restorer.options.upscale))

        def ahead[T](items: Iterable[T], depth: int = depth) -> Iterator[T]:
            return threads.enter_context(prefetch(items, depth, chain=chain))

        found: Iterable[FrameFaces[TrackedFace]]
        if restorer.tracks is None:
            searched = sliding(map(restorer.search, frames), radii.detect)
            detected = ahead(map(restorer.detect, searched), STEP_AHEAD)
            found = map(restorer.track, sliding(detected, radii.track))
        else:
            found = map(restorer.tracks.frame_faces, frames)
        tracked = near(found, wanted, radii.after_track)
        chosen = map(restorer.choose, sliding(tracked, radii.choose))
        aligned = ahead(
            near(
                map(restorer.align, sliding(near(chosen, wanted, radii.after_choose), radii.align)),
                wanted,
                radii.after_align,
            )
        )
        encoded = in_batches(aligned, restorer.encode, size_of=num_faces, batch_size=batch_size)
        smoothed = near(
            map(restorer.smooth_latents, sliding(encoded, radii.latents)),
            wanted,
            radii.after_latents,
        )
        decoded = ahead(
            in_batches(smoothed, restorer.decode, size_of=num_faces, batch_size=batch_size)
        )
        for frame_faces in near(
            map(restorer.smooth_pixels, sliding(decoded, radii.pixels)), wanted, 0
        ):
            yield restorer.blend(frame_faces), frame_faces


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
