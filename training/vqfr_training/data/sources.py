"""Where training pictures lie: a folder, searched through, or tar shards; any of them at any time.

Shards are plain tar files of pictures, as webdataset writes and reads them. They are not streamed
through a shuffle buffer: sample i has to be a pure function of the seed and i, so that a resumed
run sees what an uninterrupted one would. The places of all pictures are found once, from the tar
headers, and each picture is one read at a known place.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vqfr_media.files import atomic_output, is_temporary

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What is taken for a picture, in a folder or in a shard."""

# Of a folder without train/ and val/, so many pictures, evenly spread, validate a run.
_VALIDATION_PICTURES = 32
# Bytes that are zero at the end of every tar file.
_END = 1024


@dataclass(frozen=True)
class PictureLocation:
    """Where the bytes of one picture lie."""

    file: Path
    """The picture itself, or the shard that holds it."""
    name: str
    """The picture's path inside the folder or the shard."""
    offset: int = 0
    """Where its bytes begin in the file."""
    size: int | None = None
    """Bytes; None is the whole file."""

    def read(self) -> bytes:
        """Returns the encoded picture. Holds nothing open, so that any thread may call it."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)

    def __str__(self) -> str:
        return str(self.file) if self.size is None else f"{self.file}:{self.name}"


def locate_pictures(folder: Path) -> tuple[PictureLocation, ...]:
    """Returns the pictures of `folder`, one of a data set's parts `train` and `val`.

    In a fixed order.

    The first of these that is there: the folder with all its folders, pictures and shards; shards
    beside it that begin with its name (`train-000000.tar`); the data set's own pictures and shards,
    of which `val` gets 32 (a tenth, if that is less), evenly spread, and `train` the others.

    Raises:
        ValueError: there are no pictures, or a shard is compressed, damaged or cut short.
    """
    if folder.is_dir():
        locations = _locations(sorted(folder.rglob("*")), folder)
        return _not_empty(locations, folder)
    beside = sorted(folder.parent.glob(f"{folder.name}*.tar"))
    if beside:
        return _not_empty(_locations(beside, folder.parent), folder.parent / f"{folder.name}*.tar")
    other = {"train": "val", "val": "train"}.get(folder.name)
    there = other is not None and (
        (folder.parent / other).exists() or any(folder.parent.glob(f"{other}*.tar"))
    )
    if other is None or not folder.parent.is_dir() or there:
        raise ValueError(f"{folder} does not exist, and neither do shards {folder.name}*.tar")
    everything = _not_empty(
        _locations(sorted(folder.parent.rglob("*")), folder.parent), folder.parent
    )
    count = max(1, min(_VALIDATION_PICTURES, len(everything) // 10))
    validation = {number * len(everything) // count for number in range(count)}
    return _not_empty(
        [p for n, p in enumerate(everything) if (n in validation) == (folder.name == "val")],
        folder.parent,
    )


def write_shards(
    locations: Sequence[PictureLocation], out: Path, *, name: str, each: int = 1000
) -> list[Path]:
    """Packs pictures into `out`/`name`-000000.tar and so on; the same pictures give the same bytes.

    Args:
        locations: what `locate_pictures` found.
        out: made if absent; must not hold shards of this name.
        name: `train` or `val`.
        each: pictures a shard.

    Raises:
        ValueError: `each` is below 1, or shards of this name are there already.
    """
    if each < 1:
        raise ValueError(f"each must be at least 1, got {each}")
    out.mkdir(parents=True, exist_ok=True)
    if there := sorted(out.glob(f"{name}-*.tar")):
        raise ValueError(f"{there[0]} is there already: remove it or choose another folder")
    paths = []
    for first in range(0, len(locations), each):
        path = out / f"{name}-{first // each:06d}.tar"
        with (
            atomic_output(path) as temporary,
            tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as shard,
        ):
            for number, location in enumerate(locations[first : first + each], start=first):
                body = location.read()
                # The key of a webdataset sample ends at the first dot.
                key = f"{number:08d}{PurePosixPath(location.name).suffix.lower()}"
                add_member(shard, key, body)
        paths.append(path)
    return paths


def add_member(shard: tarfile.TarFile, name: str, body: bytes) -> None:
    """Adds a file to a tar; nothing but its name and its bytes is told of it."""
    from io import BytesIO

    about = tarfile.TarInfo(name)
    about.size = len(body)
    shard.addfile(about, BytesIO(body))


def _locations(paths: Sequence[Path], root: Path) -> list[PictureLocation]:
    locations: list[PictureLocation] = []
    for path in paths:
        if is_temporary(path):  # what a killed `write_shards` left
            continue
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if suffixes[-1:] == [".tar"]:
            locations += _shard(path)
        elif ".tar" in suffixes[-2:-1] or suffixes[-1:] == [".tgz"]:
            raise ValueError(f"{path} is compressed: unpack it to .tar, pictures are small already")
        elif suffixes[-1:] and suffixes[-1] in SUFFIXES and path.is_file():
            locations.append(PictureLocation(path, path.relative_to(root).as_posix()))
    return locations


def _shard(path: Path) -> list[PictureLocation]:
    """Returns the pictures in a tar file."""
    locations = []
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                    continue
                if member.offset_data + member.size > length:
                    raise ValueError(f"{path} is cut short within {member.name}: copy it again")
                locations.append(
                    PictureLocation(path, member.name, member.offset_data, member.size)
                )
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no readable tar file: {error}; copy it again") from error
    # Between two members a cut looks like the end, but for the two empty blocks that mark it.
    if any(PictureLocation(path, "", max(0, length - _END), _END).read()):
        raise ValueError(f"{path} is cut short after {len(locations)} pictures: copy it again")
    return locations


def _not_empty(locations: Sequence[PictureLocation], place: Path) -> tuple[PictureLocation, ...]:
    if not locations:
        raise ValueError(f"no {', '.join(SUFFIXES)} pictures in {place}, nor in .tar shards there")
    return tuple(locations)
