"""Data sets as they lie on the disk: one folder or several, each with its own field of view."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.sources import PictureLocation, locate_pictures

type Data = Path | Sequence[Path]
"""One data set's folder, with parts `train` and `val`, or several that are used as one."""

LAYOUT = "layout.json"
"""In a data set's folder: {"field_of_view": 1.2}, how many template sides a picture's side is."""

_WITH_MARGIN, _WIDER = 768, 1.2
"""Side of pictures that have a margin even where no layout says so, and their field of view."""


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """The pictures of one data set's part."""

    folder: Path
    """Where the part lies."""
    locations: tuple[PictureLocation, ...]
    """Where its pictures lie, in the order of their names."""
    field_of_view: float | None
    """Side of a picture in sides of the FFHQ template; None: its size tells."""


def parts(data: Data, part: str) -> tuple[Path, ...]:
    """Returns part `train` or `val` of every data set, in the given order."""
    return tuple(folder / part for folder in each(data))


def find_sources(folders: Data) -> tuple[PictureSource, ...]:
    """Returns the pictures of each of `folders`, parts of data sets.

    Raises:
        ValueError: none is named, one holds no pictures, or a layout cannot be read.
    """
    found = tuple(
        PictureSource(
            folder=folder, locations=locate_pictures(folder), field_of_view=_read(folder.parent)
        )
        for folder in each(folders)
    )
    if not found:
        raise ValueError("at least one folder of photographs is needed")
    return found


def each(data: Data) -> tuple[Path, ...]:
    """Returns the folders one by one."""
    return (data,) if isinstance(data, Path) else tuple(data)


def template_side(side: int, field_of_view: float | None = None) -> float:
    """Returns the side of the FFHQ template, pixels, in a photograph of `side` px.

    Where the field of view is not known, a photograph of 768 px has the template at 640, and one of
    any other size is filled by it, as FFHQ's own are.
    """
    if field_of_view is not None:
        return side / field_of_view
    return side / _WIDER if side == _WITH_MARGIN else side


def chances(names: Sequence[str], weights: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """Returns how far up to each picture the chance of being drawn adds up, (N,), 1 at the end.

    Args:
        names: the pictures' paths.
        weights: the ends of names without their suffix, and what such pictures weigh; the first end
            that fits counts, and what none fits weighs 1.

    Raises:
        ValueError: a weight is negative, or nothing weighs anything.
    """
    if any(weight < 0 for _, weight in weights):
        raise ValueError(f"weights of pictures must not be negative, got {weights}")
    stems = [PurePosixPath(name).stem for name in names]
    each_weight = np.array([next((w for end, w in weights if s.endswith(end)), 1.0) for s in stems])
    total = each_weight.sum()
    if total <= 0:
        raise ValueError(f"none of {len(names)} pictures weighs anything: {weights}")
    return np.asarray(np.cumsum(each_weight) / total, np.float64)


def _read(folder: Path) -> float | None:
    path = folder / LAYOUT
    if not path.is_file():
        return None
    try:
        field_of_view = json.loads(path.read_text())["field_of_view"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} should read {{"field_of_view": NUMBER}}') from error
    if not isinstance(field_of_view, int | float) or not 1 <= field_of_view <= 4:
        raise ValueError(f"{path}: field_of_view is a number within 1..4, got {field_of_view!r}")
    return float(field_of_view)
