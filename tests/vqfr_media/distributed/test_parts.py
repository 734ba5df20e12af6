"""What needs no cluster: options, sizes, kinds, and a worker in this process."""

import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.scenes import write_scene
from tests.vqfr_media.distributed.workers import inverting, without_weights
from tests.vqfr_media.jobs.test_segments import job_of
from vqfr_media.distributed.calls import reason_of
from vqfr_media.distributed.kinds import as_ours, most_common, unlike
from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.run import as_seen_anywhere
from vqfr_media.distributed.sizing import Sizing, sizing
from vqfr_media.distributed.staging import Origin
from vqfr_media.distributed.worker import (
    Given,
    Introduction,
    UnfitError,
    Worker,
    versions,
)
from vqfr_media.errors import BackendError, MediaError, OptionError, WeightsError
from vqfr_media.jobs.segments import segment_name, work
from vqfr_media.media.segment_file import read_segment
from vqfr_media.options import EncodeOptions, FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video, summarise
from vqfr_media.summary import RunCounts, Summary

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
    workers, room, cpus, gpus = expected
    assert sizing(options, model, machines) == Sizing(
        workers=workers, room=room, cpus=cpus, gpus=gpus
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
        sizing(options, model, [SMALL])


def test_paths_in_options_are_those_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = replace(
        SHORT,
        model=ModelOptions(model="v1", weights=Path("w.pth")),
        face=FaceOptions(detector="resnet50", detector_weights=Path("/d.pth")),
    )
    seen = as_seen_anywhere(options, on_gpu=False)
    assert (seen.model.weights, seen.model.device) == (tmp_path / "w.pth", "cpu")
    assert (seen.model.engine, seen.face.detector_weights) == (None, Path("/d.pth"))
    assert as_seen_anywhere(SHORT, on_gpu=True) == SHORT


def introduction(name: str, **settings: str) -> Introduction:
    about = summarise(RunCounts(), inverting(), Path(), Path(), 0.0, ())
    return Introduction(name, settings, versions(), about)


def test_the_kind_of_most_workers_counts() -> None:
    odd = introduction("a", processor="AVX512", gpu="x")
    same = [introduction(name, processor="AVX2", gpu="x") for name in "bcd"]
    assert most_common([odd, *same]).settings == {"processor": "AVX2", "gpu": "x"}
    # Of as many, always the same, whoever comes first: a resumed job must find its kind again.
    assert most_common([odd, same[0]]).settings == most_common([same[0], odd]).settings
    assert unlike("on b (1)", same[0].settings, odd.settings) == (
        "processor is AVX512, on b (1) it is AVX2"
    )
    assert unlike("on b (1)", same[0].settings, same[1].settings) is None
    assert unlike("here", {"a": "1"}, {"b": "2", "c": "3", "d": "4"}) == (
        "a is not there, here it is 1; b is 2, here it is not there; "
        "c is 3, here it is not there; and 1 more"
    )


def test_what_workers_fail_with_is_ours() -> None:
    error = WeightsError("not here")
    assert as_ours(error) is error
    assert str(as_ours(ModuleNotFoundError("No module named 'cv2'"))) == (
        "a worker lacks No module named 'cv2'; install the same packages on every machine"
    )
    assert isinstance(as_ours(KeyError("ours")), KeyError)


def test_rays_words_in_one_line() -> None:
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of "
        "file. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert reason_of(RuntimeError(said)) == (
        "Worker unexpectedly exits with a connection error code 2. End of file"
    )
    assert reason_of(RuntimeError("The node died.\nmore")) == "The node died"
    assert reason_of(RuntimeError()) == "RuntimeError"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """One in this process, that is ready."""
    ours = logging.getLogger("vqfr_media")
    before = ours.handlers.copy()
    made = Worker(SHORT, torch.get_num_threads(), inverting, tmp_path / "cache")
    made.introduce()
    yield made
    ours.handlers = before


def given(source: Path, origin: Origin | None = None) -> Given:
    status = source.stat()
    return Given(source, status.st_size, status.st_mtime_ns, origin)


def test_a_segment_in_pieces_is_the_segment(
    tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqfr_media.distributed.worker.PIECE_BYTES", 1000)
    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264")
    job = job_of(source, tmp_path / "out.mkv", length=20, options=SHORT)
    here = inverting()
    list(work(job, range(1, 2), tmp_path, engine=here.engine, detector=here.detector))
    sent = pickle.loads(pickle.dumps(job))  # noqa: S301 - made here
    found = list(worker.segment(sent, 1, given(source)))
    assert len(found) > 3
    assert all(len(piece) == 1000 for piece in found[:-1])
    (tmp_path / "sent").write_bytes(b"".join(found))
    one, other = (
        read_segment(path, verify=True) for path in (tmp_path / segment_name(1), tmp_path / "sent")
    )
    assert one is not None
    assert other is not None
    assert one.marks == other.marks
    assert one.path.read_bytes() == other.path.read_bytes()
    assert worker.news().frames == 20
    assert worker.news().frames == 0


def test_a_whole_file_in_pieces_is_the_file(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264")
    summary, *found = worker.whole(given(source), "out.mp4", "video", SHORT)
    assert isinstance(summary, Summary)
    assert (summary.frames, summary.restored) == (30, 30)
    restore_video(source, tmp_path / "here.mp4", SHORT, ready=inverting())
    assert (
        b"".join(x for x in found if isinstance(x, bytes)) == (tmp_path / "here.mp4").read_bytes()
    )


def test_another_encoder_is_a_reason_not_to_take_part(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264")
    job = job_of(source, tmp_path / "out.mkv", length=10, options=SHORT)
    with pytest.raises(UnfitError, match=r"out\.mkv: the encoder on this machine"):
        next(worker.segment(replace(job, extradata=b"another"), 0, given(source)))


def test_inputs_that_are_not_shared_are_told(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=3, codec="libx264")
    seen = given(source)
    for mine in (replace(seen, size=seen.size + 1), replace(seen, modified_ns=1)):
        with pytest.raises(MediaError, match=r"is another file on .*; give a path that all"):
            next(worker.whole(mine, "out.mp4", "video", SHORT))
    source.unlink()
    with pytest.raises(MediaError, match=r"in\.mp4: cannot be read on .*: No such file"):
        next(worker.whole(seen, "out.mp4", "video", SHORT))


def test_what_is_logged_is_kept_for_the_caller(worker: Worker) -> None:
    logging.getLogger("vqfr_media.tests").warning("said %d", 1)
    logging.getLogger("another").warning("not ours")
    said = [(one.name, one.level, one.message) for one in worker.news().said]
    assert said == [("vqfr_media.tests", logging.WARNING, "said 1")]
    assert worker.news().said == ()


def test_a_worker_says_what_it_is(worker: Worker) -> None:
    found = worker.introduce()
    assert found.name.endswith(f" ({os.getpid()})")
    assert found.settings == worker.settings(SHORT)
    assert found.settings["engine.kind"] == "InvertingEngine"
    assert found.about.detector == "MarkerDetector"
    assert found.versions.keys() == {"vqfr-media", "av"}


def test_what_cannot_be_made_ready_is_told(tmp_path: Path) -> None:
    before = logging.getLogger("vqfr_media").handlers.copy()
    made = Worker(SHORT, torch.get_num_threads(), without_weights, tmp_path)
    logging.getLogger("vqfr_media").handlers = before
    with pytest.raises(WeightsError, match="the weights are not here"):
        made.introduce()
