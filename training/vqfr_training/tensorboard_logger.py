"""A run's figures and samples for TensorBoard, in its run folder: `tensorboard --logdir RUN`."""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import cv2
import numpy as np

logger = logging.getLogger(__name__)


def open_tensorboard_logger(out: Path, *, done: int) -> "TensorBoardLogger | None":
    """Returns the run's TensorBoard log, or None where TensorBoard is not installed.

    The log says so.
    """
    if importlib.util.find_spec("tensorboard") is None:
        logger.info("no TensorBoard here: the curves are in log.jsonl alone")
        return None
    return TensorBoardLogger(out, done=done)


class TensorBoardLogger:
    """Writes event files; close it, or use it in a `with` block.

    Of a run that goes on after `done` steps, what was written of later ones leaves the curves.
    """

    def __init__(self, out: Path, *, done: int = 0) -> None:
        """Event files go into `out`/board."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "board"), purge_step=done + 1 if done else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Adds one point to each curve; names with a slash share a group."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def add_picture(self, path: Path, step: int) -> None:
        """Adds the picture in `path`, as the run folder has it.

        Raises:
            ValueError: it cannot be read.
        """
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError(f"{path} is not a readable picture")
        self._writer.add_image("samples", np.asarray(pixels), step, dataformats="HWC")

    def close(self) -> None:
        """Writes what waits, and close the file."""
        self._writer.close()
