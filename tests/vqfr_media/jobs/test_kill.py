"""Long jobs killed by the system at random moments, as in a power cut, and resumed each time."""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.scenes import write_scene
from tests.vqfr_media.jobs.inverted import restore

RESTORE = """
import sys
from pathlib import Path
from tests.vqfr_media.jobs.inverted import restore

restore(
    Path(sys.argv[1]),
    Path(sys.argv[2]),
    on_resume=lambda count: print("resumed", count, flush=True),
    on_frame=lambda frame: print("frame", frame.index, flush=True),
)
print("done", flush=True)
"""


def start(source: Path, output: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RESTORE, source, output],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("frames", "kills", "seed"),
    [(120, 2, 1), pytest.param(600, 10, 2, marks=pytest.mark.slow)],
)
def test_killed_at_random_moments(tmp_path: Path, frames: int, kills: int, seed: int) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=frames, codec="libx264", cut=frames // 3)
    restore(source, tmp_path / "whole.mp4")
    rng = random.Random(seed)
    output = tmp_path / "killed.mp4"
    done = 0
    resumed: list[int] = []
    for kill in range(kills):
        with start(source, output) as process:
            assert process.stdout is not None
            # Of what is left, a share that leaves work for those who come after.
            target = rng.randint(1, max(1, 2 * (frames - done) // (kills - kill + 1)))
            if kill == kills - 1 and not resumed:  # two segments and what the encoder holds back
                target = max(target, 60)
            seen = 0
            for line in process.stdout:
                word, number = line.split()
                if word == "resumed":
                    resumed.append(int(number))
                    done = int(number)
                    target = min(target, max(1, (frames - done) // 2))  # it must not finish
                else:
                    seen += 1
                if seen >= target:
                    break
            time.sleep(rng.random() * 0.1)
            process.kill()
        assert process.returncode == -9
        assert not output.exists()
    restore(source, output, on_resume=resumed.append)
    assert resumed, "no kill came after the first segment"
    assert resumed == sorted(resumed)
    one, other = (hashlib.sha256(path.read_bytes()) for path in (output, tmp_path / "whole.mp4"))
    assert one.digest() == other.digest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "killed.mp4", "whole.mp4"]


MEASURE = """
import resource, sys
exec(sys.stdin.read())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_segments(tmp_path: Path) -> None:
    peaks = []
    for frames in (75, 600):
        source = write_scene(tmp_path / f"{frames}.mp4", frames=frames, codec="libx264")
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, source, tmp_path / f"out{frames}.mp4"],
            input=RESTORE,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.05 * peaks[0], peaks
