"""What people wear and what hides them: drawn on a portrait before it is placed."""

from dataclasses import replace

import cv2
import numpy as np

from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.portraits import Portrait


def add_accessories(portrait: Portrait, generator: np.random.Generator) -> Portrait:
    """Returns the portrait cut out again, perhaps with glasses, a cap, a beard, a mask.

    Another mouth.
    """
    image = portrait.image.copy()
    image[..., 3] = _cut_out(portrait, generator)
    unit, draw = portrait.unit, generator.random
    eyes, nose = portrait.landmarks[:2], portrait.landmarks[2]
    mouth = portrait.landmarks[3:].mean(axis=0)
    middle = portrait.centre
    colour = _colour(generator)
    thin = max(1, round(unit * generator.uniform(0.02, 0.07)))
    what = draw()
    if what < 0.08:  # sunglasses
        radii = unit * generator.uniform(0.16, 0.28), unit * generator.uniform(0.13, 0.22)
        dark = tuple(int(v) for v in np.array(colour) * generator.uniform(0, 0.4))
        _overlay(image, [("oval", eye, radii, dark) for eye in eyes], generator.uniform(0.7, 1))
        canvas = np.ascontiguousarray(image[..., :3])
        cv2.line(canvas, _at(eyes[0]), _at(eyes[1]), dark, thin, cv2.LINE_AA)
        image[..., :3] = canvas
    elif what < 0.24:  # spectacles
        radii = _at((unit * generator.uniform(0.18, 0.26), unit * generator.uniform(0.12, 0.2)))
        canvas = np.ascontiguousarray(image[..., :3])
        for eye in eyes:
            if generator.random() < 0.5:
                cv2.ellipse(canvas, _at(eye), radii, 0, 0, 360, colour, thin, cv2.LINE_AA)
            else:
                low, high = np.array(_at(eye)) - radii, np.array(_at(eye)) + radii
                cv2.rectangle(canvas, _at(low), _at(high), colour, thin, cv2.LINE_AA)
        bridge = np.array([unit * 0.08, 0])
        ends = _at(eyes.mean(axis=0) - bridge), _at(eyes.mean(axis=0) + bridge)
        cv2.line(canvas, *ends, colour, thin, cv2.LINE_AA)
        image[..., :3] = canvas
    if draw() < 0.1:  # a cap, a scarf, a fringe
        top = portrait.box[1] + unit * generator.uniform(-0.2, 0.35)
        radii = unit * generator.uniform(0.85, 1.2), unit * generator.uniform(0.6, 1.0)
        _overlay(image, [("upper", (middle[0], top), radii, colour)], 1.0, opaque=True)
    if draw() < 0.12:  # a beard
        shade = tuple(int(v) for v in generator.uniform(0, 90) + generator.uniform(-15, 15, 3))
        at = (mouth[0], mouth[1] + unit * generator.uniform(0.0, 0.2))
        radii = unit * generator.uniform(0.4, 0.65), unit * generator.uniform(0.3, 0.55)
        _overlay(image, [("oval", at, radii, shade)], generator.uniform(0.4, 0.9), soft=unit * 0.08)
    if draw() < 0.1:  # an open mouth
        shade = tuple(int(v) for v in generator.uniform(10, 80, 3) * (1.2, 0.7, 0.7))
        radii = unit * generator.uniform(0.1, 0.25), unit * generator.uniform(0.06, 0.24)
        _overlay(image, [("oval", mouth, radii, shade)], generator.uniform(0.6, 1.0))
    if draw() < 0.05:  # a mask over mouth and nose
        at = (mouth[0], (mouth[1] + nose[1]) / 2 + unit * 0.1)
        _overlay(image, [("oval", at, (unit * 0.62, unit * 0.48), colour)], 1.0)
    if draw() < 0.15:  # hair of another colour
        _dye(image, portrait, generator)
    return replace(portrait, image=image)


