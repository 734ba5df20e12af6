"""Scenes with faces whose places are known exactly: an endless supply, number by number.

Scene `index` of a run is a pure function of (seed, index). Coordinates are pixel centres.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.accessories import add_accessories
from vqfr_training.detector.backgrounds import background, background_ground
from vqfr_training.detector.labels import MIRRORED
from vqfr_training.detector.portraits import Portrait, Portraits, level_for
from vqfr_training.detector.pose import Pose, random_pose
from vqfr_training.detector.scene_degradation import degrade_scene, relight

MAX_SCENES_IN_A_BATCH = 64
"""Scenes; a step's are numbered from this many times its own number."""


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What scenes hold. Shares are within 0..1."""

    side: int = 256
    """Scenes are square; pixels."""
    faces: int = 6
    """Most faces in a scene."""
    empty: float = 0.2
    """Share of scenes without any face."""
    size: tuple[float, float] = (14.0, 230.0)
    """Heights of the faces' boxes in pixels, before they are turned; drawn log-uniformly."""
    rotation: float = 45.0
    """Largest turn in the picture, degrees."""
    yaw: float = 40.0
    """Largest simulated turn of the head, degrees."""
    damaged: float = 0.85
    """Share of scenes that are blurred, noisy, compressed ..."""

    def __post_init__(self) -> None:
        for name in ("empty", "damaged"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share within 0..1, got {getattr(self, name)}")
        if self.side < 32 or self.side % 32:
            raise ValueError(f"side must be a multiple of 32, got {self.side}")
        if not 4 <= self.size[0] <= self.size[1]:
            raise ValueError(f"size must be an ascending range from 4 up, got {self.size}")


@dataclass(frozen=True, kw_only=True)
class SceneBatch:
    """So many scenes of one kind in a step."""

    count: int
    """Scenes in a batch."""
    scenes: SceneConfig
    """What they are like."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SCENES_IN_A_BATCH:
            raise ValueError(f"count must be within 1..{MAX_SCENES_IN_A_BATCH}, got {self.count}")


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it."""

    image: Picture
    """(side, side, 3) RGB."""
    boxes: NDArray[np.float32]
    """(N, 4) left, top, right, bottom of every face."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2)."""
    rotation: NDArray[np.float32]
    """(N,) degrees."""
    counted: NDArray[np.bool_]
    """(N,) False where so little of a face shows that finding it is neither right nor wrong."""


def make_scene(
    index: int,
    *,
    seed: int,
    config: SceneConfig,
    portraits: Portraits,
    photographs: list[Picture],
) -> Scene:
    """Returns scene number `index` of the run with `seed`."""
    generator = np.random.default_rng([seed, index])
    image = background(generator, config.side, photographs, portraits)
    boxes: list[NDArray[np.float64]] = []
    visible: list[NDArray[np.bool_]] = []
    landmarks, rotations, areas = [], [], []
    count = 0
    if generator.random() >= config.empty:
        count = 1 + int(generator.binomial(config.faces - 1, 0.25))
    for _ in range(count):
        pose = _find_room(generator, config, boxes)
        if pose is None:
            continue
        portrait = _person(generator, portraits, pose.size)
        outline = pose.place(portrait.outline())
        if generator.random() < 0.4:
            _body(image, pose, generator, photographs)
        opacity = paste(image, portrait, pose, generator)
        boxes.append(np.concatenate([outline.min(axis=0), outline.max(axis=0)]))
        points = pose.place(portrait.face_landmarks())
        # Left and right are the picture's, whatever was mirrored.
        landmarks.append(points[list(MIRRORED)] if pose.mirrored else points)
        rotations.append(np.rad2deg(pose.turn))
        area = np.zeros((config.side, config.side), np.uint8)
        cv2.fillConvexPoly(area, np.rint(outline).astype(np.int32), (255,))
        for earlier in visible:  # what stands in front hides what is behind
            earlier &= opacity < 128
        visible.append(area > 0)
        areas.append(max(1.0, float(cv2.contourArea(outline.astype(np.float32)))))
    for mask, box in zip(visible, boxes, strict=True):
        if generator.random() < 0.22:
            mask &= ~_cover(image, box, generator)
    coarseness = 1.0
    if generator.random() < config.damaged:
        image, coarseness = degrade_scene(image, generator)
    if not boxes:
        return Scene(image, *_nothing())
    shown = np.array([m.sum() for m in visible]) / np.array(areas)
    seen = [_can_be_seen(image, box, coarseness) for box in boxes]
    return Scene(
        image,
        np.array(boxes, np.float32),
        np.array(landmarks, np.float32),
        np.array(rotations, np.float32),
        (shown >= 0.55) & np.array(seen),
    )


def paste(
    image: Picture, portrait: Portrait, pose: Pose, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Draws the portrait into the scene in place; returns the (side, side) opacity it has there."""
    side = image.shape[0]
    opacity = np.zeros((side, side), np.uint8)
    reach = pose.place(np.array([[-1.7, -1.8], [1.7, -1.8], [1.7, 1.6], [-1.7, 1.6]]))
    x0, y0 = np.clip(np.floor(reach.min(axis=0)), 0, side).astype(int)
    x1, y1 = np.clip(np.ceil(reach.max(axis=0)) + 1, 0, side).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return opacity
    cells = 12 if pose.size < 40 else 20
    grid = np.stack(
        np.meshgrid(np.linspace(x0, x1 - 1, cells), np.linspace(y0, y1 - 1, cells)), axis=-1
    )
    source = pose.unplace(grid.reshape(-1, 2)) * portrait.unit + portrait.centre
    # Positions between the nodes are interpolated: the warp is smooth at that scale.
    columns, rows = int(x1 - x0), int(y1 - y0)
    spread = np.array([[(cells - 1) / (columns - 1), 0, 0], [0, (cells - 1) / (rows - 1), 0]])
    dense = cv2.warpAffine(
        source.reshape(cells, cells, 2).astype(np.float32),
        spread,
        (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    across, down = cv2.split(dense)
    patch = cv2.remap(
        portrait.image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    colours = relight(np.asarray(patch[..., :3], np.uint8), generator)
    alpha = patch[..., 3:]
    target = image[y0:y1, x0:x1]
    weight = alpha * np.float32(1 / 255)
    target[:] = (target + (colours - target.astype(np.float32)) * weight).astype(np.uint8)
    opacity[y0:y1, x0:x1] = alpha[..., 0]
    return opacity


def _body(
    image: Picture, pose: Pose, generator: np.random.Generator, photographs: list[Picture]
) -> None:
    """Shoulders and clothes below a face, behind its portrait."""
    wide, low = generator.uniform(1.3, 2.3), generator.uniform(1.1, 1.7)
    half = np.array([[0.3, low - 0.5], [0.6, low], [wide, low + 0.4], [wide * 1.15, 6.0]])
    corners = np.concatenate([half, half[::-1] * (-1, 1)])
    area = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(area, [np.rint(pose.place(corners)).astype(np.int32)], (255,), cv2.LINE_AA)
    if generator.random() < 0.5:
        cloth = background_ground(generator, image.shape[0], photographs).astype(np.float32)
    else:
        level = generator.uniform(0, 255)
        colour = np.clip(level + generator.standard_normal(3) * 40, 0, 255).astype(np.float32)
        cloth = colour * _ramp(image.shape[0], generator)[..., None]
    weight = area[..., None] * np.float32(1 / 255)
    image[:] = np.clip(image * (1 - weight) + cloth * weight, 0, 255)


def _can_be_seen(image: Picture, box: NDArray[np.float64], coarseness: float) -> bool:
    """Returns whether a face still has ten distinct pixels from top to bottom.

    And some contrast.
    """
    if (box[2:] - box[:2]).max() / coarseness < 10:
        return False
    # Features, not the outline: a black oval is no face.
    inner = 0.8 * box + 0.2 * np.roll(box, 2)
    left, top, right, bottom = np.clip(inner, 0, image.shape[0]).astype(int)
    if right - left < 2 or bottom - top < 2:
        return False
    face = cv2.resize(image[top:bottom, left:right], (8, 8), interpolation=cv2.INTER_AREA)
    return float(face.mean(axis=2).std()) >= 4.0


def _person(generator: np.random.Generator, portraits: Portraits, size: float) -> Portrait:
    number, level = int(generator.integers(len(portraits))), level_for(size)
    if generator.random() < 0.5:
        portrait = portraits.blend(generator, number, level)
    else:
        portrait = portraits.at(number, level)
    return add_accessories(portrait, generator)


def _find_room(
    generator: np.random.Generator, config: SceneConfig, taken: list[NDArray[np.float64]]
) -> Pose | None:
    """Returns a pose whose face is apart from the others'; None where none was found quickly."""
    low, high = np.log(config.size)
    for _ in range(6):
        # Many small faces, some large; later faces rarely fill the picture.
        size = float(np.exp(low + (high - low) * generator.random() ** (1.0 if not taken else 1.6)))
        reach = size * 0.25
        centre = generator.uniform(-reach, config.side + reach, 2)
        if generator.random() < 0.85:
            margin = min(size * 0.5, config.side * 0.5)
            centre = np.clip(centre, margin, config.side - margin)
        pose = random_pose(
            generator, centre=centre, size=size, rotation=config.rotation, yaw=config.yaw
        )
        box = np.array([*(centre - size / 2), *(centre + size / 2)])
        if all(_overlap(box, other) < 0.15 for other in taken):
            return pose
    return None


def _overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Returns the shared part of the smaller box."""
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    if (sides <= 0).any():
        return 0.0
    smaller = min(np.prod(one[2:] - one[:2]), np.prod(two[2:] - two[:2]))
    return float(np.prod(sides) / smaller)


def _cover(
    image: Picture, box: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Returns a bar, a hand or a block before a face; returns where it is."""
    side = image.shape[0]
    width = float(box[2] - box[0])
    cover = np.zeros((side, side), np.uint8)
    at = np.array([generator.uniform(box[0], box[2]), generator.uniform(box[1], box[3])])
    angle = generator.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = along[::-1] * (-1, 1)
    level = generator.uniform(0, 255)
    colour = np.clip(level + generator.standard_normal(3) * 35, 0, 255)
    if generator.random() < 0.45:  # a bar
        half = across * width * generator.uniform(0.04, 0.16)
        long = along * width * generator.uniform(0.6, 3)
        corners = np.array([at - long - half, at + long - half, at + long + half, at - long + half])
        cv2.fillConvexPoly(cover, corners.astype(np.int32), (255,), cv2.LINE_AA)
    else:  # fingers and palm
        colour = np.array([225, 175, 150]) * generator.uniform(0.3, 1.1)
        thick = max(1, round(width * generator.uniform(0.07, 0.13)))
        for finger in range(int(generator.integers(1, 5))):
            root = at + across * thick * 1.3 * finger
            tip = root + along * width * generator.uniform(0.3, 0.55)
            start, end = (end.astype(int).tolist() for end in (root, tip))
            cv2.line(cover, start, end, (255,), thick, cv2.LINE_AA)
    shade = _ramp(side, generator)[..., None] if generator.random() < 0.5 else np.float32(1)
    weight = cover[..., None] * np.float32(1 / 255)
    image[:] = np.clip(image * (1 - weight) + colour.astype(np.float32) * shade * weight, 0, 255)
    return np.asarray(cover > 127)


def _ramp(side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Returns (side, side) shading about 1."""
    coarse = generator.uniform(0.6, 1.2, (5, 5)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _nothing() -> tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]
]:
    return (
        np.zeros((0, 4), np.float32),
        np.zeros((0, 5, 2), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.bool_),
    )
