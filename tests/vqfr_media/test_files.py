"""What an output may replace, what a source may be, and what an image cannot be told."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.clips import write_clip
from vqfr_media.errors import CodecError, InputError, MediaError, OptionError, OutputError
from vqfr_media.files import atomic_output, check_place, refuse_same, remove_leftovers, write_text
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.image import (
    ImageExtras,
    check_image_output,
    is_image,
    read_image,
    write_image,
)
from vqfr_media.media.read import open_video
from vqfr_media.media.write import open_writer, try_writer
from vqfr_media.options import EncodeOptions

OPTIONS = EncodeOptions()


def image(rows: int = 4, columns: int = 6, *, count: int = 1, bits: int = 8) -> Frame:
    plane = np.zeros((rows, columns), np.uint8 if bits == 8 else np.uint16)
    family = PixelFormat(family="gray" if count < 3 else "rgb", bits=bits, full_range=True)
    return Frame(0, 0, (plane,) * count, family)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_source_is_never_the_output(tmp_path: Path) -> None:
    source, other = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(b"precious")
    other.write_bytes(b"another")
    (tmp_path / "symbolic.png").symlink_to("a.png")
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("a.png", "symbolic.png", "hard.png"):
        with pytest.raises(InputError, match=rf"{name}: is the input itself; give the output"):
            refuse_same(tmp_path / name, source)
        with pytest.raises(InputError, match="is the input itself"):
            refuse_same(source, tmp_path / name)
    for name in ("b.png", "new.png", "loop.png"):
        refuse_same(tmp_path / name, source)
    refuse_same(source, tmp_path / "gone.png")
    with pytest.raises(OutputError, match="cannot be written"):
        refuse_same(tmp_path / ("x" * 300), source)


def test_only_ordinary_files_are_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    (tmp_path / "link.png").symlink_to(pipe)
    for path in (pipe, tmp_path / "link.png", Path("/dev/null")):
        message = f"{path}: is not an ordinary file; name another output"
        with pytest.raises(OutputError, match=message), atomic_output(path):
            pytest.fail("the block must not run")
        with pytest.raises(OutputError, match=message):
            check_place(path)
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["link.png", "pipe.png"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, ahead = tmp_path / "there/a.txt", tmp_path / "link.txt", tmp_path / "ahead.txt"
    target.write_text("old")
    link.symlink_to(target)
    ahead.symlink_to(tmp_path / "there/new.txt")
    for path in (link, ahead):
        with atomic_output(path) as temporary:
            temporary.write_text("new")
        assert path.is_symlink()
        assert path.read_text() == "new"
    assert names(tmp_path / "there") == ["a.txt", "new.txt"]
    (tmp_path / "astray.txt").symlink_to(tmp_path / "nowhere/a.txt")
    with pytest.raises(OutputError, match=r"astray\.txt: there is no folder .*nowhere"):
        check_place(tmp_path / "astray.txt")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(OutputError, match=r"loop\.txt: is a link that leads to itself"):
        check_place(tmp_path / "loop.txt")


def test_checking_a_place_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    check_place(tmp_path / "a.txt")
    check_place(tmp_path / "b.txt")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
    for path, match in (
        (tmp_path, "is a folder"),
        (tmp_path / "none/b.txt", "there is no folder .*none; make it first"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (Path("/proc/b.txt"), "cannot be written"),
    ):
        with pytest.raises(OutputError, match=match):
            check_place(path)


def test_a_name_of_any_length_that_a_file_can_have(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".mkv", "é" * 125 + ".mkv", "." + "y" * 250):
        assert len(os.fsencode(name)) >= 251
        check_place(tmp_path / name)
        write_text(tmp_path / name, "whole")
        with atomic_output(tmp_path / name) as left:
            left.write_bytes(b"")
            (tmp_path / "kept").hardlink_to(left)
            left_name = left.name
        (tmp_path / "kept").rename(tmp_path / left_name)  # as a killed process leaves it
        remove_leftovers(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    # What is too long is told before the work, not when the name is to be given.
    with pytest.raises(OutputError, match="File name too long; give it a shorter name"):
        check_place(tmp_path / ("z" * 252 + ".mkv"))
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_no_file() -> None:
    url = "https://example.org/films/a.mp4"
    with pytest.raises(MediaError, match=f"^{url}: is a URL; download it, or give the URL of its"):
        open_video(url)
    with pytest.raises(OutputError, match=f"^{url}: is a URL; write to a file, or let batch write"):
        check_place(Path(url))


def test_names_with_nul(tmp_path: Path) -> None:
    path, source = tmp_path / "a\0b.png", tmp_path / "a.mkv"
    write_clip(source, frames=1)
    assert is_image(path)
    assert not is_image(tmp_path / "a\0b.mkv")
    for read in (read_image, open_video):
        with pytest.raises(MediaError, match=r"a\\x00b\.png': a file name cannot hold a NUL byte"):
            read(path)
    with pytest.raises(OutputError, match="cannot hold a NUL byte"):
        write_image(path, image(), ImageExtras(), OPTIONS)
    with pytest.raises(OutputError, match="cannot hold a NUL byte"):
        refuse_same(path, source)
    with open_video(source) as reader, pytest.raises(OutputError, match="cannot hold a NUL"):
        open_writer(tmp_path / "b\0.mkv", source, reader.info, OPTIONS)


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    """Nobody writes to this pipe, so whoever opens it would wait for ever."""
    for name in ("a.mkv", "a.png", "bare"):
        os.mkfifo(tmp_path / name)
        for read in (read_image, open_video):
            with pytest.raises(MediaError, match=f"{name}: is a pipe; give a file"):
                read(tmp_path / name)
    assert is_image(tmp_path / "a.png")
    assert not is_image(tmp_path / "bare")
    with pytest.raises(MediaError, match="/dev/zero: is not an ordinary file; give a file"):
        open_video(Path("/dev/zero"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists what is open")
def test_is_image_takes_nothing_from_a_pipe() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"\x89PNG\r\n\x1a\n and more")
        assert not is_image(Path(f"/proc/self/fd/{reading}"))
        assert os.read(reading, 100) == b"\x89PNG\r\n\x1a\n and more"
    finally:
        os.close(reading)
        os.close(writing)


def test_what_an_image_cannot_be_is_said_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    plain, alpha, deep = image(count=3), image(count=4), image(count=3, bits=16)
    codec, container = EncodeOptions(codec="libx264"), EncodeOptions(container="mp4")
    quality, preset = EncodeOptions(quality=20), EncodeOptions(preset="slow")
    cases: list[tuple[str, Frame, EncodeOptions, type[Exception], str]] = [
        ("a.gif", plain, OPTIONS, CodecError, "unknown image format '.gif'; use .png"),
        ("a.mp4", plain, OPTIONS, CodecError, "unknown image format '.mp4'"),
        ("a.jpg", alpha, OPTIONS, CodecError, "JPEG cannot hold alpha"),
        ("a.jpg", deep, OPTIONS, CodecError, "JPEG cannot hold 16 bits"),
        ("a.png", plain, codec, OptionError, "no codec, got 'libx264'; leave codec out"),
        ("a.png", plain, container, OptionError, "no container, got 'mp4'"),
        ("a.png", plain, quality, OptionError, "no quality, got 20; .*; image_quality is that of"),
        ("a.png", plain, preset, OptionError, "no preset, got 'slow'"),
        ("none/a.png", plain, OPTIONS, OutputError, "there is no folder"),
        ("pipe.png", plain, OPTIONS, OutputError, "is not an ordinary file"),
    ]
    for name, frame, options, kind, match in cases:
        with pytest.raises(kind, match=match):
            check_image_output(tmp_path / name, frame, options)
        with pytest.raises(kind, match=match):
            write_image(tmp_path / name, frame, ImageExtras(), options)
    wide = image(1, 8192)
    check_image_output(tmp_path / "a.webp", wide, OPTIONS)
    with pytest.raises(CodecError, match="WEBP cannot hold 16384×2 pixels, only 16383 a side"):
        check_image_output(tmp_path / "a.webp", wide, OPTIONS, upscale=2)
    check_image_output(tmp_path / "a.png", deep, OPTIONS, upscale=4)
    assert names(tmp_path) == ["pipe.png"]


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16383), (".jpg", 65500)])
def test_the_largest_images(tmp_path: Path, suffix: str, side: int) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, image(1, side), ImageExtras(), OPTIONS)
    assert read_image(path)[0].width == side
    with pytest.raises(CodecError, match=f"cannot hold {side + 1}×1 pixels"):
        write_image(path, image(1, side + 1), ImageExtras(), OPTIONS)
    assert read_image(path)[0].width == side


def test_leftovers_of_one_output_are_removed_and_nothing_else(tmp_path: Path) -> None:
    others = [
        ".a.part-0a1b2c3d.mp4", ".a [x].part-0a1b2c3.mp4", ".a [x].part-0a1b2c3d.mkv",
        ".b [x].part-0a1b2c3d.mp4", "a [x].part-0a1b2c3d.mp4", ".a [x].part-0a1b2c3d.mp4.bak",
    ]  # fmt: skip
    for name in (*others, ".a [x].part-0a1b2c3d.mp4", ".a [x].part-ffffffff.mp4", "a [x].mp4"):
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path / "a [x].mp4")
    assert names(tmp_path) == sorted([*others, "a [x].mp4"])
    with pytest.raises(OutputError, match="no folder"):
        remove_leftovers(tmp_path / "no" / "a.mp4")


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_text(path, "é")
    assert path.read_bytes() == "é".encode()
    write_text(path, "2")
    assert path.read_bytes() == b"2"
    with pytest.raises(OutputError, match="there is no folder"):
        write_text(tmp_path / "missing" / "note.json", "3")
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]


def test_a_trial_of_the_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(source)
    options = EncodeOptions(codec="libx264")
    with (
        open_video(source) as reader,
        open_writer(output, source, reader.info, options, threads=2) as writer,
    ):
        info, extradata = reader.info, writer.extradata
        for frame in reader:
            writer.write(frame)
    written = output.read_bytes()
    assert try_writer(output, source, info, options, threads=2) == extradata
    with pytest.raises(CodecError):
        try_writer(output, source, info, EncodeOptions(codec="nonsense"), threads=2)
    assert output.read_bytes() == written
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]
