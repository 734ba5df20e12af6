"""A film's grain as a value, and grain like it for a restored face.

The network and the temporal rules take a film's grain away, and a face without any looks like
plastic in a picture that has some. What was measured in the input (`restoration/grain.py`) is made
anew here: noise of the same strength, size and colour, from the frame's number and the place alone,
so that every way to a frame gives the same bits.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.frames import PixelFormat
from vqfr_media.values import Grain, PlaneGrain

Noise = npt.NDArray[np.float32]

# Noise is made of squares of so many samples, which lie where they lie in the plane: a face that
# moves passes through the grain, it does not carry it along.
_TILE = 64
# They are cut out of a field of so many samples a side: large enough that none is seen again.
_FIELD = 1024

# The widest grain that is made, as the sigma of a Gaussian in samples.
_WIDEST = 4.0


def grids(pixel_format: PixelFormat) -> tuple[tuple[int, ...], ...]:
    """Returns the numbers of the planes (without alpha) by the grid that they share."""
    if pixel_format.num_planes == 1:
        return ((0,),)
    return ((0, 1, 2),) if pixel_format.subsampling == (0, 0) else ((0,), (1, 2))


def grain_noise(grain: Grain, plane: int, *, area: tuple[slice, slice], frame_index: int) -> Noise:
    """Makes noise like a film's grain for an area of a plane.

    Args:
        grain: What was measured.
        plane: Number of the plane.
        area: Rows and columns of the (enlarged) plane.
        frame_index: Number of the frame; every frame has other noise.

    Returns:
        float32 of the area's shape, in code values, of mean 0.

    Raises:
        ValueError: the grain is not that of a frame with such a plane.
    """
    group = next((group for group in grain.groups if plane in group.planes), None)
    if group is None:
        raise ValueError(f"there is no grain for plane {plane}")
    if grain.enlarged == 1:
        return _noise(group, plane, area, frame_index)
    # Grain of the size in the source, enlarged like the picture around it, with two samples more
    # to each side for the kernel.
    times = grain.enlarged
    rows, columns = (slice(at.start // times - 2, -(-at.stop // times) + 2) for at in area)
    drawn = _noise(group, plane, (rows, columns), frame_index)
    size = (times * drawn.shape[1], times * drawn.shape[0])
    large = cv2.resize(drawn, size, interpolation=cv2.INTER_CUBIC)
    top, left = area[0].start - times * rows.start, area[1].start - times * columns.start
    height, width = (at.stop - at.start for at in area)
    return np.asarray(large[top : top + height, left : left + width], np.float32)


def added_share(mask: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns how much grain to add where a face is mixed in under `mask`, 0 to 1.

    The mix keeps 1 - mask of the picture and of its grain. Variances of independent noise add up,
    so with the square root of 1 - (1 - mask)² the grain is as strong everywhere: neither a smooth
    ring nor a grainy one around the face.
    """
    return np.sqrt(mask * (2 - mask))


def fine_share(group: PlaneGrain, scale: float) -> float:
    """Returns the share of the grain's variance that a picture of fewer pixels cannot hold.

    Args:
        group: the grain of the planes of one grid.
        scale: samples of the plane for each pixel of that picture, at least 1.
    """
    coarse = 1.0
    for correlation in group.correlation:
        # The spectrum of white noise behind a Gaussian is one, too; up to 1 / (2 scale) is coarse.
        width = math.pi * _sigma(max(0.0, correlation))
        coarse *= math.erf(width / scale) / math.erf(width) if width > 1e-3 else 1 / scale
    return 1 - coarse


