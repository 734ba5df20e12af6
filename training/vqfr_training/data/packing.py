"""Small copies of data sets in tar shards, to take them where little can be carried."""

import json
import tarfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from vqfr_media.files import atomic_output, write_text
from vqfr_training.data.layout import LAYOUT, Data, find_sources, parts, template_side
from vqfr_training.data.photographs import decode
from vqfr_training.data.sources import PictureLocation, add_member


def write_copies(data: Data, out: Path, *, side: int, quality: int = 92) -> dict[str, int]:
    """Packs `data`'s pictures, reduced by areas to `side` px, as one data set.

    The same pictures give the same bytes. Names keep their stems, so that they can be weighed by
    their ends.

    Args:
        data: data sets with one field of view.
        out: made if absent; gets `train-000000.tar`, `val-000000.tar` and a layout.
        side: of the copies, pixels.
        quality: of the JPEG files, 1 to 100; chroma is not reduced.

    Returns:
        How many pictures went into each part.

    Raises:
        ValueError: the pictures differ in field of view or are smaller than `side`, or `out` holds
            shards.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be within 1..100, got {quality}")
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    views = set()
    for part in ("train", "val"):
        path = out / f"{part}-000000.tar"
        if path.exists():
            raise ValueError(f"{path} is there already: remove it or choose another folder")
        with (
            atomic_output(path) as temporary,
            tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as shard,
        ):
            number = 0
            for source in find_sources(parts(data, part)):
                for location in source.locations:
                    stem = PurePosixPath(location.name).stem.replace(".", "_")
                    body, view = _copy(location, source.field_of_view, side=side, quality=quality)
                    views.add(view)
                    add_member(shard, f"{number:08d}_{stem}.jpg", body)
                    number += 1
            if len(views) > 1:
                raise ValueError("data sets with different fields of view cannot be packed as one")
        counts[part] = number
    write_text(out / LAYOUT, json.dumps({"field_of_view": views.pop()}) + "\n")
    return counts


def _copy(
    location: PictureLocation, field_of_view: float | None, *, side: int, quality: int
) -> tuple[bytes, float]:
    """Returns a picture's JPEG copy, and its field of view."""
    image = decode(location)
    own = len(image)
    if own < side:
        raise ValueError(f"{location} is {own}x{own}: too small for copies of {side} px")
    if own > side:
        image = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    _, encoded = cv2.imencode(".jpg", image, options)
    return encoded.tobytes(), own / template_side(own, field_of_view)
