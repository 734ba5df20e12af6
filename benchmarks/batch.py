"""What one process over a folder saves against one `restore` for each of its files.

    python -m benchmarks.batch [--files 12] [--turns 3]
    python -m benchmarks.batch --ray [--turns 3] [--seconds 8]

The folder holds photographs and short films with a face, in equal numbers. Both ways are whole
commands, started again and in turns, with all libraries to import and the engine to load; what is
told is the median of the wall time and of the CPU time, children included. Then the batch is given
again with nothing to do: that is what looking at every file costs.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks import record
from vqfr_media.demo.scene import FRAME_RATE, recorded
from vqfr_media.media.rgb_clip import write_clip, write_picture

FRAMES = 25


def write_folder(folder: Path, count: int) -> list[Path]:
    """Photographs and films of a second, one after the other."""
    pictures = list(recorded(FRAMES))
    paths = []
    for number in range(count):
        path = folder / f"{number:03}{'.png' if number % 2 else '.mp4'}"
        if path.suffix == ".png":
            write_picture(path, pictures[number % FRAMES])
        else:
            write_clip(path, iter(pictures), frame_rate=FRAME_RATE, quality=20)
        paths.append(path)
    return paths


def timed(commands: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns wall and CPU seconds of commands, one after the other."""
    started, before = time.perf_counter(), os.times()
    for arguments in commands:
        subprocess.run(
            [sys.executable, "-m", "vqfr_media", *arguments, "--quiet"],
            check=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {"wall seconds": time.perf_counter() - started, "CPU seconds": cpu}


def median(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Takes the median of each figure by itself."""
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}


RAY = ("--ray", "local", "--ray-workers", "2", "--cpus-per-worker", "1")
WAYS = {
    "one process, two threads": ("2", ("--segment-seconds", "4")),
    "two workers on Ray, a thread each": ("1", ("--segment-seconds", "4", *RAY)),
    "two workers on Ray, segments half as long": ("1", ("--segment-seconds", "2", *RAY)),
}


def compare_with_ray(*, films: int, seconds: int, turns: int) -> None:
    """Films in segments: prints the figures and writes results/batch_ray.json.

    Working time is from the first file's beginning to the last one's end, as batch.json has it: it
    leaves out what a command needs to start, which a season of episodes does not feel.
    """
    folder = Path(tempfile.mkdtemp())
    frames = seconds * FRAMES
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    try:
        (folder / "in").mkdir()
        for number in range(films):
            pictures = recorded(frames)
            write_clip(folder / f"in/{number}.mp4", pictures, frame_rate=FRAME_RATE, quality=20)
        for turn in range(turns):
            for name, (threads, more) in WAYS.items():
                output = folder / f"{turn} {name}"
                os.environ["OMP_NUM_THREADS"] = threads
                values = timed([["batch", str(folder / "in"), str(output), *more]])
                times = [
                    f["times"] for f in json.loads((output / "batch.json").read_text())["files"]
                ]
                started = min(datetime.fromisoformat(t["started"]) for t in times)
                ended = max(datetime.fromisoformat(t["finished"]) for t in times)
                working = (ended - started).total_seconds()
                values |= {"working seconds": working, "frames a second": films * frames / working}
                found[name].append(values)
    finally:
        shutil.rmtree(folder)
    figures = {name: median(runs) for name, runs in found.items()}
    for name, values in figures.items():
        print(f"{name:42}", ", ".join(f"{value:.2f} {what}" for what, value in values.items()))
    one, two, halves = (values["frames a second"] for values in figures.values())
    # Both workers' time, over the segments that there are more of: half a second is read and
    # searched again on each side, and three faces are restored again.
    more_segments = films * (math.ceil(seconds / 2) - math.ceil(seconds / 4))
    each = 2 * films * frames * (1 / halves - 1 / two) / more_segments
    print(f"two workers do {two / one:.2f} times as much; {each:.2f} s of a core for each segment")
    record.write(
        "batch_ray",
        {
            "files": f"{films} films of {frames} frames, 320×240, one face; segments of 4 and 2 s",
            "turns": turns,
            "median of the turns": figures,
            "throughput of two workers over one process": round(two / one, 3),
            "seconds of a core for each segment more": round(each, 3),
        },
    )


def main() -> None:
    """Prints the figures and writes results/batch.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="one process against two workers on Ray")
    parser.add_argument("--seconds", type=int, default=8, help="length of each film, with --ray")
    chosen = parser.parse_args()
    if chosen.ray:
        compare_with_ray(films=2, seconds=chosen.seconds, turns=chosen.turns)
        return
    folder = Path(tempfile.mkdtemp())
    ways: dict[str, list[dict[str, float]]] = {"batch": [], "restore each": [], "batch again": []}
    try:
        inputs = folder / "in"
        inputs.mkdir()
        paths = write_folder(inputs, chosen.files)
        timed([["restore", str(paths[0]), "-o", str(folder / "warm.mp4")]])  # builds the engine
        for _ in range(chosen.turns):
            outputs = folder / "out"
            outputs.mkdir()
            each = [["restore", str(path), "-o", str(outputs / path.name)] for path in paths]
            ways["restore each"].append(timed(each))
            shutil.rmtree(outputs)
            whole = ["batch", str(inputs), str(outputs)]
            ways["batch"].append(timed([whole]))
            ways["batch again"].append(timed([whole]))
            shutil.rmtree(outputs)
    finally:
        shutil.rmtree(folder)
    figures = {name: median(runs) for name, runs in ways.items()}
    for name, values in figures.items():
        print(f"{name:14}", ", ".join(f"{value:.2f} {what}" for what, value in values.items()))
    alone, together = figures["restore each"], figures["batch"]
    saved = {n: round((alone[n] - together[n]) / (chosen.files - 1), 2) for n in alone}
    said = ", ".join(f"{value:.2f} {what}" for what, value in saved.items())
    print(f"saved by each file after the first: {said}")
    record.write(
        "batch",
        {
            "files": f"{chosen.files}: images and films of {FRAMES} frames, 320×240, one face",
            "turns": chosen.turns,
            "median of the turns": figures,
            "saved by each file after the first": saved,
        },
    )


if __name__ == "__main__":
    main()
