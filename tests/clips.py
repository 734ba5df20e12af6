"""Tiny real videos with chosen properties, made with PyAV and nothing of ours."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> av.VideoFrame:
    """Draws a smooth coloured picture that moves with `number`, as rgb24."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / 7 + number / 3 + c) + np.cos(y / (5 + c) - number / 4) for c in range(3)]
    rgb = np.clip(128 + 55 * np.stack(waves, axis=2), 0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24")


def small_jpeg() -> bytes:
    """Returns an 8 × 8 JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture(0, width=8, height=8).to_ndarray()).save(file, format="JPEG")
    return file.getvalue()


def write_clip(
    path: Path,
    *,
    codec: str = "ffv1",
    pix_fmt: str = "yuv420p",
    frames: int = 6,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    width: int = WIDTH,
    height: int = HEIGHT,
    sar: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    rotation: int | None = None,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    audio: str | None = None,
    subtitles: str | None = None,
    chapters: Sequence[tuple[int, int, str]] = (),
    metadata: dict[str, str] | None = None,
    attachments: Sequence[tuple[str, str, bytes]] = (),
    cover: bytes | None = None,
    container_options: dict[str, str] | None = None,
) -> list[av.VideoFrame]:
    """Writes a clip and returns the pictures that were given to the encoder.

    Args:
        path: output; its suffix chooses the container.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        frames: how many.
        pts: their times in units of `time_base`; by default 0, 1, 2 ...
        time_base: seconds per unit.
        width: columns.
        height: rows.
        sar: sample aspect ratio.
        matrix: display matrix, nine integers.
        rotation: counter-clockwise degrees, instead of `matrix`.
        tags: attributes of the codec context, such as color_primaries.
        options: of the encoder.
        audio: name of an audio encoder; a 440 Hz tone in Danish, forced, is added.
        subtitles: name of a subtitle codec, whose packets are two plain lines.
        chapters: (start, end, title) in milliseconds.
        metadata: of the container.
        attachments: (file name, MIME type, bytes), Matroska only.
        cover: a JPEG, MP4 only.
        container_options: of the muxer.
    """
    times = list(range(frames)) if pts is None else list(pts)
    made: list[av.VideoFrame] = []
    with av.open(str(path), "w", container_options=container_options) as output:
        output.metadata.update(metadata or {})
        marks: Any = [
            {
                "id": number + 1,
                "start": start,
                "end": end,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": title},
            }
            for number, (start, end, title) in enumerate(chapters)
        ]
        output.set_chapters(marks)
        video: Any = output.add_stream(codec, rate=Fraction(25), options=options or {})
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.time_base = time_base
        video.time_base = time_base
        if sar is not None:
            video.codec_context.sample_aspect_ratio = sar
        if matrix is not None:
            video.set_display_matrix(matrix)
        if rotation is not None:
            video.set_display_rotation(rotation)
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        sound: Any = None
        if audio is not None:
            sound = output.add_stream(audio, rate=48000, layout="stereo")
            sound.metadata["language"] = "dan"
            sound.metadata["title"] = "tone"
            sound.disposition = av.stream.Disposition.default | av.stream.Disposition.forced
        words: Any = output.add_mux_stream(subtitles) if subtitles is not None else None
        if words is not None:
            words.time_base = Fraction(1, 1000)
            words.metadata["language"] = "fra"
        art: Any = None
        if cover is not None:
            art = output.add_mux_stream("mjpeg", width=8, height=8)
            art.disposition = av.stream.Disposition.attached_pic
            art.time_base = Fraction(1, 90000)
        for name, mime, data in attachments:
            output.add_attachment(name, mime, data)
        output.start_encoding()
        if art is not None:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = art, 0, 0, True
            output.mux(packet)
        if words is not None:
            for start, text in ((0, b"Bonjour"), (80, b"Au revoir")):
                data = len(text).to_bytes(2, "big") + text if subtitles == "mov_text" else text
                packet = av.Packet(data)
                packet.stream, packet.time_base = words, Fraction(1, 1000)
                packet.pts = packet.dts = start
                packet.duration = 60
                packet.is_keyframe = True
                output.mux(packet)
        for number, time in enumerate(times):
            frame = picture(number, width=width, height=height).reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, time_base
            made.append(frame)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None:
            span = float((times[-1] + 1) * time_base)
            tone = np.sin(np.arange(int(48000 * span)) * 2 * np.pi * 440 / 48000) * 0.3
            for start in range(0, len(tone), 1024):
                block = np.repeat(tone[None, start : start + 1024], 2, axis=0).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                samples.sample_rate, samples.pts = 48000, start
                output.mux(sound.encode(samples))
            output.mux(sound.encode(None))
    return made


def write_two_films(path: Path, *, frames: int = 20) -> None:
    """Writes a file with two H.264 streams, both with two B-frames between the others."""
    with av.open(str(path), "w") as output:
        films: list[Any] = []
        for _ in range(2):
            settings = {"preset": "veryfast", "bf": "2", "b_strategy": "0"}
            film: Any = output.add_stream("libx264", rate=Fraction(25), options=settings)
            film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            film.codec_context.time_base = Fraction(1, 25)
            films.append(film)
        for number in range(frames):
            for place, film in enumerate(films):
                frame = picture(number + 50 * place).reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(film.encode(frame))
        for film in films:
            output.mux(film.encode(None))


def packets(path: Path, kind: str) -> list[list[tuple[bytes, Fraction | None]]]:
    """Reads bytes and seconds of all packets, by stream of this kind ("video", "audio" ...)."""
    with av.open(str(path)) as container:
        wanted = [stream for stream in container.streams if stream.type == kind]
        result: dict[int, list[tuple[bytes, Fraction | None]]] = {s.index: [] for s in wanted}
        for packet in container.demux(wanted) if wanted else ():
            if packet.size:
                base = Fraction(packet.time_base.num, packet.time_base.den)
                time = None if packet.pts is None else packet.pts * base
                result[packet.stream_index].append((bytes(packet), time))
    return list(result.values())