def _cut_out(portrait: Portrait, generator: np.random.Generator) -> Picture:
    """Returns opacity: the person, the head, an oval, or a rectangle as in a printed photograph."""
    side = portrait.image.shape[0]
    matte = portrait.image[..., 3]
    what = generator.random()
    if what < 0.5:
        return matte
    mask = np.zeros((side, side), np.uint8)
    x, y = portrait.centre
    unit = portrait.unit
    if what < 0.6:  # the head alone
        radii = _at((unit * generator.uniform(1.0, 1.3), unit * generator.uniform(1.2, 1.6)))
        cv2.ellipse(mask, _at((x, y - 0.12 * unit)), radii, 0, 0, 360, (255,), -1)
        return np.asarray(cv2.min(matte, mask), np.uint8)
    if what < 0.7:  # an oval with its surroundings
        radii = _at((unit * generator.uniform(0.95, 1.4), unit * generator.uniform(1.15, 1.5)))
        cv2.ellipse(mask, _at((x, y)), radii, 0, 0, 360, (255,), -1)
    else:
        left, right = (x - unit * generator.uniform(0.65, 1.5) * sign for sign in (1, -1))
        top, bottom = (y - unit * generator.uniform(0.85, 1.6) * sign for sign in (1, -1))
        cv2.rectangle(mask, _at((left, top)), _at((right, bottom)), (255,), -1)
    if generator.random() < 0.6:
        sigma = unit * generator.uniform(0.03, 0.2)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8)
    return mask


def _dye(image: Picture, portrait: Portrait, generator: np.random.Generator) -> None:
    """Lightens, darken or tint what lies outside the face, hair above all."""
    side = image.shape[0]
    outside = np.zeros((side, side), np.uint8)
    radii = _at((portrait.unit * 0.72, portrait.unit * 0.95))
    middle = _at(portrait.centre + np.array([0, 0.1 * portrait.unit]))
    cv2.ellipse(outside, middle, radii, 0, 0, 360, (255,), -1)
    weight = 1 - cv2.blur(outside, (max(1, side // 16),) * 2)[..., None] / np.float32(255)
    gains = generator.uniform(0.5, 1.5) * np.exp(generator.standard_normal(3) * 0.25)
    dyed = image[..., :3] * gains.astype(np.float32) + np.float32(generator.uniform(-30, 60))
    mixed = image[..., :3] * (1 - weight) + dyed * weight
    image[..., :3] = np.clip(mixed, 0, 255).astype(np.uint8)


def _overlay(
    image: Picture,
    shapes: list[tuple[str, object, tuple[float, float], tuple[int, ...]]],
    strength: float,
    *,
    soft: float = 0.0,
    opaque: bool = False,
) -> None:
    """Ovals (or upper halves of them) mixed into the colours; `opaque` also widens the cut-out."""
    side = image.shape[0]
    for kind, at, radii, colour in shapes:
        mask = np.zeros((side, side), np.uint8)
        arc = (180, 360) if kind == "upper" else (0, 360)
        cv2.ellipse(mask, _at(at), _at(radii), 0, *arc, (255,), -1, cv2.LINE_AA)
        if soft > 0.3:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft), np.uint8)
        weight = mask[..., None] * np.float32(strength / 255)
        mixed = image[..., :3] * (1 - weight) + np.array(colour, np.float32) * weight
        image[..., :3] = mixed.astype(np.uint8)
        if opaque:
            image[..., 3] = np.maximum(image[..., 3], mask)


def _colour(generator: np.random.Generator) -> tuple[int, int, int]:
    level, spread = generator.uniform(10, 230), generator.uniform(0, 60)
    r, g, b = np.clip(level + spread * generator.standard_normal(3), 0, 255)
    return int(r), int(g), int(b)


def _at(point: object) -> tuple[int, int]:
    x, y = np.asarray(point, float)
    return round(float(x)), round(float(y))
