"""Pictures without a face: what the scenes stand before.

scikit-image's and scikit-learn's sample photographs (those with people left out, faces and all),
procedural textures, and torn-up portraits: pieces of clothes, hair, single eyes and ears that must
not be taken for a face.
"""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.detector.portraits import Portraits

# Without astronaut, coins and lfw_subset, which show faces; the cameraman is cut off below.
_PHOTOGRAPHS = (
    "brick.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "color.png",
    "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png",
    "moon.png", "motorcycle_left.png", "page.png", "phantom.png", "retina.jpg", "rocket.jpg",
    "text.png",
)  # fmt: skip
# The richest pictures count more often than the flat ones.
_OFTEN = (
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
)


def sample_photographs() -> list[Picture]:
    """Loads RGB pictures without faces that come with scikit-image and scikit-learn."""
    import skimage
    import sklearn

    samples = Path(skimage.__file__).parent / "data"
    others = Path(sklearn.__file__).parent / "datasets" / "images"
    pictures = []
    for path in [*(samples / name for name in _PHOTOGRAPHS), *sorted(others.glob("*.jpg"))]:
        picture = _read(path)
        pictures += [picture] * (4 if path.name in _OFTEN else 1)
    cameraman = _read(samples / "camera.png")
    return [
        *pictures,
        np.ascontiguousarray(cameraman[250:]),
        np.ascontiguousarray(cameraman[:, 340:]),
    ]


def _read(path: Path) -> Picture:
    if path.suffix == ".png":
        # Not OpenCV, which complains on the standard error stream about a colour profile.
        with PIL.Image.open(path) as file:
            image = np.asarray(file.convert("RGB"))
    else:
        image = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR))[..., ::-1]
    image = np.ascontiguousarray(image, np.uint8)
    side = max(image.shape[:2])
    if side > 700:
        size = round(image.shape[1] * 700 / side), round(image.shape[0] * 700 / side)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def background(
    generator: np.random.Generator, side: int, photographs: list[Picture], portraits: Portraits
) -> Picture:
    """Returns (side, side, 3): one ground or two mixed, with shapes and torn pieces on it."""
    ground = background_ground(generator, side, photographs)
    if generator.random() < 0.35:
        other = background_ground(generator, side, photographs)
        mask = _field(generator, side, int(generator.integers(2, 7)), 1)
        sharp = np.clip((mask - 128) * generator.uniform(0.5, 20) + 128, 0, 255)[..., None] / 255
        ground = (ground * (1 - sharp) + other * sharp).astype(np.uint8)
    for _ in range(int(generator.poisson(1.5))):
        _shape(ground, generator)
    if generator.random() < 0.5:
        for _ in range(int(generator.integers(1, 7))):
            _piece(ground, generator, portraits)
    if generator.random() < 0.35:
        for _ in range(int(generator.integers(1, 5))):
            _shuffled(ground, generator, portraits)
    return ground


def background_ground(
    generator: np.random.Generator, side: int, photographs: list[Picture]
) -> Picture:
    """Returns (side, side, 3): part of a photograph, or a procedural texture."""
    what = generator.random()
    if what < 0.15:  # several, and so smaller things in them
        half = side // 2
        views = [
            _view(photographs[int(generator.integers(len(photographs)))], generator, half)
            for _ in range(4)
        ]
        return np.vstack([np.hstack(views[:2]), np.hstack(views[2:])])
    if what < 0.6:
        return _view(photographs[int(generator.integers(len(photographs)))], generator, side)
    field = _field(generator, side, int(generator.integers(2, 6)), 3)
    if what < 0.85:  # several octaves make foliage, cloth, walls
        finest = int(np.log2(side))
        roughness = generator.uniform(0.4, 1.0)
        for octave in range(3, finest + 1):
            colour = 3 if generator.random() < 0.3 else 1
            detail = _field(generator, side, min(side, 2**octave), colour)
            if colour == 1:
                detail = detail[..., None]
            field = field + (detail - 128) * np.float32(0.9 * roughness ** (octave - 2))
    if generator.random() < 0.3:  # stripes
        angle, period = generator.uniform(0, np.pi), generator.uniform(3, 60)
        axis = np.arange(side, dtype=np.float32)
        wave = np.sin(
            (axis[None] * np.cos(angle) + axis[:, None] * np.sin(angle)) * 2 * np.pi / period
        )
        stripe = wave * generator.uniform(10, 60)
        field = field + stripe[..., None].astype(np.float32) * generator.uniform(0.5, 1, 3).astype(
            np.float32
        )
    return np.clip(field, 0, 255).astype(np.uint8)


def _field(
    generator: np.random.Generator, side: int, cells: int, channels: int
) -> NDArray[np.float32]:
    """Returns (side, side[, channels]) smooth noise within 0..255."""
    coarse = generator.uniform(0, 255, (cells, cells, channels)).astype(np.float32)
    if channels == 3:
        grey = coarse.mean(axis=2, keepdims=True)
        coarse = grey + (coarse - grey) * np.float32(generator.uniform(0, 1))
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _view(picture: Picture, generator: np.random.Generator, side: int) -> Picture:
    """Returns part of a photograph: turned, mirrored, at some scale, inverted now and then."""
    rows, columns = picture.shape[:2]
    scale = side / min(rows, columns) * np.exp(generator.uniform(-0.3, 1.2))
    angle = generator.choice([0, 0, 0, 90, 180, 270]) + generator.uniform(-15, 15)
    matrix = cv2.getRotationMatrix2D(
        (generator.uniform(0.2, 0.8) * columns, generator.uniform(0.2, 0.8) * rows), angle, scale
    )
    middle = np.array([columns / 2, rows / 2])
    matrix[:, 2] = side / 2 - matrix[:, :2] @ middle + generator.uniform(-0.3, 0.3, 2) * side
    if generator.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += side
    view = cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    if generator.random() < 0.08:
        view = 255 - view
    return np.asarray(view, np.uint8)


