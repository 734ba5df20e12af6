"""Milliseconds per 1080p frame of each stage but the codecs, one face in it.

    python -m benchmarks.pipeline [FACE.jpg]

The scene is made here: a photograph of a face, 400 pixels high, drifts over a soft background, in
4:2:0. The same frames go through facexlib's own detection at full size, in the same run.
"""

import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import record
from vqfr_media import weights
from vqfr_media.engine import load_engine
from vqfr_media.faces.detect import RetinaFaceDetector
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.media.colour import from_rgb
from vqfr_media.media.image import read_image
from vqfr_media.options import ModelOptions, RestoreOptions
from vqfr_media.pipeline import num_faces
from vqfr_media.restoration.restore import Restorer
from vqfr_media.windows import in_batches, sliding

WIDTH, HEIGHT, FRAMES, WARM_UP = 1920, 1080, 60, 15
STAGES = (
    "detect",
    "track",
    "choose",
    "align",
    "encode",
    "smooth latents",
    "decode",
    "smooth pixels",
    "blend",
)
NETWORK = ("encode", "decode")
FACES = Path(__file__).parents[2] / "shared/data/faces/val"


def scene(photograph: Path) -> Iterator[Frame]:
    """Returns `FRAMES` frames with one drifting face."""
    frame, _ = read_image(photograph)
    green, blue, red = frame.planes
    face = np.stack([red, green, blue], axis=2).astype(np.float32)
    rng = np.random.default_rng(0)
    coarse = rng.uniform(60, 160, (9, 16, 3)).astype(np.float32)
    background = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixel_format = PixelFormat(family="yuv", subsampling=(1, 1))
    for index in range(FRAMES):
        shift = np.array([[0.85, 0, 700 + 1.7 * index], [0, 0.85, 200 + 0.6 * index]])
        picture = cv2.warpAffine(
            face,
            shift,
            (WIDTH, HEIGHT),
            dst=background.copy(),
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        noisy = (picture + rng.normal(0, 2, picture.shape)) / 255
        y, u, v = from_rgb(noisy.astype(np.float32), pixel_format)
        half = (WIDTH // 2, HEIGHT // 2)
        halves = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (u, v)]
        planes = tuple(np.rint(p).clip(0, 255).astype(np.uint8) for p in (y, *halves))
        yield Frame(index, index, planes, pixel_format)


class Clock:
    """Adds up the time spent in each stage, frame by frame."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {name: [] for name in STAGES}

    def timed[A, R](self, name: str, work: Callable[[A], R]) -> Callable[[A], R]:
        """Returns `work`, timed under `name`."""

        def run(argument: A) -> R:
            started = time.perf_counter()
            result = work(argument)
            self.spent[name].append(time.perf_counter() - started)
            return result

        return run

    def milliseconds(self, name: str) -> float:
        """Returns the median over the frames after the warm-up."""
        return 1000 * float(np.median(self.spent[name][WARM_UP:]))


def run(frames: list[Frame], restorer: Restorer) -> Clock:
    """Sends the frames through every stage, as stream.py does but in one thread."""
    clock, t = Clock(), restorer
    detected = map(clock.timed("detect", t.detect), frames)
    tracked = map(clock.timed("track", t.track), sliding(detected, t.radii.track))
    chosen = map(clock.timed("choose", t.choose), sliding(tracked, t.radii.choose))
    aligned = map(clock.timed("align", t.align), sliding(chosen, t.radii.align))
    encoded = in_batches(aligned, clock.timed("encode", t.encode), size_of=num_faces, batch_size=1)
    latents = map(
        clock.timed("smooth latents", t.smooth_latents), sliding(encoded, t.radii.latents)
    )
    decoded = in_batches(latents, clock.timed("decode", t.decode), size_of=num_faces, batch_size=1)
    finished = map(clock.timed("smooth pixels", t.smooth_pixels), sliding(decoded, t.radii.pixels))
    faces = 0
    for frame_faces in finished:
        faces += len(frame_faces.faces)
        clock.timed("blend", t.blend)(frame_faces)
    if faces != FRAMES:
        raise RuntimeError(f"the scene has one face in each of {FRAMES} frames, found {faces}")
    return clock


def facexlib_milliseconds(frame: Frame, weights_file: Path) -> float:
    """Times facexlib's own detection on the full frame."""
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace("mobile0.25", half=False, device="cpu")
    state = torch.load(weights_file, map_location="cpu", weights_only=True)
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    network.eval()
    picture = np.repeat(frame.planes[0][..., None], 3, axis=2)
    times = []
    with torch.inference_mode():
        for _ in range(5):
            started = time.perf_counter()
            network.detect_faces(picture, 0.8)
            times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def main() -> None:
    """Prints the table and writes results/pipeline.json."""
    photograph = Path(sys.argv[1]) if len(sys.argv) > 1 else min(FACES.glob("*.jpg"))
    frames = list(scene(photograph))
    detector_file = weights.find("mobilenet")
    detector = RetinaFaceDetector(detector_file, backbone="mobilenet")
    engine, _ = load_engine(ModelOptions(model="lite"))
    options = RestoreOptions()
    restorer = Restorer(engine, detector, options, Fraction(1, 25), Fraction(25))
    clock = run(frames, restorer)
    figures = {name: clock.milliseconds(name) for name in STAGES}
    figures["all but the network"] = sum(figures[name] for name in STAGES if name not in NETWORK)
    figures["facexlib detection alone"] = facexlib_milliseconds(frames[0], detector_file)
    for name, value in figures.items():
        print(f"{name:26}{value:8.1f} ms")
    record.write("pipeline", figures)


if __name__ == "__main__":
    main()
