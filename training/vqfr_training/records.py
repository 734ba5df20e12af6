"""What a run leaves on disk, written and read: its description, its log, samples, checkpoints."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from vqfr_media.differences import different_keys
from vqfr_media.files import atomic_output, first_line, write_text
from vqfr_media.network.band_gains import BandGains
from vqfr_media.network.checkpoint import load_network, load_official
from vqfr_media.network.config import VqfrV1Config
from vqfr_training.configs import FaceRecipe, RunConfig
from vqfr_training.data.layout import Data, each
from vqfr_training.data.photographs import to_pixels

EARLIER_GAINS = {"gain_channels": 0, "directed_gains": False, "fine_gains": False}
"""What a network of v1 has whose description does not say: it was made before there were any."""


def describe_run(
    recipe: RunConfig,
    *,
    data: Data,
    init: Path | None,
    start_from: Path | None,
    content: Mapping[str, str | int | None],
) -> dict[str, Any]:
    """Returns everything needed to know how a run came about, as JSON values.

    `content` says what lay at these paths; resuming compares it, for paths may move.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "recipe": asdict(recipe),
        "data": [str(folder) for folder in each(data)],
        "init": None if init is None else str(init),
        "start_from": None if start_from is None else str(start_from),
        **content,
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        "gpu": gpu,
        "threads": torch.get_num_threads(),
    }


def with_later_fields(recorded: Mapping[str, Any], recipe: RunConfig) -> dict[str, Any]:
    """Returns a recorded recipe with the fields that versions since have added.

    They have the values with which `recipe`'s numbers are what they were.
    """
    if not isinstance(recipe, FaceRecipe):
        return dict(recorded)
    gains = EARLIER_GAINS if isinstance(recipe.network, VqfrV1Config) else {}
    return {
        "accumulate": 1,
        **recorded,
        "network": {**gains, **recorded["network"]},
        "degradation": {"mild": 0.0, "single": 0.0, **recorded["degradation"]},
    }


def append_log(out: Path, values: Mapping[str, float]) -> None:
    """Writes one line of JSON at the end of `out`/log.jsonl."""
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(values) + "\n")


def truncate_log(out: Path, *, length: int) -> None:
    """Leaves only the first `length` bytes of `out`/log.jsonl: what a checkpoint knew of."""
    log = out / "log.jsonl"
    if log.is_file() and log.stat().st_size > length:
        write_text(log, log.read_bytes()[:length].decode())


def log_length(out: Path) -> int:
    """Counts the bytes of `out`/log.jsonl so far."""
    log = out / "log.jsonl"
    return log.stat().st_size if log.is_file() else 0


def save_samples(path: Path, columns: list[Tensor]) -> None:
    """Writes a grid, one column for each (N, 3, S, S) in [-1, 1], one row for each of N faces."""
    strips = [torch.cat(list(column), dim=1) for column in columns]
    pixels = to_pixels(torch.cat(strips, dim=2))
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1])):
        raise OSError(f"cannot write {path}")


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Writes a checkpoint so that a crash at any moment leaves the old one or the new one."""
    with atomic_output(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the checkpoint of a run folder, or in a file.

    Raises:
        ValueError: it is absent, or no checkpoint.
    """
    path = _checkpoint_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler fed with garbage raises nearly anything
        reason = first_line(error)
        raise ValueError(
            f"{path} is no checkpoint of a run (damaged, cut short, or another file): {reason}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint of a run: it holds a {type(state).__name__}")
    return state


def load_averaged(path: Path) -> dict[str, Tensor]:
    """Returns the averaged weights of a run folder or of its checkpoint.

    Raises:
        ValueError: there are none.
    """
    state = read_checkpoint(path)
    if "averaged" not in state:
        raise ValueError(f"{_checkpoint_file(path)} is no checkpoint of a run: no averaged weights")
    averaged: dict[str, Tensor] = state["averaged"]
    return averaged


