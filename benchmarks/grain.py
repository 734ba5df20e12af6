"""The film's grain on a restored face: as strong as around it, with no ring, for its cost.

    python -m benchmarks.grain CLIP [--frames 24]

Adds grain of known strength and size to the frames of CLIP (a clean one with a face), stores them
lossless and as H.264, restores them with lite with and without `--grain`, and measures noise: what
is new between neighbouring frames (median absolute deviation, so that what moves counts little), in
the face, in the transition of the mask, and around it. Prints a table, writes results/grain.json.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import record
from vqfr_media.faces.blend import masks
from vqfr_media.frames import Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import BlendOptions, FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import FrameFaces, RestoredFace

# Zones by the mask: from, to.
ZONES = {"face": (0.97, 1.01), "ring": (0.25, 0.97), "edge": (0.01, 0.25)}
AROUND = 12  # samples outside of the mask

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Film:
    """A kind of grainy film."""

    name: str
    sigma: float
    """Standard deviation of luma in 8-bit levels; chroma has half of it."""
    size: float
    """Sigma of the Gaussian that makes the grain coarse, in samples."""
    codec: str = "ffv1"
    crf: int | None = None


FILMS = (
    Film("fine grain", 9.8, 0.0),
    Film("coarse grain", 9.8, 0.8),
    Film("weak grain", 3.0, 0.6),
    Film("H.264, crf 18", 6.0, 0.6, "libx264", 18),
    Film("no grain", 0.0, 0.0),
)


def make(clip: Path, film: Film, count: int, target: Path) -> None:
    """Writes the first `count` frames of `clip` with grain."""
    rng = np.random.default_rng(1)
    with av.open(str(clip)) as source, av.open(str(target), "w") as output:
        shown = source.streams.video[0]
        rate = shown.average_rate or Fraction(25)
        stream: Any = output.add_stream(film.codec, rate=rate)
        stream.width, stream.height = shown.width, shown.height
        stream.pix_fmt = "yuv420p"
        if film.crf is not None:
            stream.options = {"crf": str(film.crf)}
        for number, frame in enumerate(islice(source.decode(video=0), count)):
            planes = frame.reformat(format="yuv420p").to_ndarray()
            noise = np.asarray(rng.standard_normal(planes.shape), np.float32)
            if film.size:
                noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), film.size), np.float32)
                noise /= noise.std()
            noise[frame.height :] *= 0.5
            grainy = np.asarray(np.clip(np.rint(planes + film.sigma * noise), 0, 255), np.uint8)
            picture = av.VideoFrame.from_ndarray(grainy, format="yuv420p")
            picture.pts, picture.time_base = number, 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def restore(
    path: Path, ready: Prepared, options: RestoreOptions
) -> tuple[list[tuple[Frame, FrameFaces[RestoredFace]]], float]:
    """Returns the restored frames and the seconds of processor time for each."""
    with open_video(path) as reader:
        info = reader.info
        work = Restorer(ready.engine, ready.detector, options, info.time_base, info.frame_rate)
        begin = time.process_time()
        done = list(restore_frames(reader, work))
    return done, (time.process_time() - begin) / len(done)


def new_noise(frame: Plane, before: Plane) -> Plane:
    """What is new in a frame, but for changes of light; of a frame, not of two."""
    change = (frame - before) / np.float32(np.sqrt(2))
    return np.asarray(change - cv2.blur(change, (21, 21)), np.float32)


def noise_by_zone(done: list[tuple[Frame, FrameFaces[RestoredFace]]]) -> dict[str, float]:
    """Returns the mean noise of luma in each zone, in 8-bit levels."""
    seen: dict[str, list[float]] = {name: [] for name in (*ZONES, "around")}
    for (before, _), (frame, frame_faces) in pairwise(done):
        if frame_faces.new_shot or not frame_faces.faces:
            continue
        noise = np.abs(new_noise(*(f.planes[0].astype(np.float32) for f in (frame, before))))
        mask = masks(frame_faces.frame, frame_faces.faces)[0]
        kernel = np.ones((2 * AROUND + 1,) * 2, np.uint8)
        near = cv2.dilate((mask > 0).astype(np.uint8), kernel) > 0
        zones = {name: (mask > low) & (mask <= high) for name, (low, high) in ZONES.items()}
        for name, zone in {**zones, "around": near & (mask == 0)}.items():
            seen[name].append(1.4826 * float(np.median(noise[zone])))
    return {name: float(np.mean(values)) for name, values in seen.items()}


def main() -> None:
    """Measures every kind of film and prints and writes the figures."""
    parser = argparse.ArgumentParser(description="Grain on restored faces.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    arguments = parser.parse_args()
    chosen = RestoreOptions(
        model=ModelOptions(model="lite", device="cpu"), face=FaceOptions(detector="bundled")
    )
    ready = prepare(chosen, None, None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for film in FILMS:
            path = Path(folder) / "film.mkv"
            make(arguments.clip, film, arguments.frames, path)
            for grain in (0.0, 1.0):
                options = RestoreOptions(
                    model=chosen.model, face=chosen.face, blend=BlendOptions(grain=grain)
                )
                done, seconds = restore(path, ready, options)
                zones = noise_by_zone(done)
                rows.append({"film": film.name, "grain": grain, **zones, "seconds": seconds})
    print(f"{'film':<15}{'grain':>6}" + "".join(f"{n:>8}" for n in (*ZONES, "around", "ms")))
    for row in rows:
        figures = "".join(f"{row[name]:8.2f}" for name in (*ZONES, "around"))
        print(f"{row['film']:<15}{row['grain']:>6}{figures}{1000 * row['seconds']:8.0f}")
    print(record.write("grain", {"clip": arguments.clip.name, "rows": rows}))


if __name__ == "__main__":
    main()
