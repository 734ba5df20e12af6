"""Frames per second through vspipe and by the command, on the same clip with the same engine.

    python -m benchmarks.vapoursynth [CLIP.mp4]

Both are whole processes, started again for each run, in turns; each says itself how long its frames
took, without start-up and model loading. Neither encodes: the command's frames are counted and
dropped, vspipe writes to nowhere.
"""

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


def main() -> None:
    """Prints the table and writes results/vapoursynth.json."""
    clip = Path(sys.argv[1]) if len(sys.argv) > 1 else CLIP
    runs: dict[str, list[float]] = {"command": [], "vspipe, 1 stream": [], "vspipe, 2 streams": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        through_vspipe(clip, folder, 1)  # makes the source's index, which is kept
        for _ in range(ROUNDS):
            runs["command"].append(by_command(clip))
            runs["vspipe, 1 stream"].append(through_vspipe(clip, folder, 1))
            runs["vspipe, 2 streams"].append(through_vspipe(clip, folder, 2))
    figures: dict[str, float | list[float]] = {"frames": FRAMES}
    for name, speeds in runs.items():
        figures[f"{name}, fps"] = statistics.median(speeds)
        figures[f"{name}, every run"] = speeds
        print(f"{name:20}{statistics.median(speeds):8.2f} fps   {speeds}")
    ratio = statistics.median(runs["vspipe, 1 stream"]) / statistics.median(runs["command"])
    figures["vspipe over command"] = ratio
    print(f"vspipe over command {ratio:.3f}")
    record.write("vapoursynth", figures)


if __name__ == "__main__":
    main()
