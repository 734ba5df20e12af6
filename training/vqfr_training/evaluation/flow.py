"""Warping error: how much of a video's change the motion of its truth does not explain.

Lai et al.: Learning Blind Video Temporal Consistency, ECCV 2018, section 4.1, with mean absolute
levels in place of squares and with OpenCV's DIS flow in place of FlowNet2, measured on the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vqfr_media.review.steadiness import Flow, targets
from vqfr_media.review.steadiness import motion as motion_of_luma
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
    one, other = (
        np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in (now, then)
    )
    return motion_of_luma(one, other)


def warped_difference(now: Picture, then: Picture, flow: Flow) -> NDArray[np.float32]:
    """Returns (H, W) mean over the channels of |now − then moved along the flow|, in levels."""
    x, y = targets(flow)
    moved = cv2.remap(then, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.abs(now.astype(np.float32) - moved).mean(axis=2), np.float32)


def _inside(boxes: Sequence[NDArray[np.float64]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Returns (H, W): true in any of the boxes."""
    mask = np.zeros(tuple(shape), bool)
    for box in boxes:
        left, top, right, bottom = (max(0, round(float(v))) for v in box)
        mask[top : bottom + 1, left : right + 1] = True
    return mask
