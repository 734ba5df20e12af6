"""Clips with red discs, which `stand_ins.MarkerDetector` takes for faces."""

import functools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 320, 192


@functools.cache
def _place(*, after: bool) -> npt.NDArray[np.float64]:
    """The textured background before or after a cut; not to be written to."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    waves = [np.sin(x / (9 + c) + (40 if after else 0)) + np.cos(y / (7 + c)) for c in range(3)]
    picture: npt.NDArray[np.float64] = np.clip(100 + 18 * np.stack(waves, axis=2), 0, 255)
    return picture[::-1, ::-1] if after else picture


@functools.lru_cache(maxsize=128)
def _drawn(index: int, *, discs: int, cut: int | None) -> npt.NDArray[np.uint8]:
    """What `scene` returns: many clips have the same pictures, which are drawn once."""
    after = cut is not None and index >= cut
    y, x = np.ogrid[0:HEIGHT, 0:WIDTH]
    picture = _place(after=after)
    noise = np.random.default_rng(index).normal(0, 2, picture.shape)
    drawn: npt.NDArray[np.uint8] = np.clip(picture + noise, 0, 255).astype(np.uint8)
    for number in range(discs):
        centre_x = 70 + 150 * number + 1.3 * index % 40
        centre_y = (70 if not after else 110) + 0.7 * index % 30
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= (26 + 4 * number) ** 2
        drawn[inside] = (235, 10, 10)
    return drawn


def scene(index: int, *, discs: int = 1, cut: int | None = None) -> npt.NDArray[np.uint8]:
    """Draws (192, 320, 3) uint8 RGB: textured, with drifting discs; another place from `cut` on."""
    return _drawn(index, discs=discs, cut=cut).copy()


def write_scene(
    path: Path,
    *,
    frames: int = 12,
    different: int | None = None,
    pix_fmt: str = "yuv420p",
    codec: str = "ffv1",
    discs: int = 1,
    cut: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes `frames` pictures of `scene` at 25 frames per second; returns the path.

    After `different` pictures they come again from the first.
    """
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=Fraction(25), options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for index in range(frames):
            shown = scene(index % (different or frames), discs=discs, cut=cut)
            rgb = av.VideoFrame.from_ndarray(shown, format="rgb24")
            picture = rgb.reformat(format=pix_fmt)
            picture.pts = index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path
