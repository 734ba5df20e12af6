"""One restoration's stages: each a pure function of a frame, a window or a batch.

`pipeline.py` streams them; anything that asks for frames in another order (a script's filter, a
resumed job) calls the same methods and gets the same bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqfr_media.engine import Engine
from vqfr_media.errors import EngineError, OptionError, SkippedFaceError
from vqfr_media.faces.align import align
from vqfr_media.faces.blend import blend, match_colour, soft_mask
from vqfr_media.faces.detect import Detector, detect
from vqfr_media.faces.track import DISABLED, NOT_CHOSEN, choose, track
from vqfr_media.faces.tracks import Tracks
from vqfr_media.frames import Frame
from vqfr_media.options import RestoreOptions
from vqfr_media.restoration.resize import enlarged, upscale
from vqfr_media.restoration.temporal import settle_latents, settle_pixels, steady_landmarks
from vqfr_media.values import (
    AlignedFace,
    Detected,
    EncodedFace,
    RestoredFace,
    Skipped,
    Stage,
    TrackedFace,
)
from vqfr_media.windows import Window

# What `fidelity` is where the caller does not say: half of the main branch (only v2 listens).
DEFAULT_FIDELITY = 0.5
# Seconds to each side over which a face's size is averaged before it is compared with a bound.
CHOICE_RADIUS = 0.2


@dataclass(frozen=True)
class Restorer:
    """Everything that the stages of one restoration need; holds no state of its own."""

    engine: Engine
    """Runs the network; one thread at a time."""
    detector: Detector | None
    """Finds faces; one thread at a time. None where `tracks` are given."""
    options: RestoreOptions
    """What the caller chose."""
    time_base: Fraction
    """Seconds per unit of pts."""
    frame_rate: Fraction
    """Frames per second, for turning radii in seconds into frames."""
    tracks: Tracks | None = None
    """Faces that were found before; `tracks.stage` takes the place of `detect` and `track`."""

    def __post_init__(self) -> None:
        if self.tracks and self.tracks.sets_fidelity and not self.engine.spec.has_fidelity:
            raise OptionError(
                f"{self.tracks.path}: a track sets its fidelity, which has no effect on "
                f"{self.engine.spec.model}; write null there or add --model v2"
            )

    def frames_within(self, seconds: float) -> int:
        """Frames that a radius of `seconds` reaches to each side."""
        return frames_within(seconds, self.frame_rate)

    @property
    def track_radius(self) -> int:
        """Frames to each side that `track` looks at."""
        return frames_in_gap(self.options.temporal.max_gap, self.frame_rate) + 1

    @property
    def choose_radius(self) -> int:
        """Frames to each side that `choose` looks at."""
        return self.frames_within(CHOICE_RADIUS)

    @property
    def align_radius(self) -> int:
        """Frames to each side that `align` looks at; one at least, for the links."""
        return max(1, self.frames_within(self.options.temporal.landmarks_radius))

    @property
    def latent_radius(self) -> int:
        """Frames to each side that `settle` looks at."""
        return self.frames_within(self.options.temporal.latent_radius)

    @property
    def pixel_radius(self) -> int:
        """Frames to each side that `steady` looks at."""
        return self.frames_within(self.options.temporal.pixel_radius)

    def detect(self, frame: Frame) -> Detected:
        """Finds the faces of one frame."""
        if self.detector is None:
            raise ValueError("faces can be looked for only with a detector")
        face = self.options.face
        return detect(frame, self.detector, proxy=face.proxy, score=face.score)

    def track(self, window: Window[Detected]) -> Stage[TrackedFace]:
        """Completes and links the faces of one frame."""
        return track(
            window,
            score=self.options.face.score,
            max_gap=frames_in_gap(self.options.temporal.max_gap, self.frame_rate),
        )

    def choose(self, window: Window[Stage[TrackedFace]]) -> Stage[TrackedFace]:
        """Marks the faces of one frame that are to be left alone."""
        return choose(window, options=self.options.face)

    def align(self, window: Window[Stage[TrackedFace]]) -> Stage[AlignedFace]:
        """Steadies the landmarks of the chosen faces and cuts their crops.

        Raises:
            SkippedFaceError: `strict`, and a face is left alone for another reason than choice.
        """
        stage = window.items[window.centre]
        steadied = steady_landmarks(
            window, radius=self.options.temporal.landmarks_radius, time_base=self.time_base
        )
        before = window.items[window.centre - 1] if window.centre else None
        kept_before = _kept(before) if before is not None else {}
        faces = []
        for index in _kept(stage):
            tracked = stage.faces[index]
            previous = None if tracked.previous is None else kept_before.get(tracked.previous)
            linked = replace(tracked, previous=previous)
            faces.append(
                align(stage.frame, linked, landmarks=steadied[index], size=self.engine.spec.size)
            )
        skipped = tuple(
            Skipped(tracked.face, tracked.skip)
            for tracked in stage.faces
            if tracked.skip is not None
        )
        if self.options.strict:
            refuse_skipped(stage.frame.index, skipped)
        return Stage(stage.frame, tuple(faces), stage.new_shot, skipped)

    def encode(self, stages: Sequence[Stage[AlignedFace]]) -> list[Stage[EncodedFace]]:
        """Encodes all faces of several frames together.

        Raises:
            EngineError: the network failed or returned something that is no number.
        """
        crops = [face.crop for stage in stages for face in stage.faces]
        frames = [stage.frame.index for stage in stages for _ in stage.faces]
        if not crops:
            return [Stage(s.frame, (), s.new_shot, s.skipped) for s in stages]
        latents = iter(_finite(self.engine.encode(self._tensor(crops)), frames))
        return [
            Stage(
                stage.frame,
                tuple(EncodedFace(face, next(latents)) for face in stage.faces),
                stage.new_shot,
                stage.skipped,
            )
            for stage in stages
        ]

    def settle(self, window: Window[Stage[EncodedFace]]) -> Stage[EncodedFace]:
        """Averages the latents over the window."""
        stage = window.items[window.centre]
        latents = settle_latents(
            window, radius=self.options.temporal.latent_radius, time_base=self.time_base
        )
        faces = tuple(
            EncodedFace(face.aligned, latent)
            for face, latent in zip(stage.faces, latents, strict=True)
        )
        return Stage(stage.frame, faces, stage.new_shot, stage.skipped)

    def decode(self, stages: Sequence[Stage[EncodedFace]]) -> list[Stage[RestoredFace]]:
        """Decodes all faces of several frames together.

        Raises:
            EngineError: the network failed or returned something that is no number.
        """
        faces = [face for stage in stages for face in stage.faces]
        frames = [stage.frame.index for stage in stages for _ in stage.faces]
        if not faces:
            return [Stage(s.frame, (), s.new_shot, s.skipped) for s in stages]
        fidelities = [self._fidelity(face) for face in faces]
        parts: dict[int, npt.NDArray[np.float32]] = {}
        for fidelity in sorted(set(fidelities)):  # one, unless tracks say otherwise
            at = [i for i, own in enumerate(fidelities) if own == fidelity]
            latents = torch.from_numpy(np.stack([faces[i].latent for i in at]))
            images = self.engine.decode(
                self._tensor([faces[i].aligned.crop for i in at]),
                latents.to(self.engine.spec.device),
                fidelity=fidelity,
            )
            owners = [frames[i] for i in at]
            parts.update(zip(at, _finite(images.permute(0, 2, 3, 1), owners), strict=True))
        restored = iter(parts[i] for i in range(len(faces)))
        return [
            Stage(
                stage.frame,
                tuple(RestoredFace(face.aligned, next(restored)) for face in stage.faces),
                stage.new_shot,
                stage.skipped,
            )
            for stage in stages
        ]

    def steady(self, window: Window[Stage[RestoredFace]]) -> Stage[RestoredFace]:
        """Averages the restored pixels over the window where the input did not move."""
        stage = window.items[window.centre]
        images = settle_pixels(
            window, radius=self.options.temporal.pixel_radius, time_base=self.time_base
        )
        faces = tuple(
            RestoredFace(face.aligned, image)
            for face, image in zip(stage.faces, images, strict=True)
        )
        return Stage(stage.frame, faces, stage.new_shot, stage.skipped)

    def blend(self, stage: Stage[RestoredFace], background: Frame | None = None) -> Frame:
        """Mixes the restored faces into the planes of the (enlarged) frame.

        Args:
            stage: The frame and its restored faces.
            background: The frame, enlarged already by other means; by default Lanczos enlarges it.
        """
        mask = soft_mask(self.engine.spec.size)
        faces = tuple(
            replace(face, image=match_colour(face.image, face.aligned.crop, mask))
            for face in stage.faces
        )
        frame, factor = stage.frame, self.options.upscale
        if background is None:
            background = upscale(frame, factor)
        return blend(background, faces if factor == 1 else enlarged(faces, factor))

    def _fidelity(self, face: EncodedFace) -> float:
        for fidelity in (face.aligned.tracked.fidelity, self.options.model.fidelity):
            if fidelity is not None:
                return fidelity
        return DEFAULT_FIDELITY

    def _tensor(self, crops: Sequence[npt.NDArray[np.float32]]) -> Tensor:
        """(S, S, 3) crops -> (N, 3, S, S) in [0, 1] on the engine's device."""
        batch = torch.from_numpy(np.stack(crops)).clamp(0, 1)
        return batch.permute(0, 3, 1, 2).to(self.engine.spec.device)


