"""Which network and which detector run, and where their weights are.

Nothing here needs the libraries that run them, so that what is not to be had is said at once.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from vqfr_media import weights
from vqfr_media.errors import BackendError, EngineFileError, InputError, OptionError, WeightsError
from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions


@dataclass(frozen=True)
class ChosenDetector:
    """The outcome of `--detector auto`, or of an explicit choice."""

    name: str
    """bundled, mobilenet or resnet50; else the kind that the caller gave, or none."""
    weights: Path
    """File that holds its weights."""
    why: str
    """One clause for the summary."""

    @classmethod
    def none(cls, tracks: Path) -> Self:
        """Returns no detector, as the faces are those of a file of tracks."""
        return cls("none", Path(), f"the faces are those of {tracks}")

    @property
    def backbone(self) -> Literal["mobilenet", "resnet50"]:
        """What its weights were trained with."""
        return "resnet50" if self.name == "resnet50" else "mobilenet"


@dataclass(frozen=True)
class ChosenModel:
    """The outcome of `--model auto`, or of an explicit choice."""

    name: str
    """v1, v2 or lite."""
    weights: Path
    """File that holds its weights."""
    why: str
    """One clause for the summary."""
    backend: str = ""
    """What runs it: torch, openvino, tensorrt or inductor; empty while that is open."""
    backend_why: str = ""
    """One clause for the summary."""
    engine: Path | None = None
    """Directory of the engine that runs it, where there is one."""
    identity: str = ""
    """Identity of that engine, SHA-256 (`manifest.EngineIdentity`)."""


def choose_model(
    options: ModelOptions,
    *,
    has_gpu: bool,
    offline: bool,
    progress: weights.Progress | None = None,
) -> ChosenModel:
    """Chooses which network runs and where its weights are; fetches them where allowed.

    Raises:
        OptionError: `weights` without a model they belong to, or fidelity for a network without it.
        WeightsError: the chosen model's weights cannot be had.
    """
    if options.model == "auto":
        _refuse_weights_alone(options)
        chosen = _choose_automatically(has_gpu=has_gpu, offline=offline, progress=progress)
        check_fidelity(options, chosen.name, why=chosen.why)
        return chosen
    check_fidelity(options, options.model, why="asked for")  # before anything is fetched
    path = weights.find(options.model, explicit=options.weights, offline=offline, progress=progress)
    return ChosenModel(options.model, path, "asked for")


def check_fidelity(options: ModelOptions, model: str, *, why: str) -> None:
    """Refuses a fidelity for a network without one.

    Args:
        options: has the fidelity, or none.
        model: the network that would run.
        why: one clause that says why this one.

    Raises:
        OptionError: the network has no such setting.
    """
    if options.fidelity is not None and model != "v2":
        raise OptionError(
            f"--fidelity {options.fidelity:g} has no effect on {model} ({why}): "
            "only v2 has this setting; add --model v2 or leave it out"
        )


def _refuse_weights_alone(options: ModelOptions) -> None:
    """Refuses a file of weights where nothing says which network they are for."""
    if options.weights is not None:
        raise OptionError("--weights needs to know the network: add --model v1, v2 or lite")


def _choose_automatically(
    *, has_gpu: bool, offline: bool, progress: weights.Progress | None
) -> ChosenModel:
    lite = weights.find("lite", offline=True)
    if not has_gpu:
        return ChosenModel("lite", lite, "no GPU here, and v2 takes seconds per face on a CPU")
    try:
        path = weights.find("v2", offline=offline, progress=progress)
    except WeightsError as error:  # told to the user in the summary: the other model does the work
        return ChosenModel("lite", lite, f"v2 is not to be had: {error}")
    return ChosenModel("v2", path, "a GPU is here and so are v2's weights")


def choose_detector(
    face: FaceOptions, *, offline: bool, progress: weights.Progress | None = None
) -> ChosenDetector:
    """Chooses which detector runs and where its weights are; `auto` fetches nothing.

    Raises:
        InputError: `face.detector_weights` does not exist.
        WeightsError: the chosen detector's weights cannot be had.
    """
    given = face.detector_weights
    if face.detector == "auto" and given is None:
        if (here := weights.locate("mobilenet")) is not None:
            return ChosenDetector("mobilenet", here, f"its weights are on this machine: {here}")
        bundled = weights.find("bundled", offline=True)
        return ChosenDetector("bundled", bundled, "facexlib's mobilenet is not on this machine")
    name = _detector_of(face)
    path = weights.find(name, explicit=given, offline=offline, progress=progress)
    return ChosenDetector(name, path, "asked for" if given is None else f"weights of {given}")


def _detector_of(face: FaceOptions) -> str:
    """Returns the detector asked for, or that which a file of weights alone is taken for."""
    return "mobilenet" if face.detector == "auto" else face.detector


def check_available(options: RestoreOptions) -> None:
    """Refuses a restoration whose network, detector or tracks cannot be had, reading none of them.

    What depends on the machine (whether it has a GPU) is left to `choose_model`.

    Raises:
        BackendError: there is no such device.
        InputError: a file of weights or of tracks that was named does not exist.
        OptionError: fidelity for a network without it, or weights without a network.
        WeightsError: weights that are not here and may not be fetched.
        EngineFileError: the engine's directory is not there.
    """
    model, face = options.model, options.face
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", model.device):
        raise BackendError(f"unknown device {model.device!r}; use auto, cpu, cuda or cuda:N")
    if model.engine is not None:
        if not model.engine.is_dir():
            raise EngineFileError(
                f"there is no engine {model.engine}; `vqfr-media engine list` shows those that are "
                f"kept, `vqfr-media engine build --backend BACKEND -o {model.engine}` makes one"
            )
    elif model.model == "auto":
        _refuse_weights_alone(model)
    else:
        check_fidelity(model, model.model, why="asked for")
        weights.check_here(model.model, explicit=model.weights, offline=options.offline)
    if (tracks := options.tracks) is not None:
        if not tracks.exists():
            raise InputError(
                f"{tracks}: there is no such file; make it with "
                f"`vqfr-media tracks VIDEO -o {tracks.name}`"
            )
    elif face.detector != "auto" or face.detector_weights is not None:
        weights.check_here(
            _detector_of(face), explicit=face.detector_weights, offline=options.offline
        )
