"""Files restored in this process, one after the other, by one engine and one detector."""

from collections.abc import Mapping
from functools import partial

import torch

from vqfr_media.batch.settled import content_of_task
from vqfr_media.batch.task import ProgressListener, Task
from vqfr_media.engine import Engine
from vqfr_media.errors import EngineError, SkippedFaceError, VqfrMediaError
from vqfr_media.jobs.identity import identity_of_settings
from vqfr_media.options import DEFAULT_FIDELITY, RestoreOptions
from vqfr_media.pipeline import restore_image, restore_video
from vqfr_media.prepare import Prepared
from vqfr_media.summary import Summary


class LocalWorker:
    """A `FileWorker` in this process."""

    def __init__(self, ready: Prepared, *, listener: ProgressListener | None = None) -> None:
        self.max_concurrency = 1
        self._ready = ready
        self._listener = listener or ProgressListener()

    def settings(self, options: RestoreOptions) -> Mapping[str, str]:
        """Returns what decides the bits of a result, apart from its source."""
        return identity_of_settings(options, self._ready)

    def content(self, task: Task) -> str:
        """Returns the SHA-256 of the source.

        Raises:
            MediaError: it is missing, empty, no ordinary file, or cannot be read.
        """
        return content_of_task(task)

    def work(self, task: Task) -> Summary:
        """Restores one file; raises what `restore_video` does."""
        listener = self._listener
        if task.kind == "image":
            return restore_image(task.source, task.output, task.options, ready=self._ready)
        return restore_video(
            task.source,
            task.output,
            task.options,
            ready=self._ready,
            on_start=partial(listener.on_start, task),
            on_frame=lambda _: listener.on_frames(task, 1),
            on_resume=partial(listener.on_resume, task),
        )

    def stops_batch(self, error: VqfrMediaError) -> bool:
        """Tells whether the network failed, and now fails on a blank picture too."""
        if not isinstance(error, EngineError) or isinstance(error, SkippedFaceError):
            return False
        return not still_runs(self._ready.engine)

    def stop(self) -> None:
        """Nothing to do: the caller's own thread does the work."""


def still_runs(engine: Engine) -> bool:
    """Tells whether an engine that has failed can restore a batch of blank crops."""
    spec = engine.spec
    try:
        crops = torch.zeros(spec.batch_size, 3, spec.size, spec.size, device=spec.device)
        engine.decode(crops, engine.encode(crops), fidelity=DEFAULT_FIDELITY)
    except RuntimeError:  # EngineError is one, and so is what a broken device says
        return False
    return True
