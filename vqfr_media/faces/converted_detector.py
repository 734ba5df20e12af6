"""The face detector as OpenVINO has it, kept on disk once it was converted.

A later start then needs neither facexlib nor torchvision, whose imports take longer than loading
all the rest, nor the conversion.
"""

import hashlib
import importlib.resources
import logging
import tempfile
import zipfile
from importlib.metadata import version
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

_LIBRARIES = ("openvino", "torch", "facexlib")
_MODULES = ("coarse_network", "converted_detector", "openvino_network", "retinaface_network")
"""Whose code decides what is kept."""
_XML, _BIN = "detector.xml", "detector.bin"

logger = logging.getLogger(__name__)


def load_converted(weights: Path, *, backbone: Backbone) -> Any:
    """Returns `WholeAndCoarse` of the detector as an OpenVINO model of open sizes.

    It is read from the folder of engines, or converted and kept there. One that is damaged is
    converted again; where nothing can be written it is converted at each start.

    Args:
        weights: facexlib's checkpoint for this backbone.
        backbone: what the checkpoint was trained with.

    Raises:
        BackendError: OpenVINO is not here.
        CheckpointError: the weights cannot be read, are damaged, or of another network.
        EngineError: OpenVINO cannot convert the network.
    """
    path = engines_folder() / f"detector-{backbone}-{_identity(weights)[:16]}.zip"
    if (kept := _read(path)) is not None:
        return kept
    model = converted(WholeAndCoarse(load_retinaface(weights, backbone=backbone)).eval())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _packed(model))
    except (OSError, OutputError) as error:
        logger.info("the converted detector is not kept: %s", error)
    return model


def _read(path: Path) -> Any | None:
    """Returns what is kept; None where nothing is, or nothing that can be used."""
    core = openvino().Core()
    try:
        with zipfile.ZipFile(path) as kept:
            return core.read_model(kept.read(_XML), kept.read(_BIN))
    except FileNotFoundError:
        return None
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        reason = first_line(error)
    except failures() as error:
        reason = reason_of(error)
    logger.warning("%s is damaged (%s): the detector is converted again", path, reason)
    return None


def _identity(weights: Path) -> str:
    """Hashes what decides the converted network: weights, libraries, our code."""
    try:
        digest = hashlib.sha256(file_sha256(weights).encode())
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read: {error.strerror or error}") from error
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    here = importlib.resources.files("vqfr_media.faces")
    for module in _MODULES:
        digest.update(here.joinpath(f"{module}.py").read_bytes())
    return digest.hexdigest()


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
