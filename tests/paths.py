"""Where the checkout and the development data beside it lie, and what a session's tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
# Each import package and the folder that holds it.
PACKAGES = {
    "vqfr_media": ROOT / "vqfr_media",
    "vqfr_engines": ROOT / "engines" / "vqfr_engines",
    "vqfr_deform_conv": ROOT / "plugins" / "vqfr_deform_conv",
    "vsvqfr": ROOT / "plugins" / "vsvqfr",
    "vqfr_training": ROOT / "training" / "vqfr_training",
}


def for_all_processes(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all processes of one session share; each of them may be the first."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder
