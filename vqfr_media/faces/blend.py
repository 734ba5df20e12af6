"""Mixes restored faces into a frame's own planes, under a soft mask, inside their boxes only."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import Interpolation, Matrix23, bounds, compose, invert, warp
from vqfr_media.faces.detail import fine_detail, samples_a_pixel
from vqfr_media.faces.grain import added_share, fine_share, grain_noise, grids
from vqfr_media.frames import Frame, Plane
from vqfr_media.media.colour import from_rgb
from vqfr_media.values import RestoredFace

Picture = npt.NDArray[np.float32]

# The mask's outline as a superellipse, as fractions of the crop: from above the hairline to below
# the chin, and over the cheeks to the ears. It ends 2.5 % of the crop from the border, or further,
# where a crop that reaches over the frame's edge, and the network itself, are least to be trusted.
_CENTRE = (0.5, 0.535)
_HALF_AXES = (0.415, 0.44)
_EXPONENT = 2.6
_FEATHER = 0.1

# The paste reads the mask from this small copy: it is smooth, and a larger one is only slower.
_MASK_SIZE = 128

# Colours are compared on a grid of this many cells a side.
_GRID = 32


@lru_cache(maxsize=4)  # a pure function that takes longer than all the rest of a face's paste
def soft_mask(size: int) -> Picture:
    """Returns (size, size) float32, 0 to 1: how much of the restored crop shows; read-only.

    A rounded oval in the place of the template's face, exactly 0 at the border and near it. It
    falls over a tenth of the crop, with a continuous slope at both ends.
    """
    position = (np.arange(size) + 0.5) / size
    x = (np.abs(position - _CENTRE[0]) / _HALF_AXES[0]) ** _EXPONENT
    y = (np.abs(position - _CENTRE[1]) / _HALF_AXES[1]) ** _EXPONENT
    radius = (y[:, None] + x[None, :]) ** (1 / _EXPONENT)
    # 1 - radius is the distance to the outline in half axes.
    inside = np.clip((1 - radius) * min(_HALF_AXES) / _FEATHER, 0, 1)
    mask = (inside * inside * (3 - 2 * inside)).astype(np.float32)
    mask.flags.writeable = False
    return mask


def match_colour(restored: Picture, crop: Picture, mask: Picture, *, limit: float = 0.1) -> Picture:
    """Gives `restored` the light and skin tone of `crop`; its detail stays the network's.

    Adds the difference of the two pictures' low frequencies (Gaussian of a twelfth of the side,
    weighted by the mask), softly limited.

    Args:
        restored: (S, S, 3) RGB in 0 to 1.
        crop: (S, S, 3) RGB, nominally 0 to 1: what the network was given.
        mask: (S, S), 0 to 1: where the colours are compared.
        limit: Largest change of a channel.

    Returns:
        (S, S, 3) float32 RGB in 0 to 1.
    """
    rows, columns = mask.shape
    grid = (min(_GRID, columns), min(_GRID, rows))
    difference = _shrink(crop, grid) - _shrink(restored, grid)
    weight = _shrink(mask, grid)
    sigma = grid[0] / 12
    seen = cv2.GaussianBlur(weight, (0, 0), sigma)
    shift = cv2.GaussianBlur(difference * weight[..., None], (0, 0), sigma)
    shift = limit * np.tanh(shift / (limit * np.maximum(seen, 1e-3)[..., None]))
    smooth = cv2.resize(
        shift.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
    ).astype(np.float32, copy=False)
    smooth += restored
    return np.clip(smooth, 0, 1, out=smooth)


def _shrink(picture: Picture, grid: tuple[int, int]) -> Picture:
    small = cv2.resize(picture, grid, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32, copy=False)


def blend(
    frame: Frame,
    faces: Sequence[RestoredFace],
    *,
    strength: float = 1.0,
    grain: float = 1.0,
    detail: float = 0.0,
    enlarged: int = 1,
) -> Frame:
    """Mixes the restored faces into the frame.

    Every sample is round(sample + mask · (restored + detail - sample) + noise), clipped to what the
    depth can hold (floats are neither rounded nor clipped): where the mask is 0 it is the
    decoder's, bit for bit. Only a face larger than the network's picture has `detail`, and only one
    with a `grain` has noise, as much as mask and detail take away of the film's.
    Larger faces are laid over smaller ones (they are nearer to the camera); equal ones in the order
    given.

    Args:
        frame: The picture; its arrays are not written to. Planes that no face touches, and alpha,
            are the very same arrays in the result.
        faces: Restored faces of this frame; they may reach over its edge.
        strength: 0 leaves the frame alone, 1 shows the restored faces in full; of faces whose
            track has no strength of its own.
        grain: How much of the film's grain the restored faces get back, 0 to 1.
        detail: How much of its own detail that is too fine for the network a large face keeps,
            0 to 1.
        enlarged: By how much the frame has been enlarged: that gave it no detail.

    Raises:
        ValueError: strength, grain or detail is not within 0 to 1.
    """
    for name, value in (("strength", strength), ("grain", grain), ("detail", detail)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    planes = list(frame.planes)
    for face in sorted(faces, key=_footprint):
        share = strength_of(face, strength)
        if share == 0:
            continue
        colours = from_rgb(face.image, frame.format)
        for patches in _patches(frame, face):
            fine = _fine_detail(frame, face, patches, detail, enlarged) if detail > 0 else None
            lost = patches[0].mask if fine is None else patches[0].mask * (1 - fine.kept_grain)
            for place, patch in enumerate(patches):
                number = patch.plane
                restored = _placed(colours, patch)
                if fine is not None:
                    restored += fine.details[place]
                if planes[number] is frame.planes[number]:
                    planes[number] = frame.planes[number].copy()
                noise = None
                if face.grain is not None and grain > 0:
                    noise = grain_noise(
                        face.grain, number, area=patch.area, frame_index=frame.index
                    ) * (np.float32(grain) * added_share(np.float32(share) * lost))
                _mix(
                    planes[number][patch.area],
                    restored,
                    patch.mask,
                    share,
                    noise,
                    frame.format.peak,
                )
    if all(new is old for new, old in zip(planes, frame.planes, strict=True)):
        return frame
    return replace(frame, planes=tuple(planes))


def strength_of(face: RestoredFace, strength: float) -> float:
    """Returns the strength of the face's track, or the given one where that has none."""
    own = face.aligned.tracked.strength
    return strength if own is None else own


