"""Clips as plain RGB pictures: for what we make ourselves, and for looking at what was made.

The restore path never comes here: it keeps a source's planes (`read.py`, `write.py`).
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from vqfr_media.errors import CodecError, VqfrMediaError
from vqfr_media.files import atomic_output, is_medium_error, output_error
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.codecs import can_encode
from vqfr_media.media.colour import to_rgb
from vqfr_media.media.image import ImageExtras, write_image
from vqfr_media.media.input_container import reason_of
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions

Picture = npt.NDArray[np.uint8]
"""(h, w, 3) RGB."""


def picture_of(frame: Frame) -> Picture:
    """Converts the whole frame, as stored, to 8-bit RGB; chroma is enlarged with its siting."""
    planes = [
        plane.astype(np.float32)
        if plane.shape == (frame.height, frame.width)
        else cv2.warpAffine(
            plane.astype(np.float32),
            frame.format.luma_to_plane(number)[:2],
            (frame.width, frame.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ).astype(np.float32, copy=False)
        for number, plane in enumerate(frame.planes[: frame.format.num_planes])
    ]
    return np.rint(to_rgb(planes, frame.format).clip(0, 1) * 255).astype(np.uint8)


def read_pictures(path: Path) -> Iterator[Picture]:
    """Yields every frame of a video.

    Raises:
        MediaError: what `open_video` and its frames raise.
    """
    with open_video(path) as reader:
        yield from map(picture_of, reader)


def write_picture(path: Path, picture: Picture) -> None:
    """Writes one picture in the image format that the suffix of `path` names.

    Raises:
        CodecError: the suffix is unknown.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    red, green, blue = (np.ascontiguousarray(picture[:, :, channel]) for channel in range(3))
    kind = PixelFormat(family="rgb", bits=8, full_range=True)
    frame = Frame(index=0, pts=0, planes=(green, blue, red), format=kind)
    write_image(path, frame, ImageExtras(), EncodeOptions())


def write_clip(
    path: Path, pictures: Iterable[Picture], *, frame_rate: Fraction, quality: float
) -> int:
    """Writes pictures as H.264 (4:2:0, BT.601, limited range); returns how many there were.

    Args:
        path: gets its name only when the clip is complete; its suffix chooses the container.
        pictures: at least one, all of one even size.
        frame_rate: pictures per second.
        quality: constant quality (crf), 0 to 51, lower is better.

    Raises:
        ValueError: there are no pictures, or their sizes are odd or differ.
        CodecError: this build of PyAV has no libx264, or it refuses the pictures.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    if not can_encode("libx264"):
        raise CodecError(f"{path}: needs libx264, which this build of PyAV does not have")
    waiting = iter(pictures)
    first = next(waiting, None)
    if first is None:
        raise ValueError(f"{path} needs at least one picture")
    rows, columns, _ = first.shape
    if rows % 2 or columns % 2:
        raise ValueError(f"4:2:0 needs even sizes, got {first.shape = }")
    count = 0
    with atomic_output(path) as temporary:
        try:
            with av.open(f"file:{temporary}", "w") as output:
                stream = output.add_stream(
                    "libx264", rate=frame_rate, options={"crf": f"{quality:g}"}
                )
                assert isinstance(stream, VideoStream)  # noqa: S101 - of a video encoder
                stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
                stream.codec_context.colorspace = 6  # H.273: BT.601
                stream.codec_context.color_range = 1  # limited
                for count, picture in enumerate(chain([first], waiting), start=1):
                    if picture.shape != first.shape:
                        raise ValueError(f"expected {first.shape}, got {picture.shape = }")
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                        format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG"
                    )
                    frame.pts = count - 1
                    frame.time_base = 1 / frame_rate
                    output.mux(stream.encode(frame))
                output.mux(stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            if isinstance(error, VqfrMediaError):  # of the pictures' own making
                raise
            if is_medium_error(error):
                raise output_error(path, error) from error
            raise CodecError(
                f"{path}: cannot be written as H.264: {reason_of(error)}; "
                "`vqfr-media doctor` lists the encoders that are here"
            ) from error
    return count
