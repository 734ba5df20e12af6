"""What cutting a long video into segments costs: faces computed twice, time, bytes.

    python -m benchmarks.segments

Overlap is a matter of counting: an engine that counts its faces works one segment from the middle
of a film with one face in each frame. Time and bytes are those of a made 360p film at 25 frames a
second, without faces and thus without the network: what is left is what a segment costs.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks import record
from vqfr_media.frames import Frame, PixelFormat
from vqfr_media.jobs.segments import DEFAULT_SECONDS, Job, restore_segments
from vqfr_media.jobs.work_folder import segment_name
from vqfr_media.media.index import index_packets
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import write_clip
from vqfr_media.media.write import open_writer
from vqfr_media.options import RestoreOptions
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames
from vqfr_media.values import EngineSpec, Face

WIDTH, HEIGHT, FRAMES, RATE = 640, 360, 200, 25
LENGTHS = (25, 50)
SECONDS = (1, 2, 5, 10, 20, 60)


class CountingEngine:
    """Gives crops back, and counts them."""

    spec = EngineSpec(
        model="none", size=64, latent_shape=(1, 1, 1), batch_size=1, precision="float32",
        device="cpu", has_fidelity=False,
    )  # fmt: skip

    def __init__(self) -> None:
        self.encoded = self.decoded = 0

    def encode(self, crops: Tensor) -> Tensor:
        """Returns zeros."""
        self.encoded += len(crops)
        return torch.zeros(len(crops), 1, 1, 1)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """Returns the crops."""
        del latents, fidelity
        self.decoded += len(crops)
        return crops


class CountingDetector:
    """Sees `faces` faces in each picture, and counts the pictures."""

    def __init__(self, faces: int) -> None:
        self.faces, self.pictures = faces, 0

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Returns a face in the middle."""
        del image
        self.pictures += 1
        points = np.array([[38, 40], [58, 40], [48, 52], [40, 62], [56, 62]], float)
        face = Face(np.array([28, 20, 68, 76], float), points, 0.99)
        return [face] * self.faces

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        """Returns the same."""
        del known
        return self(image)


def share(frames: int, rate: Fraction) -> dict[str, float]:
    """Computes what a segment of so many frames, worked alone, works beside its own, as shares."""
    pixel_format = PixelFormat(family="gray", full_range=True)
    engine, detector = CountingEngine(), CountingDetector(1)
    restorer = Restorer(engine, detector, RestoreOptions(), 1 / rate, rate)
    radius = restorer.radii.total
    plane = np.full((96, 96), 90, np.uint8)
    read = (Frame(i, i, (plane,), pixel_format) for i in range(frames + 2 * radius))
    wanted = range(radius, radius + frames)
    if sum(1 for _ in restore_frames(read, restorer, wanted=wanted)) != frames:
        raise RuntimeError("a segment lost frames")
    return {
        "faces": max(engine.encoded, engine.decoded) / frames - 1,
        "pictures searched": detector.pictures / frames - 1,
    }


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """Returns a soft noisy picture that drifts."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    noise = rng.normal(0, 4, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
    for index in range(FRAMES):
        waves = np.stack(
            [np.sin((x + 2 * index) / (40 + 9 * c)) + np.cos((y - index) / (30 + 7 * c))
             for c in range(3)], axis=2,
        )  # fmt: skip
        yield (120 + 40 * waves + noise[index % 8]).clip(0, 255).astype(np.uint8)


def timed(source: Path, length: int, folder: Path, *, alone: bool) -> tuple[float, int]:
    """Measures CPU seconds, and bytes of packets, of the film in segments of `length` frames."""
    output = folder / "out.mp4"
    with open_video(source) as reader:
        info = reader.info
    index = index_packets(source)
    if index is None:
        raise RuntimeError("the film has no index")
    options = RestoreOptions()
    with open_writer(output, source, info, options.encode, threads=3) as writer:
        extradata = writer.extradata
        with open_video(source) as reader:
            writer.write(next(iter(reader)))
    stat = source.stat()
    job = Job(
        source=source, size=stat.st_size, modified_ns=stat.st_mtime_ns, output=output, info=info,
        options=options, index=index, length=length, threads=3, extradata=extradata,
    )  # fmt: skip
    numbers = range(job.count)
    started = time.process_time()
    for run in [range(n, n + 1) for n in numbers] if alone else [numbers]:
        for _ in restore_segments(
            job, run, folder, engine=CountingEngine(), detector=CountingDetector(0)
        ):
            pass
    seconds = time.process_time() - started
    return seconds, sum((folder / segment_name(number)).stat().st_size for number in numbers)


def main() -> None:
    """Prints the tables and writes results/segments.json."""
    shares = {
        f"{seconds:g} s at {rate} fps": share(int(seconds * rate), Fraction(rate))
        for rate in (10, 25, 60)
        for seconds in (SECONDS if rate == RATE else (DEFAULT_SECONDS,))
    }
    for name, values in shares.items():
        said = ", ".join(f"{100 * value:.2f} % more {what}" for what, value in values.items())
        print(f"{name:20}{said}")
    costs: dict[str, dict[str, float]] = {}
    folder = Path(tempfile.mkdtemp())
    try:
        source = folder / "film.mp4"
        write_clip(source, pictures(), frame_rate=Fraction(RATE), quality=18)
        timed(source, FRAMES, folder, alone=False)  # warm
        for length in (*LENGTHS, FRAMES):
            together, size = timed(source, length, folder, alone=False)
            alone, _ = timed(source, length, folder, alone=True)
            count = FRAMES // length
            costs[f"{length} frames"] = {
                "segments": count, "bytes": size,
                "CPU seconds in one process": together, "CPU seconds each alone": alone,
            }  # fmt: skip
            print(
                f"{count:3} segments of {length:3} frames: {together:6.2f} CPU s in one process, "
                f"{alone:6.2f} s each alone, {size:9} bytes"
            )
    finally:
        shutil.rmtree(folder)
    figures = {
        "default seconds": DEFAULT_SECONDS,
        "share computed twice": shares,
        "film": f"{WIDTH}×{HEIGHT}, {FRAMES} frames, {RATE} fps, no face",
        "cost": costs,
    }
    record.write("segments", figures)


if __name__ == "__main__":
    main()
