"""Training faces that are made once and kept in files, with what a network draws of them."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from vqfr_training.data.degradation import Image

type Levels = NDArray[np.uint8]
"""(3, S, S) RGB."""


class PreparedBatch(NamedTuple):
    """Faces as a step sees them, each (N, 3, S, S) RGB in [-1, 1]."""

    lq: Tensor
    """Damaged."""
    main: Tensor
    """Restored; about that range."""
    hq: Tensor
    """As they were."""


class PreparedFaces:
    """So many faces in a folder of arrays that need not lie in memory.

    `lq.npy` and `hq.npy` are levels (N, 3, S, S), `main.npy` is float16 in about [-1, 1], and
    `done.npy` says which faces are there. They may come from elsewhere.
    """

    def __init__(self, folder: Path, *, count: int, size: int) -> None:
        """Opens what is there; otherwise the folder is made when the first face is kept.

        Raises:
            ValueError: there are arrays of other faces, or cut short, or not all of them.
        """
        self._folder = folder
        pictures = (count, 3, size, size)
        self._wanted: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "lq": (pictures, np.uint8),
            "hq": (pictures, np.uint8),
            "main": (pictures, np.float16),
            "done": ((count,), np.bool_),  # the last to be made: with it, the others are there
        }
        self._arrays: dict[str, np.memmap[Any, Any]] = {}
        if (folder / "done.npy").is_file():
            self._arrays = {name: self._open(name) for name in self._wanted}
        elif there := [name for name in self._wanted if (folder / f"{name}.npy").exists()]:
            raise ValueError(
                f"{folder} has {there[0]}.npy but no done.npy: write done.npy, which says of each "
                f"of the {count} faces whether it is there, or remove {folder}"
            )

    def __contains__(self, number: int) -> bool:
        return bool(self._arrays) and bool(self._arrays["done"][number])

    @property
    def complete(self) -> bool:
        """Whether all of them are there."""
        return bool(self._arrays) and bool(self._arrays["done"].all())

    def keep(self, number: int, *, lq: Levels, main: NDArray[np.float16], hq: Levels) -> None:
        """Writes one face.

        Raises:
            ValueError: the disk has no room for all of them.
        """
        if not self._arrays:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room()
            self._arrays = {name: self._create(name) for name in self._wanted}
        for name, picture in (("lq", lq), ("main", main), ("hq", hq)):
            self._arrays[name][number] = picture
            self._arrays[name].flush()  # after a power cut too, what is called done is there
        self._arrays["done"][number] = True

    def read(
        self,
        numbers: Sequence[int],
        corners: NDArray[np.int64],
        mirrored: NDArray[np.bool_],
        *,
        side: int,
    ) -> PreparedBatch:
        """Returns squares of N faces that are there, the same square of a face's three pictures.

        Args:
            numbers: which faces.
            corners: the squares' first rows and columns `(N, 2)`, after mirroring.
            mirrored: which faces are mirrored left to right `(N,)`.
            side: of the squares, in pixels.
        """

        def squares(name: str) -> NDArray[Any]:
            faces = (self._arrays[name][number] for number in numbers)
            turned = (
                face[..., ::-1] if turn else face
                for face, turn in zip(faces, mirrored, strict=True)
            )
            # Cut before anything is converted: most of a face is not needed.
            cut = (
                face[:, top : top + side, left : left + side]
                for face, (top, left) in zip(turned, corners.tolist(), strict=True)
            )
            return np.stack(list(cut))

        main = torch.from_numpy(squares("main")).float()
        return PreparedBatch(from_levels(squares("lq")), main, from_levels(squares("hq")))

    def _check_room(self) -> None:
        """Refuses a disk that is too small for all faces.

        The files take no room until faces are written, and a disk that is full by then ends
        Python without an error.
        """
        needed = sum(
            math.prod(shape) * np.dtype(kind).itemsize for shape, kind in self._wanted.values()
        )
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise ValueError(
                f"the prepared faces need {needed / 1e9:.1f} GB, and {self._folder} has "
                f"{free / 1e9:.1f} GB free"
            )

    def _open(self, name: str) -> np.memmap[Any, Any]:
        path, (shape, kind) = self._folder / f"{name}.npy", self._wanted[name]
        try:
            # For reading first: opened for writing, a file that was cut short is filled with zeros.
            array = open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be used: {error}; remove {self._folder}") from error
        if array.shape != shape or array.dtype != kind:
            raise ValueError(
                f"{path} holds {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}: "
                f"remove {self._folder} or choose another --out"
            )
        size, length = path.stat().st_size, array.offset + array.nbytes
        if size != length:
            raise ValueError(f"{path} has {size} bytes, not {length}: remove {self._folder}")
        return open_memmap(path, mode="r+")

    def _create(self, name: str) -> np.memmap[Any, Any]:
        shape, kind = self._wanted[name]
        return open_memmap(
            self._folder / f"{name}.npy", mode="w+", dtype=np.dtype(kind), shape=shape
        )


def to_levels(image: Image) -> Levels:
    """Returns an image (S, S, 3) in [0, 1] as (3, S, S) levels."""
    levels = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(2, 0, 1))


def from_levels(levels: NDArray[np.uint8]) -> Tensor:
    """Returns levels (any shape) as values in [-1, 1].

    Those of an image that has 8 bits are what `to_tensor` makes of it, bit for bit.
    """
    return torch.from_numpy(levels / np.float32(255)) * 2 - 1
