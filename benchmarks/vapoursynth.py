"""Frames per second through vspipe and by the command, and what a seek in an editor costs.

    python -m benchmarks.vapoursynth [CLIP.mp4] [--seeks-only]

The first two are whole processes, started again for each run, in turns; each says itself how long
its frames took, without start-up and model loading. Neither encodes: the command's frames are
counted and dropped, vspipe writes to nowhere. A seek is one frame asked for far from those before
it, with one thread of VapourSynth: with the defaults, with only the radii 0, and with
`preview=True`. Its processor time is told; the first frame, which loads the engine, is left out.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import record

CLIP = Path(__file__).parents[2] / "shared/data/clips/duo_lq.mp4"
ROUNDS = 3
FRAMES = 40

COMMAND = """
import itertools, sys, time
from vqfr_media.engine import load_engine
from vqfr_media.media.read import open_video
from vqfr_media.options import ModelOptions, RestoreOptions
from vqfr_media.pipeline import READ_AHEAD, restore_frames
from vqfr_media.prepare import prepare
from vqfr_media.restoration.restore import Restorer
from vqfr_media.windows import prefetch

options = RestoreOptions(model=ModelOptions(model="lite", device="cpu"))
ready = prepare(options, None, None)
with open_video(sys.argv[1]) as reader:
    info = reader.info
    work = Restorer(ready.engine, ready.detector, options, info.time_base, info.frame_rate)
    started = time.perf_counter()
    with (
        prefetch(itertools.islice(reader, int(sys.argv[2])), READ_AHEAD) as frames,
        prefetch(restore_frames(frames, work), READ_AHEAD) as restored,
    ):
        count = sum(1 for _ in restored)
    print(count / (time.perf_counter() - started))
"""

SCRIPT = """
import vapoursynth as vs
from vqfr_media.vapoursynth import vqfr

clip = vs.core.bs.VideoSource({clip!r}, cachepath={index!r})[:{frames}]
vqfr(clip, model="lite", device_index=-1, num_streams={streams}).set_output()
"""


SEEK = """
import json, sys, time
import vapoursynth as vs
from vqfr_media.vapoursynth import vqfr

vs.core.num_threads = 1
source = vs.core.bs.VideoSource(sys.argv[1], cachepath=sys.argv[2])
clip = vqfr(source, model="lite", device_index=-1, detector="bundled", **json.loads(sys.argv[3]))
clip.get_frame(0).close()
for number in (80, 40, 120, 60, 100, 20):
    started = time.process_time()
    clip.get_frame(number).close()
    print(time.process_time() - started)
"""

SEEKS: dict[str, dict[str, object]] = {
    "defaults": {},
    "radii 0": {"landmarks_radius": 0, "latent_radius": 0, "pixel_radius": 0, "grain": 0},
    "preview": {"preview": True},
}


def seeks(clip: Path, folder: Path, options: dict[str, object]) -> list[float]:
    """Returns the processor time of each of some frames far apart, in seconds."""
    done = subprocess.run(
        [sys.executable, "-c", SEEK, clip, folder / "index", json.dumps(options)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(line) for line in done.stdout.split()]


def by_command(clip: Path) -> float:
    """Returns frames per second of the pipeline as `restore_video` runs it, without its encoder."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, clip, str(FRAMES)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def through_vspipe(clip: Path, folder: Path, streams: int) -> float:
    """Returns frames per second that vspipe reports."""
    script = folder / "script.vpy"
    text = SCRIPT.format(
        clip=str(clip), index=str(folder / "index"), streams=streams, frames=FRAMES
    )
    script.write_text(text)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    tools = Path(sys.executable).parent
    subprocess.run([tools / "vapoursynth", "config"], env=environment, check=True,
                   capture_output=True)  # fmt: skip
    done = subprocess.run(
        [tools / "vspipe", script, "--"],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"\(([\d.]+) fps\)", done.stderr)
    if found is None:
        raise RuntimeError(f"vspipe did not say how fast it was: {done.stderr}")
    return float(found[1])


def speeds(clip: Path, folder: Path) -> dict[str, float | list[float]]:
    """Returns the frames per second of the command and of vspipe, every run and the median."""
    runs: dict[str, list[float]] = {"command": [], "vspipe, 1 stream": [], "vspipe, 2 streams": []}
    through_vspipe(clip, folder, 1)  # makes the source's index, which is kept
    for _ in range(ROUNDS):
        runs["command"].append(by_command(clip))
        runs["vspipe, 1 stream"].append(through_vspipe(clip, folder, 1))
        runs["vspipe, 2 streams"].append(through_vspipe(clip, folder, 2))
    figures: dict[str, float | list[float]] = {"frames": FRAMES}
    for name, measured in runs.items():
        figures[f"{name}, fps"] = statistics.median(measured)
        figures[f"{name}, every run"] = measured
        print(f"{name:20}{statistics.median(measured):8.2f} fps   {measured}")
    ratio = statistics.median(runs["vspipe, 1 stream"]) / statistics.median(runs["command"])
    figures["vspipe over command"] = ratio
    print(f"vspipe over command {ratio:.3f}")
    return figures


def main() -> None:
    """Prints the tables and writes results/vapoursynth.json and results/vapoursynth_seeks.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clip", nargs="?", type=Path, default=CLIP)
    parser.add_argument("--seeks-only", action="store_true", help="leave out the frames per second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, float | list[float]] = {}
        for what, options in SEEKS.items():
            measured = seeks(given.clip, folder, options)
            figures[f"{what}, seconds"] = statistics.median(measured)
            figures[f"{what}, every frame"] = measured
            told = " ".join(f"{seconds:.2f}" for seconds in measured)
            print(f"seek, {what:14}{statistics.median(measured):8.2f} s     {told}")
        record.write("vapoursynth_seeks", figures)
        if not given.seeks_only:
            record.write("vapoursynth", speeds(given.clip, folder))


if __name__ == "__main__":
    main()
