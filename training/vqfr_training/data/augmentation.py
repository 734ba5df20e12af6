"""How far a training sample may differ from its photograph, and the steps that make it so."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.degradation import Image


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a sample may differ from its photograph. Shares are within 0..1."""

    flip: float = 0.5
    """Share of mirrored samples."""
    rotation: float = 20.0
    """Largest turn in degrees; drawn with a peak at none."""
    zoom: tuple[float, float] = (0.85, 1.2)
    """Range of the scale; drawn log-uniformly."""
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
    """Range of the factor of saturation."""
    grey: float = 0.0
    """Share without colours, as old films are; the truth has none either."""

    def __post_init__(self) -> None:
        for name in ("flip", "blended", "background", "occluded", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share within 0..1, got {getattr(self, name)}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom must be an ascending range above 0, got {self.zoom}")


def flips_only() -> Augmentation:
    """Returns the paper's augmentation: horizontal flips and nothing else."""
    return Augmentation(
        rotation=0.0,
        zoom=(1.0, 1.0),
        shift=0.0,
        stretch=0.0,
        perspective=0.0,
        blended=0.0,
        background=0.0,
        occluded=0.0,
        light=0.0,
        colour=0.0,
        gamma=0.0,
        contrast=0.0,
        saturation=(1.0, 1.0),
    )


def random_geometry(generator: np.random.Generator, config: Augmentation) -> NDArray[np.float64]:
    """Returns a homography of the plane in which the face is [-1, 1]²."""
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


def occlude(face: Image, generator: np.random.Generator) -> Image:
    """Returns a bar across the picture or a round blob, in one colour; levels 0..255."""
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


def recolour(face: Image, generator: np.random.Generator, config: Augmentation) -> Image:
    """Changes light, colour temperature, gamma, contrast and saturation; RGB in [0, 1].

    What a recipe has switched off draws its numbers all the same, and costs no more than that.
    """
    gamma = float(np.exp(generator.uniform(-1, 1) * config.gamma))
    if gamma != 1:
        face = np.asarray(cv2.pow(face, gamma), np.float32)  # five times as fast as NumPy's
    angle = generator.uniform(0, 2 * np.pi)
    slope = generator.uniform(0, 1) ** 2 * config.light
    gains = np.exp(np.clip(generator.standard_normal(3), -2, 2) * config.colour)
    if slope or (gains != 1).any():
        axis = np.linspace(-1, 1, face.shape[0], dtype=np.float32)
        slant = np.float32(np.cos(angle)) * axis[None] + np.float32(np.sin(angle)) * axis[:, None]
        light = np.exp(np.float32(slope) * slant)[..., None]
        face = face * (light * gains.astype(np.float32))
    saturation = generator.uniform(*config.saturation)
    # Nothing is drawn where the share is 0, so that older recipes keep their samples.
    if config.grey > 0 and generator.random() < config.grey:
        saturation = 0.0
    if saturation != 1:
        grey = face.mean(axis=2, keepdims=True)
        face = grey + (face - grey) * np.float32(saturation)
    contrast, brightness = 1 + generator.uniform(-1, 1, 2) * config.contrast
    if contrast != 1 or brightness != 1:
        face = (face - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5 * brightness)
    return np.asarray(np.clip(face, 0, 1), np.float32)
