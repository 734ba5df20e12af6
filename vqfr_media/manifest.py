"""What an engine on disk was built from, for which machine, and how exact it is.

An engine is a directory: `manifest.json` beside `encoder.*` and `decoder.*`. Its identity is a
SHA-256 over everything that decides what it computes and where it runs; two engines of the same
identity are interchangeable.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from vqfr_media.differences import different_keys
from vqfr_media.errors import EngineFileError
from vqfr_media.values import EngineSpec

BuiltBackend = Literal["openvino", "tensorrt", "inductor"]
Precision = Literal["float32", "float16", "bfloat16"]

MANIFEST = "manifest.json"
FORMAT_VERSION = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROGRAM = re.compile(r"(encoder|decoder)\.[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class EngineIdentity:
    """Everything that decides what an engine computes and where it runs."""

    backend: BuiltBackend
    """What runs it."""
    model: str
    """v1, v2 or lite."""
    weights_sha256: str
    """Of the weights file."""
    network: Mapping[str, Any]
    """The network's configuration, as `config.to_dict()` gives it."""
    precision: Precision
    """Arithmetic inside; crops, latents and results are float32 whatever it is."""
    batch_size: int
    """Faces in one run, fixed when it is built."""
    options: Mapping[str, Any]
    """The builder's own settings."""
    versions: Mapping[str, str]
    """Libraries that built it and that run it, by name."""
    machine: Mapping[str, str]
    """What it was built for: processor, or GPU, compute capability and driver."""

    def __post_init__(self) -> None:
        _among("backend", self.backend, get_args(BuiltBackend))
        _among("precision", self.precision, get_args(Precision))
        _check(isinstance(self.model, str) and self.model != "", "model", self.model)
        _check(_is_sha256(self.weights_sha256), "weights_sha256", self.weights_sha256)
        _check(_is_count(self.batch_size), "batch_size", self.batch_size)
        for name in ("network", "options", "versions", "machine"):
            mapping = getattr(self, name)
            _check(isinstance(mapping, Mapping), name, mapping)
            # As JSON gives it back, so that an identity equals what was read from its file.
            object.__setattr__(self, name, json.loads(json.dumps(dict(mapping))))
        for name in ("versions", "machine"):
            values = getattr(self, name).values()
            _check(all(isinstance(value, str) for value in values), name, getattr(self, name))

    @property
    def sha256(self) -> str:
        """SHA-256, in hexadecimal, over all of the above."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, wanted: "EngineIdentity") -> list[str]:
        """Says in one clause each what in this one is not as `wanted`; both sides are named."""
        found = []
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(wanted, field.name)
            if not isinstance(ours, dict):
                ours, theirs = {"": ours}, {"": theirs}
            for key in different_keys(ours, theirs):
                one, other = ours.get(key, "none"), theirs.get(key, "none")
                name = f"{field.name} {key}".rstrip()
                found.append(f"{name} is {_short(one)} in it and {_short(other)} here")
        return found


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How an engine compares with PyTorch in float32 on the fixed crops (`engines/parity.py`)."""

    crops: int
    """Number of crops."""
    latent_max: float
    """Largest error of a latent's value, as a share of the latents' RMS."""
    latent_rms: float
    """RMS error of the latents, as a share of the latents' RMS."""
    flipped: float
    """Share, 0 to 1, of codes that the engine's latents turn into others."""
    image_max: float
    """Largest error of a restored sample in [0, 1], both decoders given PyTorch's latents."""
    image_mean: float
    """Mean error of the same samples."""
    psnr_db: float
    """The same in decibels; 120 at most, where nothing differs."""

    def __post_init__(self) -> None:
        _check(_is_count(self.crops), "crops", self.crops)
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            finite = isinstance(value, int | float) and not isinstance(value, bool)
            _check(finite and math.isfinite(value) and value >= 0, field.name, value)

    def line(self) -> str:
        """Says the figures in one line."""
        return (
            f"latents within {self.latent_max:.1e} (RMS {self.latent_rms:.1e}), "
            f"{self.flipped:.2%} of codes flipped, samples within {self.image_max:.1e} "
            f"(mean {self.image_mean:.1e}, {self.psnr_db:.1f} dB), on {self.crops} crops"
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says of the engine beside it."""

    identity: EngineIdentity
    """What it was built from and for."""
    spec: EngineSpec
    """What a caller must know to feed it."""
    weights: str
    """Path of the weights file when the engine was built; not part of its identity."""
    files: Mapping[str, str]
    """SHA-256 of every other file in the directory, by name."""
    parity: Parity
    """How exact it was when it was built."""
    built: str
    """When it was built: ISO 8601 with the time zone."""
    seconds: float
    """How long that took, the comparison with PyTorch included."""

    def __post_init__(self) -> None:
        spec, identity = self.spec, self.identity
        for name, one, other in (
            ("model", spec.model, identity.model),
            ("batch_size", spec.batch_size, identity.batch_size),
            ("precision", spec.precision, identity.precision),
        ):
            _check(one == other, f"spec.{name} ({identity.sha256[:12]} has {other!r})", one)
        shape = spec.latent_shape
        _check(isinstance(shape, tuple) and len(shape) == 3, "spec.latent_shape", shape)
        _check(all(map(_is_count, (*shape, spec.size))), "spec", spec)
        _check(isinstance(spec.device, str), "spec.device", spec.device)
        _check(isinstance(spec.has_fidelity, bool), "spec.has_fidelity", spec.has_fidelity)
        _check(isinstance(self.weights, str), "weights", self.weights)
        _check(isinstance(self.files, dict), "files", self.files)
        for name, digest in self.files.items():
            _check(_PROGRAM.fullmatch(name) is not None, "a name in files", name)
            _check(_is_sha256(digest), f"files[{name!r}]", digest)
        for program in ("encoder", "decoder"):
            _check(any(name.startswith(f"{program}.") for name in self.files), "files", self.files)
        _check(datetime.fromisoformat(self.built).tzinfo is not None, "built", self.built)
        _check(isinstance(self.seconds, int | float), "seconds", self.seconds)

    def to_json(self) -> str:
        """Writes the file's text."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: not JSON, of another format version, or a field is missing, unknown or
                wrong.
        """
        values = json.loads(text)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version!r}, this program reads {FORMAT_VERSION}")
        values.pop("format_version")
        _check_names(cls, values)
        for name, part in (("identity", EngineIdentity), ("spec", EngineSpec), ("parity", Parity)):
            _check_names(part, values[name])
        spec = values["spec"]
        if isinstance(spec["latent_shape"], list):
            spec["latent_shape"] = tuple(spec["latent_shape"])
        parts = {
            "identity": EngineIdentity(**values["identity"]),
            "spec": EngineSpec(**spec),
            "parity": Parity(**values["parity"]),
        }
        return cls(**{**values, **parts})


def is_engine_file(name: str) -> bool:
    """Tells whether a file of this name can be part of an engine."""
    return name == MANIFEST or _PROGRAM.fullmatch(name) is not None


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest in `folder`; the files beside it are not looked at.

    Raises:
        EngineFileError: there is none, or it cannot be used.
    """
    path = folder / MANIFEST
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineFileError(f"{folder} is no engine: {path.name}: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError included
        raise EngineFileError(f"{path} is damaged or of another version: {error}") from error


def _check_names(cls: type, values: object) -> None:
    names = {field.name for field in fields(cls)}
    found = set(values) if isinstance(values, dict) else set()
    if found != names:
        raise ValueError(
            f"{cls.__name__}: missing fields {sorted(names - found)}, "
            f"unknown fields {sorted(found - names)}"
        )


def _check(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} cannot be {_short(value)}")


def _among(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
