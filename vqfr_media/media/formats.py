"""FFmpeg's pixel formats as planes: every layout taken apart and put together, exactly."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vqfr_media.errors import MediaError
from vqfr_media.frames import Family, PixelFormat, Plane

Subsampling = tuple[int, int]
# Where a component lies: plane, distance between its samples and first sample (in elements of the
# layout's type), and the number of unused low bits.
Place = tuple[int, int, int, int]

SUBSAMPLINGS: dict[str, Subsampling] = {
    "444": (0, 0), "422": (1, 0), "420": (1, 1), "440": (0, 1), "411": (2, 0), "410": (2, 2),
}  # fmt: skip

# Formats of fewer than eight bits a sample: swscale spreads them over the eight bits of these.
EXPANDED = {
    **dict.fromkeys(("monob", "monow"), "gray"),
    **{
        f"{order}{depth}": "gbrp"
        for order in ("rgb", "bgr")
        for depth in ("8", "4_byte", "444le", "444be", "555le", "555be", "565le", "565be")
    },
}


@dataclass(frozen=True)
class Layout:
    """How the components of a picture lie in memory."""

    family: Family
    """What the components are."""
    bits: int
    """Bits per sample, 8 to 16."""
    subsampling: Subsampling
    """As in `PixelFormat`."""
    alpha: bool
    """Whether the last component is alpha."""
    dtype: str
    """NumPy type of an element in memory, byte order included."""
    places: tuple[Place, ...]
    """Y, U, V or G, B, R or grey, then alpha."""
    jpeg: bool = False
    """Whether the name itself says full range (yuvj420p ...)."""

    @property
    def planar(self) -> bool:
        """Whether every component has a plane of its own."""
        return len({place[0] for place in self.places}) == len(self.places)


def _packed() -> dict[str, Layout]:
    """Returns every layout whose components share a plane, or leave low bits unused."""
    table: dict[str, Layout] = {}

    def add(
        name: str, family: Family, bits: int, sampling: str, order: str, dtype: str = "u1"
    ) -> None:
        """Adds a layout; `order` lists interleaved elements: x is padding, a dash parts planes."""
        step: dict[str, Place] = {}
        shift = (16 - bits) if dtype == "u2" else 0
        for plane, elements in enumerate(order.split("-")):
            for letter in set(elements) - {"x"}:
                step[letter] = (
                    plane, len(elements) // elements.count(letter), elements.index(letter), shift,
                )  # fmt: skip
        letters = {"yuv": "YUV", "rgb": "GBR", "gray": "Y"}[family]
        alpha = "A" in step
        for end in ("<", ">") if dtype != "u1" else ("",):
            suffix = {"<": "le", ">": "be", "": ""}[end]
            places = tuple(step[letter] for letter in letters + "A" * alpha)
            table[name + suffix] = Layout(
                family, bits, SUBSAMPLINGS[sampling], alpha, end + dtype, places
            )

    for name, sampling in (("0", "420"), ("2", "422"), ("4", "444")):
        for bits in (10, 12, 16):
            add(f"p{name}{bits}", "yuv", bits, sampling, "Y-UV", "u2")
    for name, sampling, order in (
        ("nv12", "420", "Y-UV"), ("nv21", "420", "Y-VU"), ("nv16", "422", "Y-UV"),
        ("nv24", "444", "Y-UV"), ("nv42", "444", "Y-VU"), ("yuyv422", "422", "YUYV"),
        ("uyvy422", "422", "UYVY"), ("yvyu422", "422", "YVYU"), ("vuya", "444", "VUYA"),
        ("vuyx", "444", "VUYx"), ("ayuv", "444", "AYUV"), ("uyva", "444", "UYVA"),
        ("vyu444", "444", "VYU"),
    ):  # fmt: skip
        add(name, "yuv", 8, sampling, order)
    for bits in (10, 12, 16):
        add(f"y2{bits}", "yuv", bits, "422", "YUYV", "u2")
    add("xv36", "yuv", 12, "444", "UYVx", "u2")
    add("xv48", "yuv", 16, "444", "UYVx", "u2")
    add("ayuv64", "yuv", 16, "444", "AYUV", "u2")
    for order in ("RGB", "BGR", "RGBA", "BGRA", "ARGB", "ABGR", "RGBx", "BGRx", "xRGB", "xBGR"):
        name = order.lower().replace("x", "0")
        add(name + ("24" if len(order) == 3 else ""), "rgb", 8, "444", order)
        if order in ("RGB", "BGR"):
            add(name + "48", "rgb", 16, "444", order, "u2")
        if order in ("RGBA", "BGRA"):
            add(name + "64", "rgb", 16, "444", order, "u2")
    add("ya8", "gray", 8, "444", "YA")
    add("ya16", "gray", 16, "444", "YA", "u2")

    # nv20 keeps its ten bits low; the others below put three components into a 32-bit word.
    for end, suffix in (("<", "le"), (">", "be")):
        table[f"nv20{suffix}"] = Layout(
            "yuv", 10, (1, 0), False, f"{end}u2", ((0, 1, 0, 0), (1, 2, 0, 0), (1, 2, 1, 0))
        )
        for name, family, shifts in (
            ("x2rgb10", "rgb", (10, 0, 20)), ("x2bgr10", "rgb", (10, 20, 0)),
            ("xv30", "yuv", (10, 0, 20)), ("v30x", "yuv", (12, 2, 22)),
        ):  # fmt: skip
            words = tuple((0, 1, 0, shift) for shift in shifts)
            kind: Family = "rgb" if family == "rgb" else "yuv"
            table[name + suffix] = Layout(kind, 10, (0, 0), False, f"{end}u4", words)
    return table


@cache
def packed_layouts() -> dict[str, Layout]:
    """Returns the layouts that are not one plane per component, by FFmpeg's name."""
    return _packed()


