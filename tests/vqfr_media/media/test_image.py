"""Images keep their pixels, their orientation and what is known about them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from vqfr_media.errors import CodecError, MediaError, OutputError
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.image import FORMATS, ImageExtras, is_image, read_image, write_image
from vqfr_media.options import EncodeOptions

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OPTIONS = EncodeOptions()


def noise(*shape: int, bits: int = 8) -> np.ndarray:
    values = np.random.default_rng(7).integers(0, 1 << bits, shape)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def interleaved(frame: Frame) -> np.ndarray:
    order = {1: (0,), 2: (0, 1), 3: (2, 0, 1), 4: (2, 0, 1, 3)}[len(frame.planes)]
    return np.stack([frame.planes[i] for i in order], axis=2)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2001:02:03 04:05:06"
    return exif


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_8_bit(tmp_path: Path, suffix: str, channels: int) -> None:
    if suffix == ".bmp" and channels in (2, 4):
        pytest.skip("BMP has no alpha")
    pixels = noise(21, 33, channels)
    source, output = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(source)
    frame, extras = read_image(source)
    assert (interleaved(frame) == pixels).all()
    assert frame.format.family == ("gray" if channels < 3 else "rgb")
    assert frame.format.full_range
    write_image(output, frame, extras, OPTIONS)
    again, _ = read_image(output)
    assert (interleaved(again) == pixels).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_lossless_16_bit_with_metadata(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = noise(21, 33, channels, bits=16)
    kind = PixelFormat(family="gray" if channels < 3 else "rgb", bits=16, full_range=True)
    order = {1: (0,), 2: (0, 1), 3: (1, 2, 0), 4: (1, 2, 0, 3)}[channels]
    frame = Frame(0, 0, tuple(np.ascontiguousarray(pixels[:, :, i]) for i in order), kind)
    output = tmp_path / f"a{suffix}"
    extras = ImageExtras(exif=exif_of(6).tobytes(), icc_profile=ICC, dpi=(300.0, 150.0))
    write_image(output, frame, extras, OPTIONS)
    again, kept = read_image(output)
    if (suffix, channels) == (".tiff", 2):
        pixels, channels = pixels[:, :, [0, 0, 0, 1]], 4  # as documented
    assert (again.format.bits, again.format.family) == (16, "gray" if channels < 3 else "rgb")
    shown = np.rot90(interleaved(again), again.display.quarter_turns)
    assert (shown == np.rot90(pixels, 3)).all()
    assert kept.icc_profile == ICC
    assert kept.dpi == pytest.approx((300, 150), rel=1e-3)
    with Image.open(output) as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2001:02:03 04:05:06"


def test_16_bit_png_written_by_opencv(tmp_path: Path) -> None:
    pixels = noise(9, 7, 3, bits=16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    frame, _ = read_image(tmp_path / "a.png")
    assert frame.format.bits == 16
    assert (interleaved(frame) == pixels).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_display_and_stays_in_exif(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    # An upright picture, dark above and bright below, stored in every orientation.
    upright = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[:, None], 64, axis=1)
    inverse = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = Image.fromarray(np.dstack([upright] * 3))
    stored = stored if inverse is None else stored.transpose(inverse)
    source = tmp_path / f"a{suffix}"
    stored.save(source, exif=exif_of(orientation), icc_profile=ICC)
    frame, extras = read_image(source)
    turned = np.rot90(frame.planes[0], frame.display.quarter_turns).astype(int)
    assert turned.shape == upright.shape
    assert np.abs(turned - upright).max() < 12
    write_image(tmp_path / f"b{suffix}", frame, extras, OPTIONS)
    with Image.open(tmp_path / f"b{suffix}") as image, Image.open(source) as first:
        assert image.getexif()[0x0112] == orientation
        assert image.size == stored.size
        assert image.info["exif"] == first.info["exif"]
        assert image.info["icc_profile"] == ICC


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_keeps_subsampling_and_dpi(tmp_path: Path, subsampling: int) -> None:
    image = Image.fromarray(cv2.GaussianBlur(noise(64, 64, 3), (9, 9), 3))
    image.save(tmp_path / "a.jpg", quality=90, subsampling=subsampling, dpi=(72, 72))
    frame, extras = read_image(tmp_path / "a.jpg")
    assert (extras.jpeg_subsampling, extras.dpi) == (subsampling, (72.0, 72.0))
    write_image(tmp_path / "b.jpg", frame, extras, OPTIONS)
    again, kept = read_image(tmp_path / "b.jpg")
    assert kept == extras
    assert np.abs(interleaved(again).astype(int) - interleaved(frame)).mean() < 1.5


def test_quality_changes_size(tmp_path: Path) -> None:
    frame = Frame(0, 0, (noise(64, 64),), PixelFormat(family="gray", full_range=True))
    for quality in (20, 95):
        options = EncodeOptions(image_quality=quality)
        write_image(tmp_path / f"{quality}.jpg", frame, ImageExtras(), options)
    assert (tmp_path / "20.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size / 2


def test_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray(noise(16, 16, 3)).quantize(16)
    image.save(tmp_path / "a.png")
    frame, _ = read_image(tmp_path / "a.png")
    assert (interleaved(frame) == np.asarray(image.convert("RGB"))).all()


def test_tiff_orientation(tmp_path: Path) -> None:
    pixels = noise(10, 20, 3)
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    frame, _ = read_image(tmp_path / "a.tif")
    shown = np.rot90(interleaved(frame), frame.display.quarter_turns)
    assert (shown == np.rot90(pixels, 3)).all()


def test_errors_of_reading(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(MediaError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(MediaError, match="empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not an image, only words" * 20)
    with pytest.raises(MediaError, match="not an image"):
        read_image(tmp_path / "text.jpg")
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="damaged"):
        read_image(tmp_path / "cut.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
    with pytest.raises(MediaError, match="CMYK"):
        read_image(tmp_path / "cmyk.jpg")
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    images[0].save(tmp_path / "two.tif", save_all=True, append_images=images[1:])
    with pytest.raises(MediaError, match="2 pictures"):
        read_image(tmp_path / "two.tif")


def test_errors_of_writing(tmp_path: Path) -> None:
    deep = Frame(
        0, 0, (noise(8, 8, bits=16),), PixelFormat(family="gray", bits=16, full_range=True)
    )
    alpha = Frame(0, 0, (noise(8, 8),) * 2, PixelFormat(family="gray", full_range=True))
    extras = ImageExtras()
    for suffix in (".jpg", ".webp", ".bmp"):
        with pytest.raises(CodecError, match="16 bits"):
            write_image(tmp_path / f"a{suffix}", deep, extras, OPTIONS)
    with pytest.raises(CodecError, match="alpha"):
        write_image(tmp_path / "a.jpg", alpha, extras, OPTIONS)
    with pytest.raises(CodecError, match="unknown image format"):
        write_image(tmp_path / "a.gif", alpha, extras, OPTIONS)
    with pytest.raises(OutputError, match="no folder"):
        write_image(tmp_path / "none" / "a.png", alpha, extras, OPTIONS)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="no folder"):
        write_image(tmp_path / "file" / "a.png", alpha, extras, OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_is_image(tmp_path: Path) -> None:
    for suffix in FORMATS:
        assert is_image(tmp_path / f"missing{suffix.upper()}")
    assert not is_image(tmp_path / "missing.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare", format="PNG")
    assert is_image(tmp_path / "bare")
    (tmp_path / "film.avi").write_bytes(b"RIFF\0\0\0\0AVI LIST")
    assert not is_image(tmp_path / "film.avi")