def _placed(colours: Sequence[Picture], patch: "_Patch") -> Picture:
    """Brings a crop's plane to its place in the frame."""
    return warp(
        colours[patch.plane],
        patch.matrix,
        shape=patch.mask.shape,
        interpolation=patch.interpolation,
    )


@dataclass(frozen=True)
class _FineDetail:
    """What the planes of one grid keep of their own in a face."""

    details: list[Picture]
    """What is added to the restored face, for each plane."""
    kept_grain: Picture
    """How much of the film's grain comes back with it, 0 to 1, as amplitude."""


def _fine_detail(
    frame: Frame, face: RestoredFace, patches: Sequence["_Patch"], detail: float, enlarged: int
) -> _FineDetail | None:
    """Finds the detail of the planes of one grid that the network's picture is too small for."""
    first = patches[0]
    scale = samples_a_pixel(first.matrix) / enlarged
    if scale <= 1:
        return None
    crop, fine_grain, noise = from_rgb(face.aligned.crop, frame.format), 1.0, 0.0
    for group in () if face.grain is None else face.grain.groups:
        if first.plane in group.planes:
            fine_grain = fine_share(group, scale)
            noise = fine_grain * float(np.trace(group.covariance))
    found = fine_detail(
        [frame.planes[patch.plane][patch.area] for patch in patches],
        [_placed(crop, patch) for patch in patches],
        mask=first.mask,
        matrix=first.matrix,
        level=frame.format.peak / 255,
        enlarged=enlarged,
        noise=noise,
    )
    if found is None:
        return None
    details, share = found
    # What is coarser than the network's pixels it has taken away, and that does not come back.
    kept = share * np.float32(detail * math.sqrt(fine_grain))
    return _FineDetail([each * np.float32(detail) for each in details], kept)


