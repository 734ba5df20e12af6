"""What the workers of the tests run: named by their module, so that other processes find it."""

import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.choices import ChosenDetector, ChosenModel
from vqfr_media.errors import EngineError, WeightsError
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import Prepared


def prepared(engine: InvertingEngine) -> Prepared:
    """As `prepare` gives it for an engine and a detector of the caller's own."""
    detector = MarkerDetector()
    return Prepared(
        engine,
        detector,
        ChosenModel(engine.spec.model, Path(), "given by the caller"),
        ChosenDetector(type(detector).__name__, Path(), "given by the caller"),
    )


def inverting(_options: RestoreOptions | None = None) -> Prepared:
    """Turns faces into their negatives."""
    return prepared(InvertingEngine(size=64, batch_size=1))


class InvertingByOrder(InvertingEngine):
    """Does what the files in a folder say, before it works a face: `die`, `fail`, `say`.

    A file named so ends or fails each worker that sees it; with `-once` behind it, only the first.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(size=64, batch_size=1)
        self.folder = folder

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self._is_told("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_told("fail"):
            raise EngineError("failed because the test says so")
        if self._is_told("say"):
            logging.getLogger("vqfr_media.tests").warning("said because the test says so")
        return super().decode(crops, latents, fidelity=fidelity)

    def _is_told(self, word: str) -> bool:
        if (self.folder / word).exists():
            return True
        try:
            (self.folder / f"{word}-once").unlink()  # only one of them succeeds
        except FileNotFoundError:
            return False
        return True


def by_order(_options: RestoreOptions, *, folder: Path) -> Prepared:
    """With an engine that the test can give orders."""
    (folder / f"{os.getpid()}.pid").touch()
    engine = InvertingByOrder(folder)
    found = prepared(engine)
    # The same identity as that of `inverting`, which says the kind of the engine.
    engine.__class__ = type("InvertingEngine", (InvertingByOrder,), {})
    return found


def one_is_odd(_options: RestoreOptions, *, folder: Path) -> Prepared:
    """In the first process that asks, an engine of another precision."""
    found = inverting()
    try:
        (folder / "odd").rmdir()
    except FileNotFoundError:
        return found
    engine = InvertingEngine(size=64, batch_size=1)
    engine.spec = replace(engine.spec, precision="float16")
    return replace(found, engine=engine)


def without_weights(_options: RestoreOptions) -> Prepared:
    """What a machine does that lacks a file."""
    raise WeightsError("the weights are not here because the test says so")


class SlowlyInvertingEngine(InvertingEngine):
    """Leaves the tests time to stop it."""

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        time.sleep(0.03)
        return super().decode(crops, latents, fidelity=fidelity)


def slowly_inverting(_options: RestoreOptions) -> Prepared:
    """As `inverting`, but not at once."""
    return prepared(SlowlyInvertingEngine(size=64, batch_size=1))
