"""Clips made of given pictures, without loss, so that what is drawn or measured is known."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tests.scenes import HEIGHT, WIDTH
from vqfr_media.frames import Display, Frame, PixelFormat

Picture = npt.NDArray[np.uint8]
RED = (225, 20, 20)
RGB = PixelFormat(family="rgb", full_range=True)


def frame_of(
    picture: Picture, *, index: int = 0, pts: int = 0, display: Display | None = None
) -> Frame:
    """A frame whose G, B and R planes are those of `picture` (h, w, 3)."""
    planes = tuple(np.ascontiguousarray(picture[:, :, channel]) for channel in (1, 2, 0))
    return Frame(index=index, pts=pts, planes=planes, format=RGB, display=display or Display())


def write_pictures(
    path: Path,
    pictures: Iterable[Picture],
    *,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    sound: bool = False,
) -> Path:
    """Writes RGB pictures exactly, as FFV1 or H.264; `times` are in units of `time_base`."""
    frames = list(pictures)
    codec, pix_fmt = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("libx264rgb", "bgr24")
    settings = {} if codec == "ffv1" else {"qp": "0"}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=1 / time_base, options=settings)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        tone: Any = output.add_stream("flac", rate=8000, layout="mono") if sound else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts = number if times is None else times[number]
            frame.time_base = time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            samples = np.zeros((1, int(8000 * len(frames) * time_base)), np.int16)
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            block.sample_rate, block.pts = 8000, 0
            output.mux(tone.encode(block))
            output.mux(tone.encode(None))
    return path


def decoded(path: Path) -> list[Picture]:
    """Every frame as RGB, by FFmpeg."""
    with av.open(str(path)) as container:
        frames: Any = container.decode(video=0)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def times_of(path: Path) -> list[Fraction]:
    """Seconds of every frame."""
    with av.open(str(path)) as container:
        frames: Any = container.decode(video=0)
        return [frame.pts * Fraction(frame.time_base.num, frame.time_base.den) for frame in frames]


def disc(*centres: tuple[float, float], radius: float = 26.0) -> Picture:
    """(192, 320, 3): waves without noise, and red discs that `MarkerDetector` takes for faces."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    waves = [np.sin(x / (9 + c)) + np.cos(y / (7 + c)) for c in range(3)]
    picture: Picture = np.clip(110 + 18 * np.stack(waves, axis=2), 0, 255).astype(np.uint8)
    for left, top in centres or [(150.0, 90.0)]:
        picture[(x - left) ** 2 + (y - top) ** 2 <= radius**2] = RED
    return picture
