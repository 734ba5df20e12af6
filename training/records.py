"""What a run leaves on disk: its description, its log, sample pictures, checkpoints."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor

from training.configs import Course


def describe_run(
    recipe: Course, *, data: Path, init: Path | None, start_from: Path | None
) -> dict[str, Any]:
    """Everything needed to know how a run came about, as JSON values."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "recipe": asdict(recipe),
        "data": str(data),
        "init": None if init is None else str(init),
        "start_from": None if start_from is None else str(start_from),
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


def append_log(out: Path, values: Mapping[str, float]) -> None:
    """One line of JSON at the end of `out`/log.jsonl."""
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(values) + "\n")


def save_samples(path: Path, columns: list[Tensor]) -> None:
    """A grid, one column for each (N, 3, S, S) in [-1, 1], one row for each of N faces."""
    strips = [torch.cat(list(column), dim=1) for column in columns]
    grid = (torch.cat(strips, dim=2).clamp(-1, 1) + 1) * 127.5
    pixels = grid.round().byte().permute(1, 2, 0).numpy()
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1])):
        raise OSError(f"cannot write {path}")


def save_whole(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old one or the new one."""
    with _whole(path) as file:
        torch.save(state, file)


def write_whole(text: str, path: Path) -> None:
    """Write a text likewise."""
    with _whole(path) as file:
        file.write(text.encode())


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete and on the disk."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _commit() -> str | None:
    """The checkout's commit, "+" behind it if files differ; None outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--verify", "HEAD")
    return None if commit is None else commit + ("+" if git("status", "--porcelain") else "")
