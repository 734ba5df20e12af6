"""The scripts in docs/vapoursynth.md: they run, and the page shows them as they are."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.scenes import write_scene
from tests.stand_ins import MarkerDetector
from vqfr_media import weights
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.restoration.find_tracks import find_tracks

SCRIPTS = sorted((ROOT / "docs/scripts").glob("*.vpy"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs(
    path: Path,
    shared: Path,
    tmp_path: Path,
    vspipe: Callable[..., subprocess.CompletedProcess[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert f"```python\n{path.read_text()}```" in (ROOT / "docs/vapoursynth.md").read_text()
    monkeypatch.setenv(weights.VARIABLE, str(shared / "weights"))
    source, tracks = tmp_path / "in.mkv", tmp_path / "tracks.json"
    write_scene(source, frames=3)
    write_tracks(tracks, find_tracks(source, detector=MarkerDetector()))
    values = json.loads(tracks.read_text())
    values["tracks"][0]["enabled"] = False
    tracks.write_text(json.dumps(values))
    arguments = ["-c", "y4m", "-a", f"source={source}", "-a", f"tracks={tracks}", "-e", "1"]
    done = vspipe(path.read_text(), *arguments)
    assert done.returncode == 0, done.stderr.decode()
    wide = b"W640 H384" if path.name == "background.vpy" else b"W320 H192"
    assert done.stdout.startswith(b"YUV4MPEG2 C420 " + wide), done.stdout[:60]
    assert done.stdout.count(b"FRAME\n") == 2


def test_there_are_three() -> None:
    assert len(SCRIPTS) == 3
