"""A few pictures through H.264 and back, in memory: what films do to faces."""

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

from vqfr_media.errors import BackendError, CodecError
from vqfr_media.media.codecs import can_encode
from vqfr_media.media.input_container import reason_of
from vqfr_media.media.rgb_clip import Picture


def round_trip(
    pictures: Sequence[Picture], *, crf: float, preset: str = "veryfast"
) -> list[Picture]:
    """Returns each picture as a player would show it after x264 (4:2:0, BT.601, limited range).

    The same pictures give the same result, however many are made side by side. Sides that are odd
    or below 16 px are filled up for the encoder by repeating the border, and cut off again.

    Args:
        pictures: at least one, (h, w, 3) RGB, all of one size.
        crf: constant rate factor, 0 to 51, lower is better.
        preset: x264's; a slower one spends fewer bits for the same crf.

    Raises:
        ValueError: there are no pictures, or their sizes differ.
        BackendError: this build of PyAV has no libx264.
        CodecError: it refuses the pictures or the preset.
    """
    if not pictures:
        raise ValueError("pictures must hold at least one")
    rows, columns = pictures[0].shape[:2]
    for picture in pictures:
        if picture.shape != (rows, columns, 3):
            raise ValueError(f"expected {(rows, columns, 3)}, got {picture.shape = }")
    if not can_encode("libx264"):
        raise BackendError("this build of PyAV has no libx264; install the one from PyPI")
    below, beside = (max(16, side + side % 2) - side for side in (rows, columns))
    try:
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)  # noqa: S101 - it is a video encoder
        encoder.width, encoder.height = columns + beside, rows + below
        encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
        # One thread, no look-ahead and no B frames: nothing depends on time, nothing is held back.
        encoder.thread_count = 1
        encoder.options = {"crf": f"{crf:.3f}", "preset": preset, "tune": "zerolatency"}
        decoder = av.CodecContext.create("h264", "r")
        assert isinstance(decoder, av.VideoCodecContext)  # noqa: S101 - as above
        decoder.thread_count = 1
        packets = []
        for number, picture in enumerate(pictures):
            filled = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_REPLICATE)
            frame = av.VideoFrame.from_ndarray(np.asarray(filled, np.uint8), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG"
            )
            frame.pts = number
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        shown = [frame for packet in packets for frame in decoder.decode(packet)]
        shown += decoder.decode(None)
    except av.FFmpegError as error:
        raise CodecError(
            f"x264 cannot do {columns}x{rows} at crf {crf:g}, preset {preset!r}: {reason_of(error)}"
        ) from error
    return [
        np.ascontiguousarray(
            frame.reformat(
                format="rgb24", src_colorspace="ITU601", src_color_range="MPEG"
            ).to_ndarray()[:rows, :columns]
        )
        for frame in shown
    ]
