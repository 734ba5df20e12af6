"""Aligned photographs in memory, and training samples cut from them.

A photograph is 768 px square with the 512 px FFHQ template drawn at 640 px around its centre; the
margin leaves room to turn, shift and scale. Sample number i of a run is a pure function of (seed,
i), so a resumed run sees exactly the samples an uninterrupted one would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.degradation import Degradation, Image, degrade

type Photograph = NDArray[np.uint8]
"""(S, S, 3) RGB."""

PHOTOGRAPH_SIZE = 768
TEMPLATE_SIZE = 640


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a sample may differ from its photograph. Shares are within 0..1."""

    flip: float = 0.5
    rotation: float = 20.0
    """Largest turn in degrees; drawn with a peak at none."""
    zoom: tuple[float, float] = (0.85, 1.2)
    shift: float = 0.08
    """Standard deviation × 2 of the shift, in faces; landmarks in real video are noisy."""
    stretch: float = 0.08
    """Largest natural logarithm of the aspect ratio."""
    perspective: float = 0.14
    """Largest keystone: relative growth of one side, as of a face turned or near the lens."""
    blended: float = 0.1
    """Share of samples that mix two people."""
    background: float = 0.3
    """Share with another background, half outside the head, half outside the photograph."""
    occluded: float = 0.15
    """Share with a bar or a blob before the face; it stays in the truth as well."""
    light: float = 0.3
    """Largest natural logarithm of the light's change from the centre to the rim."""
    colour: float = 0.06
    """Standard deviation of the natural logarithm of each channel's gain."""
    gamma: float = 0.25
    """Largest natural logarithm of the exponent."""
    contrast: float = 0.15
    """Largest relative change of contrast and of brightness."""
    saturation: tuple[float, float] = (0.6, 1.3)

    def __post_init__(self) -> None:
        for name in ("flip", "blended", "background", "occluded"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share within 0..1, got {getattr(self, name)}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom must be an ascending range above 0, got {self.zoom}")


class Photographs:
    """A folder's photographs, decoded once and reduced by areas to just above the working size."""

    def __init__(self, folder: Path, *, size: int) -> None:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
        if not paths:
            raise ValueError(f"no .jpg or .png photographs in {folder}")
        # The whole-number reduction is the area prefilter; the warp then changes little.
        self.reduction = max(1, int(TEMPLATE_SIZE / size / 1.2))
        self.size = size
        self.names = [path.name for path in paths]
        self.images: list[Photograph] = [self._load(path) for path in paths]

    def __len__(self) -> int:
        return len(self.images)

    def _load(self, path: Path) -> Photograph:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{path} is not a readable picture")
        if image.shape[:2] != (PHOTOGRAPH_SIZE, PHOTOGRAPH_SIZE):
            wanted = f"{PHOTOGRAPH_SIZE}x{PHOTOGRAPH_SIZE}"
            raise ValueError(f"{path} is {image.shape[1]}x{image.shape[0]}, expected {wanted}")
        side = PHOTOGRAPH_SIZE // self.reduction
        reduced = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(reduced[..., ::-1], np.uint8)

    def plain(self, number: int) -> Image:
        """Photograph `number` cut to the template, untouched otherwise."""
        matrix = _cut_matrix(self.reduction, self.size, np.eye(3))
        return np.asarray(_warp(self.images[number], matrix, self.size) / np.float32(255))

    def sample(self, generator: np.random.Generator, config: Augmentation) -> Image:
        """One augmented face (size, size, 3), RGB in [0, 1]."""
        photograph = self.images[int(generator.integers(len(self)))]
        if generator.random() < config.blended:
            other = self.images[int(generator.integers(len(self)))]
            part = generator.uniform(0.3, 0.7)
            photograph = np.asarray(cv2.addWeighted(photograph, part, other, 1 - part, 0), np.uint8)
        matrix = _cut_matrix(self.reduction, self.size, _random_geometry(generator, config))
        if generator.random() < config.background:
            face = self._before_background(photograph, matrix, generator)
        else:
            face = _warp(photograph, matrix, self.size)
        if generator.random() < config.occluded:
            face = _occlude(face, generator)
        return _recolour(np.clip(face / np.float32(255), 0, 1), generator, config)

    def _before_background(
        self, photograph: Photograph, matrix: NDArray[np.float64], generator: np.random.Generator
    ) -> Image:
        """The photograph, or an oval about its head, before something else; levels 0..255."""
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
        """A smooth colour field, sometimes with another photograph's parts as clutter."""
        coarse = generator.uniform(0, 255, (int(generator.integers(2, 6)),) * 2 + (3,))
        coarse += (coarse.mean(axis=2, keepdims=True) - coarse) * generator.uniform(0.3, 0.9)
        size = (self.size, self.size)
        field = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        if generator.random() < 0.4:
            clutter = self.images[int(generator.integers(len(self)))]
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
    """(poor, good) of sample `index` of the run with `seed`; without degradation both are good."""
    generator = np.random.default_rng([seed, index])
    good = photographs.sample(generator, augmentation)
    return (good if degradation is None else degrade(good, generator, degradation)), good


def validation_pairs(
    photographs: Photographs, *, seed: int, degradation: Degradation | None
) -> tuple[Tensor, Tensor]:
    """(poor, good), each (N, 3, S, S) in [-1, 1]: every photograph once, always the same damage."""
    good = [photographs.plain(number) for number in range(len(photographs))]
    if degradation is None:
        return to_tensor(good), to_tensor(good)
    generators = [np.random.default_rng([seed, number]) for number in range(len(good))]
    poor = [degrade(image, g, degradation) for image, g in zip(good, generators, strict=True)]
    return to_tensor(poor), to_tensor(good)


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
) -> Generator[tuple[Tensor, Tensor]]:
    """(poor, good) batches (N, 3, S, S) in [-1, 1] of steps `first_step` up to `steps`.

    Threads prepare up to `workers` batches ahead; OpenCV releases the interpreter lock.
    """

    def make(step: int) -> tuple[Tensor, Tensor]:
        pairs = [
            pair(
                photographs,
                step * batch + number,
                seed=seed,
                augmentation=augmentation,
                degradation=degradation,
            )
            for number in range(batch)
        ]
        return to_tensor([poor for poor, _ in pairs]), to_tensor([good for _, good in pairs])

    ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for step in range(first_step, steps + workers):
                if step < steps:
                    ahead.append(pool.submit(make, step))
                if step >= first_step + workers:
                    yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def to_tensor(images: list[Image]) -> Tensor:
    """Images in [0, 1] as (N, 3, H, W) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images))
    return (stacked.permute(0, 3, 1, 2) * 2 - 1).contiguous()


def _random_geometry(generator: np.random.Generator, config: Augmentation) -> NDArray[np.float64]:
    """A homography of the plane in which the face is [-1, 1]²."""
    # The product of two draws peaks at zero: most faces are nearly upright, some far from it.
    turn = np.deg2rad(config.rotation) * generator.uniform(-1, 1) * generator.uniform(0, 1)
    zoom = np.exp(generator.uniform(*np.log(config.zoom)))
    stretch = np.exp(generator.uniform(-0.5, 0.5) * config.stretch)
    mirror = -1.0 if generator.random() < config.flip else 1.0
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    scale = np.diag([zoom * stretch * mirror, zoom / stretch, 1.0])
    keystone = np.eye(3)
    keystone[2, :2] = generator.uniform(-1, 1, 2) * generator.uniform(0, 1) * config.perspective
    move = np.eye(3)
    move[:2, 2] = np.clip(generator.standard_normal(2), -2, 2) * config.shift
    return np.asarray(move @ keystone @ rotate @ scale, np.float64)


def _cut_matrix(reduction: int, size: int, geometry: NDArray[np.float64]) -> NDArray[np.float64]:
    """The homography from a reduced photograph's pixels to the sample's, through `geometry`."""
    middle, half = PHOTOGRAPH_SIZE / 2, TEMPLATE_SIZE / 2
    # Pixel i of OpenCV is the area i .. i + 1, hence the halves.
    scale, move = reduction / half, (reduction * 0.5 - middle) / half
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
    """`image` warped to (size, size), levels 0..255 as float32."""
    cut = cv2.warpPerspective(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(cut, np.float32)


def _occlude(face: Image, generator: np.random.Generator) -> Image:
    """A bar across the picture or a round blob, in one colour; levels 0..255."""
    size = face.shape[0]
    cover = np.zeros((size, size), np.uint8)
    x, y = generator.uniform(0, size, 2)
    width = generator.uniform(0.03, 0.14) * size
    angle = generator.uniform(0, np.pi)
    if generator.random() < 0.7:
        along = np.array([np.cos(angle), np.sin(angle)]) * 2 * size
        across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
        at = np.array([x, y])
        corners = [at - along - across, at + along - across, at + along + across]
        corners.append(at - along + across)
        cv2.fillConvexPoly(cover, np.rint(np.array(corners) * 16).astype(np.int32), 255, 16, 4)
    else:
        radii = (round(width), round(width * generator.uniform(1, 2)))
        cv2.ellipse(cover, (round(x), round(y)), radii, np.rad2deg(angle), 0, 360, (255,), -1, 16)
    if generator.random() < 0.5:
        cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), generator.uniform(0.5, 2.5)), np.uint8)
    colour = generator.uniform(0, 255, 3).astype(np.float32)
    alpha = cover[..., None] / np.float32(255)
    return np.asarray(face * (1 - alpha) + colour * alpha, np.float32)


def _recolour(face: Image, generator: np.random.Generator, config: Augmentation) -> Image:
    """Light, colour temperature, gamma, contrast and saturation; RGB in [0, 1]."""
    gamma = np.exp(generator.uniform(-1, 1) * config.gamma)
    face = face ** np.float32(gamma)
    axis = np.linspace(-1, 1, face.shape[0], dtype=np.float32)
    angle = generator.uniform(0, 2 * np.pi)
    slope = generator.uniform(0, 1) ** 2 * config.light
    slant = np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]
    light = np.exp(np.float32(slope) * slant)[..., None]
    gains = np.exp(np.clip(generator.standard_normal(3), -2, 2) * config.colour)
    face = face * (light * gains.astype(np.float32))
    grey = face.mean(axis=2, keepdims=True)
    face = grey + (face - grey) * np.float32(generator.uniform(*config.saturation))
    contrast, brightness = 1 + generator.uniform(-1, 1, 2) * config.contrast
    face = (face - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5 * brightness)
    return np.asarray(np.clip(face, 0, 1), np.float32)
