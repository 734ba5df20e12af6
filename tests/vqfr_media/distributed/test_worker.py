"""A worker in this process."""

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
from vqfr_media.distributed.staging import RemoteFile
from vqfr_media.distributed.worker import (
    SourceFile,
    UnsuitableWorkerError,
    Worker,
)
from vqfr_media.errors import MediaError, WeightsError
from vqfr_media.jobs.segments import restore_segments
from vqfr_media.jobs.work_folder import segment_name
from vqfr_media.logs import package_loggers
from vqfr_media.media.segment_file import read_segment
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

SHORT = RestoreOptions(segment_seconds=0.8, encode=EncodeOptions(preset="ultrafast"))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """One in this process, that is ready."""
    before = {logger: logger.handlers.copy() for logger in package_loggers()}
    made = Worker(SHORT, torch.get_num_threads(), inverting, tmp_path / "cache")
    made.get_ready()
    yield made
    for logger, handlers in before.items():
        logger.handlers = handlers


def source_file(source: Path, remote: RemoteFile | None = None) -> SourceFile:
    status = source.stat()
    return SourceFile(source, status.st_size, status.st_mtime_ns, remote)


def test_a_segment_in_pieces_is_the_segment(
    tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqfr_media.distributed.worker.CHUNK_BYTES", 1000)
    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264")
    job = job_of(source, tmp_path / "out.mkv", length=20, options=SHORT)
    here = inverting()
    list(restore_segments(job, range(1, 2), tmp_path, engine=here.engine, detector=here.detector))
    sent = pickle.loads(pickle.dumps(job))  # noqa: S301 - made here
    found = list(worker.restore_segment(sent, 1, source_file(source)))
    assert len(found) > 3
    assert all(len(chunk) == 1000 for chunk in found[:-1])
    (tmp_path / "sent").write_bytes(b"".join(found))
    one, other = (
        read_segment(path, verify=True) for path in (tmp_path / segment_name(1), tmp_path / "sent")
    )
    assert one is not None
    assert other is not None
    assert one.marks == other.marks
    assert one.path.read_bytes() == other.path.read_bytes()
    assert worker.status().frames == 20
    assert worker.status().frames == 0


def test_a_whole_file_in_pieces_is_the_file(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264")
    summary, *found = worker.restore_file(source_file(source), "out.mp4", "video", SHORT)
    assert isinstance(summary, Summary)
    assert (summary.frames, summary.restored) == (30, 30)
    restore_video(source, tmp_path / "here.mp4", SHORT, ready=inverting())
    assert (
        b"".join(x for x in found if isinstance(x, bytes)) == (tmp_path / "here.mp4").read_bytes()
    )


def test_another_encoder_is_a_reason_not_to_take_part(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264")
    job = job_of(source, tmp_path / "out.mkv", length=10, options=SHORT)
    with pytest.raises(UnsuitableWorkerError, match=r"out\.mkv: the encoder on this machine"):
        next(worker.restore_segment(replace(job, extradata=b"another"), 0, source_file(source)))


def test_inputs_that_are_not_shared_are_told(tmp_path: Path, worker: Worker) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=3, codec="libx264")
    seen = source_file(source)
    for mine in (replace(seen, size=seen.size + 1), replace(seen, modified_ns=1)):
        with pytest.raises(MediaError, match=r"is another file on .*; give a path that all"):
            next(worker.restore_file(mine, "out.mp4", "video", SHORT))
    source.unlink()
    with pytest.raises(MediaError, match=r"in\.mp4: cannot be read on .*: No such file"):
        next(worker.restore_file(seen, "out.mp4", "video", SHORT))


def test_what_is_logged_is_kept_for_the_caller(worker: Worker) -> None:
    logging.getLogger("vqfr_media.tests").warning("said %d", 1)
    logging.getLogger("vqfr_engines.tests").warning("built in %d s", 2)
    logging.getLogger("another").warning("not ours")
    said = [(one.name, one.level, one.message) for one in worker.status().log]
    assert said == [
        ("vqfr_media.tests", logging.WARNING, "said 1"),
        ("vqfr_engines.tests", logging.WARNING, "built in 2 s"),
    ]
    assert worker.status().log == ()


def test_a_worker_says_what_it_is(worker: Worker) -> None:
    found = worker.get_ready()
    assert found.name.endswith(f" ({os.getpid()})")
    assert found.settings == worker.settings(SHORT)
    assert found.settings["engine.kind"] == "InvertingEngine"
    assert found.summary.detector == "MarkerDetector"
    assert found.package_versions.keys() == {"vqfr-media", "av"}


def test_what_cannot_be_made_ready_is_told(tmp_path: Path) -> None:
    before = {logger: logger.handlers.copy() for logger in package_loggers()}
    made = Worker(SHORT, torch.get_num_threads(), without_weights, tmp_path)
    for logger, handlers in before.items():
        logger.handlers = handlers
    with pytest.raises(WeightsError, match="the weights are not here"):
        made.get_ready()