def refuse_skipped(index: int, skipped: Sequence[Skipped]) -> None:
    """Raises SkippedFaceError if a face of frame `index` is left alone though none chose that."""
    for skip in skipped:
        if skip.reason not in (NOT_CHOSEN, DISABLED):
            raise SkippedFaceError(
                f"frame {index}: a face of {skip.face.size:.0f} px at "
                f"({skip.face.box[0]:.0f}, {skip.face.box[1]:.0f}) is not restored "
                f"({skip.reason}); leave out --strict to go on without it"
            )


def frames_within(seconds: float, frame_rate: Fraction) -> int:
    """Frames that a radius of `seconds` reaches to each side."""
    return math.ceil(seconds * frame_rate - 1e-6)


def frames_in_gap(seconds: float, frame_rate: Fraction) -> int:
    """Frames that a face may be lost for, so that no more than `seconds` are filled in."""
    return math.floor(seconds * frame_rate + 1e-6)


def _kept(stage: Stage[TrackedFace]) -> dict[int, int]:
    """Position among all faces -> position among those that are restored."""
    kept = [index for index, tracked in enumerate(stage.faces) if tracked.skip is None]
    return {index: position for position, index in enumerate(kept)}


def _finite(result: Tensor, owners: Sequence[int]) -> list[npt.NDArray[np.float32]]:
    """The rows of an engine's answer as arrays, all of them finite; `owners` are frames."""
    rows = list(np.ascontiguousarray(result.detach().float().cpu().numpy()))
    if len(rows) != len(owners):
        raise EngineError(f"the engine returned {len(rows)} results for {len(owners)} faces")
    for index, row in zip(owners, rows, strict=True):
        if not np.isfinite(row).all():
            raise EngineError(f"the engine returned something that is no number at frame {index}")
    return rows
