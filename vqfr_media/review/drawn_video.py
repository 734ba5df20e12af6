"""Drawn pictures as a video that has the times, the sound and the other streams of its source."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from vqfr_media.errors import OptionError
from vqfr_media.frames import Display, Frame, Matrix, PixelFormat, VideoInfo
from vqfr_media.media.colour import from_rgb
from vqfr_media.media.colour_tags import KR_KB, MATRICES
from vqfr_media.media.image import FORMATS
from vqfr_media.media.rgb_clip import Picture
from vqfr_media.media.write import open_writer
from vqfr_media.options import EncodeOptions
from vqfr_media.review.picture import pad_to_even

# Lossy, but far better than what it shows.
QUALITY = 17.0


def is_picture_file(path: Path) -> bool:
    """Returns whether the suffix of an output asks for a picture rather than a video."""
    return path.suffix.lower() in FORMATS


def refuse_video_of_images(output: Path) -> None:
    """Raises an OptionError where the output of images is not to be an image itself."""
    if not is_picture_file(output):
        raise OptionError(f"{output}: what is drawn of images is an image; give it a name in .png")


def write_drawn(
    output: Path, source: Path, info: VideoInfo, drawn: Iterable[tuple[Frame, Picture]]
) -> list[str]:
    """Writes pictures, each with the time of a frame of `source`; returns the writer's warnings.

    Sound, subtitles and chapters of the source are copied; what the container cannot hold is left
    out, with a warning. The pictures are 8-bit 4:2:0 whatever the source is.

    Args:
        output: gets its name when it is complete; its suffix chooses the container.
        source: where the frames come from.
        info: of `source`.
        drawn: frames in order, and the upright pictures of them, all of one size.

    Raises:
        ValueError: there are no pictures, or their sizes differ.
        InputError: the output is the source, or its container cannot hold the pictures.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    waiting = iter(drawn)
    first = next(waiting, None)
    if first is None:
        raise ValueError(f"{output} needs at least one picture")
    kind = _described(info, first[1])
    options = EncodeOptions(quality=QUALITY, drop_unsupported_streams=True)
    with open_writer(output, source, kind, options) as writer:
        for frame in _converted(chain([first], waiting), kind.format):
            writer.write(frame)
        # Read before the end of the block: what follows is about the source's streams.
    return writer.warnings


def _described(info: VideoInfo, picture: Picture) -> VideoInfo:
    """Describes the drawn video: the source's times and colours, another picture."""
    rows, columns, _ = pad_to_even(picture).shape
    matrix: Matrix = "bt709"
    if info.format.family == "yuv" and info.format.matrix in KR_KB:
        matrix = info.format.matrix
    number = next(code for code, name in MATRICES.items() if name == matrix)
    return replace(
        info,
        width=columns,
        height=rows,
        format=PixelFormat(
            family="yuv", subsampling=(1, 1), matrix=matrix, chroma_location="center"
        ),
        display=Display(),
        tags=replace(
            info.tags,
            matrix=number,
            color_range=1,
            chroma_location=2,
            sample_aspect_ratio=None,
            display_matrix=None,
            alpha=False,
        ),
    )


def _converted(
    drawn: Iterable[tuple[Frame, Picture]], pixel_format: PixelFormat
) -> Iterator[Frame]:
    shape = None
    for frame, picture in drawn:
        shape = shape or picture.shape
        if picture.shape != shape:
            raise ValueError(f"expected pictures of {shape}, got {picture.shape}")
        luma, *chroma = from_rgb(
            pad_to_even(picture).astype(np.float32) / np.float32(255), pixel_format
        )
        half = (luma.shape[1] // 2, luma.shape[0] // 2)
        # A mean over 2 × 2 samples lies in their centre, as the format says.
        planes = [luma, *(cv2.resize(p, half, interpolation=cv2.INTER_AREA) for p in chroma)]
        yield replace(
            frame,
            planes=tuple(np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes),
            format=pixel_format,
            display=Display(),
        )
