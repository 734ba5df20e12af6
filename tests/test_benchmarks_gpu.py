"""`python -m benchmarks.gpu` on the CPU, in tiny shapes, where little else is installed."""

import functools
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.gpu import main
from benchmarks.gpu_parts import measured, small_weights, smoke_parts
from tests.paths import PACKAGES, ROOT

# What has to do on a machine with a GPU; numba computes warps where there is none.
ENOUGH = ("torch", "torchvision", "numpy", "safetensors", "triton", "numba")


@functools.cache
def absent() -> list[str]:
    """Every installed module that is neither one of `ENOUGH` nor needed by them, nor ours."""
    needed, waiting = set(), list(ENOUGH)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in needed:
            continue
        needed.add(name)
        try:
            wanted = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:  # of another system
            continue
        waiting += [each.name for each in wanted if not each.marker or each.marker.evaluate()]
    of = metadata.packages_distributions()
    return sorted(
        module
        for module, names in of.items()
        if module.isidentifier()
        and module not in {*PACKAGES, *ENOUGH, "nvidia"}
        and needed.isdisjoint(map(canonicalize_name, names))
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The record of a whole run, which takes up what an earlier one has left, and what it said."""
    folder = tmp_path_factory.mktemp("gpu")
    # To import one is an ImportError, in every process.
    refuses = f"import sys\nsys.modules.update(dict.fromkeys({absent()!r}))\n"
    (folder / "sitecustomize.py").write_text(refuses)
    output = folder / "gpu.json"
    found = {"outcome": "passed", "detail": "from before", "seconds": 1.0, "figures": {}}
    crashed = {"outcome": "stopped", "detail": "no time", "figures": {}}
    output.write_text(json.dumps({"parts": {"pipeline": found, "kernel": crashed}}))
    return output, said(folder, "--resume", "--output", str(output))


def said(folder: Path, *arguments: str) -> str:
    paths = [folder, ROOT, *(package.parent for package in PACKAGES.values())]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--smoke", *arguments],
        cwd=ROOT,
        env={
            "PYTHONPATH": ":".join(map(str, paths)),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder),
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_part_runs_or_says_what_it_lacks(smoke: tuple[Path, str]) -> None:
    output, text = smoke
    record = json.loads(output.read_text())
    parts: dict[str, dict[str, Any]] = record["parts"]
    assert set(parts) == set(record["plan"])
    outcomes = {name: (part["outcome"], part["detail"]) for name, part in parts.items()}
    assert outcomes.pop("tensorrt") == (
        "skipped",
        "tensorrt is not installed: pip install 'vqfr-media[tensorrt]'",
    )
    v2 = "self-test torch 6: v2 in its default batch, and the largest that fits"
    assert outcomes.pop(v2) == ("skipped", "only a GPU's memory is filled by batches")
    # Resumed: what an earlier run has done stays, what it was stopped in is done.
    assert outcomes.pop("pipeline") == ("passed", "from before")
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}
    assert parts["kernel"]["figures"]["torchvision_error"] < 1e-5
    assert set(parts["torch"]["figures"]) == {"1", "2"}
    assert all(figures["both_ms"] > 0 for figures in parts["torch"]["figures"].values())
    assert parts["training smoke_stage2, 1 faces"]["figures"]["images_a_second"] > 0
    first, *lines, last = text.splitlines()
    assert first.startswith("no NVIDIA GPU") == (record["machine"].get("gpu") is None)
    assert [line.split()[0] for line in lines] == [parts[n]["outcome"] for n in record["plan"]]
    assert last == str(output)


def test_what_may_be_absent_is() -> None:
    assert {"av", "cv2", "facexlib", "openvino", "sklearn", "lightning_fabric"} <= set(absent())
    assert {"torch", "sympy", "PIL", "numpy"}.isdisjoint(absent())


def test_a_whole_installation_films_and_trains(tmp_path: Path) -> None:
    parts = [
        part
        for part in smoke_parts(small_weights(tmp_path))
        if part.kind in ("pipeline", "training")
    ]
    for part in parts:
        found = measured(part, device=torch.device("cpu"), folder=tmp_path)
        assert (found["outcome"], found["detail"]) == ("passed", ""), part.name
    assert found["figures"]["frames"] == 2
    assert found["figures"]["faces"] == 2


def test_too_little_time_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    with pytest.raises(SystemExit) as ended:
        main(["--minutes", "0.05", "--output", str(output)])
    assert ended.value.code == 2
    assert not output.exists()
