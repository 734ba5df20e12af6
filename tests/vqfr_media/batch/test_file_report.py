"""The report beside each output of a batch."""

import json
from pathlib import Path

import pytest

from tests.scenes import write_scene
from tests.vqfr_media.batch.workers import OPTIONS, CountingWorker
from vqfr_media.batch.file_report import ReportingWorker, is_file_report, report_path
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.run import run_batch


def test_each_output_has_a_report_and_a_failure_none(tmp_path: Path) -> None:
    (tmp_path / "in/season 1").mkdir(parents=True)
    write_scene(tmp_path / "in/season 1/a.mkv", frames=2)
    (tmp_path / "in/text.mkv").write_text("no film")
    output = tmp_path / "out"
    worker = CountingWorker()
    plan = plan_folder(tmp_path / "in", output, OPTIONS)
    run_batch(plan, ReportingWorker(worker))
    assert [path.relative_to(output) for path in output.rglob("*.report.json")] == [
        Path("season 1/a.mkv.report.json")
    ]
    report = json.loads((output / "season 1/a.mkv.report.json").read_text())
    assert report["source"] == str(tmp_path / "in/season 1/a.mkv")
    assert (report["frames"], report["restored"], len(report["tracks"])) == (2, 2, 1)
    assert report["options"]["encode"]["codec"] == "auto"
    assert {"av", "numpy"} <= report["versions"].keys()


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in/a.mkv", frames=2)
    (tmp_path / "out/a.mkv.report.json").mkdir(parents=True)
    plan = plan_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    (record,) = run_batch(plan, ReportingWorker(CountingWorker())).records
    assert record.status == "done"
    assert "without a report: " in record.warnings[-1]


def test_a_file_that_is_no_report_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in/a.mkv", frames=2)
    plan = plan_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    place = tmp_path / "out/a.mkv.report.json"
    place.parent.mkdir()
    worker, again = CountingWorker(), RerunPolicy(redo=True)
    for content in (b'{"notes": "mine"}', b'["source"]', b"", b"\xff"):
        place.write_bytes(content)
        (record,) = run_batch(plan, ReportingWorker(worker), policy=again).records
        assert (record.status, place.read_bytes()) == ("done", content)
        assert "is there already and not a report of this program" in record.warnings[-1]
    for overwrite in (True, False):  # a report is replaced by the next one
        replacing = ReportingWorker(worker, overwrite=overwrite)
        (record,) = run_batch(plan, replacing, policy=again).records
        assert is_file_report(place)
        assert record.warnings == ()


@pytest.mark.parametrize("name", ["é" * 120 + ".mp4", "x" * 251 + ".mp4", "\udce9" * 251 + ".mp4"])
def test_a_name_too_long_for_the_suffix_is_cut(tmp_path: Path, name: str) -> None:
    path, other = report_path(tmp_path / name), report_path(tmp_path / f"{name[:-5]}y.mp4")
    assert path.name.endswith(".report.json")
    assert path != other
    for one in (path, other):
        one.write_text("fits")
    assert report_path(Path("a/film.mp4")) == Path("a/film.mp4.report.json")
