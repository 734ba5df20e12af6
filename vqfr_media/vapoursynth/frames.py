"""VapourSynth frames as `Frame`s and back: planes without a copy, meaning from the properties."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vqfr_media.errors import InputError
from vqfr_media.frames import Display, Family, Frame, PixelFormat, Plane
from vqfr_media.media.colour_tags import resolve_format

if TYPE_CHECKING:
    import vapoursynth as vs

# VapourSynth's planes R, G, B are G, B, R here, as FFmpeg has them.
_RGB_ORDER = (1, 2, 0)
# Properties that say what the samples mean.
COLOUR_PROPS = ("_Matrix", "_Primaries", "_Transfer", "_Range", "_ChromaLocation")
# Units of time in which the absolute times of a clip with a variable frame rate are counted.
MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class FrameTiming:
    """What a clip's frame numbers mean in time."""

    time_base: Fraction
    """Seconds per unit of `Frame.pts`."""
    frame_rate: Fraction
    """Frames per second, on average."""
    variable: bool
    """Whether times are the frames' own `_AbsoluteTime` rather than their numbers."""

    def pts(self, index: int, props: Mapping[str, Any]) -> int:
        """Returns the time of a frame, from its number and its own properties alone.

        Adding up `_DurationNum` and `_DurationDen` would need every frame before it.

        Raises:
            InputError: the rate is variable, and the frame does not say its time.
        """
        if not self.variable:
            return index
        seconds = props.get("_AbsoluteTime")
        if seconds is None or not math.isfinite(float(seconds)):
            raise InputError(
                "the clip has a variable frame rate, and its frames do not say when they are shown "
                "(_AbsoluteTime); give it a constant one with std.AssumeFPS"
            )
        return round(float(seconds) / float(self.time_base))


def timing_of(clip: "vs.VideoNode") -> FrameTiming:
    """Reads a clip's timing; looks at its first and last frame where the rate is variable.

    Raises:
        InputError: the rate is variable, and the frames do not say when they are shown.
    """
    if clip.fps_num:
        rate = Fraction(clip.fps_num, clip.fps_den)
        return FrameTiming(time_base=1 / rate, frame_rate=rate, variable=False)
    timing = FrameTiming(time_base=MICROSECOND, frame_rate=Fraction(1), variable=True)
    ends = []
    for index in (0, clip.num_frames - 1):
        with clip.get_frame(index) as frame:
            ends.append(timing.pts(index, frame.props))
    if clip.num_frames > 1 and ends[1] <= ends[0]:
        raise InputError(
            "the clip has a variable frame rate, and its last frame is not shown after its first "
            "(_AbsoluteTime); give it a constant one with std.AssumeFPS"
        )
    spacing = max(1, ends[1] - ends[0]) * timing.time_base
    rate = max(1, clip.num_frames - 1) / spacing if clip.num_frames > 1 else Fraction(25)
    return FrameTiming(time_base=MICROSECOND, frame_rate=rate, variable=True)


def check_format(clip: "vs.VideoNode", name: str) -> None:
    """Raises InputError where a clip's format or size is variable, or not one that is handled."""
    kind = clip.format
    if kind is None or kind.color_family.name == "UNDEFINED":
        raise InputError(f"{name} changes its format from frame to frame; convert it to one first")
    if not clip.width or not clip.height:
        raise InputError(f"{name} changes its size from frame to frame; scale it to one first")
    floats = kind.sample_type.name == "FLOAT"
    if not floats and not 8 <= kind.bits_per_sample <= 16:
        raise InputError(f"{name} is {kind.name}; integers of 8 to 16 bits and floats are handled")
    if kind.subsampling_w > 2 or kind.subsampling_h > 2:
        raise InputError(f"{name} is {kind.name}; subsampling by more than 4 is not handled")


def refuse_fields(props: Mapping[str, Any]) -> None:
    """Raises InputError where a frame holds two fields: faces are looked for in whole pictures."""
    if _integer(props, "_FieldBased", 0) > 0:
        raise InputError(
            "the clip is interlaced (_FieldBased): deinterlace it first, or, if it is not, say so "
            "with std.SetFieldBased(0)"
        )


