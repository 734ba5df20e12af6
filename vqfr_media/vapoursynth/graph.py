"""The filter's part of a script's graph: which frames VapourSynth fetches, and what it calls.

A frame depends on a window of the source of some 25 frames to each side. VapourSynth itself fetches
all of them, as frame n of clips shifted by -25 to 25, before it calls us (`std.ModifyFrame`). A
filter written in Python cannot ask for frames otherwise: `get_frame` inside of a callback holds a
worker thread that the source may need, and `get_frame_async` from threads of our own does the same
as soon as somebody waits for it. `std.ModifyFrame` calls us from one thread at a time, so
`num_streams` of them take turns by frame number.
"""

import ctypes
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import vapoursynth as vs

from vqfr_media.errors import VqfrMediaError
from vqfr_media.restoration.random_access import RandomAccess
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import FrameFaces, RestoredFace
from vqfr_media.vapoursynth.frames import (
    COLOUR_PROPS,
    FrameTiming,
    copy_props,
    refuse_fields,
    to_frame,
    write,
)

# What the filter says of each frame.
FACES, RESTORED, SKIPPED, MODEL = "VqfrFaces", "VqfrRestored", "VqfrSkipped", "VqfrModel"
# Frames between two calls of `malloc_trim`: a quarter of a millisecond per frame.
TRIM_EVERY = 32


def filtered(
    clip: vs.VideoNode,
    background: vs.VideoNode | None,
    restorer: Restorer,
    timing: FrameTiming,
    num_streams: int,
    *,
    model: str,
) -> vs.VideoNode:
    """Returns the clip that calls the restorer; `model` says what runs, in a property."""
    core = vs.core
    access = RandomAccess(restorer, clip.num_frames, requests=num_streams)
    radius = min(access.radius, clip.num_frames - 1)
    # What an earlier pass said of its faces is not true of ours. The node is our own, too, and so
    # is its cache: by itself VapourSynth keeps too few frames for a window this long, and the
    # source would decode each frame some twenty times.
    source = clip.std.RemoveFrameProps(props=[FACES, RESTORED, SKIPPED, MODEL])
    ahead = 2 * core.num_threads + 2 * num_streams
    source.std.SetVideoCache(mode=1, fixedsize=1, maxsize=2 * radius + 1 + ahead)
    window = [_shifted(source, by) for by in range(-radius, radius + 1)]
    factor = restorer.options.upscale
    size = {"width": clip.width * factor, "height": clip.height * factor}
    if background is not None:
        window.append(background)
    elif factor != 1:
        window.append(source.std.BlankClip(**size, keep=True))
    call = _selector(access, timing, radius, has_background=background is not None, model=model)
    canvas = window[-1] if len(window) > 2 * radius + 1 else source
    streams = min(num_streams, clip.num_frames)
    if streams == 1:
        return canvas.std.ModifyFrame(clips=window, selector=call)
    parts = [
        canvas.std.ModifyFrame(clips=window, selector=call).std.SelectEvery(
            cycle=streams, offsets=[turn], modify_duration=False
        )
        for turn in range(streams)
    ]
    woven = core.std.Interleave(parts, extend=True, modify_duration=False)
    return woven.std.Trim(length=clip.num_frames)


def in_script_words(error: VqfrMediaError) -> str:
    """Returns an error's message with arguments of a script where it has the command's options."""
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), str(error))


def _shifted(clip: vs.VideoNode, by: int) -> vs.VideoNode:
    """Shifts a clip: frame n is frame n + by of `clip`; beyond its ends, one that nobody reads."""
    if by < 0:
        return clip.std.DuplicateFrames(frames=[0] * -by)
    return clip.std.Trim(first=by) if by else clip


def _selector(
    access: RandomAccess, timing: FrameTiming, radius: int, *, has_background: bool, model: str
) -> Callable[..., vs.VideoFrame]:
    """Returns what VapourSynth calls with a frame's number and its window, and then the canvas."""

    def restored(n: int, frames: Sequence[vs.VideoFrame]) -> vs.VideoFrame:
        own = frames[radius]
        refuse_fields(own.props)
        frame_faces = access.frame_faces(n, lambda i: to_frame(frames[i - n + radius], i, timing))
        restorer = access.restorer
        canvas = frames[-1] if len(frames) > 2 * radius + 1 else own
        target = canvas.copy()
        if has_background:
            props: Mapping[str, Any] = {**own.props, **_colour(canvas)}
            before = to_frame(canvas, n, timing, props=props, height=own.height)
            write(restorer.blend(frame_faces, before), before, target)
        else:
            write(restorer.blend(frame_faces), frame_faces.frame, target)
        if canvas is not own:
            copy_props(own, target)
        _write_props(target, frame_faces)
        target.props[MODEL] = model
        return target

    trim, calls = _trimmer(), itertools.count(1)

    def selector(n: int, f: Sequence[vs.VideoFrame] | vs.VideoFrame) -> vs.VideoFrame:
        if next(calls) % TRIM_EVERY == 0:
            trim()
        try:
            return restored(n, f if isinstance(f, list) else [f])
        except VqfrMediaError as error:
            words = in_script_words(error)
            place = "" if words.startswith(f"frame {n}:") else f"frame {n}: "
            raise vs.Error(f"vqfr: {place}{words}") from None

    return selector


def _colour(frame: vs.VideoFrame) -> dict[str, Any]:
    return {name: frame.props[name] for name in COLOUR_PROPS if name in frame.props}


def _write_props(target: vs.VideoFrame, frame_faces: FrameFaces[RestoredFace]) -> None:
    """Writes what was done to a frame into its properties."""
    reasons = Counter(skipped.reason for skipped in frame_faces.skipped)
    target.props[FACES] = len(frame_faces.faces) + len(frame_faces.skipped)
    target.props[RESTORED] = len(frame_faces.faces)
    target.props[SKIPPED] = ", ".join(f"{count} {why}" for why, count in reasons.items())


def _trimmer() -> Callable[[], object]:
    """Returns what hands freed memory back to the system.

    VapourSynth's frames are aligned blocks, and glibc before 2.38 does not fill the holes that they
    leave with the next ones: any graph with a window grows, by a frame in every few. With it the
    process stays as it is. (Pinning glibc's threshold for `mmap` would help as well, but doubles
    the time of a network on the CPU.)
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc, and not its fault
        return lambda: None
    return lambda: trim(0)
