"""Restores the faces of a video: steady from frame to frame, and nothing else is touched."""

from typing import TYPE_CHECKING

from vqfr_media.errors import (
    BackendError,
    CheckpointError,
    CodecError,
    EngineError,
    EngineFileError,
    EngineMemoryError,
    InexactEngineError,
    InputError,
    MachineError,
    MediaError,
    OptionError,
    OutputError,
    SkippedFaceError,
    VqfrMediaError,
    WeightsError,
)
from vqfr_media.options import (
    BlendOptions,
    EncodeOptions,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.summary import Summary
from vqfr_media.time_range import TimeRange

if TYPE_CHECKING:
    from vqfr_media.engine import load_engine
    from vqfr_media.pipeline import restore_image, restore_video

__all__ = [
    "BackendError",
    "BlendOptions",
    "CheckpointError",
    "CodecError",
    "EncodeOptions",
    "EngineError",
    "EngineFileError",
    "EngineMemoryError",
    "FaceOptions",
    "InexactEngineError",
    "InputError",
    "MachineError",
    "MediaError",
    "ModelOptions",
    "OptionError",
    "OutputError",
    "RestoreOptions",
    "SkippedFaceError",
    "Summary",
    "TemporalOptions",
    "TimeRange",
    "VqfrMediaError",
    "WeightsError",
    "load_engine",
    "restore_image",
    "restore_video",
]


def __getattr__(name: str) -> object:
    """Loads the heavy names on first use: training needs the networks but not av."""
    match name:
        case "load_engine":
            from vqfr_media.engine import load_engine

            return load_engine
        case "restore_image" | "restore_video":
            from vqfr_media import pipeline

            return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
