"""Aligned photographs, and training samples cut from them.

A data set's `layout.json` says how far its photographs reach beyond the FFHQ template; the margin
leaves room to turn, shift and scale. Without one, 768 px photographs have the template at 640 px
around the centre, those of any other size are filled by it, as FFHQ's own are. Sample number i of
a run is a pure function of (seed, i), so a resumed run sees exactly the samples an uninterrupted
one would.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqfr_training.data.augmentation import Augmentation as Augmentation
from vqfr_training.data.augmentation import occlude, random_geometry, recolour
from vqfr_training.data.degradation import Degradation, Image, degrade
from vqfr_training.data.layout import Data, chances, find_sources
from vqfr_training.data.layout import template_side as template_side
from vqfr_training.data.sources import PictureLocation

type Photograph = NDArray[np.uint8]
"""(S, S, 3) RGB."""

_ROOM = 1.25
"""A photograph with a margin is kept with the template at so many times the working size."""


class Photographs:
    """A part of one data set or of several, reduced by areas to just above the working size.

    Decoded once and kept where all of them fit into `keep_mib`, else each time one is needed.
    """

    def __init__(
        self,
        folder: Data,
        *,
        size: int,
        keep_mib: int = 2048,
        weights: Sequence[tuple[str, float]] = (),
    ) -> None:
        """See `locate_pictures` for what each folder may be, and `chances` for `weights`.

        Raises:
            ValueError: no pictures, one that cannot be read, is not square, is smaller than the
                samples, or has another size than the first of its folder.
        """
        self.size = size
        found = find_sources(folder)
        self._locations = [location for source in found for location in source.locations]
        self.names = [location.name for location in self._locations]
        self._sides: list[int] = []
        """Of each photograph as it lies on the disk."""
        kept: list[int] = []
        views: set[float] = set()
        for source in found:
            side = len(decode(source.locations[0]))
            template = template_side(side, source.field_of_view)
            if template < size:
                raise ValueError(
                    f"{source.locations[0]} is {side}x{side}: too small for faces of {size} px"
                )
            self._sides += [side] * len(source.locations)
            kept.append(_kept_side(side, template, size))
            views.add(side / template)
        if len(views) > 1:
            raise ValueError(
                f"data sets with fields of view of {', '.join(f'{view:g}' for view in views)} "
                "cannot be used as one"
            )
        # Two people are blended pixel by pixel, so all pictures are kept alike.
        self._side, self._view = min(kept), views.pop()
        self._chances = chances(self.names, weights) if weights else None
        self._kept: list[Photograph] | None = None
        if len(self) * self._side**2 * 3 <= keep_mib << 20:
            self._kept = list(map(self._load, range(len(self))))

    def __len__(self) -> int:
        return len(self._locations)

    def image(self, number: int) -> Photograph:
        """Returns photograph `number`, reduced; from any thread."""
        return self._load(number) if self._kept is None else self._kept[number]

    def draw(self, generator: np.random.Generator) -> Photograph:
        """Returns any photograph, each as often as it weighs."""
        if self._chances is None:
            return self.image(int(generator.integers(len(self))))
        number = int(np.searchsorted(self._chances, generator.random(), side="right"))
        return self.image(min(number, len(self) - 1))

    def _load(self, number: int) -> Photograph:
        """Returns RGB of a picture, reduced by areas."""
        location, side = self._locations[number], self._sides[number]
        image = decode(location)
        if image.shape != (side, side, 3):
            raise ValueError(
                f"{location} is {image.shape[1]}x{image.shape[0]}, expected {side}x{side}"
            )
        if side > self._side:
            size = (self._side, self._side)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return np.ascontiguousarray(image[..., ::-1])

    def plain(self, number: int) -> Image:
        """Returns photograph `number` cut to the template, untouched otherwise."""
        return np.asarray(self._cut(self.image(number), np.eye(3)) / np.float32(255))

    def sample(self, generator: np.random.Generator, config: Augmentation) -> Image:
        """Returns one augmented face (size, size, 3), RGB in [0, 1]."""
        photograph = self.draw(generator)
        if generator.random() < config.blended:
            other = self.draw(generator)
            part = generator.uniform(0.3, 0.7)
            photograph = np.asarray(cv2.addWeighted(photograph, part, other, 1 - part, 0), np.uint8)
        geometry = random_geometry(generator, config)
        if generator.random() < config.background:
            face = self._before_background(photograph, self._matrix(geometry), generator)
        else:
            face = self._cut(photograph, geometry)
        if generator.random() < config.occluded:
            face = occlude(face, generator)
        return recolour(np.clip(face / np.float32(255), 0, 1), generator, config)

    def _matrix(self, geometry: NDArray[np.float64]) -> NDArray[np.float64]:
        return _cut_matrix(self._side, self._side / self._view, self.size, geometry)

    def _cut(self, photograph: Photograph, geometry: NDArray[np.float64]) -> Image:
        """Returns the photograph through `geometry` at the working size.

        Levels 0..255 as float32.
        """
        matrix = self._matrix(geometry)
        if photograph.shape[0] == self.size:
            # Faces at the working size that are mirrored at most: no filter must touch them.
            if np.allclose(matrix, np.eye(3), atol=1e-9):
                return photograph.astype(np.float32)
            if np.allclose(matrix, [[-1, 0, self.size - 1], [0, 1, 0], [0, 0, 1]], atol=1e-9):
                return photograph[:, ::-1].astype(np.float32)
        return _warp(photograph, matrix, self.size)

    def _before_background(
        self, photograph: Photograph, matrix: NDArray[np.float64], generator: np.random.Generator
    ) -> Image:
        """Returns the photograph, or an oval about its head, before something else.

        Levels 0..255.
        """
        side = photograph.shape[0]
        matte = np.full((side, side), 255, np.uint8)
        if generator.random() < 0.5:
            matte[:] = 0
            centre, radii = (side // 2, int(side * 0.52)), (int(side * 0.31), int(side * 0.44))
            cv2.ellipse(matte, centre, radii, 0, 0, 360, (255,), -1)
            matte = np.asarray(cv2.blur(matte, (side // 24, side // 24)), np.uint8)
        rgba = np.dstack([cv2.multiply(photograph, cv2.merge([matte] * 3), scale=1 / 255), matte])
        cut = _warp(np.asarray(rgba, np.uint8), matrix, self.size, border=cv2.BORDER_CONSTANT)
        return cut[..., :3] + self._background(generator) * (1 - cut[..., 3:] / np.float32(255))

    def _background(self, generator: np.random.Generator) -> Image:
        """Returns a smooth colour field, sometimes with another photograph's parts as clutter."""
        coarse = generator.uniform(0, 255, (int(generator.integers(2, 6)),) * 2 + (3,))
        coarse += (coarse.mean(axis=2, keepdims=True) - coarse) * generator.uniform(0.3, 0.9)
        size = (self.size, self.size)
        field = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        if generator.random() < 0.4:
            clutter = self.draw(generator)
            turn = cv2.getRotationMatrix2D(
                (clutter.shape[0] / 2,) * 2, generator.uniform(60, 300), generator.uniform(0.7, 2.5)
            )
            turned = cv2.warpAffine(clutter, turn, size, borderMode=cv2.BORDER_REFLECT_101)
            field = field * np.float32(0.3) + turned * np.float32(0.7)
        return np.asarray(np.clip(field, 0, 255), np.float32)


