"""Warping error: how much of a video's change the motion of its truth does not explain.

Lai et al.: Learning Blind Video Temporal Consistency, ECCV 2018, section 4.1, with mean absolute
levels in place of squares and with OpenCV's DIS flow in place of FlowNet2, measured on the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_training.data.picture_files import Picture
from vqfr_training.evaluation.metric_weights import Missing
from vqfr_training.evaluation.report import MetricResult, MetricValue
from vqfr_training.evaluation.steadiness import unsteadiness

WARPING = (
    "warping",
    "warping_truth",
    "warping_frame",
    "unsteadiness",
    "unsteadiness_truth",
)
"""What is measured between neighbouring frames."""

type Flow = NDArray[np.float32]
"""(H, W, 2): where a pixel of one picture lies in the other, x before y, as a shift."""


@dataclass
class WarpingError:
    """Takes frames one after the other."""

    _before: tuple[Picture, Picture] | None = None
    """The last frame: restored, truth."""
    _values: dict[str, list[float]] = field(default_factory=dict)
    """Of each figure, pair by pair."""

    def add(
        self,
        made: Picture,
        true: Picture,
        boxes: Sequence[NDArray[np.float64]],
        *,
        cut: bool,
    ) -> None:
        """Takes the next frame, (H, W, 3) RGB, and its faces' boxes; a cut begins another shot."""
        if self._before is not None and not cut:
            flow, visible = motion(true, self._before[1])
            faces = visible & _inside(boxes, true.shape[:2])
            for name, now, then in (
                ("warping", made, self._before[0]),
                ("warping_truth", true, self._before[1]),
            ):
                error = warped_difference(now, then, flow)
                if faces.any():
                    self._values.setdefault(name, []).append(float(error[faces].mean()))
                    relative = name.replace("warping", "unsteadiness")
                    self._values.setdefault(relative, []).append(unsteadiness(error, true, faces))
                if name == "warping" and visible.any():
                    self._values.setdefault("warping_frame", []).append(
                        float(error[visible].mean())
                    )
        self._before = (made, true)

    def results(self) -> dict[str, MetricResult]:
        """Returns the mean of each figure over all pairs of neighbouring frames."""
        results: dict[str, MetricResult] = {}
        for name in WARPING:
            values = self._values.get(name, [])
            if values:
                results[name] = MetricValue(float(np.mean(values)), len(values))
            else:
                results[name] = Missing("no two neighbouring frames with a face in both")
        return results


def motion(now: Picture, then: Picture) -> tuple[Flow, NDArray[np.bool_]]:
    """Returns Flow from `now` to `then`, and where it holds: forth and back agree (H, W)."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    one, other = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, then))
    forth = np.asarray(finder.calc(one, other, np.zeros((*one.shape, 2), np.float32)), np.float32)
    back = np.asarray(finder.calc(other, one, np.zeros((*one.shape, 2), np.float32)), np.float32)
    x, y = _targets(forth)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    off = np.square(forth + returned).sum(axis=2)
    # Sundaram, Brox, Keutzer, 2010, Eq. 5: the tolerance grows with the motion.
    length = np.square(forth).sum(axis=2) + np.square(returned).sum(axis=2)
    rows, columns = one.shape
    inside = (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
    return forth, inside & (off < 0.01 * length + 0.5)


def warped_difference(now: Picture, then: Picture, flow: Flow) -> NDArray[np.float32]:
    """Returns (H, W) mean over the channels of |now − then moved along the flow|, in levels."""
    x, y = _targets(flow)
    moved = cv2.remap(then, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.abs(now.astype(np.float32) - moved).mean(axis=2), np.float32)


def _targets(flow: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = flow.shape[:2]
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return x + flow[..., 0], y + flow[..., 1]


def _inside(boxes: Sequence[NDArray[np.float64]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Returns (H, W): true in any of the boxes."""
    mask = np.zeros(tuple(shape), bool)
    for box in boxes:
        left, top, right, bottom = (max(0, round(float(v))) for v in box)
        mask[top : bottom + 1, left : right + 1] = True
    return mask
