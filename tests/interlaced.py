"""Interlaced films whose fields are of two times, and the same scene at the time of each field."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tests.scenes import HEIGHT, WIDTH

FRAMES = 6
# Pixels that the disc moves from one field to the next, at 50 fields a second.
SPEED = 5
# Of FFmpeg's encoders, for fields without loss (or nearly so).
SETTINGS: dict[str, dict[str, str]] = {
    "ffv1": {"level": "3", "g": "1"},
    "libx264": {"preset": "ultrafast", "qp": "0", "x264-params": "tff=1"},
    "mpeg2video": {"flags": "+ildct+ilme+qscale", "global_quality": "236"},
    "prores_ks": {"flags": "+ildct"},
}


def at_time(field: int) -> npt.NDArray[np.uint8]:
    """Draws the scene at the time of a field: a red disc that moves over a texture that stays."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    waves = [np.sin(x / (9 + c)) + np.cos(y / (7 + c)) for c in range(3)]
    drawn: npt.NDArray[np.uint8]
    drawn = np.clip(100 + 18 * np.stack(waves, axis=2), 0, 255).astype(np.uint8)
    drawn[(x - 70 - SPEED * field) ** 2 + (y - 90) ** 2 <= 30**2] = (235, 10, 10)
    return drawn


def write_interlaced(
    path: Path,
    *,
    codec: str = "ffv1",
    order: str = "tff",
    form: str = "yuv422p",
    flag: bool = True,
    frames: int = FRAMES,
) -> Path:
    """Writes frames whose fields are of two times, as FFmpeg's own filters flag them."""
    with av.open(str(path), "w") as output:
        settings = dict(SETTINGS[codec])
        if order == "bff" and codec == "libx264":
            settings["x264-params"] = "bff=1"
        if not flag and codec == "mpeg2video":
            settings["flags"] = "+qscale"
        stream: Any = output.add_stream(codec, rate=Fraction(25), options=settings)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, form
        if flag:
            stream.codec_context.field_order = 2 if order == "tff" else 3
        graph = av.filter.Graph()
        start = graph.add_buffer(width=WIDTH, height=HEIGHT, format=form, time_base=Fraction(1, 25))
        mark, end = (
            graph.add("setfield", f"mode={order if flag else 'prog'}"),
            graph.add("buffersink"),
        )
        start.link_to(mark)
        mark.link_to(end)
        graph.configure()
        for number in range(frames):
            drawn = at_time(2 * number)
            first = 0 if order == "tff" else 1
            drawn[1 - first :: 2] = at_time(2 * number + 1)[1 - first :: 2]
            picture = av.VideoFrame.from_ndarray(drawn, format="rgb24").reformat(format=form)
            picture.pts, picture.time_base = number, Fraction(1, 25)
            graph.push(picture)
            output.mux(stream.encode(graph.pull()))
        output.mux(stream.encode(None))
    return path
