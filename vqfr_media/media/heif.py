"""HEIC, AVIF and JPEG 2000: what of these pictures Pillow leaves out, or does not read at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqfr_media.errors import BackendError, MediaError
from vqfr_media.frames import Plane

# Pictures that are read but not written, and what a batch makes of them.
READ_ONLY = {
    ".heic": ".jpg", ".heif": ".jpg", ".hif": ".jpg", ".jp2": ".png", ".j2k": ".png",
    ".jpx": ".png",
}  # fmt: skip
# Brands of a file's first box, ISO/IEC 23008-12 and the AVIF specification.
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
# Bytes in which a file's boxes of properties are looked for.
_PROPERTIES = 1 << 16
_ORIENTATION = 0x0112
# Primaries of ITU-T H.273 that pictures without a profile are shown with: BT.709, unknown, BT.601.
_USUAL = {1, 2, 5, 6}
_NAMES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}


@dataclass(frozen=True, eq=False)
class DecodedHeif:
    """A HEIC picture."""

    pixels: Plane
    """(rows, columns, channels), upright: the turn that the file says is done. 10 and 12 bits are
    spread over 16."""
    exif: bytes
    """EXIF, without a turn."""
    icc_profile: bytes
    """ICC colour profile."""
    notes: tuple[str, ...]
    """What was not read, in sentences."""


def starts_as_modern_still(head: bytes) -> bool:
    """Returns whether a file that begins with these 12 bytes is HEIC, AVIF or JPEG 2000."""
    return _brand(head) in _HEIF | _AVIF or head.startswith(_JPEG_2000)


def is_heif(path: Path) -> bool:
    """Returns whether a file is HEIC, which Pillow does not read.

    Raises:
        OSError: it cannot be read.
    """
    head = _first_bytes(path)
    # AVIF may call itself mif1 first, and name the codec after it.
    return _brand(head) in _HEIF and b"avif" not in head[12:64]


def _brand(head: bytes) -> bytes:
    return head[8:12] if head[4:8] == b"ftyp" else b""


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PROPERTIES)


def read_heif(path: Path) -> DecodedHeif:
    """Decodes the main picture of a HEIC file.

    Raises:
        BackendError: pillow-heif is not installed.
        ValueError, OSError, RuntimeError, SyntaxError: the file is damaged.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise BackendError(
            f"{path}: HEIC needs pillow-heif: pip install 'vqfr-media[heif]', or convert it to PNG"
        ) from error
    images = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    main = images[images.primary_index]
    info: dict[str, Any] = main.info
    pixels = np.asarray(main)
    notes = list(colour_notes(path, has_profile="icc_profile" in info))
    if len(images) > 1:
        notes.append(f"of {len(images)} pictures in the file the main one was taken")
    return DecodedHeif(
        pixels if pixels.ndim == 3 else pixels[:, :, None],
        _upright(info.get("exif") or b""),
        info.get("icc_profile") or b"",
        tuple(notes),
    )


def _upright(exif: bytes) -> bytes:
    """Returns EXIF without a turn: HEIC turns by a property of its own, which decoders heed."""
    if not exif:
        return b""
    values = Image.Exif()
    values.load(exif)
    if values.get(_ORIENTATION, 1) == 1:
        return exif
    values[_ORIENTATION] = 1
    return values.tobytes()


def colour_notes(path: Path, *, has_profile: bool) -> tuple[str, ...]:
    """Says if the colours of a HEIC or AVIF are told by numbers that other images cannot hold."""
    head = _first_bytes(path)
    place = head.find(b"colrnclx")
    if has_profile or place < 0 or _brand(head) not in _HEIF | _AVIF:
        return ()
    number = int.from_bytes(head[place + 8 : place + 10], "big")
    if number in _USUAL:
        return ()
    name = _NAMES.get(number, f"number {number} of H.273")
    return (f"its colours are {name} without a profile, which the output does not say",)


def refuse_deep(path: Path) -> None:
    """Refuses AVIF and JPEG 2000 of more than 8 bits, of which Pillow would keep 8.

    Raises:
        MediaError: the picture is one.
        OSError: the file cannot be read.
    """
    head, bits = _first_bytes(path), 8
    if (place := head.find(b"av1C")) >= 0 and _brand(head) in _HEIF | _AVIF:
        # AV1 codec configuration: high_bitdepth and twelve_bit, in the third byte.
        flags = head[place + 6]
        bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    elif head.startswith(_JPEG_2000) and (place := head.find(b"\xff\x4f\xff\x51")) >= 0:
        bits = (head[place + 42] & 0x7F) + 1  # Ssiz of the first component
    if bits > 8:
        raise MediaError(
            f"{path}: {bits} bits per sample, of which 8 would be read; convert it to PNG or TIFF "
            "of 16 bits first"
        )


def profile_of_jpeg_2000(path: Path) -> bytes:
    """Returns the ICC profile of a JPEG 2000 file, which Pillow leaves out; empty without one.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    place = data.find(b"colr\x02", 0, _PROPERTIES)
    if place < 4 or not data.startswith(_JPEG_2000[0]):
        return b""
    length = int.from_bytes(data[place - 4 : place], "big")
    return data[place + 7 : place - 4 + length]
