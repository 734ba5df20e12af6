"""A recipe under torchrun: two ranks do what one does with the same batch, and one writes."""

import subprocess
import sys
from pathlib import Path

import pytest
from vqfr_training.loop import load_averaged

from tests.paths import ROOT
from tests.vqfr_training.logs import losses


def train(world_size: int, data: Path, out: Path, *more: str, recipe: str = "smoke_stage1") -> str:
    """Runs the recipe under torchrun; what it said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += [
        str(world_size),
        "-m",
        "vqfr_training",
        recipe,
        "--data",
        str(data),
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [*command, "--threads", "1", *more],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one(drawn_faces: Path, tmp_path: Path) -> None:
    train(1, drawn_faces, tmp_path / "one")
    said = train(2, drawn_faces, tmp_path / "two")
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in two] == [line["step"] for line in one]  # written once
    assert said.count("step 30: ") == 1
    # From the tenth step on the codes are k-means centres: a look-up that falls the other way makes
    # a difference that grows. Discriminators see the batch's spread, which is each rank's own.
    for mine, whole in zip(two[:10], one[:10], strict=True):
        for name in ("total", "pixel", "gradient", "norm"):
            assert mine[name] == pytest.approx(whole[name], rel=1e-4), (mine["step"], name)
    distances = [
        line["kmeans_distance"]
        for lines in (one, two)
        for line in lines[:12]
        if "kmeans_distance" in line
    ]
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)  # from the latents of both
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {path.name for path in (tmp_path / "two").iterdir()} == names
    shapes = [
        {n: tuple(v.shape) for n, v in load_averaged(tmp_path / r).items()} for r in ("one", "two")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(drawn_faces: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a batch of 2 cannot be shared evenly among 3 ranks"):
        train(3, drawn_faces, tmp_path / "three")
