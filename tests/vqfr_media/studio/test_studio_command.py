"""`vqfr-media studio` as it is typed: it says where its page is, and ends by Ctrl-C."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.paths import ROOT
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.studio.session import StudioSession


def test_it_serves_until_ctrl_c(found_session: StudioSession, tmp_path: Path) -> None:
    source = found_session.files.source
    write_tracks(tmp_path / "tracks.json", found_session.tracks)
    command = [sys.executable, "-c", "from vqfr_media.cli import main; main()", "studio", source,
               "--tracks", tmp_path / "tracks.json", "--no-browser", "--backend", "torch",
               "--offline"]  # fmt: skip
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            said = [running.stdout.readline().strip() for _ in range(2)]
            assert said[0] == "Ctrl-C ends the studio; the page is at"
            assert said[1].startswith("http://127.0.0.1:")
            with urllib.request.urlopen(said[1], timeout=60) as answer:  # noqa: S310 - our own
                assert b"<title>Studio</title>" in answer.read()
            running.send_signal(signal.SIGINT)
            out, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    name = f"{source.stem}.tracks.json"
    assert out == f"the studio has ended; {name} was not written\n"
    assert errors == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tracks.json"]
