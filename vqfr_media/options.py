"""What a caller can choose: frozen, checked on construction. The command line is made of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from vqfr_media.errors import OptionError
from vqfr_media.time_range import TimeRange

ModelChoice = Literal["auto", "v1", "v2", "lite"]
BackendChoice = Literal["auto", "torch", "openvino", "tensorrt", "inductor"]
PrecisionChoice = Literal["auto", "float32", "float16", "bfloat16"]
DetectorChoice = Literal["auto", "bundled", "mobilenet", "resnet50"]
FaceChoice = Literal["all", "largest", "center"]
DamageChoice = Literal["stop", "keep"]
FieldsChoice = Literal["auto", "keep", "deinterlace", "whole"]
LandmarksChoice = Literal["mesh", "five"]

# What `fidelity` is where the caller does not say: half of the main branch (only v2 has it).
DEFAULT_FIDELITY = 0.5

MAX_UPSCALE = 4


def _within(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    if not isinstance(value, int if whole else (int, float)):
        raise OptionError(f"{name} must be a {'whole ' if whole else ''}number, got {value!r}")
    if not low <= value <= high:
        raise OptionError(f"{name} must be between {low:g} and {high:g}, got {value:g}")


def _among(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """Which faces are found and restored."""

    faces: FaceChoice = "all"
    """Restore every face, the largest one, or the one nearest the centre of the picture."""
    min_face: float = 24.0
    """Smallest face that is restored, in display pixels (geometric mean of its box)."""
    max_face: float = 100_000.0
    """Largest face that is restored, in display pixels."""
    score: float = 0.8
    """How sure the detector must be of a face, 0.05 to 1: less finds more faces, and more that are
    none. A weaker find counts where a neighbouring frame confirms it."""
    detector: DetectorChoice = "auto"
    """RetinaFace with the weights in this package (bundled), or with facexlib's: mobilenet is as
    fast, resnet50 finds more. auto takes mobilenet where its weights are here, else bundled."""
    detector_weights: Path | None = None
    """File with the weights for detector mobilenet or resnet50 (auto: mobilenet)."""
    proxy: int = 640
    """Faces are looked for in a reduced picture whose longer side has so many pixels: more finds
    smaller faces, and takes longer."""

    def __post_init__(self) -> None:
        _among("faces", self.faces, get_args(FaceChoice))
        _among("detector", self.detector, get_args(DetectorChoice))
        _within("min_face", self.min_face, 0, 100_000)
        _within("max_face", self.max_face, 1, 100_000)
        _within("score", self.score, 0.05, 1)
        _within("proxy", self.proxy, 64, 4096, whole=True)
        if self.detector == "bundled" and self.detector_weights is not None:
            raise OptionError(
                f"detector_weights ({self.detector_weights}) cannot be used with detector bundled, "
                "which has its own; choose mobilenet or resnet50, whichever the file is for"
            )
        if self.min_face > self.max_face:
            raise OptionError(
                f"min_face ({self.min_face:g}) must not exceed max_face ({self.max_face:g})"
            )


@dataclass(frozen=True, kw_only=True)
class TemporalOptions:
    """How steady the result is; radii in seconds, 0 switches a rule off."""

    landmarks: LandmarksChoice = "five"
    """What crops are aligned by: the detector's five landmarks, or mesh: 307 points of a face mesh
    for the motion and the five on average, whose crops tremble half as much."""
    landmarks_radius: float = 0.1
    """Keeps a face's place steady: eyes, nose and mouth are averaged over so many seconds before
    and after (a Gaussian, whose sigma is a third of it)."""
    latent_radius: float = 0.0
    """Keeps the choice of detail steady: what the encoder says is averaged over so many seconds
    before and after, ahead of the look-up in the codebook."""
    pixel_radius: float = 0.12
    """Keeps the restored face steady: averaged over so many seconds before and after, where the
    input did not move."""
    search_interval: float = 0.2
    """Seconds from one search of the whole picture for faces to the next; in the frames between,
    they are looked for near those that were found, which takes less time. At most 8 frames; 0
    searches all of every frame."""
    max_gap: float = 0.2
    """Longest time, in seconds, for which a lost face is filled in between two detections."""
    min_track: float = 0.12
    """Shortest time, in seconds, that a face shows for: what comes and goes within a shot in less
    is taken for a false find, such as a sleeve or a print; 0 keeps all."""
    choice_radius: float = 0.2
    """Keeps the choice of faces steady: a face's size and place are averaged over so many seconds
    before and after, ahead of min_face, max_face and faces."""

    def __post_init__(self) -> None:
        _among("landmarks", self.landmarks, get_args(LandmarksChoice))
        for name in (
            "landmarks_radius",
            "latent_radius",
            "pixel_radius",
            "search_interval",
            "max_gap",
            "min_track",
            "choice_radius",
        ):
            _within(name, getattr(self, name), 0, 1)


@dataclass(frozen=True, kw_only=True)
class BlendOptions:
    """How restored faces are mixed into the picture."""

    strength: float = 1.0
    """How much of a restored face shows: 0 leaves the picture as it is, 1 shows the face in full.
    A track of the tracks file can have its own."""
    grain: float = 1.0
    """How much of the film's own grain a restored face gets back, 0 to 1; where the film has none,
    none is added."""
    detail: float = 1.0
    """How much a face that is larger than the network's picture keeps of its own finest detail,
    where that is more than noise, 0 to 1; smaller faces have none."""
    keep_occluders: bool = False
    """Leaves what stands in front of a face (a hand, a bar, a microphone) as it is where the
    network paints something else over it."""

    def __post_init__(self) -> None:
        _within("strength", self.strength, 0, 1)
        _within("grain", self.grain, 0, 1)
        _within("detail", self.detail, 0, 1)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which network runs, and where."""

    model: ModelChoice = "auto"
    """Network; auto takes v2 on a GPU where its weights can be had, else lite."""
    weights: Path | None = None
    """File with the network's weights, instead of the known places."""
    fidelity: float | None = None
    """0 = most detail, 1 = closest to the input. Only v2 has this setting (default 0.5)."""
    backend: BackendChoice = "auto"
    """What runs the network; auto takes openvino on a CPU, on a GPU an engine that was built."""
    precision: PrecisionChoice = "auto"
    """Arithmetic inside; auto is float32 on a CPU and float16 on a GPU (with tensor cores)."""
    engine: Path | None = None
    """Directory of an engine from `vqfr-media engine build`; by default one is found or built."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch_size: int | None = None
    """Faces in one run of the network; by default 1 on a CPU and 8 on a GPU, with plain PyTorch
    fewer where its free memory holds no more."""

    def __post_init__(self) -> None:
        _among("model", self.model, get_args(ModelChoice))
        _among("backend", self.backend, get_args(BackendChoice))
        _among("precision", self.precision, get_args(PrecisionChoice))
        if self.fidelity is not None:
            _within("fidelity", self.fidelity, 0, 1)
        if self.batch_size is not None:
            _within("batch_size", self.batch_size, 1, 256, whole=True)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.engine is not None:
            fixed = ("weights", "batch_size", "backend", "precision")
            for name in (name for name in fixed if getattr(self, name) not in (None, "auto")):
                raise OptionError(
                    f"{name} ({getattr(self, name)}) is fixed by the engine in {self.engine}; "
                    f"leave out one of the two"
                )
        if self.backend == "openvino" and self.device.startswith("cuda"):
            raise OptionError(
                f"backend openvino runs on the CPU, not on {self.device}; "
                "choose torch, tensorrt or inductor, or device cpu"
            )
        if self.backend == "tensorrt" and self.device == "cpu":
            raise OptionError(
                "backend tensorrt runs on NVIDIA GPUs, not on device cpu; choose openvino or torch"
            )


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How the result is written."""

    codec: str = "auto"
    """Video encoder by its FFmpeg name; auto keeps depth and subsampling (x264, x265 or FFV1)."""
    quality: float | None = None
    """Constant quality (crf) of the encoder, lower is better; by default 16 for x264."""
    preset: str | None = None
    """Speed preset of the encoder; by default its own."""
    container: str | None = None
    """Container by its FFmpeg name; by default from the output's file name."""
    drop_unsupported_streams: bool = False
    """Leave out streams that the container cannot hold, with a warning, instead of refusing."""
    image_quality: int = 95
    """Quality of JPEG, WebP and AVIF images, 1 to 100."""

    def __post_init__(self) -> None:
        if self.quality is not None:
            _within("quality", self.quality, 0, 63)
        _within("image_quality", self.image_quality, 1, 100, whole=True)


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Everything about one restoration but its input and output."""

    model: ModelOptions = field(default_factory=ModelOptions)
    face: FaceOptions = field(default_factory=FaceOptions)
    temporal: TemporalOptions = field(default_factory=TemporalOptions)
    blend: BlendOptions = field(default_factory=BlendOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    part: TimeRange = field(default_factory=TimeRange)
    tracks: Path | None = None
    """File of faces to restore, made by `vqfr-media tracks`; then none are looked for."""
    upscale: int = 1
    """Enlarges the picture by this factor (background by Lanczos), 1 to 4. Small faces are restored
    larger than they are in the picture, and show all of that only where it is enlarged too."""
    damaged: DamageChoice = "stop"
    """At a picture that is damaged in the file: stop, or keep it as it can be decoded, with its
    faces left alone, and restore the others."""
    fields: FieldsChoice = "auto"
    """Interlaced video: keep restores its fields one by one, and the output is interlaced too;
    deinterlace first makes a whole picture of each field; whole takes every picture for a whole
    one, whatever the file says, and so says the output. auto keeps what says that it is interlaced,
    or is by a measure of some of its pictures."""
    strict: bool = False
    """Makes a face that is left alone, because it is too small or too large, an error."""
    segment_seconds: float | None = None
    """Long videos are restored in segments of so many seconds, kept until the end, so that the same
    command goes on where it was stopped; by default about 20, 0 restores all in one go."""
    offline: bool = False
    """Never fetches weights from the network."""

    def __post_init__(self) -> None:
        if self.segment_seconds is not None:
            _within("segment_seconds", self.segment_seconds, 0, 86_400)
        _within("upscale", self.upscale, 1, MAX_UPSCALE, whole=True)
        _among("fields", self.fields, get_args(FieldsChoice))
        _among("damaged", self.damaged, get_args(DamageChoice))
