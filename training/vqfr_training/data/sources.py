"""Where training pictures lie: a folder, searched through, or tar shards; any of them at any time.

Shards are plain tar files of pictures, as webdataset writes and reads them. They are not streamed
through a shuffle buffer: sample i has to be a pure function of the seed and i, so that a resumed
run sees what an uninterrupted one would. The places of all pictures are found once, from the tar
headers, and each picture is one read at a known place.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What is taken for a picture, in a folder or in a shard."""

# Of a folder without train/ and val/, so many pictures, evenly spread, watch over a run.
_WATCHING = 32
# Bytes that are zero at the end of every tar file.
_END = 1024


@dataclass(frozen=True)
class Piece:
    """Where the bytes of one picture lie."""

    file: Path
    name: str
    """The picture's path inside the folder or the shard."""
    offset: int = 0
    size: int | None = None
    """Bytes; None is the whole file."""

    def read(self) -> bytes:
        """The encoded picture. Holds nothing open, so that any thread may call it."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)

    def __str__(self) -> str:
        return str(self.file) if self.size is None else f"{self.file}:{self.name}"


def find_pieces(folder: Path) -> tuple[Piece, ...]:
    """The pictures of `folder`, one of a data set's parts `train` and `val`, in a fixed order.

    The first of these that is there: the folder with all its folders, pictures and shards; shards
    beside it that begin with its name (`train-000000.tar`); the data set's own pictures and shards,
    of which `val` gets 32 (a tenth, if that is less), evenly spread, and `train` the others.

    Raises:
        ValueError: there are no pictures, or a shard is compressed, damaged or cut short.
    """
    if folder.is_dir():
        pieces = _pieces(sorted(folder.rglob("*")), folder)
        return _some(pieces, folder)
    beside = sorted(folder.parent.glob(f"{folder.name}*.tar"))
    if beside:
        return _some(_pieces(beside, folder.parent), folder.parent / f"{folder.name}*.tar")
    other = {"train": "val", "val": "train"}.get(folder.name)
    there = other is not None and (
        (folder.parent / other).exists() or any(folder.parent.glob(f"{other}*.tar"))
    )
    if other is None or not folder.parent.is_dir() or there:
        raise ValueError(f"{folder} does not exist, and neither do shards {folder.name}*.tar")
    everything = _some(_pieces(sorted(folder.parent.rglob("*")), folder.parent), folder.parent)
    count = max(1, min(_WATCHING, len(everything) // 10))
    watching = {number * len(everything) // count for number in range(count)}
    return _some(
        [p for n, p in enumerate(everything) if (n in watching) == (folder.name == "val")],
        folder.parent,
    )


def write_shards(pieces: Sequence[Piece], out: Path, *, name: str, each: int = 1000) -> list[Path]:
    """Pack pictures into `out`/`name`-000000.tar and so on; the same pictures give the same bytes.

    Args:
        pieces: what `find_pieces` found.
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
    for first in range(0, len(pieces), each):
        path = out / f"{name}-{first // each:06d}.tar"
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as shard:
            for number, piece in enumerate(pieces[first : first + each], start=first):
                body = piece.read()
                # The key of a webdataset sample ends at the first dot.
                key = f"{number:08d}{PurePosixPath(piece.name).suffix.lower()}"
                _add(shard, key, body)
        partial.replace(path)
        paths.append(path)
    return paths


def _add(shard: tarfile.TarFile, name: str, body: bytes) -> None:
    from io import BytesIO

    about = tarfile.TarInfo(name)
    about.size = len(body)
    shard.addfile(about, BytesIO(body))


def _pieces(paths: Sequence[Path], root: Path) -> list[Piece]:
    pieces: list[Piece] = []
    for path in paths:
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if suffixes[-1:] == [".tar"]:
            pieces += _shard(path)
        elif ".tar" in suffixes[-2:-1] or suffixes[-1:] == [".tgz"]:
            raise ValueError(f"{path} is compressed: unpack it to .tar, pictures are small already")
        elif suffixes[-1:] and suffixes[-1] in SUFFIXES and path.is_file():
            pieces.append(Piece(path, path.relative_to(root).as_posix()))
    return pieces


def _shard(path: Path) -> list[Piece]:
    """The pictures in a tar file."""
    pieces = []
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                    continue
                if member.offset_data + member.size > length:
                    raise ValueError(f"{path} is cut short within {member.name}: copy it again")
                pieces.append(Piece(path, member.name, member.offset_data, member.size))
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no readable tar file: {error}; copy it again") from error
    # Between two members a cut looks like the end, but for the two empty blocks that mark it.
    if any(Piece(path, "", max(0, length - _END), _END).read()):
        raise ValueError(f"{path} is cut short after {len(pieces)} pictures: copy it again")
    return pieces


def _some(pieces: Sequence[Piece], place: Path) -> tuple[Piece, ...]:
    if not pieces:
        raise ValueError(f"no {', '.join(SUFFIXES)} pictures in {place}, nor in .tar shards there")
    return tuple(pieces)
