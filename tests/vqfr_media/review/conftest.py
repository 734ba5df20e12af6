"""A report of a real, short restoration, for the tests that read it and those that look at it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vqfr_media import cli
from vqfr_media.demo import scene
from vqfr_media.media.rgb_clip import write_clip

FRAMES = 7
# What a page must not take for markup, in names of files that people do have.
NAME = "a <b>\"quoted\" & 'odd' film é中.mp4"


@dataclass(frozen=True)
class MadeReport:
    """Where everything lies."""

    folder: Path
    source: Path
    restored: Path
    tracks: Path
    restore_report: Path
    page: Path
    figures: Path


def run(*arguments: object) -> int:
    """Runs the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="package")
def made_report(tmp_path_factory: pytest.TempPathFactory) -> MadeReport:
    """The demo's film restored in part, its tracks, and the report, all made by the commands."""
    folder = tmp_path_factory.mktemp("report")
    source = folder / NAME
    made = MadeReport(
        folder=folder,
        source=source,
        restored=folder / "restored.mp4",
        tracks=folder / "tracks.json",
        restore_report=folder / "restore.json",
        page=folder / "report.html",
        figures=folder / "figures.json",
    )
    # The astronaut twice, the second time in a mirror.
    pictures = (np.hstack([one, one[:, ::-1]]) for one in scene.recorded(FRAMES))
    write_clip(source, pictures, frame_rate=scene.FRAME_RATE, quality=scene.CRF)
    found = ("--detector", "bundled", "--offline", "--quiet")
    assert run("tracks", source, "-o", made.tracks, *found) == 0
    # The one on the left is restored, and nothing else that looks like a face.
    values = json.loads(made.tracks.read_text(encoding="utf-8"))
    middle = np.mean([scene.face_box(0)[0], scene.face_box(0)[2]])
    for track in values["tracks"]:
        x0, _, x1, _ = track["faces"][0]["box"]
        track["enabled"] = bool(abs((x0 + x1) / 2 - middle) < 30)
    made.tracks.write_text(json.dumps(values), encoding="utf-8")
    assert [track["enabled"] for track in values["tracks"]].count(True) == 1
    assert len(values["tracks"]) >= 2
    words = ("--tracks", made.tracks, "--report", made.restore_report, "--model", "lite")
    assert run("restore", source, "-o", made.restored, *words, "--backend", "torch", "--quiet") == 0
    report = ("-o", made.page, "--restore-report", made.restore_report, "--json", made.figures)
    assert run("report", source, made.restored, *report, *found) == 0
    return made
