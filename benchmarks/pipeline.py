"""What a frame costs outside and inside the network, and how fast a whole film is restored.

    python -m benchmarks.pipeline --sizes 1080p --faces 1 --crops 256 512 --engines none
    python -m benchmarks.pipeline --list

Each cell (size, faces, side of the crops, engine) is measured by itself and kept in
results/pipeline.json, so a run may measure some of them. `none` is an engine that takes no time;
`lite` is the real one, which has crops of 256. In each cell, from the same frames:

- the milliseconds of processor time of each stage, one after the other, in one thread;
- processor time and wall time of all stages side by side, as `restore` runs them, without codecs;
- frames a second of `restore_video` with decoding and encoding (H.264);
- frames a second of a loop of facexlib's FaceRestoreHelper over the same film and engine.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from benchmarks import record
from benchmarks.naive_loop import naive_seconds
from benchmarks.pipeline_scene import SIZES, IdleEngine, scene
from vqfr_media import weights
from vqfr_media.engine import Engine, load_engine
from vqfr_media.faces.detect import RetinaFaceDetector
from vqfr_media.frames import Frame
from vqfr_media.options import EncodeOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.restoration.opencv_threads import opencv_threads_for
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import num_faces, restore_frames
from vqfr_media.windows import in_batches, sliding

DATA = Path(__file__).parents[2] / "shared"
STAGES = (
    "search", "detect", "track", "choose", "align", "encode", "smooth_latents", "decode",
    "smooth_pixels", "blend",
)  # fmt: skip
NETWORK = ("encode", "decode")
WARM_UP = 10


class Clock:
    """Processor time of each stage, frame by frame."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {name: [] for name in STAGES}

    def timed[A, R](self, name: str, work: Callable[[A], R]) -> Callable[[A], R]:
        """Returns `work`, timed under `name`."""

        def run(argument: A) -> R:
            started = time.process_time()
            result = work(argument)
            self.spent[name].append(time.process_time() - started)
            return result

        return run

    def milliseconds(self, name: str) -> float:
        """Returns the mean over the frames after the warm-up: not all of them are alike."""
        return 1000 * float(np.mean(self.spent[name][WARM_UP:]))


def of_each_stage(frames: Sequence[Frame], work: Restorer, faces: int) -> dict[str, float]:
    """Sends the frames through every stage as stream.py does, but in one thread."""
    clock, radii = Clock(), work.radii

    def stage(name: str) -> Callable[[Any], Any]:
        return clock.timed(name, getattr(work, name))

    detected = map(stage("detect"), sliding(map(stage("search"), frames), radii.detect))
    tracked = map(stage("track"), sliding(detected, radii.track))
    chosen = map(stage("choose"), sliding(tracked, radii.choose))
    aligned = map(stage("align"), sliding(chosen, radii.align))
    batch = work.engine.spec.batch_size
    encoded = in_batches(aligned, stage("encode"), size_of=num_faces, batch_size=batch)
    latents = map(stage("smooth_latents"), sliding(encoded, radii.latents))
    decoded = in_batches(latents, stage("decode"), size_of=num_faces, batch_size=batch)
    seen = 0
    for frame_faces in map(stage("smooth_pixels"), sliding(decoded, radii.pixels)):
        seen += len(frame_faces.faces)
        stage("blend")(frame_faces)
    if not 0.9 * faces * len(frames) <= seen <= faces * len(frames):
        raise RuntimeError(f"{faces} faces in each of {len(frames)} frames, but {seen} were found")
    figures = {name: clock.milliseconds(name) for name in STAGES}
    figures["outside the network"] = sum(figures[name] for name in STAGES if name not in NETWORK)
    return figures


def side_by_side(frames: Sequence[Frame], work: Restorer) -> dict[str, float]:
    """Times all stages as they run in a restoration, without codecs, per frame."""
    used, started = time.process_time(), time.perf_counter()
    count = sum(1 for _ in restore_frames(frames, work))
    wall, used = time.perf_counter() - started, time.process_time() - used
    return {"processor": 1000 * used / count, "wall": 1000 * wall / count}


