"""Folders of pictures: found, matched by name, read."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

type Picture = NDArray[np.uint8]
"""(H, W, 3) RGB; where it says so, (H, W, 4) with opacity, or (H, W) opacity alone."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What is taken for a picture."""


def match_files(restored: Path, truth: Path | None) -> dict[str, tuple[Path, Path | None]]:
    """Pairs the restored file and the true one by their path without its suffix.

    Raises:
        ValueError: a folder has no pictures, or two of one name, or one lacks its counterpart.
    """
    ours = list_pictures(restored)
    if truth is None:
        return {name: (path, None) for name, path in ours.items()}
    theirs = list_pictures(truth)
    for here, there, missing in (
        (restored, truth, sorted(ours.keys() - theirs.keys())),
        (truth, restored, sorted(theirs.keys() - ours.keys())),
    ):
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ValueError(
                f"of {here}, {', '.join(missing[:3])}{more} have no counterpart in {there}"
            )
    return {name: (path, theirs[name]) for name, path in ours.items()}


def list_pictures(folder: Path) -> dict[str, Path]:
    """Returns the pictures below `folder` by their relative path without suffix, in order.

    Raises:
        ValueError: there are none, or two of one name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise ValueError(f"{found[name]} and {path} have one name: remove one")
            found[name] = path
    if not found:
        raise ValueError(f"no pictures ({', '.join(SUFFIXES)}) in {folder}")
    return found


def read_picture(path: Path) -> Picture:
    """Returns (H, W, 3) uint8 RGB.

    Raises:
        ValueError: it cannot be read.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"{path} is not a readable picture")
    return np.asarray(picture, np.uint8)


def size_of(picture: Picture) -> str:
    """Returns width and height, as people write them."""
    return f"{picture.shape[1]}x{picture.shape[0]}"
