"""HEIC and AVIF: what of these pictures Pillow leaves out, or does not read at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqfr_media.errors import BackendError
from vqfr_media.frames import Plane

# Pictures that are read but not written, and what a batch makes of them.
READ_ONLY = {
    ".heic": ".jpg", ".heif": ".jpg", ".hif": ".jpg", ".jp2": ".png", ".j2k": ".png",
    ".jpx": ".png",
}  # fmt: skip
# Brands of a file's first box, ISO/IEC 23008-12 and the AVIF specification.
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
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


def starts_as_heif_or_avif(head: bytes) -> bool:
    """Returns whether a file that begins with these 12 bytes is HEIC or AVIF."""
    return _brand(head) in _HEIF | _AVIF


def is_heif(head: bytes) -> bool:
    """Returns whether a file that begins so is HEIC, which Pillow does not read."""
    # AVIF may call itself mif1 first, and name the codec after it.
    return _brand(head) in _HEIF and b"avif" not in head[12:64]


def _brand(head: bytes) -> bytes:
    return head[8:12] if head[4:8] == b"ftyp" else b""


def first_bytes(path: Path) -> bytes:
    """Reads as much of a file as is looked at for what Pillow leaves out.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(_PROPERTIES)


def read_heif(path: Path, head: bytes) -> DecodedHeif:
    """Decodes the main picture of a HEIC file, which begins with `head`.

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
    notes = list(colour_notes(head, has_profile="icc_profile" in info))
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


def colour_notes(head: bytes, *, has_profile: bool) -> tuple[str, ...]:
    """Says if the colours of a HEIC or AVIF are told by numbers that other images cannot hold.

    Args:
        head: the file's beginning.
        has_profile: whether an ICC profile tells them too.
    """
    place = head.find(b"colrnclx")
    if has_profile or place < 0:
        return ()
    number = int.from_bytes(head[place + 8 : place + 10], "big")
    if number in _USUAL:
        return ()
    name = _NAMES.get(number, f"number {number} of H.273")
    return (f"its colours are {name} without a profile, which the output does not say",)


def bits_of_avif(head: bytes) -> int:
    """Returns the bits per sample of an AVIF that begins with `head`; 8 where it does not say."""
    place = head.find(b"av1C")
    # AV1 codec configuration: high_bitdepth and twelve_bit, in the third byte.
    flags = int.from_bytes(head[place + 6 : place + 7], "big") if place >= 0 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