def display_of(props: Mapping[str, Any]) -> Display:
    """Reads how a frame is shown; a rotation is the script's affair."""
    width, height = _integer(props, "_SARNum", 0), _integer(props, "_SARDen", 0)
    return Display(Fraction(width, height) if width > 0 < height else Fraction(1))


def format_of(kind: "vs.VideoFormat", height: int, props: Mapping[str, Any]) -> PixelFormat:
    """Reads what a frame's samples mean.

    Raises:
        MediaError: its colour matrix cannot be undone by a linear map.
    """
    family: Family = {"YUV": "yuv", "RGB": "rgb", "GRAY": "gray"}[kind.color_family.name]  # type: ignore[assignment]
    floats = kind.sample_type.name == "FLOAT"
    return resolve_format(
        family,
        32 if floats else kind.bits_per_sample,
        sample="float" if floats else "int",
        subsampling=(kind.subsampling_w, kind.subsampling_h),
        height=height,
        matrix=_integer(props, "_Matrix", 2),
        primaries=_integer(props, "_Primaries", 2),
        # Limited where nothing is said, grey too: VapourSynth's own default. (R81 turns the older
        # _ColorRange, which counts the other way round, into _Range by itself.)
        full_range=_integer(props, "_Range", 0) == 1,
        chroma_location=_integer(props, "_ChromaLocation", -1) + 1,
    )


def _integer(props: Mapping[str, Any], name: str, default: int) -> int:
    """Reads a property that is one whole number, `default` where it is absent.

    Raises:
        InputError: it is something else, such as a list.
    """
    value = props.get(name, default)
    if not isinstance(value, int):
        raise InputError(f"the frame property {name} must be one whole number, got {value!r}")
    return value


def cuts_of(props: Mapping[str, Any]) -> tuple[bool | None, bool | None]:
    """Reads what a scene detector has said of a frame; see `Frame.cuts`."""
    names = ("_SceneChangePrev", "_SceneChangeNext")
    begins, ends = (bool(_integer(props, name, 0)) if name in props else None for name in names)
    return begins, ends


def to_frame(
    frame: "vs.VideoFrame",
    index: int,
    timing: FrameTiming,
    *,
    props: Mapping[str, Any] | None = None,
    height: int | None = None,
) -> Frame:
    """Wraps a frame of a script; its planes are views of VapourSynth's memory, which they keep.

    Args:
        frame: VapourSynth's.
        index: its number in the clip.
        timing: the clip's.
        props: used instead of the frame's own properties.
        height: rows by which a missing matrix is guessed; by default the frame's own.

    Raises:
        InputError: its colour or its time is not to be known.
    """
    props = frame.props if props is None else props
    planes: list[Plane] = []
    for number in _order(frame.format):
        plane = np.asarray(frame[number])
        # Half floats become whole ones; `write` turns them back.
        planes.append(plane.astype(np.float32) if plane.dtype == np.float16 else plane)
    return Frame(
        index=index,
        pts=timing.pts(index, props),
        planes=tuple(planes),
        format=format_of(frame.format, height or frame.height, props),
        display=display_of(props),
        cuts=cuts_of(props),
    )


def write(frame: Frame, before: Frame, target: "vs.VideoFrame") -> None:
    """Writes the planes of `frame` that are not those of `before` into VapourSynth's `target`."""
    for place, number in enumerate(_order(target.format)):
        if frame.planes[place] is not before.planes[place]:
            samples = np.asarray(target[number])
            samples[...] = frame.planes[place]


def copy_props(source: "vs.VideoFrame", target: "vs.VideoFrame") -> None:
    """Gives `target` the properties of `source`, but its colour stays described as it is."""
    own = {name: target.props[name] for name in COLOUR_PROPS if name in target.props}
    for name in list(target.props):
        del target.props[name]
    for name, value in {**source.props, **own}.items():
        target.props[name] = value


def _order(kind: "vs.VideoFormat") -> tuple[int, ...]:
    return _RGB_ORDER if kind.color_family.name == "RGB" else tuple(range(kind.num_planes))
