"""The report: what was finished is in it whatever happens; no other file is taken for it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vqfr_media.batch import journal as journal_module
from vqfr_media.batch.journal import JOURNAL_NAME, LOCK_NAME, open_journal, read_journal
from vqfr_media.batch.planner import RerunPolicy, rerun_reason
from vqfr_media.batch.record import REPORT_NAME, FileState, Record, read_report, report_json
from vqfr_media.batch.task import Task
from vqfr_media.errors import OutputError
from vqfr_media.values import SkipReason

FULL = Record(
    output='season 1/it\'s "2" 祖母 caf\udce9.mkv',
    source='/in/season 1/it\'s "2" 祖母 caf\udce9.avi',
    status="done",
    reason="new",
    started="2026-01-01T00:00:00.000+00:00",
    finished="2026-01-01T00:01:00.000+00:00",
    seconds=60.125,
    frames=1500,
    resumed=500,
    shots=3,
    restored=1200,
    tracks=4,
    skipped={SkipReason.TOO_SMALL: 7},
    made_with={"model": "lite"},
    warnings=("no chapters",),
    content=FileState("aa", 12345678901, 1795444388651714459),
    result=FileState("bb", 5, 6),
    identity={"options.upscale": "1", "version.torch": "2.14.1"},
)


def test_a_record_survives_its_report(tmp_path: Path) -> None:
    records = [FULL, Record(output="b.png", source="/in/b.png", kind="image")]
    path = tmp_path / REPORT_NAME
    path.write_bytes(report_json(records, "2026-01-01T00:02:00+00:00"))
    assert read_report(path) == records
    text = path.read_text("utf-8")
    assert "祖母" in text
    values = json.loads(text)
    assert (values["schema"], values["version"]) == ("vqfr-media batch", 1)
    assert values["counts"] == {
        "pending": 1, "working": 0, "done": 1, "unchanged": 0, "failed": 0
    }  # fmt: skip
    first = values["files"][0]
    assert first["faces"] == {"restored": 1200, "tracks": 4, "left_alone": {"too small": 7}}
    assert first["figures"]["fps"] == 16.632  # 1000 frames in 60.125 s
    assert first["versions"] == {"torch": "2.14.1"}
    assert first["identity"] == {"options.upscale": "1"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"schema": "someone else\'s", "version": 1, "files": []}',
        report_json([FULL], "now")[:-200],
        report_json([FULL], "now").replace(b'"done"', b'"eaten"'),
        report_json([FULL], "now").replace(b'"times"', b'"Times"'),
        b"\xff\xfe",
    ],
)
def test_what_is_no_report_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / REPORT_NAME).write_bytes(content)
    with (
        pytest.raises(OutputError, match="not the report of an earlier batch"),
        open_journal(tmp_path),
    ):
        pass
    assert (tmp_path / REPORT_NAME).read_bytes() == content
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_later_versions_report_is_refused(tmp_path: Path) -> None:
    content = report_json([FULL], "now").replace(b'"version": 1', b'"version": 2')
    (tmp_path / REPORT_NAME).write_bytes(content)
    with pytest.raises(OutputError, match="is of version 2, this vqfr-media writes 1"):
        read_report(tmp_path / REPORT_NAME)


def test_what_was_put_is_there_after_a_crash(tmp_path: Path) -> None:
    """A copy of the folder, made while the book is open, is what a power cut leaves."""
    others = [replace(FULL, output=f"{number}.mkv") for number in range(3)]
    with open_journal(tmp_path / "out") as journal:
        for record in others:
            journal.add_durably(record)
        journal.add_durably(replace(others[1], status="failed"))
        assert (tmp_path / "out" / JOURNAL_NAME).is_file()
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for path in (tmp_path / "out").iterdir():
            (crashed / path.name).write_bytes(path.read_bytes())
    with (crashed / JOURNAL_NAME).open("ab") as journal:
        journal.write(b'{"output": "9.mkv", "sour')
    found = read_journal(crashed)
    assert [found[record.output] for record in others] == [
        others[0], replace(others[1], status="failed"), others[2]
    ]  # fmt: skip
    assert found["9.mkv"] is None
    with open_journal(crashed):
        pass
    assert [record.output for record in read_report(crashed / REPORT_NAME)] == [
        "0.mkv",
        "1.mkv",
        "2.mkv",
    ]
    assert [path.name for path in crashed.iterdir()] == [REPORT_NAME]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [REPORT_NAME]


def test_the_report_is_not_written_after_each_of_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_journal(tmp_path) as journal:
        for number in range(50):
            journal.add_durably(replace(FULL, output=f"{number}.mkv"))
        assert read_report(tmp_path / REPORT_NAME) == []  # as when it was opened, not long ago
        monkeypatch.setattr(journal_module, "_SECONDS_BETWEEN_SAVES", 0.0)
        monkeypatch.setattr(journal_module, "_MOST_TIME_SAVING", 1e9)
        journal.add_durably(replace(FULL, output="50.mkv"))
        assert len(read_report(tmp_path / REPORT_NAME)) == 51
        assert not (tmp_path / JOURNAL_NAME).exists()


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / LOCK_NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another vqfr-media"), open_journal(tmp_path):
            pass
        other.kill()
    with open_journal(tmp_path):  # the lock went with its process
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="cannot be written"), open_journal(tmp_path / "file"):
        pass
    with (
        pytest.raises(OutputError, match="cannot be written"),
        open_journal(tmp_path / "file/below"),
    ):
        pass


TASK = Task(Path("a.mp4"), Path("out/a.mp4"))
BEFORE = {"options.face.score": "0.8", "engine.model": "lite", "version.torch": "2", "gpu": "H100"}


def why(now: dict[str, str], **changes: object) -> str | None:
    """Why a file that was done with `BEFORE` is to be worked with `now`."""
    state = FileState("aa", 1, 1)
    earlier = Record(output="a", source="a", status="done", content=state, identity=BEFORE)
    earlier = replace(earlier, **changes)  # type: ignore[arg-type]
    return rerun_reason(TASK, earlier, {"source": "aa", **now}, RerunPolicy())


def test_what_decides_a_result() -> None:
    assert why(BEFORE) is None
    assert why(BEFORE | {"version.torch": "3", "gpu": "H200"}) is None
    assert why(BEFORE | {"engine.model": "v2"}) == "engine.model was lite, is v2"
    assert why(BEFORE | {"options.face.score": "0.9"}) == "options.face.score was 0.8, is 0.9"
    assert why(BEFORE | {"source": "b" * 64}) == "another source"


def test_an_option_that_is_new_decides_only_where_it_is_set() -> None:
    assert why(BEFORE | {"options.face.min_face": "24.0"}) is None  # as by default
    assert why(BEFORE | {"options.face.min_face": "9.0"}) == (
        "options.face.min_face was not set, is 9.0"
    )
    # Of one that did something else before it could be set, either is no reason.
    for seconds in ("0.0", "0.12"):
        assert why(BEFORE | {"options.temporal.min_track": seconds}) is None
    assert why(BEFORE | {"options.temporal.min_track": "0.3"}) == (
        "options.temporal.min_track was not set, is 0.3"
    )
    gone = {name: value for name, value in BEFORE.items() if not name.startswith("options.")}
    assert why(gone) is None


def test_weights_decide_where_they_are_known_else_the_engine() -> None:
    known = {"model.weights": "w", "engine.identity": "e"}
    assert why(BEFORE | known | {"engine.identity": "f"}, identity=BEFORE | known) is None
    other = why(BEFORE | known | {"model.weights": "x"}, identity=BEFORE | known)
    assert other == "model.weights was w, is x"
    alone = {"engine.identity": "e"}
    reason = why(BEFORE | {"engine.identity": "f"}, identity=BEFORE | alone)
    assert reason == "engine.identity was e, is f"


def test_a_failure_is_remembered_while_nothing_changed() -> None:
    assert why(BEFORE, status="failed") is None
    assert why(BEFORE | {"version.torch": "3"}, status="failed") == "version.torch was 2, is 3"
    assert why(BEFORE, status="failed", identity={}) == "failed before"
    assert why(BEFORE, status="working") == "was interrupted"
    assert why(BEFORE, status="pending") == "new"