def _noise(
    group: PlaneGrain, plane: int, area: tuple[slice, slice], frame_index: int
) -> npt.NDArray[np.float32]:
    """Noise at the scale of the source: white noise, mixed between planes and made coarser."""
    (rows, columns) = area
    kernels = [_kernel(_sigma(value)) for value in group.correlation]
    reach_x, reach_y = (len(kernel) // 2 for kernel in kernels)
    row = group.planes.index(plane)
    shares = _factor(group.covariance)[row]
    mixed: Noise | None = None
    for source, share in zip(group.planes, shares, strict=True):
        if share == 0:
            continue
        white = _white(
            slice(rows.start - reach_y, rows.stop + reach_y),
            slice(columns.start - reach_x, columns.stop + reach_x),
            key=(frame_index, source),
        )
        mixed = white * np.float32(share) if mixed is None else mixed + np.float32(share) * white
    if mixed is None:
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    coarse = cv2.sepFilter2D(mixed, cv2.CV_32F, kernels[0], kernels[1])
    height, width = mixed.shape
    return np.asarray(
        coarse[reach_y : height - reach_y, reach_x : width - reach_x], dtype=np.float32
    )


def _white(rows: slice, columns: slice, *, key: tuple[int, int]) -> Noise:
    """Independent noise of variance 1; any two areas agree where they overlap."""
    top, left = rows.start // _TILE, columns.start // _TILE
    bottom, right = -(-rows.stop // _TILE), -(-columns.stop // _TILE)
    drawn = _tiles(key, top, bottom, left, right)
    first_row, first_column = rows.start - top * _TILE, columns.start - left * _TILE
    return drawn[
        first_row : first_row + rows.stop - rows.start,
        first_column : first_column + columns.stop - columns.start,
    ]


@lru_cache(maxsize=4)  # the planes of a grid are mixed from the same noise, one after the other
def _tiles(key: tuple[int, int], top: int, bottom: int, left: int, right: int) -> Noise:
    """Puts squares of noise together, rows `top` to `bottom`, columns `left` to `right`; read-only.

    Each is cut out of one large field of noise at a place that its number in the plane, the plane's
    and the frame's decide, as AV1 makes its grain (Norkin and Birkbeck, Film Grain Synthesis for
    AV1 Video Codec, 2018). Drawing it anew for each frame takes ten times as long.
    """
    frame_index, plane = key
    field = _field()
    # Counted from far outside of the picture: a crop may reach over its edge.
    rows, columns = (
        np.arange(first, last, dtype=np.int64).astype(np.uint64) + np.uint64(2**20)
        for first, last in ((top, bottom), (left, right))
    )
    places = (rows[:, None] << np.uint64(24)) | columns | np.uint64(plane << 48)
    drawn = _mixed_bits(_mixed_bits(np.array(frame_index, np.uint64)) ^ places)
    offsets = np.uint64(_FIELD - _TILE + 1)
    from_row, from_column = (
        (drawn % offsets).tolist(),
        ((drawn >> np.uint64(32)) % offsets).tolist(),
    )
    tiles = np.empty(((bottom - top) * _TILE, (right - left) * _TILE), np.float32)
    for y in range(bottom - top):
        for x in range(right - left):
            at_y, at_x = from_row[y][x], from_column[y][x]
            tiles[y * _TILE : (y + 1) * _TILE, x * _TILE : (x + 1) * _TILE] = field[
                at_y : at_y + _TILE, at_x : at_x + _TILE
            ]
    tiles.flags.writeable = False
    return tiles


@lru_cache(maxsize=1)  # a table, the same in every process
def _field() -> Noise:
    """Draws the noise that all squares are cut from: 4 MB, once; read-only."""
    generator = np.random.Generator(np.random.Philox(key=0))
    field = generator.standard_normal((_FIELD, _FIELD), dtype=np.float32)
    field.flags.writeable = False
    return field


def _mixed_bits(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mixes each number's bits: neighbours become unlike (splitmix64: Steele and others, 2014)."""
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2⁶⁴
        mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def _factor(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns L with L Lᵀ = covariance; a measured one may be a little short of definite."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _kernel(sigma: float) -> npt.NDArray[np.float64]:
    """Returns the taps of a Gaussian that keeps the variance of white noise."""
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    return np.asarray(taps / np.sqrt(np.sum(taps**2)))


@lru_cache(maxsize=1)  # a small table, a pure function of constants
def _sizes() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns sigmas, and the correlation of neighbours after a Gaussian of each; both rise."""
    sigmas = np.linspace(0, _WIDEST, 81)
    kernels = [_kernel(float(sigma)) for sigma in sigmas]
    return sigmas, np.array([np.sum(kernel[1:] * kernel[:-1]) for kernel in kernels])


def _sigma(correlation: float) -> float:
    """Returns the Gaussian that gives white noise this correlation of neighbours."""
    sigmas, correlations = _sizes()
    return float(np.interp(correlation, correlations, sigmas))
