"""A job in segments of a second that any process can work: a film's discs are made negatives."""

from collections.abc import Callable
from pathlib import Path

from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.frames import Frame
from vqfr_media.options import EncodeOptions, RestoreOptions, TemporalOptions
from vqfr_media.pipeline import restore_video

OPTIONS = RestoreOptions(
    segment_seconds=1,
    encode=EncodeOptions(preset="ultrafast"),
    temporal=TemporalOptions(landmarks_radius=0.04, pixel_radius=0.04, max_gap=0.04),
)


def restore(
    source: Path,
    output: Path,
    *,
    on_resume: Callable[[int], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> None:
    """Restores a film with stand-ins, which need no weights."""
    restore_video(
        source, output, OPTIONS, engine=InvertingEngine(size=64, batch_size=3),
        detector=MarkerDetector(), on_resume=on_resume, on_frame=on_frame,
    )  # fmt: skip