def _mix(
    samples: Plane,
    restored: Picture,
    mask: Picture,
    strength: float,
    noise: Picture | None,
    peak: int,
) -> None:
    """Moves `samples` towards `restored` in place, rounded to the nearest, ties to even."""
    change = cv2.subtract(restored, samples, dtype=cv2.CV_32F)
    change = cv2.multiply(change, mask, scale=strength)
    if noise is not None:
        change = cv2.add(change, noise)
    # Adds in float32, rounds once, and stops at the limits of the array's type.
    depth = {1: cv2.CV_8U, 2: cv2.CV_16U, 4: cv2.CV_32F}[samples.dtype.itemsize]
    samples[...] = cv2.add(change, samples, dtype=depth)
    if depth == cv2.CV_16U and peak < 65535:
        np.minimum(samples, samples.dtype.type(peak), out=samples)


def masks(frame: Frame, faces: Sequence[RestoredFace]) -> tuple[Picture, ...]:
    """Returns an array of each plane's shape: how much of it `blend` replaces, 0 to 1, float32."""
    kept = [np.ones(plane.shape, np.float32) for plane in frame.planes]
    for face in faces:
        for patch in chain.from_iterable(_patches(frame, face)):
            kept[patch.plane][patch.area] *= 1 - patch.mask
    return tuple(1 - plane for plane in kept)


@dataclass(frozen=True)
class _Patch:
    """Where a face goes in one plane."""

    plane: int
    """Number of the plane."""
    area: tuple[slice, slice]
    """Rows and columns of the plane that the face touches."""
    mask: Picture
    """How much of the face shows in each sample of the area, 0 to 1."""
    matrix: Matrix23
    """From crop coordinates to those of the area."""
    interpolation: Interpolation
    """How the crop is sampled."""


def _footprint(face: RestoredFace) -> float:
    """Returns the area of the crop in the frame, in luma samples."""
    return 1 / abs(float(np.linalg.det(face.aligned.matrix[:, :2])))


def _patches(frame: Frame, face: RestoredFace) -> Iterator[list[_Patch]]:
    size = face.image.shape[0]
    (x, y), (half_x, half_y) = _CENTRE, _HALF_AXES
    support = (
        (x - half_x) * size - 0.5,
        (y - half_y) * size - 0.5,
        (x + half_x) * size - 0.5,
        (y + half_y) * size - 0.5,
    )
    # All planes of one grid share one mask.
    for grid in grids(frame.format):
        patch = _place(frame, face, grid[0], support)
        if patch is not None:
            yield [replace(patch, plane=number) for number in grid]


def _place(
    frame: Frame,
    face: RestoredFace,
    number: int,
    support: tuple[float, float, float, float],
) -> _Patch | None:
    """Finds where the face goes in plane `number`; None where it does not touch it."""
    rows, columns = frame.planes[number].shape
    to_plane = compose(frame.format.luma_to_plane(number), invert(face.aligned.matrix))
    left, top, right, bottom = bounds(to_plane, support)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, columns), min(bottom, rows)
    if left >= right or top >= bottom:
        return None
    to_area = to_plane - np.array([[0, 0, left], [0, 0, top]])
    cell = face.image.shape[0] / _MASK_SIZE
    to_crop = np.array([[cell, 0, 0.5 * cell - 0.5], [0, cell, 0.5 * cell - 0.5]])
    shown = soft_mask(_MASK_SIZE)
    if face.covered is not None:
        shown = shown * (1 - cv2.resize(face.covered, shown.shape, interpolation=cv2.INTER_LINEAR))
    mask = warp(
        shown,
        compose(to_area, to_crop),
        shape=(bottom - top, right - left),
        interpolation="linear",
        outside="zero",
    )
    return _Patch(
        number,
        (slice(top, bottom), slice(left, right)),
        mask,
        to_area,
        "linear" if number else "cubic",
    )
