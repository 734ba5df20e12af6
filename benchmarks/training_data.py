"""How fast training samples are prepared: images per second and core at 512 px.

    python -m benchmarks.training_data FACES [IMAGES]

FACES holds train/ photographs. Counts the time of this process's own work (CPU seconds), so that
what else the machine does is left out, and beside it the wall clock with one and two threads.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.degradation import Degradation
from vqfr_training.data.photographs import Augmentation, Photographs, batches, pair
from vqfr_training.data.sources import locate_pictures, write_shards
from vqfr_training.lite_recipes import video_degradation

from benchmarks import record

SIZE = 512
BATCH = 4


def per_core(work: Callable[[int], object], images: int) -> float:
    """Calls of `work` per second of CPU time."""
    work(0)
    began = time.process_time()
    for number in range(images):
        work(number)
    return images / (time.process_time() - began)


def filled(folder: Path, photographs: Photographs, count: int) -> Path:
    """Returns a data set as FFHQ is: pictures at the working size that the template fills."""
    (folder / "train").mkdir(parents=True)
    for number in range(count):
        levels = np.rint(photographs.plain(number) * 255).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "train" / f"{number:05d}.png"), levels[..., ::-1])
    return folder


def with_threads(photographs: Photographs, workers: int, images: int) -> float:
    """Returns images per second of the wall clock."""
    steps = images // BATCH
    began = time.perf_counter()
    stream = batches(
        photographs,
        first_step=0,
        steps=steps,
        batch=BATCH,
        seed=0,
        augmentation=flips_only(),
        degradation=Degradation(),
        workers=workers,
    )
    for _ in stream:
        pass
    return steps * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Prints the table and writes results/training_data.json."""
    cv2.setNumThreads(1)
    source = Photographs(Path(sys.argv[1]) / "train", size=SIZE)
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    damages: dict[str, Degradation | None] = {
        "no degradation (stage 1)": None,
        "the paper's": Degradation(),
        "the paper's + H.264": replace(Degradation(), h264=1.0),
        "video_degradation": video_degradation(),
    }
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = filled(Path(folder) / "plain", source, 32)
        write_shards(locate_pictures(data / "train"), Path(folder) / "shards", name="train")
        kept = Photographs(data / "train", size=SIZE)
        sources = {
            "in memory": kept,
            "PNG files": Photographs(data / "train", size=SIZE, keep_mib=0),
            "PNG in shards": Photographs(Path(folder) / "shards" / "train", size=SIZE, keep_mib=0),
        }

        def measure(name: str, photographs: Photographs, config: Augmentation, damage: str) -> None:
            figures[f"per core, {name}"] = per_core(
                lambda index: pair(
                    photographs,
                    index,
                    seed=0,
                    augmentation=config,
                    degradation=damages[damage],
                ),
                images,
            )

        for damage in damages:
            measure(f"in memory, flips, {damage}", kept, flips_only(), damage)
        for name, photographs in list(sources.items())[1:]:
            measure(f"{name}, flips, the paper's", photographs, flips_only(), "the paper's")
        measure(
            "in memory, strong augmentation, the paper's", source, Augmentation(), "the paper's"
        )
        for workers in (1, 2):
            figures[f"wall clock, {workers} threads"] = with_threads(kept, workers, images)
    for name, value in figures.items():
        print(f"{name:60} {value:7.1f} images/s")
    record.write("training_data", {"size": SIZE, "images_per_second": figures})


if __name__ == "__main__":
    main()
