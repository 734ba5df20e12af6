"""Whether the pixels of a film keep their shape: a recording may go from 4:3 to 16:9."""

from fractions import Fraction
from pathlib import Path

from av.rational import AVRational
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vqfr_media.errors import MediaError
from vqfr_media.media.input_container import fraction


class PixelShape:
    """Compares the shape of each picture's pixels with that of the first."""

    def __init__(self, path: Path, stream: VideoStream, decoder: VideoCodecContext) -> None:
        self._path, self._stream, self._decoder = path, stream, decoder
        self._first: Fraction | None = None

    def check(self, number: int) -> None:
        """Looks at the picture that was decoded last.

        The decoder speaks of the picture that it read last, and gives those out first that are
        shown before it.

        Args:
            number: of the frame that the decoder has just given out, from 0.

        Raises:
            MediaError: the shape is another one than before.
        """
        now = _said(self._decoder.sample_aspect_ratio)
        if self._first is None:  # what is nowhere said is shown square
            self._first = now or _said(self._stream.sample_aspect_ratio) or Fraction(1)
        if now is not None and now != self._first:
            raise MediaError(
                f"{self._path}: its pixels change from {_ratio(self._first)} to {_ratio(now)} "
                f"(width : height) at frame {number + self._decoder.reorder_depth}, "
                "as between 4:3 and 16:9; split it there with ffmpeg first"
            )


def _said(ratio: AVRational | None) -> Fraction | None:
    return fraction(ratio) if ratio and ratio.num > 0 < ratio.den else None


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"