def pair(
    photographs: Photographs,
    index: int,
    *,
    seed: int,
    augmentation: Augmentation,
    degradation: Degradation | None,
) -> tuple[Image, Image]:
    """Returns (lq, hq) of sample `index` of the run with `seed`.

    Without degradation both are hq.
    """
    generator = np.random.default_rng([seed, index])
    hq = photographs.sample(generator, augmentation)
    return (hq if degradation is None else degrade(hq, generator, degradation)), hq


def validation_pairs(
    photographs: Photographs,
    *,
    seed: int,
    degradation: Degradation | None,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns (lq, hq), each (N, 3, S, S) in [-1, 1].

    Every photograph once, always the same damage.

    Of more than `most`, so many of them, evenly spaced.
    """
    count = len(photographs) if most is None else min(most, len(photographs))
    numbers = np.linspace(0, len(photographs) - 1, count).round().astype(int).tolist()
    hq = [photographs.plain(number) for number in numbers]
    if degradation is None:
        return to_tensor(hq), to_tensor(hq)
    generators = [np.random.default_rng([seed, number]) for number in numbers]
    lq = [degrade(image, g, degradation) for image, g in zip(hq, generators, strict=True)]
    return to_tensor(lq), to_tensor(hq)


def batches(
    photographs: Photographs,
    *,
    first_step: int,
    steps: int,
    batch: int,
    seed: int,
    augmentation: Augmentation,
    degradation: Degradation | None,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[tuple[Tensor, Tensor]]:
    """Yields (lq, hq) batches (N, 3, S, S) in [-1, 1] of steps `first_step` up to `steps`.

    Threads prepare up to `workers` batches ahead. Of several `world_size`, each gets its `batch` /
    `world_size` of the samples that one alone would see.

    Raises:
        ValueError: the batch cannot be shared out evenly.
    """
    if batch % world_size:
        raise ValueError(f"a batch of {batch} cannot be shared evenly among {world_size} ranks")
    mine = range(batch // world_size * rank, batch // world_size * (rank + 1))

    def make(step: int) -> tuple[Tensor, Tensor]:
        pairs = [
            pair(
                photographs,
                step * batch + number,
                seed=seed,
                augmentation=augmentation,
                degradation=degradation,
            )
            for number in mine
        ]
        lq, hq = (to_tensor([each[part] for each in pairs]) for part in (0, 1))
        # From pinned memory a GPU fetches a batch while it computes.
        return (lq.pin_memory(), hq.pin_memory()) if torch.cuda.is_available() else (lq, hq)

    yield from prepare_ahead(make, range(first_step, steps), workers=workers)


def prepare_ahead[Prepared](
    make: Callable[[int], Prepared], steps: range, *, workers: int
) -> Generator[Prepared]:
    """Yields `make` of each step in order.

    Threads prepare up to `workers` steps ahead; OpenCV releases the interpreter lock.
    """
    ahead: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for step in range(steps.start, steps.stop + workers):
                if step < steps.stop:
                    ahead.append(pool.submit(make, step))
                if step >= steps.start + workers:
                    yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def to_tensor(images: list[Image]) -> Tensor:
    """Returns images in [0, 1] as (N, 3, H, W) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images))
    return (stacked.permute(0, 3, 1, 2) * 2 - 1).contiguous()


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """Returns an image (3, H, W) in [-1, 1] as levels (H, W, 3)."""
    levels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def decode(location: PictureLocation) -> Photograph:
    """Returns a square picture, (S, S, 3) BGR.

    Raises:
        ValueError: it cannot be read or is not square.
    """
    encoded = np.frombuffer(location.read(), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise ValueError(f"{location} is not a readable picture")
    rows, columns = image.shape[:2]
    if rows != columns:
        raise ValueError(f"{location} is {columns}x{rows}, expected a square")
    return np.asarray(image, np.uint8)


def _kept_side(side: int, template: float, size: int) -> int:
    """Returns the side to which a photograph is reduced before samples of `size` are cut from it.

    The reduction is the area prefilter; the warp then changes little. A margin means that samples
    may show the face enlarged; without one, whole-number reductions alone leave no filter's trace.
    """
    if template < side:
        return min(side, round(_ROOM * size * side / template))
    return side // max(1, int(template / size))


def _cut_matrix(
    side: int, template: float, size: int, geometry: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the homography from a kept photograph's pixels to the sample's.

    Through `geometry`.
    """
    middle, half = side / 2, template / 2
    # Pixel i of OpenCV is the area i .. i + 1, hence the halves.
    scale, move = 1 / half, (0.5 - middle) / half
    to_plane = np.array([[scale, 0, move], [0, scale, move], [0, 0, 1]])
    to_sample = np.array([[size / 2, 0, size / 2 - 0.5], [0, size / 2, size / 2 - 0.5], [0, 0, 1]])
    return np.asarray(to_sample @ geometry @ to_plane, np.float64)


def _warp(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: int,
    *,
    border: int = cv2.BORDER_REFLECT_101,
) -> Image:
    """Returns `image` warped to (size, size), levels 0..255 as float32."""
    cut = cv2.warpPerspective(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(cut, np.float32)
