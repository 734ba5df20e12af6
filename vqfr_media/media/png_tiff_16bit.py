"""Files of 16 bits per sample with their metadata, which neither Pillow nor OpenCV writes."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

Deep = npt.NDArray[np.uint16]
_EXIF_PREFIX = b"Exif\0\0"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def encode_png16(
    pixels: Deep, *, exif: bytes, icc_profile: bytes, dpi: tuple[float, float] | None
) -> bytes:
    """Encodes a PNG of (rows, columns, 1 to 4) 16-bit grey, grey and alpha, RGB or RGBA."""
    rows, columns, count = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    lines = pixels.astype(">u2").view(np.uint8).reshape(rows, -1)
    # Filter 2 of every row: the difference to the row above, which deflate likes better.
    filtered = np.full((rows, 1 + lines.shape[1]), 2, np.uint8)
    filtered[0, 1:] = lines[0]
    filtered[1:, 1:] = lines[1:] - lines[:-1]
    parts = [
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, kind, 0, 0, 0)),
    ]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if dpi is not None:
        x, y = (round(value / 0.0254) for value in dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if exif:
        parts.append(_chunk(b"eXIf", exif.removeprefix(_EXIF_PREFIX)))
    parts += [_chunk(b"IDAT", zlib.compress(filtered.tobytes())), _chunk(b"IEND", b"")]
    return b"".join(parts)


def encode_tiff16(
    pixels: Deep, *, exif: bytes, icc_profile: bytes, dpi: tuple[float, float] | None
) -> bytes:
    """Encodes a TIFF (one deflated strip, little-endian) of (rows, columns, 1 to 4) samples.

    Grey with alpha becomes RGB with alpha, because hardly any program reads the former.
    """
    if pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    rows, columns, count = pixels.shape
    strip = zlib.compress(np.ascontiguousarray(pixels, "<u2").tobytes())
    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    if exif:
        source = Image.Exif()
        source.load(exif)
        for tag, value in source.items():
            directory[tag] = value
        for tag in (0x8769, 0x8825):  # EXIF and GPS
            if inner := source.get_ifd(tag):
                directory[tag] = dict(inner)
    directory[256], directory[257] = columns, rows
    directory[258] = (16,) * count
    directory[259] = 8  # Adobe deflate
    directory[262] = 2 if count > 2 else 1
    directory[273] = 0  # Pillow adds the length of all that stands before the strip
    directory[277], directory[278], directory[279] = count, rows, len(strip)
    directory[284] = 1
    if count == 4:
        directory[338] = 2  # alpha that the colours are not multiplied with
    if dpi is not None:
        directory[282], directory[283] = (IFDRational(round(v * 100), 100) for v in dpi)
        directory[296] = 2
    if icc_profile:
        directory[34675] = icc_profile
    return b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8) + strip
