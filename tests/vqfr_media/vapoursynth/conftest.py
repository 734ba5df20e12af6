"""Clips of a real VapourSynth core; without one these tests skip."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scenes import HEIGHT, WIDTH, scene

pytest.importorskip(
    "vapoursynth",
    reason="VapourSynth is not installed here: pip install 'vqfr-media[vapoursynth]'",
    exc_type=ImportError,
)

import vapoursynth as vs

from tests.paths import ROOT


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the core's number of threads for one test; 2 where a test does not care."""

    def choose(number: int) -> None:
        vs.core.num_threads = number

    choose(2)
    yield choose
    vs.clear_outputs()
    choose(2)


@pytest.fixture
def scene_clip() -> Callable[..., Any]:
    """Makes an RGB24 clip of `scenes.scene` at 25 frames per second."""

    def make(frames: int = 12, **options: Any) -> vs.VideoNode:
        blank = vs.core.std.BlankClip(
            format=vs.RGB24, width=WIDTH, height=HEIGHT, length=frames, fpsnum=25, fpsden=1
        )

        def draw(n: int, f: Any) -> Any:
            frame = f.copy()
            picture = scene(n, **options)
            for plane in range(3):
                np.asarray(frame[plane])[...] = picture[..., plane]
            return frame

        return blank.std.ModifyFrame(clips=blank, selector=draw)

    return make


@pytest.fixture
def duo(shared: Path, tmp_path: Path) -> Any:
    """The clip duo_lq.mp4 through BestSource."""
    core = vs.core
    if not hasattr(core, "bs"):
        pytest.skip("the source plugin is not installed here: pip install vapoursynth-bestsource")
    return core.bs.VideoSource(
        str(shared / "data/clips/duo_lq.mp4"), cachepath=str(tmp_path / "index")
    )


@pytest.fixture(scope="session")
def vspipe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where vspipe finds out which Python it belongs to; not the user's own configuration."""
    folder = tmp_path_factory.mktemp("config")
    tool = Path(sys.executable).with_name("vapoursynth")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    subprocess.run([tool, "config"], env=environment, capture_output=True, check=True)
    if not (folder / "vapoursynth/vapoursynth.toml").exists():
        pytest.skip("vspipe does not run here: this Python has no shared library")
    return folder


@pytest.fixture
def vspipe(
    vspipe_folder: Path, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs vspipe on the text of a script."""

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        path = tmp_path / "script.vpy"
        path.write_text(script)
        return subprocess.run(
            [Path(sys.executable).with_name("vspipe"), *map(str, arguments), path, "-"],
            env={**os.environ, "XDG_CONFIG_HOME": str(vspipe_folder), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
            timeout=120,
            cwd=tmp_path,
        )

    return run
