"""A worker of stand-ins, which counts what it does."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tests.stand_ins import InvertingEngine, MarkerDetector
from vqfr_media.batch.local_worker import LocalWorker
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.record import REPORT_NAME, BatchReport, Record, read_report
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.task import ProgressListener, Task
from vqfr_media.errors import EngineError
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.prepare import prepare
from vqfr_media.summary import Summary

OPTIONS = RestoreOptions(encode=EncodeOptions(preset=None))


class FragileEngine(InvertingEngine):
    """Inverts; fails from its n-th face on, once or for good."""

    def __init__(self, fails_at: int | None = None, *, for_good: bool = False) -> None:
        super().__init__(size=64, batch_size=2)
        self.fails_at, self.for_good = fails_at, for_good

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self.fails_at is not None and self.decoded >= self.fails_at:
            if not self.for_good:
                self.fails_at = None
            raise EngineError("the network failed: made by the test")
        return super().decode(crops, latents, fidelity=fidelity)


class CountingWorker(LocalWorker):
    """Notes the names of the files whose content it read, and of those that it worked."""

    def __init__(
        self, engine: InvertingEngine | None = None, listener: ProgressListener | None = None
    ) -> None:
        ready = prepare(OPTIONS, engine or InvertingEngine(size=64), MarkerDetector())
        super().__init__(ready, listener=listener)
        self.read: list[str] = []
        self.worked: list[str] = []
        self.versions: dict[str, str] = {}

    def settings(self, options: RestoreOptions) -> dict[str, str]:
        return {**super().settings(options), **self.versions}

    def content(self, task: Task) -> str:
        self.read.append(task.source.name)
        return super().content(task)

    def work(self, task: Task) -> Summary:
        self.worked.append(task.source.name)
        return super().work(task)


def run(
    source: Path,
    output: Path,
    worker: CountingWorker | None = None,
    *,
    options: RestoreOptions = OPTIONS,
    policy: RerunPolicy | None = None,
) -> tuple[BatchReport, CountingWorker]:
    """Works a folder; returns what became of it, and who did it."""
    worker = worker or CountingWorker()
    report = run_batch(plan_folder(source, output, options), worker, policy=policy)
    return report, worker


def told(output: Path) -> dict[str, Record]:
    """What `batch.json` says of each output."""
    return {record.output: record for record in read_report(output / REPORT_NAME)}


def statuses(report: BatchReport) -> dict[str, str]:
    return {record.output: record.status for record in report.records}


def counts(report: BatchReport) -> Counter[str]:
    return Counter(record.status for record in report.records)


def with_options(**changes: object) -> RestoreOptions:
    return replace(OPTIONS, **changes)  # type: ignore[arg-type]
