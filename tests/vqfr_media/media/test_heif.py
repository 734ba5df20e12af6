"""HEIC, AVIF and JPEG 2000 keep their pixels, their orientation and their colour profile."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.clips import write_clip
from tests.vqfr_media.media.test_image import ICC, OPTIONS, exif_of, interleaved, noise
from vqfr_media.errors import BackendError, CodecError, MediaError
from vqfr_media.media.heif import first_bytes, is_heif
from vqfr_media.media.image import has_format_of, is_image, read_image, write_image
from vqfr_media.media.read import open_video


def smooth(height: int = 48, width: int = 72) -> np.ndarray:
    """A ramp, which lossy encoders keep."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)


def write_heic(path: Path, pixels: np.ndarray, **options: object) -> Path:
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, quality=95, **options)
    return path


def test_a_phones_heic(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/cases/a.heic"
    assert is_image(source)
    frame, extras = read_image(source)
    decoded = np.asarray(pillow_heif.open_heif(source))
    assert (interleaved(frame) == decoded).all()
    assert extras.icc_profile[36:40] == b"acsp"  # the mark of an ICC profile
    output = tmp_path / "a.jpg"
    write_image(output, frame, extras, OPTIONS)
    with Image.open(output) as image:
        assert image.info["icc_profile"] == extras.icc_profile
    assert not has_format_of(source, output)


def test_a_turned_heic_is_turned_once(tmp_path: Path) -> None:
    pixels = smooth()
    path = write_heic(tmp_path / "a.heic", pixels, exif=exif_of(6).tobytes(), icc_profile=ICC)
    renamed = path.rename(tmp_path / "renamed.jpg")  # as programs that send it do
    assert is_image(renamed)
    frame, extras = read_image(renamed)
    upright = np.rot90(pixels, -1)
    assert (frame.height, frame.width) == upright.shape[:2]
    assert np.abs(interleaved(frame).astype(int) - upright).mean() < 3
    assert frame.display.quarter_turns == 0
    assert extras.icc_profile == ICC
    write_image(tmp_path / "a.png", frame, extras, OPTIONS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2001:02:03 04:05:06"


def test_ten_bits_of_heic_become_sixteen(tmp_path: Path) -> None:
    x = np.broadcast_to(np.linspace(0, 65535, 256).astype(np.uint16), (64, 256))
    values = np.ascontiguousarray(np.stack([x] * 3, axis=2))
    path = tmp_path / "a.heif"
    pillow_heif.encode("RGB;16", (256, 64), values.tobytes(), path, quality=-1)
    frame, extras = read_image(path)
    assert frame.format.bits == 16
    assert np.abs(interleaved(frame).astype(int) - values).max() < 65536 / 1024 * 4
    with pytest.raises(CodecError, match=r"b\.jpg: JPEG cannot hold 16 bits"):
        write_image(tmp_path / "b.jpg", frame, extras, OPTIONS)


def test_alpha_and_other_pictures_of_a_heic(tmp_path: Path) -> None:
    alpha = np.dstack([smooth(), np.full((48, 72), 128, np.uint8)])
    file = pillow_heif.from_pillow(Image.fromarray(smooth()))
    file.add_from_pillow(Image.fromarray(alpha))
    file.save(tmp_path / "two.heic", primary_index=1)
    frame, extras = read_image(tmp_path / "two.heic")
    assert len(frame.planes) == 4
    assert extras.notes == ("of 2 pictures in the file the main one was taken",)


def test_colours_that_no_profile_tells_are_said(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", smooth(), color_primaries=12)
    assert read_image(path)[1].notes == (
        "its colours are Display P3 without a profile, which the output does not say",
    )


def test_avif_is_read_and_written(tmp_path: Path) -> None:
    pixels, source = smooth(), tmp_path / "a.avif"
    Image.fromarray(pixels).save(
        source, quality=95, subsampling="4:4:4", icc_profile=ICC, exif=exif_of(6)
    )
    assert is_image(source)
    assert not is_heif(first_bytes(source))
    frame, extras = read_image(source)
    assert frame.display.quarter_turns == 3
    assert np.abs(interleaved(frame).astype(int) - pixels).mean() < 3
    write_image(tmp_path / "b.avif", frame, extras, OPTIONS)
    again, kept = read_image(tmp_path / "b.avif")
    assert again.display == frame.display
    assert kept.icc_profile == ICC
    assert np.abs(interleaved(again).astype(int) - pixels).mean() < 3
    assert has_format_of(source, tmp_path / "c.avif")


def test_jpeg_2000_is_read_with_its_profile(tmp_path: Path) -> None:
    pixels, path = noise(32, 48, 3), tmp_path / "a.jp2"
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    start = data.index(b"colr") - 4
    assert data[start : start + 4] == b"\0\0\0\x0f"  # an enumerated colour space, 15 bytes
    box = (11 + len(ICC)).to_bytes(4, "big") + b"colr\x02\0\0" + ICC
    around = data.index(b"jp2h") - 4
    size = int.from_bytes(data[around : around + 4], "big") + len(box) - 15
    path.write_bytes(
        data[:around]
        + size.to_bytes(4, "big")
        + data[around + 4 : start]
        + box
        + data[start + 15 :]
    )
    frame, extras = read_image(path)
    assert (interleaved(frame) == pixels).all()  # lossless by default
    assert extras.icc_profile == ICC
    raw = tmp_path / "a.j2k"
    Image.fromarray(pixels).save(raw)
    frame, extras = read_image(raw)
    assert (interleaved(frame) == pixels).all()
    assert extras.icc_profile == b""
    for name in ("b.jp2", "b.heic"):
        with pytest.raises(CodecError, match=r"can be read but not written; use \.jpg"):
            write_image(tmp_path / name, frame, extras, OPTIONS)


def encoded_jpeg_2000(form: str, values: np.ndarray | None = None) -> bytes:
    """Encodes a picture without loss by FFmpeg, which writes depths that Pillow does not."""
    encoder: Any = av.CodecContext.create("jpeg2000", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 48, 32, form
    encoder.time_base, encoder.options = Fraction(1, 25), {"format": "jp2", "pred": "dwt53"}
    channels = () if form.startswith("gray") else (3,)
    pixels = np.zeros((32, 48, *channels), np.uint16) if values is None else values
    picture = av.VideoFrame.from_ndarray(pixels, format=form)
    return b"".join(bytes(one) for one in (*encoder.encode(picture), *encoder.encode(None)))


def with_box(jp2: bytes, kind: bytes, content: bytes) -> bytes:
    """Puts a box before the one with the codestream."""
    place = jp2.index(b"jp2c") - 4
    box = (len(content) + 8).to_bytes(4, "big") + kind + content
    return jp2[:place] + box + jp2[place:]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_grey_jpeg_2000_keeps_all_its_bits(tmp_path: Path, bits: int) -> None:
    most = 2**bits - 1
    values = np.linspace(0, most, 32 * 48).astype(np.uint16).reshape(32, 48)
    (tmp_path / "a.jp2").write_bytes(encoded_jpeg_2000(f"gray{bits}le", values))
    frame, extras = read_image(tmp_path / "a.jp2")
    assert frame.format.bits == 16
    expected = np.rint(values * (65535 / most))
    np.testing.assert_array_equal(interleaved(frame)[:, :, 0], expected)
    write_image(tmp_path / "b.png", frame, extras, OPTIONS)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), expected)


def test_motion_jpeg_2000_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_clip(path, codec="jpeg2000", frames=3)
    whole = path.read_bytes()
    # QuickTime's first boxes, and in as many bytes those of Motion JPEG 2000.
    assert (whole[4:12], whole[24:28]) == (b"ftypqt  ", b"wide")
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x10ftypmjp2" + bytes(4)
    motion = tmp_path / "a.mj2"
    motion.write_bytes(boxes + whole[len(boxes) :])
    assert not is_image(motion)
    with open_video(motion) as reader:
        assert len(list(reader)) == 3


def test_what_pillow_would_cut_to_8_bits_is_refused(tmp_path: Path) -> None:
    long = with_box(encoded_jpeg_2000("rgb48le"), b"uuid", bytes(1 << 16))
    (tmp_path / "a.jp2").write_bytes(long)  # the depth is said beyond the first 64 KiB
    write_clip(tmp_path / "ten.avif", codec="libsvtav1", pix_fmt="yuv420p10le", frames=1)
    for name, bits in (("a.jp2", 16), ("ten.avif", 10)):
        with pytest.raises(MediaError, match=rf"{name}: {bits} bits per sample"):
            read_image(tmp_path / name)


def test_without_the_extra_the_way_to_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_heic(tmp_path / "a.heic", smooth())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BackendError, match=r"a\.heic: HEIC needs pillow-heif: pip install 'vqfr-m"):
        read_image(path)


def test_damaged_and_animated(tmp_path: Path) -> None:
    whole = write_heic(tmp_path / "a.heic", smooth()).read_bytes()
    (tmp_path / "cut.heic").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cut\.heic: damaged or not readable"):
        read_image(tmp_path / "cut.heic")
    broken_exif = write_heic(tmp_path / "exif.heic", smooth(), exif=b"Exif\0\0MM\0*")
    with pytest.raises(MediaError, match=r"exif\.heic: damaged or not readable"):
        read_image(broken_exif)
    for length in range(13, 400, 19):
        (tmp_path / "short.heic").write_bytes(whole[:length])
        with pytest.raises(MediaError, match=r"short\.heic: "):
            read_image(tmp_path / "short.heic")
    Image.fromarray(smooth()).save(tmp_path / "a.jp2")
    whole = (tmp_path / "a.jp2").read_bytes()
    codestream = whole.find(b"\xff\x4f\xff\x51")
    for length in (13, 40, codestream + 4, codestream + 20, codestream + 43):
        (tmp_path / "short.jp2").write_bytes(whole[:length])
        with pytest.raises(MediaError, match=r"short\.jp2: "):
            read_image(tmp_path / "short.jp2")
    first, second = (Image.fromarray(one) for one in (smooth(), smooth()[::-1]))
    first.save(tmp_path / "a.avif", save_all=True, append_images=[second])
    with pytest.raises(MediaError, match=r"a\.avif: is animated"):
        read_image(tmp_path / "a.avif")
