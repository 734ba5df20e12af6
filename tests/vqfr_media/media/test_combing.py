"""What is interlaced and does not say so is told from whole pictures by FFmpeg's idet."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from vqfr_media.frames import Combing
from vqfr_media.media.combing import measure_combing
from vqfr_media.media.fields import check_fields, with_fields
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions

WIDTH, HEIGHT, FRAMES = 160, 96, 14
Scene = Callable[[int], npt.NDArray[np.float64]]


def _texture() -> npt.NDArray[np.float64]:
    """Returns a picture with detail of all sizes, as photographs have, that repeats itself."""
    noise = np.random.default_rng(5).normal(size=(512, 512))
    up, across = np.meshgrid(np.fft.fftfreq(512), np.fft.rfftfreq(512), indexing="ij")
    drawn = np.fft.irfft2(np.fft.rfft2(noise) / (np.hypot(up, across) + 1e-3) ** 1.2)
    return np.asarray(128 + 40 * drawn / drawn.std())


TEXTURE = _texture()
ROWS = np.arange(HEIGHT)[:, None] + np.zeros((1, WIDTH), int)


def _grain(time: int, strength: float) -> npt.NDArray[np.float64]:
    return np.random.default_rng(time).normal(0, strength, (HEIGHT, WIDTH))


def pan(across: int, down: int = 0, grain: float = 0) -> Scene:
    """Returns a camera that moves so many pixels from one time to the next."""
    return lambda time: (
        np.roll(TEXTURE, (-down * time, -across * time), (0, 1))[:HEIGHT, :WIDTH]
        + _grain(time, grain)
    )


def lines(period: int, speed: int, grain: float = 2) -> Scene:
    """Returns horizontal lines that run up the picture."""
    return lambda time: (
        np.where((ROWS + speed * time) % period < period / 2, 60.0, 200.0) + _grain(time, grain)
    )


def head(speed: int, grain: float = 2) -> Scene:
    """Returns a bright disc that moves in front of what rests."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]

    def at(time: int) -> npt.NDArray[np.float64]:
        disc = (x - 40 - speed * time) ** 2 + (y - 48) ** 2 < 24**2
        return np.where(disc, 210.0, TEXTURE[:HEIGHT, :WIDTH]) + _grain(time, grain)

    return at


def whole(scene: Scene, frames: int = FRAMES) -> list[npt.NDArray[np.uint8]]:
    return [np.clip(scene(2 * n), 0, 255).astype(np.uint8) for n in range(frames)]


