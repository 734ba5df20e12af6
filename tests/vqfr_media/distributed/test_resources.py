"""What a user asks of a cluster, and what workers are then started with."""

from dataclasses import replace
from pathlib import Path

import pytest

from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.ray_worker import portable_options
from vqfr_media.distributed.resources import WorkerResources, choose_resources
from vqfr_media.errors import BackendError, OptionError
from vqfr_media.options import EncodeOptions, FaceOptions, ModelOptions, RestoreOptions

SHORT = RestoreOptions(segment_seconds=0.8, encode=EncodeOptions(preset="ultrafast"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"address": "somewhere"}, "must be auto, local or HOST:PORT, got 'somewhere'"),
        ({"address": "host:0"}, "must be auto, local or HOST:PORT"),
        ({"address": "ray://host:10001"}, "Ray Client is not supported"),
        ({"workers": 0}, "workers must be a whole number from 1 to 10000, got 0"),
        ({"cpus_per_worker": -1}, "cpus_per_worker must be a whole number"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker must be a part of 1, or a whole number"),
        ({"gpus_per_worker": -1.0}, "gpus_per_worker must be"),
    ],
)
def test_options_out_of_range(values: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        RayOptions(**values)  # type: ignore[arg-type]


AUTO, CPU, CUDA = ModelOptions(), ModelOptions(device="cpu"), ModelOptions(device="cuda")
SMALL, BIG = {"CPU": 2.0}, {"CPU": 64.0}
CARDS, MANY = {"CPU": 32.0, "GPU": 4.0}, {"CPU": 80.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("options", "model", "machines", "expected"),
    [
        (RayOptions(), AUTO, [SMALL], (2, 2, 1, 0)),
        (RayOptions(), AUTO, [BIG], (8, 8, 8, 0)),
        (RayOptions(), AUTO, [BIG, SMALL], (8, 8, 8, 0)),
        (RayOptions(cpus_per_worker=4), AUTO, [BIG, SMALL], (16, 16, 4, 0)),
        (RayOptions(workers=9, cpus_per_worker=1), AUTO, [SMALL], (9, 2, 1, 0)),
        (RayOptions(), AUTO, [CARDS, BIG], (4, 4, 8, 1)),
        (RayOptions(gpus_per_worker=0.5), AUTO, [CARDS], (8, 8, 4, 0.5)),
        (RayOptions(gpus_per_worker=0.1), AUTO, [MANY], (40, 40, 2, 0.1)),
        (RayOptions(), AUTO, [MANY, CARDS], (8, 8, 8, 1)),
        (RayOptions(), CPU, [CARDS], (8, 8, 4, 0)),
        (RayOptions(gpus_per_worker=0), AUTO, [CARDS], (8, 8, 4, 0)),
        (RayOptions(), ModelOptions(backend="openvino"), [CARDS], (8, 8, 4, 0)),
        (RayOptions(gpus_per_worker=2), CUDA, [CARDS], (2, 2, 16, 2)),
    ],
)  # fmt: skip
def test_what_is_asked_of_a_cluster(
    options: RayOptions,
    model: ModelOptions,
    machines: list[dict[str, float]],
    expected: tuple[int, int, int, float],
) -> None:
    """Workers, how many of them can start now, cores and GPUs of each."""
    workers, capacity, cpus, gpus = expected
    assert choose_resources(options, model, machines) == WorkerResources(
        workers=workers, capacity=capacity, cpus=cpus, gpus=gpus
    )


@pytest.mark.parametrize(
    ("options", "model", "error", "says"),
    [
        (RayOptions(cpus_per_worker=4), AUTO, BackendError, "no machine .* has 4 CPUs for"),
        (RayOptions(), CUDA, BackendError, r"1 CPUs and 1 GPUs .*are: 2 CPUs, 0 GPUs"),
        (RayOptions(), replace(AUTO, device="cuda:1"), OptionError, "cuda:1 cannot be chosen"),
        (RayOptions(gpus_per_worker=1), CPU, OptionError, "the network is to run on the CPU"),
        (RayOptions(gpus_per_worker=0), CUDA, OptionError, "the network is to run on a GPU"),
    ],
)  # fmt: skip
def test_what_no_cluster_can_give(
    options: RayOptions, model: ModelOptions, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        choose_resources(options, model, [SMALL])


def test_paths_in_options_are_those_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = replace(
        SHORT,
        model=ModelOptions(model="v1", weights=Path("w.pth")),
        face=FaceOptions(detector="resnet50", detector_weights=Path("/d.pth")),
    )
    seen = portable_options(options, on_gpu=False)
    assert (seen.model.weights, seen.model.device) == (tmp_path / "w.pth", "cpu")
    assert (seen.model.engine, seen.face.detector_weights) == (None, Path("/d.pth"))
    assert portable_options(SHORT, on_gpu=True) == SHORT
