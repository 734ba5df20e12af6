"""What a stream's numbers for colour mean (ITU-T H.273), with the usual guess where it has none.

Nothing here knows FFmpeg, so numbers of any origin will do.
"""

from vqfr_media.errors import MediaError
from vqfr_media.frames import ChromaLocation, Family, Matrix, PixelFormat, Sample

# Weights of red and blue in luma (H.273, table 4).
KR_KB: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020nc": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}

# H.273 matrix coefficients that this package can undo. 10 (BT.2020 constant luminance) is taken
# for its non-constant sister: what is converted here is converted back by the same matrix.
MATRICES: dict[int, Matrix] = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020nc",
}
UNKNOWN_MATRICES = {
    11: "SMPTE 2085", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro",
}  # fmt: skip
CHROMA_LOCATIONS: dict[int, ChromaLocation] = {
    1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom",
}  # fmt: skip


def resolve_format(
    family: Family,
    bits: int,
    *,
    sample: Sample = "int",
    subsampling: tuple[int, int] = (0, 0),
    height: int,
    matrix: int = 2,
    primaries: int = 2,
    full_range: bool | None = None,
    chroma_location: int = 0,
    jpeg: bool = False,
) -> PixelFormat:
    """Resolves what code values mean, with the usual guess where the stream says nothing.

    Args:
        family: what the planes are.
        bits: bits per sample, as in `PixelFormat`.
        sample: as in `PixelFormat`; floats have the full range.
        subsampling: as in `PixelFormat`.
        height: stored rows; a matrix that is not given is BT.601 up to 576 of them, else BT.709
            (BT.2020 only where the primaries say so).
        matrix: H.273 matrix coefficients, 2 = unspecified.
        primaries: H.273 colour primaries, 2 = unspecified.
        full_range: None = unspecified: limited for yuv, full for grey (as FFmpeg takes it).
        chroma_location: 0 = unspecified, 1 left, 2 centre, 3 top left ... as FFmpeg counts
            (H.273's chroma sample location type + 1).
        jpeg: the picture follows JPEG: full range, and chroma in the centre where nothing is said.

    Raises:
        MediaError: the matrix cannot be undone by a linear map (ICtCp and its like).
    """
    if family == "yuv" and matrix in UNKNOWN_MATRICES:
        raise MediaError(
            f"the colour matrix {UNKNOWN_MATRICES[matrix]} (H.273 number {matrix}) is not "
            "supported; convert the video to BT.709 or BT.2020 non-constant luminance first"
        )
    if matrix in MATRICES:
        resolved = MATRICES[matrix]
    elif primaries == 9:
        resolved = "bt2020nc"
    else:
        resolved = "bt601" if height <= 576 else "bt709"
    if family == "rgb" or sample == "float":
        full = True
    elif full_range is None:
        full = jpeg or family == "gray"
    else:
        full = full_range
    return PixelFormat(
        family=family,
        bits=bits,
        sample=sample,
        subsampling=subsampling,
        matrix=resolved,
        full_range=full,
        chroma_location=CHROMA_LOCATIONS.get(chroma_location, "center" if jpeg else "left"),
    )