def woven(scene: Scene, frames: int = FRAMES, first: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Weaves pictures of two times each, the lines of parity `first` being the earlier ones."""
    pictures = whole(scene, frames)
    for n, picture in enumerate(pictures):
        picture[1 - first :: 2] = np.clip(scene(2 * n + 1), 0, 255)[1 - first :: 2]
    return pictures


def telecined(scene: Scene, frames: int = 20) -> list[npt.NDArray[np.uint8]]:
    """Makes 30 pictures a second of 24: of these, in turn, two fields and three."""
    film = whole(scene, frames * 4 // 5)
    fields = [picture for n, picture in enumerate(film) for _ in range(2 + n % 2)]
    made = [picture.copy() for picture in fields[: 2 * frames : 2]]
    for picture, later in zip(made, fields[1::2], strict=False):
        picture[1::2] = later[1::2]
    return made


def filtered(
    pictures: list[npt.NDArray[np.uint8]], name: str, arguments: str
) -> list[npt.NDArray[np.uint8]]:
    """Puts grey pictures through one of FFmpeg's filters."""
    graph = av.filter.Graph()
    height, width = pictures[0].shape
    nodes = [
        graph.add_buffer(width=width, height=height, format="gray", time_base=Fraction(1, 25)),
        graph.add(name, arguments),
        graph.add("buffersink"),
    ]
    for one, other in pairwise(nodes):
        one.link_to(other)
    graph.configure()
    made: list[npt.NDArray[np.uint8]] = []
    for number, values in enumerate([*pictures, None]):
        picture = None
        if values is not None:
            picture = av.VideoFrame.from_ndarray(values, format="gray")
            picture.pts, picture.time_base = number, Fraction(1, 25)
        graph.push(picture)
        while True:
            try:
                pulled = graph.pull()
            except (BlockingIOError, EOFError):
                break
            assert isinstance(pulled, av.VideoFrame)
            made.append(pulled.to_ndarray().astype(np.uint8))
    return made


def write(
    path: Path,
    pictures: list[npt.NDArray[np.uint8]],
    codec: str = "libx264",
    form: str = "yuv420p",
    **settings: str,
) -> Path:
    """Writes grey pictures as a film that says nothing of fields."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=Fraction(25), options=settings)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = form
        if codec == "mpeg4":
            stream.bit_rate = 1_500_000
        for number, values in enumerate(pictures):
            picture = av.VideoFrame.from_ndarray(values, format="gray").reformat(format=form)
            picture.pts = number
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "pictures", "codec", "form", "first"),
    [
        ("pan.mp4", woven(pan(2)), "libx264", "yuv420p", "top"),
        ("tape.avi", woven(pan(3, grain=8), first=1), "mpeg4", "yuv420p", "bottom"),
        ("head.mkv", woven(head(2)), "ffv1", "yuv422p10le", "top"),
        ("tilt.mov", woven(pan(0, 2), first=1), "libx264", "yuv420p", "bottom"),
        ("packed.mkv", woven(pan(2)), "rawvideo", "yuyv422", "top"),
        ("rgb.mkv", woven(head(2), first=1), "ffv1", "bgr0", "bottom"),
    ],
)
def test_fields_that_nothing_speaks_of(
    tmp_path: Path,
    name: str,
    pictures: list[npt.NDArray[np.uint8]],
    codec: str,
    form: str,
    first: str,
) -> None:
    source = write(tmp_path / name, pictures, codec, form)
    with open_video(source) as reader:
        assert (reader.info.tags.field_order, reader.info.first_field) == ("", "")
    with open_video(source, fields="auto") as reader:
        info = reader.info
    # The output is told to be what the source said it was.
    assert (info.first_field, info.tags.field_order) == (first, "")
    assert info.combing == Combing(
        pictures=FRAMES - 2,
        top_first=FRAMES - 2 if first == "top" else 0,
        bottom_first=FRAMES - 2 if first == "bottom" else 0,
        whole=0,
        repeated=0,
    )
    (said,) = check_fields(source, info, RestoreOptions())
    assert f"interlaced, {first} field first in 12 of 12 pictures looked at" in said
    assert "the output does not say either that it is interlaced" in said
    kept = with_fields(info, "keep", source)
    assert (kept.first_field, kept.tags.field_order) == (first, first)


@pytest.mark.parametrize(
    "pictures",
    [
        *(whole(lines(period, speed)) for period in (2, 3, 4, 6) for speed in (0, 1, 2, 3)),
        whole(pan(0, 1, grain=8)),
        whole(pan(20, 13)),
        whole(head(20)),
        whole(lambda time: 128 + _grain(time, 30)),
        woven(lambda time: TEXTURE[:HEIGHT, :WIDTH] + _grain(time, 3)),  # nothing moves
        filtered(woven(pan(3, 1, grain=3)), "bwdif", "mode=send_frame:parity=tff"),
        filtered(woven(pan(3, 1, grain=3)), "bwdif", "mode=send_field:parity=tff"),
        filtered(woven(pan(3, 1, grain=3)), "scale", "160:120"),
        filtered(woven(pan(3, 1, grain=3)), "scale", "120:64"),
        filtered(whole(pan(2)), "scale", "160:192:flags=neighbor"),
        # Lines that were doubled, as of captures with every second field, and move up or down.
        filtered(whole(pan(0, 1)), "scale", "160:192:flags=neighbor"),
        filtered(whole(pan(1, -1, grain=2)), "scale", "160:192:flags=neighbor"),
        filtered(whole(pan(0, 1)), "scale", "160:192:flags=bilinear"),
        whole(pan(2), frames=2),
    ],
)
def test_whole_pictures_are_taken_for_whole(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]]
) -> None:
    source = write(tmp_path / "a.mp4", pictures, crf="30", preset="veryfast")
    with open_video(source, fields="auto") as reader:
        info = reader.info
    assert info.first_field == ""
    assert check_fields(source, info, RestoreOptions()) == ()


def test_a_long_film_is_looked_at_in_places(tmp_path: Path) -> None:
    # 6 places, of each of which 8 pictures have two neighbours.
    source = write(tmp_path / "a.mp4", woven(pan(2), frames=240), g="10", preset="ultrafast")
    combing = measure_combing(source)
    assert combing is not None
    assert (combing.pictures, combing.top_first) == (48, 48)
    # Interlaced in its last third only.
    pictures = [*whole(pan(2), frames=165), *woven(pan(2), frames=75)]
    source = write(tmp_path / "b.mp4", pictures, g="10", preset="ultrafast")
    with open_video(source, fields="auto") as reader:
        info = reader.info
    assert info.first_field == ""
    # Of its 96 lines the height would say that the top field is first.
    later = [*whole(pan(2), frames=165), *woven(pan(2), frames=75, first=1)]
    tape = write(tmp_path / "c.mp4", later, g="10", preset="ultrafast")
    with open_video(tape, fields="keep") as reader:
        assert (reader.info.first_field, reader.info.tags.field_order) == ("bottom", "bottom")
    (said,) = check_fields(source, info, RestoreOptions())
    assert "16 of 48 pictures looked at are interlaced" in said
    assert "--fields keep" in said


def test_film_made_video_is_told_by_its_repeated_fields(tmp_path: Path) -> None:
    source = write(tmp_path / "a.mkv", telecined(pan(3), 60), "ffv1")
    combing = measure_combing(source)
    assert combing is not None
    assert (combing.first_field, combing.of_film) == ("top", True)
    with open_video(source, fields="auto") as reader:
        (said,) = check_fields(source, reader.info, RestoreOptions())
    assert "pictures looked at (film with fields repeated, 3:2), though the file" in said
    interlaced = measure_combing(write(tmp_path / "b.mkv", woven(pan(3), 60), "ffv1"))
    assert interlaced is not None
    assert (interlaced.first_field, interlaced.of_film) == ("top", False)


def test_what_cannot_be_interlaced_is_not_measured(tmp_path: Path) -> None:
    odd = [picture[:95] for picture in woven(pan(2))]
    assert measure_combing(write(tmp_path / "odd.mkv", odd, "ffv1", "gray")) is None
    tall = [np.resize(picture, (1200, 64)) for picture in woven(pan(2), frames=3)]
    assert measure_combing(write(tmp_path / "tall.mkv", tall, "ffv1", "gray")) is None
    assert measure_combing(write(tmp_path / "a.gif", whole(pan(2)), "gif", "gray")) is None
    # Damage is told by who reads the film.
    source = write(tmp_path / "a.mkv", woven(pan(2), frames=40), "ffv1")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 3])
    combing = measure_combing(source)
    assert combing is not None
    assert 8 <= combing.top_first < 20
