"""What the pool decides without a cluster: which workers fit, and whose fault an error is."""

from pathlib import Path

from tests.vqfr_media.distributed.workers import inverting
from vqfr_media.distributed.pool import as_own_error, most_common
from vqfr_media.distributed.worker import (
    WorkerInfo,
    package_versions,
)
from vqfr_media.distributed.worker_handle import loss_reason
from vqfr_media.errors import WeightsError
from vqfr_media.pipeline import summarise
from vqfr_media.summary import RunCounts


def info(name: str, **settings: str) -> WorkerInfo:
    summary = summarise(RunCounts(), inverting(), Path(), Path(), 0.0, ())
    return WorkerInfo(name, settings, package_versions(), summary)


def test_the_kind_of_most_workers_counts() -> None:
    odd = info("a", processor="AVX512", gpu="x")
    same = [info(name, processor="AVX2", gpu="x") for name in "bcd"]
    assert most_common([odd, *same]).settings == {"processor": "AVX2", "gpu": "x"}
    # Of as many, always the same, whoever comes first: a resumed job must find its kind again.
    assert most_common([odd, same[0]]).settings == most_common([same[0], odd]).settings


def test_what_workers_fail_with_is_ours() -> None:
    error = WeightsError("not here")
    assert as_own_error(error) is error
    assert str(as_own_error(ModuleNotFoundError("No module named 'cv2'"))) == (
        "a worker lacks No module named 'cv2'; install the same packages on every machine"
    )
    assert isinstance(as_own_error(KeyError("ours")), KeyError)


def test_rays_words_in_one_line() -> None:
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of "
        "file. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert loss_reason(RuntimeError(said)) == (
        "Worker unexpectedly exits with a connection error code 2. End of file"
    )
    assert loss_reason(RuntimeError("The node died.\nmore")) == "The node died"
    assert loss_reason(RuntimeError()) == "RuntimeError"
