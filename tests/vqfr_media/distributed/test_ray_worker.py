"""A local cluster of two workers: the bits of one process, whatever happens to a worker."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.clips import write_clip
from tests.scenes import scene, write_scene
from tests.vqfr_media.distributed.workers import by_order, inverting, one_is_odd, without_weights
from vqfr_media.batch.local_worker import LocalWorker
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.task import ProgressListener, Task
from vqfr_media.distributed.cluster import connected
from vqfr_media.distributed.pool import WorkerPool, open_pool
from vqfr_media.distributed.ray_worker import RayWorker
from vqfr_media.distributed.remote import StagingWorker, plan_url
from vqfr_media.distributed.resources import WorkerResources
from vqfr_media.distributed.staging import RemoteFile
from vqfr_media.errors import EngineError, OutputError, WeightsError
from vqfr_media.frames import VideoInfo
from vqfr_media.jobs.work_folder import work_folder_of
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

# 20 frames of the scenes' 25 a second.
SHORT = RestoreOptions(segment_seconds=0.8, encode=EncodeOptions(preset="ultrafast"))
TWO = WorkerResources(workers=2, capacity=2, cpus=1, gpus=0)


@dataclass(frozen=True)
class Cluster:
    """Two workers, and the folder of their orders (`workers.InvertingByOrder`)."""

    pool: WorkerPool
    orders: Path

    def order(self, word: str) -> None:
        (self.orders / word).touch()

    def worker(
        self,
        *,
        listener: ProgressListener | None = None,
        remote_files: dict[Path, RemoteFile] | None = None,
    ) -> RayWorker:
        return RayWorker(
            self.pool, 2, listener=listener or ProgressListener(), remote_files=remote_files or {}
        )

    def restore(self, source: Path, output: Path, **more: Callable[..., None]) -> Summary:
        return self.worker(listener=ProgressListener(**more)).work(Task(source, output, SHORT))


@pytest.fixture(scope="module")
def local() -> Iterator[None]:
    """A cluster on this machine, for all tests of this file, with room for a second pool."""
    ray = pytest.importorskip("ray", reason="the extra `distributed` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False,
                 object_store_memory=100 << 20, logging_level=logging.ERROR)  # fmt: skip
    with connected("auto"):  # this one, which stays
        yield
    ray.shutdown()


@pytest.fixture(scope="module")
def shared_cluster(
    local: None,  # noqa: ARG001 - comes first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("orders")
    factory = partial(by_order, folder=folder)
    with open_pool(TWO, SHORT, factory=factory, cache=folder / "cache") as pool:
        yield Cluster(pool, folder)


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    yield shared_cluster
    for word in ("die", "fail", "say", "die-once", "fail-once", "say-once"):
        (shared_cluster.orders / word).unlink(missing_ok=True)


@dataclass(frozen=True)
class Film:
    """A video of four segments, and what one process makes of it."""

    source: Path
    whole: Path
    summary: Summary


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder = tmp_path_factory.mktemp("film")
    source = write_scene(folder / "in.mp4", frames=80, codec="libx264", discs=2, cut=31)
    summary = restore_video(source, folder / "whole.mp4", SHORT, ready=inverting())
    return Film(source, folder / "whole.mp4", summary)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def told(summary: Summary) -> dict[str, object]:
    """What does not depend on the clock and on the output's name."""
    values = summary.to_json()
    return {name: values[name] for name in values if name not in ("seconds", "output")}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_segments_of_many_workers_are_one_film(
    tmp_path: Path, cluster: Cluster, film: Film
) -> None:
    counted: list[int] = []
    summary = cluster.restore(
        film.source, tmp_path / "out.mp4", on_frames=lambda _, count: counted.append(count)
    )
    assert digest(tmp_path / "out.mp4") == digest(film.whole)
    assert told(summary) == told(film.summary)
    assert sum(counted) == 80
    assert names(tmp_path) == ["out.mp4"]


