"""What decides the bits of a result is in its identity, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.vqfr_media.distributed.workers import inverting
from vqfr_media.batch.planner import RerunPolicy, rerun_reason
from vqfr_media.batch.record import FileState, Record
from vqfr_media.batch.task import Task
from vqfr_media.differences import describe_changes
from vqfr_media.jobs.identity import identity_of_settings
from vqfr_media.options import RestoreOptions


@pytest.fixture
def kept_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def with_threads(count: int, backend: str) -> dict[str, str]:
    """The identity of a network that `backend` runs on so many threads of a CPU."""
    torch.set_num_threads(count)
    ready = inverting()
    ready = replace(ready, model=replace(ready.model, backend=backend))
    return identity_of_settings(RestoreOptions(), ready)


@pytest.mark.usefixtures("kept_threads")
def test_only_pytorch_s_sums_depend_on_the_threads() -> None:
    one, two = with_threads(1, "torch"), with_threads(2, "torch")
    assert describe_changes(one, two) == ["engine.threads was 1, is 2"]
    assert with_threads(1, "openvino") == with_threads(2, "openvino")


@pytest.mark.usefixtures("kept_threads")
def test_a_finished_file_is_not_made_again_for_a_thread(tmp_path: Path) -> None:
    task = Task(tmp_path / "in.mp4", tmp_path / "out.mp4")
    done = Record(
        output="out.mp4", source="in.mp4", kind="video", status="done",
        content=FileState("same", 1, 1), identity=with_threads(1, "torch"),
    )  # fmt: skip
    now = with_threads(2, "torch") | {"source": "same"}
    assert rerun_reason(task, done, now, RerunPolicy()) is None
    assert rerun_reason(task, done, now | {"source": "other"}, RerunPolicy()) is not None