def write_film(path: Path, frames: Sequence[Frame]) -> None:
    """Writes the frames as H.264, 25 a second."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=Fraction(25), options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for frame in frames:
            planes = np.concatenate([plane.ravel() for plane in frame.planes])
            packed = planes.reshape(-1, frame.width)
            picture = av.VideoFrame.from_ndarray(packed, format="yuv420p")
            picture.pts = frame.index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def cell(
    size: str, faces: int, engine: Engine, detector_file: Path, *, frames: int, noise: float
) -> dict[str, Any]:
    """Measures one cell."""
    photographs = sorted((DATA / "data/faces/val").glob("*.jpg"))
    film = list(scene(photographs, size=size, faces=faces, frames=frames, noise=noise))
    detector = RetinaFaceDetector(detector_file, backbone="mobilenet")
    load = os.getloadavg()[0]

    def restorer() -> Restorer:
        return Restorer(engine, detector, RestoreOptions(), Fraction(1, 25), Fraction(25))

    with opencv_threads_for(1):  # as where they run side by side
        by_stage = of_each_stage(film, restorer(), faces)
    figures: dict[str, Any] = {"processor ms by stage": by_stage}
    figures["side by side, ms per frame"] = side_by_side(film, restorer())
    with TemporaryDirectory() as folder:
        source = Path(folder) / "in.mp4"
        write_film(source, film)
        started = time.perf_counter()
        restore_video(
            source,
            Path(folder) / "out.mp4",
            RestoreOptions(encode=EncodeOptions(preset="fast")),
            engine=engine,
            detector=detector,
        )
        figures["whole film, frames a second"] = frames / (time.perf_counter() - started)
        write_film(source, film[:WARM_UP])
        seconds = naive_seconds(source, Path(folder) / "naive.mp4", engine, detector_file.parent)
        figures["facexlib's helper, frames a second"] = 1 / seconds
    return {
        **figures,
        "frames": frames,
        "noise": noise,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load of the machine before": load,
    }


def kept_cells() -> dict[str, Any]:
    """Returns the cells that earlier runs have left."""
    path = record.RESULTS / "pipeline.json"
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.is_file() else {}
    return {name: value for name, value in figures.items() if isinstance(value, dict)}


def cells(chosen: argparse.Namespace) -> Iterator[tuple[str, int, int, str]]:
    """Yields size, faces, side of the crops and engine of each cell; lite has crops of 256 only."""
    for size, faces, crop, engine in itertools.product(
        chosen.sizes, chosen.faces, chosen.crops, chosen.engines
    ):
        if engine == "none" or crop == 256:
            yield size, faces, crop, engine


def main() -> None:
    """Measures the chosen cells, one line each, and keeps them in results/pipeline.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--faces", nargs="+", type=int, choices=(1, 4, 9, 16), default=[1, 4, 16])
    parser.add_argument("--crops", nargs="+", type=int, choices=(256, 512), default=[256, 512])
    parser.add_argument("--engines", nargs="+", choices=("none", "lite"), default=["none", "lite"])
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--noise", type=float, default=2.0, help="grain of the film, 8-bit codes")
    parser.add_argument("--detector", type=Path, help="facexlib's mobilenet checkpoint")
    parser.add_argument("--list", action="store_true", help="only name the cells")
    chosen = parser.parse_args()
    if chosen.frames < 2 * WARM_UP:
        parser.error(f"--frames must be at least {2 * WARM_UP}")
    detector_file = chosen.detector
    for size, faces, crop, name in cells(chosen):
        title = f"{size}, {faces} faces, crops {crop}, {name}, noise {chosen.noise:g}"
        if chosen.list:
            print(title)
            continue
        detector_file = detector_file or weights.find("mobilenet")
        engine: Engine = IdleEngine(crop)
        if name == "lite":
            engine, _ = load_engine(ModelOptions(model="lite"))
        figures = cell(size, faces, engine, detector_file, frames=chosen.frames, noise=chosen.noise)
        record.write("pipeline", {**kept_cells(), title: figures})
        outside = figures["processor ms by stage"]["outside the network"]
        beside = figures["side by side, ms per frame"]
        print(
            f"{title}: outside the network {outside:.1f} ms; side by side {beside['processor']:.1f}"
            f" ms of processor, {beside['wall']:.1f} ms wall;"
            f" film {figures['whole film, frames a second']:.1f} fps,"
            f" facexlib's helper {figures["facexlib's helper, frames a second"]:.1f} fps",
            flush=True,
        )


if __name__ == "__main__":
    main()