def test_a_batch_is_that_of_one_process(tmp_path: Path, cluster: Cluster, film: Film) -> None:
    """Long and short videos, an image, and files that fail: each has its record."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "long.mp4").write_bytes(film.source.read_bytes())
    write_scene(source / "short film.mp4", frames=8, codec="libx264")
    write_clip(source / "no face.mkv", codec="libx264", options={"preset": "ultrafast"})
    Image.fromarray(scene(3)).save(source / "é 'ü'.png")
    (source / "text.mp4").write_text("this is no video")
    (source / "empty.jpg").touch()
    here = run_batch(plan_folder(source, tmp_path / "here", SHORT), LocalWorker(inverting()))
    plan = plan_folder(source, tmp_path / "there", SHORT)
    begun: dict[str, VideoInfo] = {}
    listener = ProgressListener(on_start=lambda task, info: begun.update({task.source.name: info}))
    there = run_batch(plan, cluster.worker(listener=listener))
    # Who restores a short film measures whether it is interlaced; nobody does it before.
    assert begun["short film.mp4"].combing is None
    assert there.counts == here.counts == {"done": 4, "failed": 2}
    for one, other in zip(here.records, there.records, strict=True):
        assert (one.output, one.status, one.reason, one.identity) == (
            other.output, other.status, other.reason, other.identity,
        )  # fmt: skip
        assert (one.restored, one.frames, one.made_with) == (
            other.restored, other.frames, other.made_with,
        )  # fmt: skip
        if one.status == "done" and not one.output.endswith(".mkv"):  # Matroska has random numbers
            assert digest(tmp_path / "here" / one.output) == digest(
                tmp_path / "there" / other.output
            )
    again = run_batch(plan, cluster.worker())
    assert again.counts == {"unchanged": 4, "failed": 2}


def test_a_worker_killed_amid_its_work_is_not_missed(
    tmp_path: Path, cluster: Cluster, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[int] = []
    cluster.order("die-once")
    summary = cluster.restore(
        film.source, tmp_path / "out.mp4", on_frames=lambda _, count: counted.append(count)
    )
    assert digest(tmp_path / "out.mp4") == digest(film.whole)
    assert told(summary) == told(film.summary)
    assert sum(counted) == 80
    assert not (cluster.orders / "die-once").exists()
    assert "was lost: " in caplog.text
    assert names(tmp_path) == ["out.mp4"]


def test_what_a_worker_says_is_in_our_log(
    tmp_path: Path, cluster: Cluster, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.order("say-once")
    cluster.restore(film.source, tmp_path / "out.mp4")
    said = [r for r in caplog.records if r.name == "vqfr_media.tests"]
    assert len(said) == 1
    assert said[0].getMessage().endswith("): said because the test says so")


def test_inputs_behind_a_url_reach_every_worker(
    tmp_path: Path, cluster: Cluster, film: Film, web: tuple[Path, str]
) -> None:
    """Fetched by the driver and once more by the workers, whose cache is another one here."""
    folder, url = web
    (folder / "a b").mkdir()
    (folder / "a b/in.mp4").write_bytes(film.source.read_bytes())
    mine = tmp_path / "mine"
    plan, found = plan_url(f"{url}/", tmp_path / "out", SHORT, cache=mine)
    worker = StagingWorker(
        cluster.worker(remote_files=found), remote_files=found, cache=mine, output=None
    )
    report = run_batch(plan, worker)
    assert report.counts == {"done": 1}
    assert digest(tmp_path / "out/a b/in.mp4") == digest(film.whole)
    fetched = list((cluster.orders / "cache").rglob("in.mp4"))
    assert [digest(path) for path in fetched] == [digest(film.source)]


@pytest.mark.slow
def test_a_file_that_kills_its_workers_fails_alone(
    tmp_path: Path, cluster: Cluster, film: Film
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "deadly.mp4").write_bytes(film.source.read_bytes())
    write_clip(source / "no face.mp4", codec="libx264", options={"preset": "ultrafast"})
    cluster.order("die")
    report = run_batch(plan_folder(source, tmp_path / "out", SHORT), cluster.worker())
    assert [record.status for record in report.records] == ["failed", "done"]
    assert "3 workers were lost over it, the last because " in report.records[0].reason
    assert report.records[0].error == "EngineError"
    (cluster.orders / "die").unlink()
    cluster.restore(film.source, tmp_path / "out.mp4")
    assert digest(tmp_path / "out.mp4") == digest(film.whole)


@pytest.mark.slow
def test_a_failing_engine_is_made_anew(
    tmp_path: Path, cluster: Cluster, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.order("fail-once")
    cluster.restore(film.source, tmp_path / "out.mp4")
    assert digest(tmp_path / "out.mp4") == digest(film.whole)
    assert "failed because the test says so" in caplog.text
    cluster.order("fail")
    with pytest.raises(EngineError, match="failed because the test says so"):
        cluster.restore(film.source, tmp_path / "again.mp4")
    assert not work_folder_of(tmp_path / "again.mp4").exists()


def test_a_full_disk_of_ours_is_not_the_workers_fault(
    tmp_path: Path, cluster: Cluster, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    full = tmp_path / "full.mp4"
    full.symlink_to("/dev/full")
    source_file = cluster.worker()._source_file(film.source)
    with pytest.raises(OutputError, match="No space left"):
        cluster.pool.run(
            "film", "restore_file", (source_file, "out.mp4", "video", SHORT),
            target=full, on_frames=lambda _: None,
        )  # fmt: skip
    assert "failed on" not in caplog.text
    cluster.restore(film.source, tmp_path / "out.mp4")
    assert digest(tmp_path / "out.mp4") == digest(film.whole)


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_a_worker_of_another_kind_takes_no_part(
    tmp_path: Path, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "odd").mkdir()
    factory = partial(one_is_odd, folder=tmp_path)
    # Both wait for each other, so that there are as many of either kind: float16 comes first.
    with open_pool(TWO, SHORT, factory=factory, cache=tmp_path) as pool:
        precision = pool.info.settings["engine.precision"]
        assert precision == "float16"
        assert "takes no part in the work: engine.precision is float32, on " in caplog.text
        worker = RayWorker(pool, 2, listener=ProgressListener(), remote_files={})
        worker.work(Task(film.source, tmp_path / "out.mp4", SHORT))
        assert not worker.stops_batch(EngineError("one"))
    assert digest(tmp_path / "out.mp4") == digest(film.whole)


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_what_no_worker_can_do_without_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(WeightsError, match="the weights are not here because the test says so"),
        open_pool(TWO, SHORT, factory=without_weights, cache=tmp_path),
    ):
        raise AssertionError
