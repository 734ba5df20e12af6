"""Still pictures: 8 and 16 bits, with their EXIF, colour profile and resolution kept."""

import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from vqfr_media.errors import CodecError, MediaError, OptionError, VqfrMediaError
from vqfr_media.files import atomic_output, check_place, check_source, output_error
from vqfr_media.frames import Display, Frame, PixelFormat, Plane
from vqfr_media.media.heif import (
    READ_ONLY,
    bits_of_avif,
    colour_notes,
    first_bytes,
    is_heif,
    read_heif,
    starts_as_heif_or_avif,
)
from vqfr_media.media.jpeg_2000 import Jpeg2000Header, read_header, spread, starts_as_jpeg_2000
from vqfr_media.media.png_tiff_16bit import encode_png16, encode_tiff16
from vqfr_media.options import EncodeOptions

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP", ".avif": "AVIF",
}  # fmt: skip
# What Pillow is asked to read.
_READABLE = (*sorted(set(FORMATS.values())), "JPEG2000")
_NAMES = "PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC and JPEG 2000"
# Pixels per side, where the format or its encoder has a limit.
_LARGEST = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112

# Counter-clockwise quarter turns of EXIF's orientations. 2, 4, 5 and 7 also mirror: after these
# turns the picture stands upright with left and right swapped, which is all that a face needs.
_TURNS = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}

# Of a TIFF's own directory, what describes the picture rather than the file.
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 316, 33432}
_SUB_DIRECTORIES = {0x8769, 0x8825}  # EXIF and GPS


@dataclass(frozen=True)
class ImageExtras:
    """What an image file holds besides its pixels."""

    exif: bytes = b""
    """EXIF as Pillow hands it out; the orientation in it stays, and pixels are not turned."""
    icc_profile: bytes = b""
    """ICC colour profile."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution, pixels per inch."""
    jpeg_subsampling: int | None = None
    """0, 1, 2 for a JPEG in 4:4:4, 4:2:2, 4:2:0; None for other files."""
    notes: tuple[str, ...] = ()
    """What of the file was not read or cannot be written, in sentences."""


def is_image(path: Path) -> bool:
    """Returns whether `path` is to be read as an image: by its first bytes, else by its suffix."""
    head = b""
    # Reading it will say what is wrong with it. A pipe is left alone: its bytes come only once.
    with suppress(OSError):
        if "\0" not in str(path) and path.is_file():
            with path.open("rb") as file:
                head = file.read(24)
    by_name = path.suffix.lower() in (*FORMATS, *READ_ONLY)
    if starts_as_heif_or_avif(head) or starts_as_jpeg_2000(head):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    # Motion JPEG starts like a JPEG, and camera raw files like a TIFF.
    return by_name or (head.startswith(_MAGIC) and not path.suffix)


def read_image(path: str | Path) -> tuple[Frame, ImageExtras]:
    """Reads a picture as G, B, R or grey planes, with alpha where there is.

    PNG, JPEG, WebP, TIFF, BMP, AVIF and JPEG 2000, and with pillow-heif HEIC. The EXIF orientation
    becomes `Display.quarter_turns` (a mirrored one the turn after which the picture stands upright,
    left and right swapped); only the pixels of a TIFF or HEIC are turned here, and its orientation
    is dropped. Palettes and bilevel pictures are expanded.

    Raises:
        MediaError: missing, empty, a pipe, not an image, damaged, animated, in CMYK, Lab or float,
            or an AVIF or a JPEG 2000 in colour of more than 8 bits.
        BackendError: it is HEIC, and pillow-heif is not installed.
    """
    path = Path(path)
    check_source(path, kind="an image")
    try:
        with warnings.catch_warnings():
            # Large scans are legitimate; what is absurdly large stays an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            head = first_bytes(path)
            if is_heif(head):
                return _read_heif(path, head)
            with Image.open(path, formats=_READABLE) as image:
                return _read(image, path, head)
    except UnidentifiedImageError as error:
        raise MediaError(f"{path}: not an image that can be read; {_NAMES} can") from error
    except (
        OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, struct.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        if isinstance(error, VqfrMediaError):
            raise
        raise MediaError(f"{path}: damaged or not readable: {error}") from error


def _read(image: Image.Image, path: Path, head: bytes) -> tuple[Frame, ImageExtras]:
    # Phones put a second view into one JPEG (MPO); its first picture is the picture.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise MediaError(
            f"{path}: is animated or has pages: {getattr(image, 'n_frames', 1)} pictures; make a "
            "film or single pictures of it first"
        )
    notes: tuple[str, ...] = ()
    said = Jpeg2000Header()
    if image.format == "AVIF":
        _refuse_deep(path, bits_of_avif(head))
        notes = colour_notes(head, has_profile="icc_profile" in image.info)
    elif image.format == "JPEG2000":
        said = read_header(path)
        if image.mode != "I;16":  # grey, of which Pillow keeps all bits
            _refuse_deep(path, max(said.bits, default=8))
    # Asked first: Pillow forgets it as soon as it has loaded the pixels.
    stored = " ".join(str(tile) for tile in getattr(image, "tile", ()))
    exif = _exif(image)
    # Pillow and OpenCV both turn TIFFs upright as they load them.
    orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    subsampling = JpegImagePlugin.get_sampling(image) if image.format in ("JPEG", "MPO") else None
    pixels: Plane
    if ";16" in stored:
        gray = "LA;16" in stored or image.mode[0] in "LI"
        pixels = deep_pixels(path, is_gray=gray, has_alpha=image.mode[-1] == "A")
    else:
        pixels = pixels_of(image, path)
        if image.mode == "I;16" and len(said.bits) == 1:
            pixels = spread(pixels, min(said.bits[0], 16))
    dpi = image.info.get("dpi")
    extras = ImageExtras(
        exif=exif,
        icc_profile=said.icc_profile or image.info.get("icc_profile") or b"",
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        jpeg_subsampling=subsampling if subsampling in (0, 1, 2) else None,
        notes=notes,
    )
    return _still(pixels, _TURNS.get(orientation, 0)), extras