@cache
def find_layout(name: str) -> Layout | None:
    """Returns the layout that FFmpeg calls `name`; None if it cannot be taken apart exactly."""
    if name in EXPANDED:
        return find_layout(EXPANDED[name])
    if name in packed_layouts():
        return packed_layouts()[name]
    if name == "pal8":
        return find_layout("gbrp")
    parts = re.fullmatch(r"(?:yuv([ja]?)(\d{3})p|gbr(a?)p|gray)(\d+)?(msb)?(le|be)?", name)
    if parts is None:
        return None
    kind, sampling, rgb_alpha, depth, high, end = parts.groups()
    bits = int(depth or 8)
    if not 8 <= bits <= 16 or (sampling or "444") not in SUBSAMPLINGS:
        return None
    family: Family = "yuv" if name.startswith("yuv") else "rgb" if name[0:3] == "gbr" else "gray"
    alpha = "a" in (kind, rgb_alpha)
    dtype = "u1" if bits == 8 else (">u2" if end == "be" else "<u2")
    shift = 16 - bits if high else 0
    count = (1 if family == "gray" else 3) + alpha
    places = tuple((plane, 1, 0, shift) for plane in range(count))
    return Layout(
        family, bits, SUBSAMPLINGS[sampling or "444"], alpha, dtype, places, jpeg=kind == "j"
    )


def names_for(kind: PixelFormat, *, alpha: bool) -> tuple[str, ...]:
    """Returns FFmpeg's names for pictures that hold exactly this kind, the planar one first."""
    wanted = (kind.family, kind.bits, kind.subsampling, alpha)
    depth = "" if kind.bits == 8 else f"{kind.bits}le"
    sampling = {v: k for k, v in SUBSAMPLINGS.items()}.get(kind.subsampling, "?")
    a = "a" if alpha else ""
    planar = {"yuv": f"yuv{a}{sampling}p", "rgb": f"gbr{a}p", "gray": "gray"}[kind.family] + depth
    packed = (
        name
        for name, layout in packed_layouts().items()
        if (layout.family, layout.bits, layout.subsampling, layout.alpha) == wanted
        and not name.endswith("be")
        and layout.dtype != "<u4"
    )
    known = {name for name in (planar, *packed) if name in av.video.format.names}
    if kind.family == "gray" and alpha:
        known.discard(planar)  # FFmpeg has no planar grey with alpha
    return tuple(name for name in (planar, *packed_layouts()) if name in known)


