"""Which tracks show the same person, by how alike their faces are; nobody is identified.

A face becomes 128 numbers (`network.dlib_identity`), which are compared with those of the other
tracks of the same work and are kept nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vqfr_media.faces.affine import compose
from vqfr_media.faces.align import TEMPLATE_512, crop_planes, similarity
from vqfr_media.frames import Frame
from vqfr_media.media.colour import to_rgb
from vqfr_media.network.dlib_identity import LANDMARKS, SIDE, DlibIdentity, load_dlib_identity

SAME_PERSON = 0.55
"""Distance of two descriptors below which two tracks may be one person's (docs/persons.md)."""

Descriptor = npt.NDArray[np.float64]
"""(128,): a face, or the mean of a track's faces. Distances are Euclidean."""


@dataclass(frozen=True)
class FaceDescriber:
    """Turns faces into descriptors."""

    network: DlibIdentity
    """dlib's face network, on the CPU."""

    @classmethod
    def of_weights(cls, path: Path) -> "FaceDescriber":
        """Returns one with the network whose weights are in `path`.

        Raises:
            WeightsError: the file is absent or holds other weights.
        """
        return cls(load_dlib_identity(path))

    def describe(self, frame: Frame, landmarks: npt.ArrayLike) -> Descriptor:
        """Returns the descriptor of the face at `landmarks`, (5, 2) in display coordinates.

        Raises:
            ValueError: the landmarks do not span a face.
        """
        matrix = compose(template_to_dlib(), similarity(landmarks, 512))
        planes = crop_planes(
            frame.planes, frame.format, matrix=compose(matrix, frame.to_display()), size=SIDE
        )
        return self.describe_crop(to_rgb(planes, frame.format).clip(0, 1))

    def describe_crop(self, crop: npt.NDArray[np.float32]) -> Descriptor:
        """Returns the descriptor of an aligned face, (150, 150, 3) RGB in [0, 1]."""
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))[None]
            found = self.network(batch)[0]
        return np.asarray(found.numpy(), np.float64)


def template_to_dlib() -> npt.NDArray[np.float64]:
    """Returns (2, 3): from the template at 512 pixels to dlib's, without a turn."""
    ours, theirs = np.array(TEMPLATE_512), np.array(LANDMARKS)
    a, b = ours - ours.mean(0), theirs - theirs.mean(0)
    scale = float((a * b).sum() / (a * a).sum())
    x, y = theirs.mean(0) - scale * ours.mean(0)
    return np.array([[scale, 0, x], [0, scale, y]])


def group_persons(
    descriptors: Sequence[Descriptor],
    apart: Sequence[tuple[int, int]],
    *,
    threshold: float = SAME_PERSON,
) -> list[int]:
    """Returns the person of each track, numbered from 1 in order of appearance.

    The two nearest groups are joined, again and again, as long as their tracks are on average
    nearer than the threshold; never two of which tracks are in one picture together.

    Args:
        descriptors: of the tracks, in order of appearance.
        apart: positions of two tracks that are two persons, whatever they look like.
        threshold: mean distance below which two groups are one person.
    """
    count = len(descriptors)
    if not count:
        return []
    points = np.array(descriptors).reshape(count, -1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    for one, other in apart:
        distances[one, other] = distances[other, one] = np.inf
    groups = [[track] for track in range(count)]
    while True:
        one, other = sorted(map(int, np.unravel_index(np.argmin(distances), distances.shape)))
        if not distances[one, other] < threshold:
            break
        # The mean over all pairs of tracks of two groups; infinite where one pair is.
        sizes = len(groups[one]), len(groups[other])
        joined = (sizes[0] * distances[one] + sizes[1] * distances[other]) / sum(sizes)
        distances[one], distances[:, one] = joined, joined
        distances[one, one] = np.inf
        distances[other], distances[:, other] = np.inf, np.inf
        groups[one], groups[other] = sorted(groups[one] + groups[other]), []
    persons = [0] * count
    for number, group in enumerate(sorted(filter(None, groups)), start=1):
        for track in group:
            persons[track] = number
    return persons


def nearest_person(
    wanted: Descriptor, persons: dict[int, list[Descriptor]], *, threshold: float = SAME_PERSON
) -> int | None:
    """Returns the person whose tracks are on average nearest, None where none is near enough."""
    means = {
        person: float(np.mean([np.linalg.norm(wanted - one) for one in theirs]))
        for person, theirs in persons.items()
    }
    best = min(means, key=lambda person: means[person], default=None)
    return best if best is not None and means[best] < threshold else None
