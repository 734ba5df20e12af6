"""The face detector as OpenVINO has it, kept on disk once it was converted.

A later start then needs neither facexlib nor torchvision, whose imports take longer than loading
all the rest, nor the conversion.
"""

import hashlib
import importlib.resources
import logging
import tempfile
import zipfile
import zlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

from vqfr_media.backends.openvino_library import failures, openvino, reason_of
from vqfr_media.engines_folder import engines_folder
from vqfr_media.errors import CheckpointError, OutputError
from vqfr_media.faces.coarse_network import WholeAndCoarse
from vqfr_media.faces.openvino_network import converted
from vqfr_media.faces.retinaface_network import Backbone, load_retinaface
from vqfr_media.files import file_sha256, first_line, write_bytes

_LIBRARIES = ("openvino", "torch", "torchvision", "facexlib")
_MODULES = (
    "vqfr_media.backends.openvino_library",
    "vqfr_media.faces.coarse_network",
    "vqfr_media.faces.converted_detector",
    "vqfr_media.faces.openvino_network",
    "vqfr_media.faces.retinaface_network",
    "vqfr_media.network.checkpoint",
)
"""From the weights file to what is kept."""
_XML, _BIN = "detector.xml", "detector.bin"

logger = logging.getLogger(__name__)


def load_converted(weights: Path, *, backbone: Backbone) -> Any:
    """Returns `WholeAndCoarse` of the detector as an OpenVINO model of open sizes.

    It is read from the folder of engines, or converted and kept there in place of what other
    versions made of the same weights. What is damaged is converted again; where nothing can be
    kept, it is converted at each start.

    Args:
        weights: facexlib's checkpoint for this backbone.
        backbone: what the checkpoint was trained with.

    Raises:
        BackendError: OpenVINO is not here.
        CheckpointError: the weights cannot be read, are damaged, or of another network.
        EngineError: OpenVINO cannot convert the network.
    """
    openvino()  # what is missing is said before any file is read
    try:
        kind = f"detector-{backbone}-{file_sha256(weights)[:12]}-"
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read: {error.strerror or error}") from error
    maker = _maker_sha256()
    path = engines_folder() / f"{kind}{maker[:12]}.zip" if maker is not None else None
    if path is not None and (kept := _read(path)) is not None:
        return kept
    model = converted(WholeAndCoarse(load_retinaface(weights, backbone=backbone)).eval())
    if path is not None:
        _keep(model, path, kind)
    return model


def _maker_sha256() -> str | None:
    """Hashes what decides, beside the weights, what a conversion gives: libraries and our code.

    None where a library does not tell its version, or our code is not here as source.
    """
    digest = hashlib.sha256()
    try:
        for library in _LIBRARIES:
            digest.update(f"{library} {version(library)}\n".encode())
        for module in _MODULES:
            package, _, name = module.rpartition(".")
            digest.update(importlib.resources.files(package).joinpath(f"{name}.py").read_bytes())
    except (PackageNotFoundError, OSError) as error:
        logger.info("the converted detector is not kept: %s", first_line(error))
        return None
    return digest.hexdigest()


def _read(path: Path) -> Any | None:
    """Returns what is kept; None where nothing is, or nothing that can be used."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.info("the converted detector cannot be read: %s", error)
        return None
    try:
        with zipfile.ZipFile(BytesIO(content)) as kept:
            return openvino().Core().read_model(kept.read(_XML), kept.read(_BIN))
    # All that zipfile raises for an archive whose directory or headers are damaged.
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError, OSError) as error:
        reason = first_line(error)
    except failures() as error:  # a RuntimeError of zipfile too: a compression that it lacks
        reason = reason_of(error)
    logger.warning("%s is damaged (%s): the detector is converted again", path, reason)
    return None


def _keep(model: Any, path: Path, kind: str) -> None:
    """Writes the model; removes what other versions made of the same weights."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _packed(model))
    except (OSError, OutputError, *failures()) as error:  # type: ignore[misc]
        logger.info("the converted detector is not kept: %s", first_line(error))
        return
    for other in path.parent.glob(f"{kind}*.zip"):
        if other != path:
            with suppress(OSError):
                other.unlink()


def _packed(model: Any) -> bytes:
    """Packs what OpenVINO writes as two files into one, which is there whole or not at all."""
    content = BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in (_XML, _BIN)]
        openvino().serialize(model, *paths)
        with zipfile.ZipFile(content, "w") as archive:
            for path in paths:
                archive.write(path, path.name)
    return content.getvalue()
