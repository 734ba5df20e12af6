"""A video file as frames: exact times, the decoder's own planes, and no silent end."""

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vqfr_media.errors import MediaError
from vqfr_media.frames import Display, Frame, PixelFormat, StreamTags, VideoInfo
from vqfr_media.media.colour_tags import resolve_format
from vqfr_media.media.damage import DamagedDecoder, DecodedPicture, FirstPackets, losses
from vqfr_media.media.decoder import BestTimes, decoder_of, light_of
from vqfr_media.media.fields import field_order, with_fields
from vqfr_media.media.formats import Layout, find_layout, unpack
from vqfr_media.media.input_container import (
    DAMAGE_ADVICE,
    AnyPacket,
    duration,
    find_stream,
    fraction,
    has_running_clock,
    open_container,
    packets_from,
    quarter_turns,
    reason_of,
    refuse_truncated,
)
from vqfr_media.media.pixel_shape import PixelShape
from vqfr_media.media.quiet_damage import QuietDamage
from vqfr_media.options import FieldsChoice


class VideoReader:
    """Frames of one video stream in presentation order, once; made by `open_video`."""

    info: VideoInfo
    """What is known of the stream; format and display are those of the first decoded frame."""
    notes: list[str]
    """What a user must know of the file, such as what it has lost; complete at the end
    of the frames, for a reader that was not sent elsewhere by `go_to`."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, *, keep_damaged: bool
    ) -> None:
        self.notes = []
        self._times: list[int] = []
        self._path = path
        self._container = container
        self._stream = stream
        stream.thread_type = "AUTO"
        self._decoder = decoder_of(stream)
        self._shape = PixelShape(path, stream, self._decoder)
        # AVI counts pictures only, and FFmpeg makes their times up: some of them wrongly.
        self._best = BestTimes() if container.format.name == "avi" else None
        self._from: int | None = None  # pts of the key frame that was gone to
        self._over_damage: DamagedDecoder | None = None
        if keep_damaged:
            self._over_damage = DamagedDecoder(container, stream, self._decoder)
            self._pictures = self._decode_over_damage(self._over_damage)
        else:
            self._pictures = self._decode(container.demux(stream))
        self._last: tuple[int, int] | None = None  # index and pts of the last frame
        self._last_duration = 0
        self._first = next(self._pictures, None)
        if self._first is None:
            raise MediaError(f"{path}: its video stream has no frames")
        self._name = self._first.picture.format.name
        layout = find_layout(self._name)
        if layout is None:
            raise MediaError(
                f"{path}: the pixel format {self._name} is not supported; convert it with "
                f"`ffmpeg -i {path.name} -c:v ffv1 -pix_fmt yuv444p16le converted.mkv`"
            )
        self._layout: Layout = layout
        self.info = self._describe(self._first.picture)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; frames that were handed out stay valid."""
        self._pictures.close()
        self._first = None
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames that have not been read yet; closing this iterator closes the file.

        A frame without a time stamp, or with one that is not later than the frame before it, gets
        its decoding time stamp if that is later, else the time at which the frame before it ends.

        Raises:
            MediaError: the stream is damaged, or its size or format changes.
        """
        for frame, _ in self.marked():
            yield frame

    def marked(self) -> Iterator[tuple[Frame, bool]]:
        """Yields frames as iteration does, each with whether `go_to` may find it as a key frame."""
        try:
            decoded = self._first
            self._first = None
            while decoded is not None:
                following, failure = self._next_in_avi()
                frame = self._frame(decoded, following)
                picture = decoded.picture
                yield frame, bool(picture.key_frame) and picture.pts == frame.pts
                if failure is not None:
                    raise failure
                decoded = next(self._pictures, None) if self._best is None else following
            if self._from is None:
                self.notes += losses(self._path, self.info, self._times)
        finally:
            self.close()

    def go_to(self, pts: int, index: int) -> bool:
        """Makes the key frame at `pts` the next one, and `index` its number.

        False where it cannot be reached; the reader is of no use then. Once only, and not for a
        reader that keeps damaged pictures.

        Raises:
            MediaError: the stream is damaged there.
        """
        assert self._over_damage is None  # noqa: S101 - its index has no key frames
        self._pictures.close()
        packets = packets_from(self._container, self._stream, pts)
        if packets is None:
            return False
        if self._decoder is not self._stream.codec_context:  # PyAV looks after its own only
            self._decoder.flush_buffers()
        self._from = pts
        self._last = (index - 1, pts - 1)
        self._pictures = self._decode(packets)
        self._first = next(self._pictures, None)
        return self._first is not None and self._first.picture.pts == pts

    def _next_in_avi(self) -> tuple[DecodedPicture | None, MediaError | None]:
        """Returns the next picture, or why there is none; nothing where no time depends on it."""
        try:
            return (None if self._best is None else next(self._pictures, None)), None
        except MediaError as error:
            return None, error

    def _decode(self, packets: Iterator[AnyPacket]) -> Generator[DecodedPicture]:
        """Yields decoded pictures; every failure below becomes a MediaError here."""
        num_packets, start = 0, FirstPackets()
        quiet = QuietDamage(self._decoder.name)
        try:
            for packet in packets:
                if packet.is_corrupt and not has_running_clock(self._container):
                    # Only part of it could be read: give out what the decoder still holds. In a
                    # transport stream this may be a mere splice, which the decoder must judge.
                    yield from self._checked(map(DecodedPicture, self._decoder.decode(None)))
                    raise self._damaged("a packet is incomplete")
                num_packets += packet.size > 0
                if self._from is None:
                    quiet.look(packet)
                pictures = self._decoder.decode(packet)
                start.add(packet, pictures)
                yield from self._checked(map(DecodedPicture, pictures))
        except (av.FFmpegError, OSError) as error:
            raise self._damaged(reason_of(error)) from error
        if self._from is None:
            self.notes += quiet.notes(float(fraction(self._stream.time_base)))
        if self._from is None and self._best is None:
            self.notes += start.lost(float(fraction(self._stream.time_base)))
        if missing := self._not_found(num_packets):
            raise self._damaged(missing)

    def _decode_over_damage(self, decoder: DamagedDecoder) -> Generator[DecodedPicture]:
        yield from self._checked(decoder.decode())
        self.notes += decoder.lost
        if missing := self._not_found(decoder.num_packets):
            self.notes.append(missing)

    def _not_found(self, num_packets: int) -> str:
        """Says that the file claims more frames than there are; empty if it does not."""
        claimed = matroska_frame_count(self._stream)
        if claimed is None or num_packets >= claimed or self._from is not None:
            return ""
        return f"{claimed - num_packets} of {claimed} frames cannot be found"

    def _checked(self, pictures: Iterable[DecodedPicture]) -> Iterator[DecodedPicture]:
        for decoded in pictures:
            picture = decoded.picture
            if self._from is not None and picture.pts is not None and picture.pts < self._from:
                continue  # shown before the key frame, made of pictures that were not read
            # In AVI, one picture is taken ahead of the frame that is given out.
            self._shape.check(self._last_index + 1 + (self._best is not None))
            if picture.is_corrupt and self._over_damage is None:
                raise self._damaged("the decoder had to guess parts of the next frame")
            yield decoded

    def _damaged(self, reason: str) -> MediaError:
        if self._last is None:
            return MediaError(
                f"{self._path}: damaged, no frame can be decoded: {reason}; {DAMAGE_ADVICE}"
            )
        index, pts = self._last
        seconds = float(pts * fraction(self._stream.time_base))
        return MediaError(
            f"{self._path}: damaged after frame {index} ({seconds:.3f} s): {reason}; "
            f"{DAMAGE_ADVICE}"
        )

    def _frame(self, decoded: DecodedPicture, following: DecodedPicture | None) -> Frame:
        info, picture = self.info, decoded.picture
        is_now = (picture.width, picture.height, picture.format.name)
        was = (info.width, info.height, self._name)
        if is_now != was:
            raise MediaError(
                f"{self._path}: the video changes from {was[0]}×{was[1]} {was[2]} to "
                f"{is_now[0]}×{is_now[1]} {is_now[2]} after frame {self._last_index}; "
                "split it there, or scale it to one size with ffmpeg first"
            )
        frame = Frame(
            index=self._last_index + 1,
            pts=self._time_of(picture, following.picture if following else None),
            planes=unpack(picture, self._layout, self._path),
            format=info.format,
            display=info.display,
            duration=max(0, picture.duration or 0),
            damaged=decoded.damaged,
            says_interlaced=bool(picture.interlaced_frame),
        )
        self._times.append(frame.pts)
        self._last = (frame.index, frame.pts)
        self._last_duration = frame.duration
        return frame

    @property
    def _last_index(self) -> int:
        return -1 if self._last is None else self._last[0]

    def _time_of(self, picture: av.VideoFrame, following: av.VideoFrame | None) -> int:
        times = [picture.pts, picture.dts]
        if self._best is not None:
            times.insert(0, self._best.choose(picture, following))
        if self._last is None:
            return next((t for t in times if t is not None), 0)
        last = self._last[1]
        for time in times:
            if time is not None and time > last:
                return time
        step = self._last_duration or round(1 / (self.info.frame_rate * self.info.time_base))
        return last + max(1, step)

    def _describe(self, picture: av.VideoFrame) -> VideoInfo:
        stream, layout = self._stream, self._layout
        matrix: tuple[int, ...] | None = None
        if "DISPLAYMATRIX" in picture.side_data:
            raw = picture.side_data["DISPLAYMATRIX"]
            matrix = tuple(int(v) for v in np.frombuffer(bytes(raw), np.int32))
        ratio = stream.sample_aspect_ratio
        sar = fraction(ratio) if ratio and ratio.num > 0 < ratio.den else None
        tags = StreamTags(
            primaries=picture.color_primaries,
            transfer=picture.color_trc,
            matrix=picture.colorspace,
            color_range=picture.color_range,
            chroma_location=picture.chroma_location,
            sample_aspect_ratio=sar,
            display_matrix=matrix,
            field_order=field_order(picture, self._decoder),
            alpha=len(layout.places) > (1 if layout.family == "gray" else 3),
            **light_of(picture),
        )
        return VideoInfo(
            width=picture.width,
            height=picture.height,
            format=_resolve(layout, tags, picture.height, stream.codec_context.name),
            display=Display(
                sample_aspect_ratio=sar or Fraction(1),
                quarter_turns=quarter_turns(matrix) if matrix else 0,
            ),
            time_base=fraction(stream.time_base),
            frame_rate=_frame_rate(stream),
            frame_count_from_header=stream.frames or matroska_frame_count(stream),
            duration_seconds_from_header=duration(self._container, stream),
            picture_seconds_from_header=_picture_seconds(stream),
            clock_start=Fraction(self._container.start_time or 0, av.time_base),
            tags=tags,
            first_field=tags.field_order,
        )


def _resolve(layout: Layout, tags: StreamTags, height: int, codec: str) -> PixelFormat:
    return resolve_format(
        layout.family,
        layout.bits,
        subsampling=layout.subsampling,
        height=height,
        matrix=tags.matrix,
        primaries=tags.primaries,
        full_range={1: False, 2: True}.get(tags.color_range),
        chroma_location=tags.chroma_location,
        jpeg=layout.jpeg or codec == "mjpeg",
    )


def _frame_rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and rate.num > 0 < rate.den:
            return fraction(rate)
    return Fraction(25)


def matroska_frame_count(stream: VideoStream) -> int | None:
    """Returns the number of frames that a Matroska statistics tag claims."""
    for key, value in stream.metadata.items():
        if key.startswith("NUMBER_OF_FRAMES") and value.isdecimal():
            return int(value)
    return None


def _picture_seconds(stream: VideoStream) -> float | None:
    if stream.duration:
        return float(stream.duration * fraction(stream.time_base))
    # Matroska's statistics: 00:01:02.500000000.
    for key, value in stream.metadata.items():
        found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", value)
        if key.startswith("DURATION") and found:
            hours, minutes, seconds = map(float, found.groups())
            return 3600 * hours + 60 * minutes + seconds
    return None


def open_video(
    path: str | Path, *, keep_damaged: bool = False, fields: FieldsChoice | None = None
) -> VideoReader:
    """Opens a video and decodes its first frame; use it in a `with` block.

    Decodes on all cores. Planes are read-only and stay valid for as long as they are kept; planar
    formats are not copied. Packed and semi-planar formats (nv12, p010, yuyv422, rgb24, bgra,
    pal8 ...) are taken apart, exactly, into planes of the same depth and subsampling.

    With `keep_damaged`, what can be decoded of a damaged file is read, on one core, and frames say
    if they are damaged; `VideoReader.notes` says what is not there at all.

    With `fields`, the option of that name, `VideoReader.info` says how the pictures are to be
    treated, also where they are interlaced and do not say so.

    Raises:
        MediaError: not a video, no video stream, an unsupported pixel format, truncated (told
            from the container's own sizes), or damaged from its first frame on.
    """
    path = Path(path)
    container = open_container(path)
    try:
        if not keep_damaged:
            refuse_truncated(path)
        stream = find_stream(container, path)
        reader = VideoReader(path, container, stream, keep_damaged=keep_damaged)
        if fields is not None:
            reader.info = with_fields(reader.info, fields, path)
        return reader
    except BaseException:
        with suppress(Exception):  # the first failure is the one to report
            container.close()
        raise
