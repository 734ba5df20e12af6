"""How often tracks are wrongly joined to one person, or one person is split, by threshold.

`python -m benchmarks.persons --people ../shared/data/people/train [--persons 60]`

Each person has two photographs; of each, a made track: three copies, turned and shifted a little,
reduced to a face of 24 to 96 pixels between the eyes' outer sides, with noise and JPEG. All tracks
of all persons are grouped at once, as if they were one film.
"""

import argparse
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from benchmarks.record import write
from vqfr_media.faces.persons import Descriptor, FaceDescriber, group_persons, template_to_dlib
from vqfr_media.network.dlib_identity import SIDE

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
# `layout.json`: pictures of 480 pixels, in which the template has 400 in the middle.
LAYOUT_SIDE, LAYOUT_FACE = 480, 400


def aligned_crop(picture: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    """A photograph as a bad film has it: small, noisy and compressed; as the network sees it."""
    edge = (LAYOUT_SIDE - LAYOUT_FACE) / 2
    to_template = np.array([[1, 0, -edge], [0, 1, -edge]]) * (512 / LAYOUT_FACE)
    angle, scale = rng.normal(0, 2), float(np.exp(rng.normal(0, 0.02)))
    jitter = cv2.getRotationMatrix2D((256, 256), angle, scale)
    jitter = np.asarray(jitter, np.float64) + np.column_stack(
        [np.zeros((2, 2)), rng.normal(0, 5, 2)]
    )
    whole = [np.vstack([m, [0, 0, 1]]) for m in (template_to_dlib(), jitter, to_template)]
    matrix = (whole[0] @ whole[1] @ whole[2])[:2]
    crop = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    noisy = np.clip(small + rng.normal(0, 5, small.shape), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 70))])
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert back is not None
    large = cv2.resize(back, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return large[..., ::-1].astype(np.float32) / 255


def made_tracks(
    people: Path, describer: FaceDescriber, count: int
) -> tuple[list[str], list[Descriptor]]:
    """Names of persons, and the mean descriptors of their tracks, two of each."""
    photos = defaultdict(list)
    for path in sorted(people.glob("*.jpg")):
        photos["_".join(path.stem.split("_")[:2])].append(path)
    rng = np.random.default_rng(18)
    names, tracks = [], []
    for name in [name for name, paths in photos.items() if len(paths) > 1][:count]:
        for path in photos[name][:2]:
            picture = cv2.imread(str(path))
            assert picture is not None, path
            side = int(rng.integers(24, 97))
            crops = [aligned_crop(picture, rng, side) for _ in range(3)]
            tracks.append(np.mean([describer.describe_crop(crop) for crop in crops], axis=0))
            names.append(name)
    return names, tracks


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--persons", type=int, default=60)
    arguments = parser.parse_args()
    weights = Path("vqfr_media/models/identity.safetensors")
    names, tracks = made_tracks(
        arguments.people, FaceDescriber.of_weights(weights), arguments.persons
    )
    pairs = list(combinations(range(len(tracks)), 2))
    distance = {pair: float(np.linalg.norm(tracks[pair[0]] - tracks[pair[1]])) for pair in pairs}
    same = [distance[pair] for pair in pairs if names[pair[0]] == names[pair[1]]]
    other = [distance[pair] for pair in pairs if names[pair[0]] != names[pair[1]]]
    rows = []
    for threshold in THRESHOLDS:
        persons = group_persons(tracks, [], threshold=threshold)
        split = sum(1 for a, b in pairs if names[a] == names[b] and persons[a] != persons[b])
        groups = defaultdict(set)
        for name, person in zip(names, persons, strict=True):
            groups[person].add(name)
        merged = sum(len(group) for group in groups.values() if len(group) > 1)
        rows.append({"threshold": threshold, "split": split, "merged": merged})
        print(
            f"{threshold:.2f}: {split} of {len(same)} persons split, {merged} joined with another"
        )
    quantiles = (0, 0.01, 0.05, 0.5, 0.95, 0.99, 1)
    result = {
        "persons": len(same),
        "tracks": len(tracks),
        "same": dict(zip(map(str, quantiles), np.quantile(same, quantiles).round(3), strict=True)),
        "other": dict(
            zip(map(str, quantiles), np.quantile(other, quantiles).round(3), strict=True)
        ),
        "thresholds": rows,
    }
    print(result)
    write("persons", result)


if __name__ == "__main__":
    main()