def _refuse_deep(path: Path, bits: int) -> None:
    """Refuses a picture of more than 8 bits, of which Pillow would keep 8."""
    if bits > 8:
        raise MediaError(
            f"{path}: {bits} bits per sample, of which 8 would be read; convert it to PNG or TIFF "
            "of 16 bits first"
        )


def _read_heif(path: Path, head: bytes) -> tuple[Frame, ImageExtras]:
    decoded = read_heif(path, head)
    extras = ImageExtras(exif=decoded.exif, icc_profile=decoded.icc_profile, notes=decoded.notes)
    return _still(decoded.pixels, 0), extras


def _still(pixels: Plane, quarter_turns: int) -> Frame:
    """Returns a frame of (rows, columns, channels): grey, grey and alpha, RGB or RGBA."""
    channels = pixels.shape[2]
    order = {1: (0,), 2: (0, 1), 3: (1, 2, 0), 4: (1, 2, 0, 3)}[channels]
    planes: list[Plane] = []
    for channel in order:
        plane: Plane = pixels[:, :, channel].copy()
        plane.flags.writeable = False
        planes.append(plane)
    return Frame(
        index=0,
        pts=0,
        planes=tuple(planes),
        format=PixelFormat(
            family="gray" if channels < 3 else "rgb",
            bits=8 * pixels.dtype.itemsize,
            full_range=True,
        ),
        display=Display(quarter_turns=quarter_turns),
        is_still=True,
    )


def _exif(image: Image.Image) -> bytes:
    if "exif" in image.info:
        return bytes(image.info["exif"])
    source, kept = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE & source.keys():
        kept[tag] = source[tag]
    for tag in _SUB_DIRECTORIES & source.keys():
        kept.get_ifd(tag).update(source.get_ifd(tag))
    return kept.tobytes() if len(kept) else b""


def check_image_output(
    path: str | Path, frame: Frame, options: EncodeOptions, *, upscale: int = 1
) -> None:
    """Raises what `write_image` would, before the work whose result it is to write.

    Args:
        path: the output.
        frame: the source as `read_image` gave it.
        options: how the result is to be written.
        upscale: how much larger than `frame` the result will be.

    Raises:
        OptionError: an option is given that only videos have.
        CodecError: the format cannot hold the depth, the alpha or the size, or the suffix is
            unknown.
        OutputError: the folder is missing or not writable, or the output no ordinary file.
    """
    path = Path(path)
    _check_format(path, frame, options, upscale)
    check_place(path)


def _check_format(path: Path, frame: Frame, options: EncodeOptions, upscale: int) -> str:
    """Returns Pillow's name of the format in which `frame` is written."""
    given = {
        "codec": None if options.codec == "auto" else options.codec,
        "container": options.container,
        "preset": options.preset,
        "quality": options.quality,
    }
    for name, value in given.items():
        if value is not None:
            advice = "; image_quality is that of images" if name == "quality" else ""
            raise OptionError(
                f"{path}: an image has no {name}, got {value!r}; leave {name} out{advice}"
            )
    kind = FORMATS.get(path.suffix.lower())
    bits, num_planes = frame.format.bits, len(frame.planes)
    if kind is None and path.suffix.lower() in READ_ONLY:
        raise CodecError(
            f"{path}: such pictures can be read but not written; use .jpg, .png, .avif or .tif"
        )
    if kind is None:
        raise CodecError(f"{path}: unknown image format {path.suffix!r}; use {', '.join(FORMATS)}")
    if frame.format.family == "yuv" or bits not in (8, 16):
        raise CodecError(f"{path}: images hold RGB or grey in 8 or 16 bits, got {frame.format}")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise CodecError(f"{path}: {kind} cannot hold 16 bits per sample; use .png or .tif")
    if num_planes in (2, 4) and kind in ("JPEG", "BMP"):
        raise CodecError(f"{path}: {kind} cannot hold alpha; use .png, .webp or .tif")
    width, height = frame.width * upscale, frame.height * upscale
    if max(width, height) > _LARGEST.get(kind, max(width, height)):
        raise CodecError(
            f"{path}: {kind} cannot hold {width}×{height} pixels, only {_LARGEST[kind]} a side; "
            "use .png or .tif"
        )
    return kind


