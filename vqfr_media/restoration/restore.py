"""One restoration's stages: each a pure function of a frame, a window or a batch.

`stream.py` streams them; anything that asks for frames in another order (a script's filter, a
resumed job) calls the same methods and gets the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vqfr_media.engine import Engine
from vqfr_media.errors import OptionError, SkippedFaceError
from vqfr_media.faces.align import align
from vqfr_media.faces.blend import blend, match_colour, soft_mask
from vqfr_media.faces.cuts import CutMemo
from vqfr_media.faces.detect import Detector
from vqfr_media.faces.mesh_fit import MeshFits
from vqfr_media.faces.search import FaceSearch, NearDetector, Unsearched
from vqfr_media.faces.track import LinkMemo, choose, track
from vqfr_media.faces.tracks import Tracks
from vqfr_media.frames import Frame
from vqfr_media.options import DEFAULT_FIDELITY, RestoreOptions
from vqfr_media.restoration.grain import GrainMeter
from vqfr_media.restoration.likeness import Likeness
from vqfr_media.restoration.mesh_hold import hold_by_mesh
from vqfr_media.restoration.occlusion import OcclusionMeter
from vqfr_media.restoration.radii import FrameRadii, track_limits
from vqfr_media.restoration.resize import enlarged, upscale
from vqfr_media.restoration.smoothing import smooth_landmarks, smooth_latents, smooth_pixels
from vqfr_media.restoration.transfer import crops_to, images_from, latents_from, latents_to
from vqfr_media.values import (
    AlignedFace,
    Detected,
    EncodedFace,
    FrameFaces,
    Grain,
    RestoredFace,
    Skipped,
    TrackedFace,
)
from vqfr_media.windows import Window


@dataclass(frozen=True)
class Restorer:
    """Everything that the stages of one restoration need.

    What it keeps of frames, as long as others keep them, spares work and changes no bit.
    """

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
    """Faces found before; `tracks.frame_faces` takes the place of `detect` and `track`."""
    likeness: Likeness = field(default_factory=Likeness, compare=False, repr=False)
    """Compares the inputs of faces, each pair once for all windows."""
    grain_meter: GrainMeter = field(default_factory=GrainMeter, compare=False, repr=False)
    """Measures the film's grain, each pair of neighbours once for all windows."""
    occlusion_meter: OcclusionMeter = field(
        default_factory=OcclusionMeter, compare=False, repr=False
    )
    """Finds what is in front of faces, looking at each once for all windows."""
    known_cuts: CutMemo = field(default_factory=CutMemo, compare=False, repr=False)
    """Which neighbouring frames were compared, once for all windows."""
    known_links: LinkMemo = field(default_factory=LinkMemo, compare=False, repr=False)
    """How the faces of neighbouring frames are linked, once for all windows."""
    mesh_fits: MeshFits = field(default_factory=MeshFits, compare=False, repr=False)
    """Finds the mesh of faces, each once for all windows."""

    def __post_init__(self) -> None:
        if self.tracks and self.tracks.sets_fidelity and not self.engine.spec.has_fidelity:
            raise OptionError(
                f"{self.tracks.path}: a track sets its fidelity, which has no effect on "
                f"{self.engine.spec.model}; write null there or add --model v2"
            )

    @property
    def radii(self) -> FrameRadii:
        """Frames to each side that each stage looks at."""
        return FrameRadii.of(
            self.options.temporal,
            self.frame_rate,
            faces_known=self.tracks is not None,
            searches_near=isinstance(self.detector, NearDetector),
            grain=self.options.blend.grain > 0,
        )

    def search(self, frame: Frame) -> Detected | Unsearched:
        """Searches the whole picture for faces, if it is this frame's turn."""
        return self._face_search.search(frame)

    def detect(self, window: Window[Detected | Unsearched]) -> Detected:
        """Finds the faces of one frame, by what was found in those around it."""
        return self._face_search.detect(window)

    def track(self, window: Window[Detected]) -> FrameFaces[TrackedFace]:
        """Completes and links the faces of one frame."""
        return track(
            window,
            track_limits(self.options.temporal, self.frame_rate),
            score=self.options.face.score,
            known_cuts=self.known_cuts,
            known_links=self.known_links,
        )

    def choose(self, window: Window[FrameFaces[TrackedFace]]) -> FrameFaces[TrackedFace]:
        """Marks the faces of one frame that are to be left alone."""
        return choose(window, options=self.options.face)

    def align(self, window: Window[FrameFaces[TrackedFace]]) -> FrameFaces[AlignedFace]:
        """Smooths the landmarks of the chosen faces and cuts their crops.

        Raises:
            BackendError: faces are to be held by their mesh, and OpenVINO is not here.
            SkippedFaceError: `strict`, and a face is left alone for another reason than choice.
        """
        frame_faces = window.items[window.centre]
        before = window.items[window.centre - 1] if window.centre else None
        kept_before = _kept(before) if before is not None else {}
        faces = []
        for index, landmarks in self._steady(window).items():
            tracked = frame_faces.faces[index]
            previous = None if tracked.previous is None else kept_before.get(tracked.previous)
            linked = replace(tracked, previous=previous)
            faces.append(
                align(frame_faces.frame, linked, landmarks=landmarks, size=self.engine.spec.size)
            )
        skipped = tuple(
            Skipped(tracked.face, tracked.skip)
            for tracked in frame_faces.faces
            if tracked.skip is not None
        )
        if self.options.strict:
            refuse_skipped(frame_faces.frame.index, skipped)
        return FrameFaces(frame_faces.frame, tuple(faces), frame_faces.new_shot, skipped)

    def encode(self, batch: Sequence[FrameFaces[AlignedFace]]) -> list[FrameFaces[EncodedFace]]:
        """Encodes all faces of several frames together.

        Raises:
            EngineError: the network failed or returned something that is no number.
        """
        crops = [face.crop for frame_faces in batch for face in frame_faces.faces]
        frames = [frame_faces.frame.index for frame_faces in batch for _ in frame_faces.faces]
        if not crops:
            return [FrameFaces(s.frame, (), s.new_shot, s.skipped) for s in batch]
        latents = iter(
            latents_from(self.engine.encode(crops_to(self.engine.spec.device, crops)), frames)
        )
        return [
            FrameFaces(
                frame_faces.frame,
                tuple(EncodedFace(face, next(latents)) for face in frame_faces.faces),
                frame_faces.new_shot,
                frame_faces.skipped,
            )
            for frame_faces in batch
        ]

    def smooth_latents(self, window: Window[FrameFaces[EncodedFace]]) -> FrameFaces[EncodedFace]:
        """Averages the latents over the window."""
        frame_faces = window.items[window.centre]
        latents = smooth_latents(
            window,
            radius=self.options.temporal.latent_radius,
            time_base=self.time_base,
            likeness=self.likeness,
        )
        faces = tuple(
            EncodedFace(face.aligned, latent)
            for face, latent in zip(frame_faces.faces, latents, strict=True)
        )
        return FrameFaces(frame_faces.frame, faces, frame_faces.new_shot, frame_faces.skipped)

    def decode(self, batch: Sequence[FrameFaces[EncodedFace]]) -> list[FrameFaces[RestoredFace]]:
        """Decodes all faces of several frames together.

        Raises:
            EngineError: the network failed or returned something that is no number.
        """
        faces = [face for frame_faces in batch for face in frame_faces.faces]
        frames = [frame_faces.frame.index for frame_faces in batch for _ in frame_faces.faces]
        if not faces:
            return [FrameFaces(s.frame, (), s.new_shot, s.skipped) for s in batch]
        fidelities, device = [self._fidelity(face) for face in faces], self.engine.spec.device
        parts: dict[int, npt.NDArray[np.float32]] = {}
        for fidelity in sorted(set(fidelities)):  # one, unless tracks say otherwise
            at = [i for i, own in enumerate(fidelities) if own == fidelity]
            images = self.engine.decode(
                crops_to(device, [faces[i].aligned.crop for i in at]),
                latents_to(device, [faces[i].latent for i in at]),
                fidelity=fidelity,
            )
            parts.update(zip(at, images_from(images, [frames[i] for i in at]), strict=True))
        restored = iter(parts[i] for i in range(len(faces)))
        return [
            FrameFaces(
                frame_faces.frame,
                tuple(RestoredFace(face.aligned, next(restored)) for face in frame_faces.faces),
                frame_faces.new_shot,
                frame_faces.skipped,
            )
            for frame_faces in batch
        ]

    def smooth_pixels(self, window: Window[FrameFaces[RestoredFace]]) -> FrameFaces[RestoredFace]:
        """Averages the restored pixels over the window where the input did not move.

        Measures the film's grain there, too, which `blend` gives back, and what is in front.
        """
        frame_faces = window.items[window.centre]
        images = smooth_pixels(
            window,
            radius=self.options.temporal.pixel_radius,
            time_base=self.time_base,
            likeness=self.likeness,
        )
        grains: Sequence[Grain | None] = [None] * len(images)
        if self.options.blend.grain > 0:
            grains = self.grain_meter.measure(window)
        covered: Sequence[npt.NDArray[np.float32] | None] = [None] * len(images)
        if self.options.blend.keep_occluders:
            covered = self.occlusion_meter.measure(
                window,
                radius=self.options.temporal.pixel_radius,
                time_base=self.time_base,
                likeness=self.likeness,
            )
        faces = tuple(
            RestoredFace(face.aligned, image, grain, part)
            for face, image, grain, part in zip(
                frame_faces.faces, images, grains, covered, strict=True
            )
        )
        return FrameFaces(frame_faces.frame, faces, frame_faces.new_shot, frame_faces.skipped)

    def blend(
        self, frame_faces: FrameFaces[RestoredFace], background: Frame | None = None
    ) -> Frame:
        """Mixes the restored faces into the planes of the (enlarged) frame.

        Args:
            frame_faces: The frame and its restored faces.
            background: The frame, enlarged already by other means; by default Lanczos enlarges it.
        """
        mask = soft_mask(self.engine.spec.size)
        faces = tuple(
            replace(face, image=match_colour(face.image, face.aligned.crop, mask))
            for face in frame_faces.faces
        )
        frame, factor = frame_faces.frame, self.options.upscale
        own_background = background is None
        if background is None:
            background = upscale(frame, factor)
        placed = faces if factor == 1 else enlarged(faces, factor)
        mixing = self.options.blend
        return blend(
            background,
            placed,
            strength=mixing.strength,
            grain=mixing.grain,
            # A background made by other means has another detail than the network's crop.
            detail=mixing.detail if own_background else 0.0,
            enlarged=factor,
        )

    @property
    def _face_search(self) -> FaceSearch:
        if self.detector is None:
            raise ValueError("faces can be looked for only with a detector")
        return FaceSearch(
            detector=self.detector,
            face=self.options.face,
            step=self.radii.detect + 1,
            frame_rate=self.frame_rate,
            time_base=self.time_base,
        )

    def _steady(
        self, window: Window[FrameFaces[TrackedFace]]
    ) -> dict[int, npt.NDArray[np.float64]]:
        """The landmarks by which to align the faces that are restored, by their positions."""
        kept, radius = _kept(window.items[window.centre]), self.options.temporal.landmarks_radius
        if self.options.temporal.landmarks == "five":
            smoothed = smooth_landmarks(window, radius=radius, time_base=self.time_base)
            return {index: smoothed[index] for index in kept}
        return {
            index: hold_by_mesh(
                window, index, radius=radius, time_base=self.time_base, fits=self.mesh_fits
            )
            for index in kept
        }

    def _fidelity(self, face: EncodedFace) -> float:
        for fidelity in (face.aligned.tracked.fidelity, self.options.model.fidelity):
            if fidelity is not None:
                return fidelity
        return DEFAULT_FIDELITY


def refuse_skipped(index: int, skipped: Sequence[Skipped]) -> None:
    """Raises SkippedFaceError if a face of frame `index` is left alone though none chose that."""
    for skip in skipped:
        if not skip.reason.is_chosen:
            raise SkippedFaceError(
                f"frame {index}: a face of {skip.face.size:.0f} px at "
                f"({skip.face.box[0]:.0f}, {skip.face.box[1]:.0f}) is not restored "
                f"({skip.reason}); leave out --strict to go on without it"
            )


def _kept(frame_faces: FrameFaces[TrackedFace]) -> dict[int, int]:
    """Maps positions among all faces to positions among those that are restored."""
    kept = [index for index, tracked in enumerate(frame_faces.faces) if tracked.skip is None]
    return {index: position for position, index in enumerate(kept)}
