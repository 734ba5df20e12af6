"""Weights in and out: the published `.pth` files, and our own self-describing safetensors.

A file that does not fit is refused whole, with the names that do not; nothing is loaded in part.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vqfr_media.errors import CheckpointError
from vqfr_media.files import first_line, write_bytes
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, VqfrV2Config, vqfr_v2_config

# Where a published name differs from ours: (theirs, ours), as parts of a key.
_OFFICIAL_NAMES = ((".residual_func.", ".shortcut_conv."),)
# One metadata entry, because safetensors writes several in no fixed order.
_METADATA_KEY = "vqfr_media"
_FORMAT_VERSION = 1
_NAMES_SHOWN = 10


def load_official(path: str | os.PathLike[str], network: nn.Module) -> None:
    """Loads a published checkpoint into `network`, in place.

    The state dict is taken from `params_ema`, else from `params`, else the file is one itself;
    a `module.` prefix is dropped. Pickles are opened with `weights_only`: no code in them runs.

    Args:
        path: a `.pth` or `.safetensors` file.
        network: the network whose parameters are to be replaced.

    Raises:
        CheckpointError: the file is absent, damaged or no checkpoint, or a key is missing, surplus
            or of another shape than the network's.
    """
    path = Path(path)
    official = _state_of(path, _open(path))
    state = {}
    for key, value in official.items():
        name = key.removeprefix("module.")
        for theirs, ours in _OFFICIAL_NAMES:
            name = name.replace(theirs, ours)
        state[name] = value
    _check_fit(path, state, network)
    network.load_state_dict(state)


def save_network(path: str | os.PathLike[str], network: VqfrV1 | VqfrV2) -> None:
    """Writes weights (as float16) and config to one safetensors file.

    The file appears under its name only when it is complete.

    Raises:
        ValueError: a weight is not finite or too large for float16.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    description = {
        "format_version": _FORMAT_VERSION,
        "kind": "vqfr_v1" if isinstance(network, VqfrV1) else "vqfr_v2",
        "config": network.config.to_dict(),
    }
    tensors = {}
    for name, value in network.state_dict().items():
        value16 = value.detach().to("cpu", torch.float16).contiguous()
        if not bool(value16.isfinite().all()):
            raise ValueError(f"{name} has a value that float16 cannot hold; nothing was written")
        tensors[name] = value16
    write_bytes(path, safetensors.torch.save(tensors, {_METADATA_KEY: json.dumps(description)}))


def load_network(path: str | os.PathLike[str]) -> VqfrV1 | VqfrV2:
    """Builds the network that `save_network` wrote to `path`: float32, on the CPU, in eval mode.

    Raises:
        CheckpointError: the file is absent, damaged or not ours, or does not fit its own config.
    """
    path = Path(path)
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with torch.device("meta"):
        network = _build(path, metadata)
    _check_fit(path, state, network)
    network.load_state_dict(state, assign=True)
    return network.eval()


def load_model(path: str | os.PathLike[str], *, model: str) -> VqfrV1 | VqfrV2:
    """Builds `model` from one of our files or, for v1 and v2, from a published one.

    Args:
        path: the weights.
        model: "lite", "v1" or "v2".

    Returns:
        The network: float32, on the CPU, in eval mode.

    Raises:
        ValueError: no such model.
        CheckpointError: the file is absent, damaged, or holds another network.
    """
    if model not in ("lite", "v1", "v2"):
        raise ValueError(f'model must be "lite", "v1" or "v2", not {model!r}')
    path = Path(path)
    wanted = VqfrV2 if model == "v2" else VqfrV1
    if model == "lite" or _describes_itself(path):
        network = load_network(path)
        if not isinstance(network, wanted):
            raise CheckpointError(f"{path} holds a {type(network).__name__}, not {model}")
        return network
    with torch.device("meta"):
        network = VqfrV2(vqfr_v2_config()) if model == "v2" else VqfrV1(vqfr_v1_config())
    network.to_empty(device="cpu")  # every value comes from the file
    load_official(path, network)
    return network.eval()


def read_config(path: str | os.PathLike[str], *, model: str) -> VqfrV1Config | VqfrV2Config:
    """Reads the configuration of the network that `load_model` would build.

    Raises:
        CheckpointError: the file is absent, damaged or does not say what it holds.
    """
    path = Path(path)
    if model == "lite" or _describes_itself(path):
        _check_file(path)
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                return _config(path, file.metadata() or {})
        except (safetensors.SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error
    return vqfr_v2_config() if model == "v2" else vqfr_v1_config()


def _describes_itself(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return False
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return _METADATA_KEY in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _build(path: Path, metadata: Mapping[str, str]) -> VqfrV1 | VqfrV2:
    config = _config(path, metadata)
    try:
        return VqfrV2(config) if isinstance(config, VqfrV2Config) else VqfrV1(config)
    except ValueError as error:
        raise CheckpointError(f"{path}: its description cannot be used: {error}") from error


def _config(path: Path, metadata: Mapping[str, str]) -> VqfrV1Config | VqfrV2Config:
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} does not say which network it holds (no {_METADATA_KEY!r})")
    try:
        description: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
        version, kind = description["format_version"], description["kind"]
        if version != _FORMAT_VERSION:
            raise ValueError(f"format version {version!r}, this program reads {_FORMAT_VERSION}")
        match kind:
            case "vqfr_v1":
                return VqfrV1Config.from_dict(description["config"])
            case "vqfr_v2":
                return VqfrV2Config.from_dict(description["config"])
            case _:
                raise ValueError(f"unknown kind of network {kind!r}")
    except KeyError as error:
        raise CheckpointError(f"{path}: its description lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its description cannot be used: {error}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file")


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = first_line(error)
    return CheckpointError(
        f"{path} cannot be read as a checkpoint (damaged, cut short, or no checkpoint): {reason}"
    )


def _open(path: Path) -> object:
    _check_file(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler fed with garbage raises nearly anything
        raise _unreadable(path, error) from error


def _state_of(path: Path, loaded: object) -> dict[str, Tensor]:
    """Finds the state dict within what a file holds."""
    state = loaded
    for wrapper in ("params", "params_ema"):
        if isinstance(loaded, Mapping) and wrapper in loaded:
            state = loaded[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (a mapping of names to tensors)")
    return dict(state)


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _check_fit(path: Path, state: Mapping[str, Tensor], network: nn.Module) -> None:
    wanted = network.state_dict()
    faults = {
        "missing": [key for key in wanted if key not in state],
        "surplus": [key for key in state if key not in wanted],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    lines = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in faults.items() if names]
    if lines:
        raise CheckpointError(f"{path} does not fit {type(network).__name__}: {'; '.join(lines)}")