def has_format_of(source: Path, output: Path) -> bool:
    """Returns whether an image that `read_image` reads is of the kind that `output` is named."""
    if is_heif(first_bytes(source)):
        return False
    with Image.open(source) as image:
        # A phone's JPEG with a second view in it is an MPO to Pillow.
        kind = "JPEG" if image.format == "MPO" else image.format
    return kind == FORMATS.get(output.suffix.lower())


def write_image(
    path: str | Path, frame: Frame, extras: ImageExtras, options: EncodeOptions
) -> None:
    """Writes a frame that `read_image` gave, in the format that the suffix of `path` names.

    JPEG, WebP and AVIF have `options.image_quality`; JPEG keeps the source's subsampling, and has
    none where the source was no JPEG. The file gets its name only when it is complete.

    Raises:
        OptionError: an option is given that only videos have.
        CodecError: the format cannot hold the depth, the alpha or the size, or the suffix is
            unknown.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    kind = _check_format(path, frame, options, 1)
    order = {1: (0,), 2: (0, 1), 3: (2, 0, 1), 4: (2, 0, 1, 3)}[len(frame.planes)]
    pixels = np.dstack([frame.planes[plane] for plane in order])
    with atomic_output(path) as temporary:
        try:
            if frame.format.bits == 16:
                encode = encode_png16 if kind == "PNG" else encode_tiff16
                deep = pixels.astype(np.uint16, copy=False)
                temporary.write_bytes(
                    encode(deep, exif=extras.exif, icc_profile=extras.icc_profile, dpi=extras.dpi)
                )
            else:
                _save(temporary, kind, pixels, extras, options)
        except OSError as error:
            raise output_error(path, error) from error


def _save(
    path: Path,
    kind: str,
    pixels: npt.NDArray[np.generic],
    extras: ImageExtras,
    options: EncodeOptions,
) -> None:
    settings: dict[str, object] = {}
    if extras.dpi is not None:
        settings["dpi"] = extras.dpi
    if extras.exif:
        settings["exif"] = extras.exif
    if extras.icc_profile:
        settings["icc_profile"] = extras.icc_profile
    match kind:
        case "JPEG":
            settings |= {
                "quality": options.image_quality,
                "subsampling": extras.jpeg_subsampling or 0,
            }
        case "WEBP":
            settings |= {"quality": options.image_quality, "exact": True}
        case "AVIF":
            settings |= {"quality": options.image_quality, "subsampling": "4:4:4"}
        case "TIFF":
            settings["compression"] = "tiff_adobe_deflate"
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(path, format=kind, **settings)


def pixels_of(image: Image.Image, path: Path) -> Plane:
    """Decodes (rows, columns, channels): grey, grey and alpha, RGB or RGBA; errors name `path`.

    Raises:
        MediaError: more than 16 bits, CMYK, Lab or float.
    """
    transparent = "transparency" in image.info
    match image.mode:
        case "1":
            image = image.convert("L")
        case "P" | "PA":
            image = image.convert("RGBA" if transparent or image.mode == "PA" else "RGB")
        case "L" if transparent:
            image = image.convert("LA")
        case "RGB" if transparent:
            image = image.convert("RGBA")
        case "L" | "LA" | "RGB" | "RGBA":
            image.load()
        case "I;16" | "I;16B" | "I;16L" | "I":
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise MediaError(f"{path}: has more than 16 bits per sample; convert it first")
            return values.astype(np.uint16)[:, :, None]
        case "YCbCr" if image.format == "JPEG2000":
            image = image.convert("RGB")
        case mode:
            raise MediaError(f"{path}: {mode} pictures are not supported; convert it to RGB first")
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def deep_pixels(path: Path, *, is_gray: bool, has_alpha: bool) -> npt.NDArray[np.uint16]:
    """Decodes (rows, columns, channels) of 16 bits, of which Pillow would keep the upper half.

    Raises:
        MediaError: damaged.
        OSError: not readable.
    """
    import cv2  # only now: most images need Pillow alone

    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise MediaError(f"{path}: damaged or not readable as a 16-bit image")
    pixels = np.asarray(decoded, np.uint16)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    # OpenCV spreads grey with alpha over four channels, and has blue first.
    order = ([0] if is_gray else [2, 1, 0]) + [3] * has_alpha
    return pixels[:, :, order]