def load_fitting(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Returns weights that fit `network`.

    A run's averaged ones, a run's export, or the authors' file.

    Args:
        path: a run folder, its checkpoint, its `network.safetensors`, or a published `.pth`.
        network: of the wanted configuration, on any device, "meta" too; its own values are lost.

    Raises:
        ValueError: there is no such file, or it holds another network's weights.
    """
    file = _checkpoint_file(path)
    state = {} if file.suffix == ".safetensors" else read_checkpoint(file)
    if "averaged" not in state:
        load_official(file, network.to_empty(device="cpu"))
        return dict(network.state_dict())
    weights: dict[str, Tensor] = state["averaged"]
    _check_fit(file, weights, network)
    return weights


def _check_fit(file: Path, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if odd := different_keys(wanted, given):
        raise ValueError(
            f"{file} holds another network than the {type(network).__name__} expected here: of "
            f"{len(odd)} weights that differ, {odd[0]} is {given.get(odd[0], 'absent')}, not "
            f"{wanted.get(odd[0], 'absent')}"
        )


def load_with_or_without_gains(
    path: Path, network: nn.Module, config: VqfrV1Config
) -> dict[str, Tensor]:
    """Returns weights that fit `network`, as `load_fitting`; those of its band gains may be absent.

    Args:
        path: as for `load_fitting`.
        network: as for `load_fitting`; it loses its band gains, or what of them weighs by
            direction or is fine, where the file has none.
        config: the network's, with which an export's has to agree but for the gains.

    Raises:
        ValueError: there is no such file, or it holds another network's weights.
    """
    file = _checkpoint_file(path)
    if file.suffix == ".safetensors":
        exported = load_network(file)
        _check_same_but_gains(file, exported.config.to_dict(), config.to_dict())
        weights = dict(exported.state_dict())
    else:
        weights = read_checkpoint(file).get("averaged", {})

    def has(module: str) -> bool:
        return any(name.startswith(f"{module}.") for name in weights)

    if not has("band_gains"):
        del network.band_gains
    else:
        gains = cast(BandGains, network.band_gains)
        gains.directed = gains.directed if has("band_gains.directed") else None
        gains.fine = gains.fine if has("band_gains.fine") else None
    if not weights:  # the authors' file
        return load_fitting(file, network)
    _check_fit(file, weights, network)
    return weights


def _check_same_but_gains(file: Path, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses what weights of the same shapes would hide: they would be computed with otherwise."""
    odd = [
        f"{name} {given.get(name, 'absent')}, not {wanted.get(name, 'absent')}"
        for name in sorted(given.keys() | wanted.keys())
        if name not in EARLIER_GAINS and given.get(name) != wanted.get(name)
    ]
    if odd:
        raise ValueError(f"{file} holds a network of another configuration: {'; '.join(odd)}")


def load_exported(
    path: Path,
    network: nn.Module,
    *,
    coded: Collection[str],
    stage1: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Returns what of an exported network fits `network`, to go on with another codebook.

    Stage 1 takes encoder and decoder of any restoration network, and leaves out a codebook of
    another size: a run that starts so has to estimate its own. Stage 2 takes everything, or, where
    the codes are not those of its stage 1, the main branch: the rest comes from stage 1.

    Args:
        path: a self-describing file.
        network: of the wanted configuration, on any device.
        coded: names of the weights that stage 1 has.
        stage1: weights of the stage 1 whose codes stage 2 keeps; compared as float16, which files
            hold.

    Raises:
        ValueError: the file holds a network of another kind or width.
    """
    given = {name: value.float() for name, value in load_network(path).state_dict().items()}
    wanted = network.state_dict()
    alone = set(wanted) <= set(coded)
    codes = next(name for name in wanted if name.endswith("embedding.weight"))
    if alone:
        if codes in given and given[codes].shape != wanted[codes].shape:
            del given[codes]
    elif stage1 is not None and not _same_codes(given.get(codes), stage1[codes]):
        given = {name: value for name, value in given.items() if name not in coded}
    for name, value in wanted.items():
        here = given.get(name)
        may_lack = name == codes or (name in coded and not alone)
        if (here is None and not may_lack) or (here is not None and here.shape != value.shape):
            raise ValueError(
                f"{path} holds another network: {name} is "
                f"{'absent' if here is None else tuple(here.shape)}, not {tuple(value.shape)}"
            )
    return {name: value for name, value in given.items() if name in wanted}


def _same_codes(given: Tensor | None, kept: Tensor) -> bool:
    return given is not None and torch.equal(given.half(), kept.detach().cpu().half())


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Returns a short SHA-256 of names, shapes and values, wherever they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _checkpoint_file(path: Path) -> Path:
    path = path / "checkpoint.pt" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    return path


def _commit() -> str | None:
    """Returns the checkout's commit, "+" behind it if files differ.

    None without git or a repository.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:  # slim images have no git
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--verify", "HEAD")
    return None if commit is None else commit + ("+" if git("status", "--porcelain") else "")
