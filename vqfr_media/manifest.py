"""What an engine on disk was built from, for which machine, and how exact it is.

An engine is a directory: `manifest.json` beside `encoder.*` and `decoder.*`. Its identity is a
SHA-256 over everything that decides what it computes and where it runs; two engines of the same
identity are interchangeable.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vqfr_media.errors import EngineFileError
from vqfr_media.values import EngineSpec

BuiltBackend = Literal["openvino", "tensorrt", "inductor"]
Precision = Literal["float32", "float16", "bfloat16"]

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Origin:
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

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, over all of the above."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