def _shape(image: Picture, generator: np.random.Generator) -> None:
    """Draws an oval, a polygon or a line in one colour: bodies, furniture, signs, balls."""
    side = image.shape[0]
    level = generator.uniform(0, 255)
    colour = tuple(int(v) for v in np.clip(level + generator.standard_normal(3) * 40, 0, 255))
    if generator.random() < 0.3:  # the tones of skin
        colour = tuple(int(v) for v in np.array([225, 175, 150]) * generator.uniform(0.3, 1.1))
    x, y = (int(v) for v in generator.uniform(0, side, 2))
    what = generator.random()
    if what < 0.45:
        radii = tuple(int(v) for v in np.exp(generator.uniform(1.5, 4.5, 2)))
        cv2.ellipse(
            image, (x, y), radii, generator.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA
        )
    elif what < 0.75:
        reach = np.exp(generator.uniform(2, 5))
        corners = generator.standard_normal((int(generator.integers(3, 7)), 2)) * reach + (x, y)
        cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    else:
        end = tuple(int(v) for v in generator.uniform(0, side, 2))
        cv2.line(image, (x, y), end, colour, int(generator.integers(1, 12)), cv2.LINE_AA)


# Centre and reach of a piece, in face coordinates: none shows a face, only a part of one.
_PIECES = (
    (-0.31, -0.33, 0.3), (0.33, -0.33, 0.3),  # an eye
    (0.0, 0.5, 0.32),  # a mouth
    (0.0, 0.1, 0.25),  # a nose
    (-0.75, -0.1, 0.35), (0.75, -0.1, 0.35),  # an ear
    (0.0, -1.15, 0.45), (-0.6, -0.95, 0.4), (0.6, -0.95, 0.4),  # hair
    (0.0, 1.35, 0.5), (-0.9, 1.3, 0.5), (0.9, 1.3, 0.5),  # neck and clothes
    (0.3, 0.45, 0.25), (-0.3, 0.45, 0.25), (0.0, -0.75, 0.22),  # cheeks and brow
)  # fmt: skip


def _piece(image: Picture, generator: np.random.Generator, portraits: Portraits) -> None:
    """Pastes a piece of a portrait at any angle, as an oval or a rectangle, hard or soft."""
    reach = float(np.exp(generator.uniform(np.log(6), np.log(70))))
    portrait = portraits.at(int(generator.integers(len(portraits))), 1 if reach > 30 else 2)
    x, y, part = _PIECES[int(generator.integers(len(_PIECES)))]
    at = portrait.centre + np.array([x, y]) * portrait.unit
    scale = reach / (part * portrait.unit)
    patch = int(2 * reach) + 1
    matrix = cv2.getRotationMatrix2D(tuple(at), generator.uniform(0, 360), scale)
    matrix[:, 2] = np.asarray(matrix[:, 2]) + reach - at
    cut = cv2.warpAffine(portrait.image, matrix, (patch, patch), borderMode=cv2.BORDER_REFLECT_101)
    mask = np.zeros((patch, patch), np.uint8)
    if generator.random() < 0.5:
        cv2.circle(mask, (patch // 2,) * 2, int(reach * 0.9), (255,), -1)
    else:
        inset = int(reach * generator.uniform(0.05, 0.4))
        mask[inset : patch - inset] = 255
    if generator.random() < 0.6:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.5 + reach * 0.15), np.uint8)
    _lay(image, np.asarray(cut[..., :3], np.uint8), mask, generator)


def _shuffled(image: Picture, generator: np.random.Generator, portraits: Portraits) -> None:
    """Shuffles a face's squares: everything of a face but its order."""
    level = int(generator.integers(1, 4))
    portrait = portraits.at(int(generator.integers(len(portraits))), level)
    cells = int(generator.integers(2, 5))
    patch = cells * max(3, round(float(np.exp(generator.uniform(2.3, 4.6))) / cells))
    left, top, right, bottom = (int(v) for v in portrait.box)
    face = cv2.resize(
        portrait.image[top:bottom, left:right, :3], (patch, patch), interpolation=cv2.INTER_AREA
    )
    one = patch // cells
    squares = face.reshape(cells, one, cells, one, 3).swapaxes(1, 2).reshape(-1, one, one, 3)
    # A ring of exchanges: no square stays where it was.
    order = generator.permutation(cells * cells)
    moved = np.empty_like(squares)
    moved[order] = squares[np.roll(order, 1)]
    if generator.random() < 0.5:
        moved = moved[:, ::-1]
    mixed = moved.reshape(cells, cells, one, one, 3).swapaxes(1, 2).reshape(patch, patch, 3)
    mask = np.full((patch, patch), 255, np.uint8)
    if generator.random() < 0.5:
        mask[:] = 0
        cv2.circle(mask, (patch // 2,) * 2, patch // 2, (255,), -1, cv2.LINE_AA)
    _lay(image, np.asarray(mixed, np.uint8), mask, generator)


def _lay(image: Picture, cut: Picture, mask: Picture, generator: np.random.Generator) -> None:
    """Mixes a square piece into the picture somewhere, by its mask."""
    side, patch = image.shape[0], cut.shape[0]
    left, top = (int(v) for v in generator.uniform(-patch / 2, side - patch / 2, 2))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + patch, side), min(top + patch, side)
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    weight = mask[inside][..., None] / np.float32(255)
    target = image[y0:y1, x0:x1]
    target[:] = (target * (1 - weight) + cut[inside] * weight).astype(np.uint8)
