"""What an evaluation found, as a value, as lines to read and as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vqfr_training.evaluation.metric_weights import Missing

TITLES: Mapping[str, str] = {
    "lpips": "LPIPS (VGG) ↓",
    "fid": "FID ↓",
    "niqe": "NIQE ↓",
    "deg": "Deg. (ArcFace ResNet-18) ↓",
    "lmd": "LMD (98 landmarks, px) ↓",
    "psnr": "PSNR (dB) ↑",
    "ssim": "SSIM ↑",
    "psnr_matched": "PSNR, colours matched (dB) ↑",
    "ssim_matched": "SSIM, colours matched ↑",
    "lmd5": "LMD-5 (5 landmarks, px) ↓",
    "deg_ir50": "Deg. (ArcFace IR-SE-50) ↓",
    "lost": "faces lost (share) ↓",
    "sharpness": "sharpness (truth 1)",
    "flicker": "flicker (levels) ↓",
    "jitter": "landmark jitter (px) ↓",
    "jitter_truth": "landmark jitter of the truth (px)",
    "tlme": "landmark motion error (px) ↓",
    "warping": "warping error, faces (levels) ↓",
    "warping_truth": "warping error of the truth, faces (levels)",
    "warping_frame": "warping error, frame (levels) ↓",
    "identity": "Deg. (ArcFace IR-SE-50) ↓",
    "identity_drift": "identity drift between frames (°) ↓",
    "identity_drift_truth": "identity drift of the truth (°)",
}
"""How a metric is called in a report; the arrow says which way is better."""


@dataclass(frozen=True)
class MetricValue:
    """A metric that was measured."""

    value: float
    """Mean of `each`, where there are single values."""
    count: int
    """How many values, or how many pictures for a metric of the whole set."""
    each: Mapping[str, float] = field(default_factory=dict)
    """By picture or track; NaN where a face was not found."""
    note: str = ""
    """What a reader must know."""


type MetricResult = MetricValue | Missing


@dataclass(frozen=True)
class EvaluationReport:
    """All metrics of one evaluation."""

    restored: str
    """Folder or video that was measured."""
    truth: str | None
    """Folder or video it was compared with; None: none."""
    pictures: int
    """Pairs of pictures or frames."""
    results: Mapping[str, MetricResult]
    """By the metric's name."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The metrics that could not be measured."""
        return tuple(name for name, result in self.results.items() if isinstance(result, Missing))

    def to_text(self) -> str:
        """Returns a line for each metric."""
        beside = f" beside {self.truth}" if self.truth is not None else ""
        lines = [f"{self.restored}{beside}: {self.pictures} pictures"]
        width = max(len(TITLES[name]) for name in self.results)
        for name, result in self.results.items():
            title = TITLES[name].ljust(width)
            if isinstance(result, Missing):
                lines.append(f"{title}   missing: {result.reason}")
                continue
            lost = sum(math.isnan(value) for value in result.each.values())
            notes = [result.note] if result.note else []
            notes += [f"not found in {lost} of {len(result.each)}"] if lost else []
            told = f"   ({'; '.join(notes)})" if notes else ""
            lines.append(f"{title} {result.value:9.4f}{told}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Returns the same with single values.

        Numbers that JSON does not know (inf, nan) are null.
        """
        results: dict[str, Any] = {}
        for name, result in self.results.items():
            if isinstance(result, Missing):
                results[name] = {"title": TITLES[name], "missing": result.reason}
                continue
            results[name] = {
                "title": TITLES[name],
                "value": _finite(result.value),
                "count": result.count,
                "note": result.note,
                "each": {key: _finite(value) for key, value in result.each.items()},
            }
        described = {
            "restored": self.restored,
            "truth": self.truth,
            "pictures": self.pictures,
            "results": results,
        }
        return json.dumps(described, indent=1, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