def _elements(plane: av.video.plane.VideoPlane, dtype: str) -> npt.NDArray[Any]:
    """Views a plane's memory as (rows, line size), padding included; keeps the memory alive."""
    size = abs(plane.line_size)
    flat = np.frombuffer(plane, np.uint8)
    rows = flat.reshape(-1, size)[:, : size // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize]
    # A negative line size means that the buffer starts with the last row.
    view: npt.NDArray[Any] = rows.view(dtype)[:: -1 if plane.line_size < 0 else 1]
    return view


def unpack(frame: av.VideoFrame, layout: Layout, path: object) -> tuple[Plane, ...]:
    """Takes `frame` apart into read-only planes; views of its memory where that is possible.

    Raises:
        MediaError: the palette has transparent colours. `path` is named then.
    """
    if frame.format.name == "pal8":
        return _unpack_palette(frame, path)
    if frame.format.name in EXPANDED:
        frame = frame.reformat(format=EXPANDED[frame.format.name])
    kind = PixelFormat(family=layout.family, bits=layout.bits, subsampling=layout.subsampling)
    planes: list[Plane] = []
    memory = [_elements(plane, layout.dtype) for plane in frame.planes]
    for number, (source, step, offset, shift) in enumerate(layout.places):
        rows, columns = kind.plane_shape(number, frame.width, frame.height)
        samples = memory[source][:rows, offset : offset + (columns - 1) * step + 1 : step]
        if shift or layout.dtype.endswith("u4"):
            samples = (samples >> shift) & kind.peak
        # Rows may be padded or reversed, but OpenCV wants neighbouring samples side by side.
        plane = samples if step == 1 and samples.strides[0] > 0 else np.ascontiguousarray(samples)
        plane = plane.astype(kind.dtype, copy=False)
        # The decoder still predicts from this memory.
        plane.flags.writeable = False
        planes.append(plane)
    return tuple(planes)


def _unpack_palette(frame: av.VideoFrame, path: object) -> tuple[Plane, ...]:
    height, width = frame.height, frame.width
    codes = _elements(frame.planes[0], "u1")[:height, :width]
    palette = np.frombuffer(frame.planes[1], np.uint8).reshape(256, 4)
    # Some decoders leave the alpha of an opaque palette at 0, others at 255.
    if len(np.unique(palette[np.unique(codes), 3])) > 1:
        raise MediaError(
            f"{path}: transparent colours in a palette are not supported; "
            "convert it to -pix_fmt rgba first"
        )
    planes: list[Plane] = []
    for column in (1, 0, 2):  # stored as B, G, R, A
        plane = palette[codes, column]
        plane.flags.writeable = False
        planes.append(plane)
    return tuple(planes)


def pack(planes: tuple[Plane, ...], name: str) -> av.VideoFrame:
    """Makes a picture in FFmpeg's format `name` of `planes`: the inverse of `unpack`.

    Raises:
        ValueError: `name` is unknown or has another number of components.
    """
    layout = find_layout(name)
    if layout is None or len(planes) != len(layout.places):
        raise ValueError(f"{name} does not have {len(planes)} planes that can be filled")
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    memory = [_elements(plane, layout.dtype) for plane in frame.planes]
    if not layout.planar:
        for elements in memory:
            elements[:] = 0
    for plane, (target, step, offset, shift) in zip(planes, layout.places, strict=True):
        rows, columns = plane.shape
        samples = np.left_shift(plane, shift) if shift else plane
        memory[target][:rows, offset : offset + (columns - 1) * step + 1 : step] = samples
    return frame
