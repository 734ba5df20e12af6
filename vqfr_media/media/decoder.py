"""What a decoder must be told or asked beyond its pictures: alpha, times in AVI, light of HDR."""

from collections.abc import Mapping
from typing import TypedDict

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

# FFmpeg's own decoders of these leave out the alpha, which lies beside the picture in WebM.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class Light(TypedDict, total=False):
    """Fields of `StreamTags` that say for what light a picture was made."""

    mastering_display: tuple[int, ...]
    content_light: tuple[int, int]


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """Returns the decoder for the stream: FFmpeg's choice, unless that would lose its alpha."""
    context = stream.codec_context
    name = _WITH_ALPHA.get(context.name)
    if name is None or not says_alpha(stream.metadata):
        return context
    try:
        other = av.CodecContext.create(name, "r")
    except ValueError:  # PyAV's UnknownCodecError: this build has no libvpx
        return context
    assert isinstance(other, VideoCodecContext)  # noqa: S101 - by its name
    other.thread_type = "AUTO"
    return other


def says_alpha(metadata: Mapping[str, str]) -> bool:
    """Returns whether WebM's tag says that there is alpha beside the picture."""
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in metadata.items())


def light_of(picture: av.VideoFrame) -> Light:
    """Reads HDR10's static metadata from a picture; nothing where it has none.

    After FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata.
    """
    light: Light = {}
    if "MASTERING_DISPLAY_METADATA" in picture.side_data:
        raw = bytes(picture.side_data["MASTERING_DISPLAY_METADATA"])
        values = np.frombuffer(raw, np.int32, 22)
        # Ten ratios, then whether the colours and whether the luminances are there.
        if values[20] and values[21] and (values[1:20:2] > 0).all():
            units = np.array([50000] * 8 + [10000] * 2)
            light["mastering_display"] = tuple(
                int(v) for v in np.rint(values[0:20:2] / values[1:20:2] * units)
            )
    if "CONTENT_LIGHT_LEVEL" in picture.side_data:
        raw = bytes(picture.side_data["CONTENT_LIGHT_LEVEL"])
        most, mean = np.frombuffer(raw, np.uint32, 2)
        light["content_light"] = (int(most), int(mean))
    return light


class BestTimes:
    """Chooses between a picture's two times, as FFmpeg's guess_correct_pts does.

    The one is used that so far failed to rise less often. DivX and Xvid pack two pictures into one
    packet, so that in AVI the times of presentation do not rise and those of decoding are right.
    """

    def __init__(self) -> None:
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None

    def choose(self, picture: av.VideoFrame, following: av.VideoFrame | None) -> int | None:
        """Returns the time of the picture; of one only, for which the fault shows at the next."""
        pts, dts = picture.pts, picture.dts
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
        self._last_dts = pts if dts is None else dts
        self._last_pts = dts if pts is None else pts
        if pts is None or dts is None:
            return dts if pts is None else pts
        too_late = following is not None and following.pts is not None and following.pts <= pts
        return dts if too_late or self._faulty_pts > self._faulty_dts else pts
