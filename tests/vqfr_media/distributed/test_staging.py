"""Files behind URLs: listed, fetched once, noticed when they change, and put there whole."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePath, PurePosixPath

import fsspec  # type: ignore[import-untyped]
import pytest
from PIL import Image

from tests.scenes import scene, write_scene
from tests.vqfr_media.distributed.workers import inverting
from vqfr_media.batch.file_report import ReportingWorker, is_file_report
from vqfr_media.batch.find_media import FileFilter
from vqfr_media.batch.local_worker import LocalWorker
from vqfr_media.batch.record import REPORT_NAME, read_report, report_json
from vqfr_media.batch.run import run_batch
from vqfr_media.batch.task import BatchPlan
from vqfr_media.distributed.listing import list_outputs
from vqfr_media.distributed.remote import (
    RemoteOutput,
    StagingWorker,
    plan_url,
    refuse_output_within,
)
from vqfr_media.distributed.staging import (
    RemoteFile,
    cached_path,
    fetch_cached,
    is_url,
    query_file,
    upload_file,
)
from vqfr_media.errors import BackendError, InputError, MediaError, OptionError, OutputError
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video

FAST = RestoreOptions(encode=EncodeOptions(preset="ultrafast"))


def test_urls_are_told_from_paths() -> None:
    assert is_url("s3://bucket/folder")
    assert is_url("https://host/a%20b/")
    assert is_url("file:///folder")
    assert not is_url("folder/in it")
    assert not is_url("C:/folder")
    assert not is_url("a folder://odd")


def test_what_lies_below_a_url(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b/é #1.mp4").write_bytes(b"12345")
    (tmp_path / "x.jpg").write_bytes(b"123")
    found = list_outputs(f"file://{tmp_path}")
    assert {str(path): remote.size for path, remote in found.items()} == {
        "a b/é #1.mp4": 5,
        "x.jpg": 3,
    }
    assert list_outputs(f"file://{tmp_path}/**/*.mp4").keys() == {PurePosixPath("a b/é #1.mp4")}
    assert list_outputs(f"file://{tmp_path}/*.jpg")[PurePosixPath("x.jpg")] == query_file(
        f"file://{tmp_path}/x.jpg"
    )
    assert list_outputs(f"file://{tmp_path}/nothing") == {}


def test_what_a_web_server_shows(tmp_path: Path, web: tuple[Path, str]) -> None:
    folder, url = web
    (folder / "a b").mkdir()
    (folder / "a b/é #1.mp4").write_bytes(b"12345")
    found = list_outputs(f"{url}/")
    assert {str(path): remote.size for path, remote in found.items()} == {"a b/é #1.mp4": 5}
    path, digest = fetch_cached(found[PurePosixPath("a b/é #1.mp4")], tmp_path / "cache")
    assert (path.name, path.read_bytes()) == ("é #1.mp4", b"12345")
    assert digest == sha256(b"12345").hexdigest()


def test_a_file_is_fetched_once_and_again_when_it_changes(tmp_path: Path) -> None:
    source, cache = tmp_path / "in.mp4", tmp_path / "cache"
    source.write_bytes(b"first")
    url = f"file://{source}"
    first, digest = fetch_cached(query_file(url), cache)
    inode = first.stat().st_ino
    assert fetch_cached(query_file(url), cache) == (first, digest)
    assert first.stat().st_ino == inode
    source.write_bytes(b"another")
    os.utime(source, ns=(1, 1))
    again, other = fetch_cached(query_file(url), cache)
    assert (again, again.read_bytes()) == (first, b"another")
    assert other != digest
    # What a worker is told is the content: it need not ask the server for tags.
    inode = again.stat().st_ino
    assert fetch_cached(RemoteFile(url, None, "", other), cache)[0].stat().st_ino == inode
    assert sorted(p.name for p in again.parent.iterdir()) == ["in.mp4", "lock", "origin.json"]


def test_without_a_tag_a_file_is_fetched_each_time(tmp_path: Path) -> None:
    source, cache = tmp_path / "in.mp4", tmp_path / "cache"
    source.write_bytes(b"first")
    untold = replace(query_file(f"file://{source}"), tag="")
    fetch_cached(untold, cache)
    source.write_bytes(b"other")
    assert fetch_cached(untold, cache)[0].read_bytes() == b"other"


def test_a_file_that_is_not_what_was_listed(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"first")
    listed = query_file(f"file://{source}")
    for wrong in (replace(listed, size=4), replace(listed, sha256="0" * 64)):
        with pytest.raises(MediaError, match="is another file than when it was listed"):
            fetch_cached(wrong, tmp_path / "cache")
    assert not cached_path(listed.url, tmp_path / "cache").exists()
    source.unlink()
    with pytest.raises(MediaError, match=r"in\.mp4: cannot be fetched: FileNotFoundError"):
        fetch_cached(listed, tmp_path / "cache")
    with pytest.raises(MediaError, match=r"in\.mp4: cannot be read: FileNotFoundError"):
        query_file(listed.url)


def test_what_cannot_be_reached(tmp_path: Path, web: tuple[Path, str]) -> None:
    with pytest.raises(BackendError, match=r"nosuch://x: cannot be opened: .*pip install"):
        list_outputs("nosuch://x")
    with pytest.raises(BackendError, match="s3fs"):
        list_outputs("s3://bucket/folder")
    with pytest.raises(MediaError, match="cannot be read"):
        query_file(f"{web[1]}/nothing.mp4")
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(OutputError, match="cannot be written"):
        upload_file(tmp_path / "x", f"{web[1]}/x")
    with pytest.raises(OutputError, match=r"cache.*cannot be written"):
        fetch_cached(query_file(f"file://{tmp_path}/x"), tmp_path / "x" / "cache")


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_published_files_are_whole_or_not_there(tmp_path: Path, scheme: str) -> None:
    source = tmp_path / "x.mp4"
    url = f"{scheme}://{tmp_path}/out/a b"
    for content in (b"first", b"second"):
        source.write_bytes(content)
        upload_file(source, f"{url}/x.mp4")
        with fsspec.open(f"{url}/x.mp4", "rb") as file:
            assert file.read() == content
    assert list(list_outputs(url)) == [PurePosixPath("x.mp4")]
    source.unlink()
    with pytest.raises(OutputError, match=r"x\.mp4: cannot be written: FileNotFoundError"):
        upload_file(source, f"{url}/x.mp4")
    assert list(list_outputs(url)) == [PurePosixPath("x.mp4")]


def test_a_plan_of_what_lies_behind_a_url(tmp_path: Path) -> None:
    for name in ("s 1/e10.mp4", "s 1/e2.avi", "x.jpg", "notes.txt", ".hidden/y.mp4", "s 1/no.mp4"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    plan, found = plan_url(
        f"file://{tmp_path}/in", tmp_path / "out", RestoreOptions(), cache=tmp_path / "cache",
        file_filter=FileFilter(exclude=("no.*",)),
    )  # fmt: skip
    assert [task.output.relative_to(tmp_path / "out") for task in plan.tasks] == [
        PurePath("s 1/e2.mkv"),
        PurePath("s 1/e10.mp4"),
        PurePath("x.jpg"),
    ]
    assert [task.kind for task in plan.tasks] == ["video", "video", "image"]
    for task in plan.tasks:
        assert fetch_cached(found[task.source], tmp_path / "cache")[0] == task.source
        assert task.source.read_bytes().decode().endswith(task.source.name)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="no video or image to restore in it"):
        plan_url(f"file://{tmp_path}/out", tmp_path, RestoreOptions(), cache=tmp_path)


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_results_of_an_earlier_batch_are_no_inputs(
    tmp_path: Path, web: tuple[Path, str], scheme: str
) -> None:
    there, address = web
    url = address if scheme == "http" else f"file://{there}"
    for name in ("a.jpg", "out/a.jpg", "out/deep/b.jpg", "own/c.jpg"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(b"x")
    (there / REPORT_NAME).write_bytes(report_json([], "now"))  # that of the inputs' own place
    (there / "out" / REPORT_NAME).write_bytes(report_json([], "now"))
    (there / "own" / REPORT_NAME).write_text('{"schema": "a person\'s own"}')
    plan, _ = plan_url(url, tmp_path / "out", RestoreOptions(), cache=tmp_path / "cache")
    assert [task.output.relative_to(tmp_path / "out").as_posix() for task in plan.tasks] == [
        "a.jpg", "own/c.jpg",
    ]  # fmt: skip
    assert plan.left_out == (
        f"{url}/out: holds the results of an earlier batch",
        "1 file of other kinds: 1 .json",
    )


def test_two_processes_do_not_write_to_one_url(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    with RemoteOutput(url, tmp_path / "cache").locked():
        second = RemoteOutput(f"{url}/", tmp_path / "cache")
        with pytest.raises(OutputError, match="another vqfr-media on this machine"):
            second.locked().__enter__()
        with RemoteOutput(f"{url}2", tmp_path / "cache").locked():
            pass
    with second.locked():
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"), RemoteOutput(url, tmp_path / "file").locked():
        pass


def test_a_target_sees_what_is_missing_altered_or_anothers(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    there, cache = tmp_path / "there", tmp_path / "cache"
    url = f"file://{there}"

    def target() -> RemoteOutput:
        found = RemoteOutput(url, cache)
        plan, _ = plan_url(f"file://{tmp_path}/in", found.folder, RestoreOptions(), cache=cache)
        found.download(plan)
        return found

    first = target()
    first.folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c.jpg", REPORT_NAME):
        (first.folder / name).write_bytes(name.encode())
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        first.upload(first.folder / name)
    first.upload_report()
    assert sorted(path.name for path in there.iterdir()) == ["a.jpg", "b.jpg", REPORT_NAME, "c.jpg"]
    kept = first.folder / "c.jpg"
    inode = kept.stat().st_ino
    (there / "a.jpg").unlink()
    (there / "b.jpg").write_bytes(b"altered")
    second = target()
    assert second.folder == first.folder
    assert not (second.folder / "a.jpg").exists()
    assert (second.folder / "b.jpg").read_bytes() == b"altered"
    assert kept.stat().st_ino == inode
    # From another machine, or where the cache was emptied, all is as it is there.
    for path in second.folder.iterdir():
        path.unlink()
    third = target()
    assert (third.folder / "c.jpg").read_bytes() == b"c.jpg"
    assert (third.folder / REPORT_NAME).read_bytes() == REPORT_NAME.encode()


def test_a_batch_from_one_url_to_another(tmp_path: Path) -> None:
    """Only what is missing, altered or changed at either end is worked again."""
    source, there, cache = tmp_path / "in", tmp_path / "there", tmp_path / "cache"
    (source / "a b").mkdir(parents=True)
    Image.fromarray(scene(3)).save(source / "a b/é.png")
    write_scene(source / "film.mp4", frames=6, codec="libx264")
    (source / "text.mp4").write_text("no video")
    target = RemoteOutput(f"file://{there}", cache)

    def run() -> list[str]:
        plan, found = plan_url(f"file://{source}", target.folder, FAST, cache=cache)
        target.download(plan)
        local = LocalWorker(inverting())
        worker = StagingWorker(local, remote_files=found, cache=cache, output=target)
        report = run_batch(plan, worker)
        target.upload_report()
        return [record.status for record in report.records]

    assert run() == ["done", "done", "failed"]
    restore_video(source / "film.mp4", tmp_path / "film.mp4", FAST, ready=inverting())
    assert (there / "film.mp4").read_bytes() == (tmp_path / "film.mp4").read_bytes()
    told = read_report(there / REPORT_NAME)
    assert [record.status for record in told] == ["done", "done", "failed"]
    assert told[1].source == f"file://{source}/film.mp4"
    assert run() == ["unchanged", "unchanged", "failed"]
    (there / "film.mp4").unlink()
    assert run() == ["unchanged", "done", "failed"]
    (there / "a b/é.png").write_bytes(b"altered")
    assert run() == ["done", "unchanged", "failed"]
    Image.fromarray(scene(4)).save(source / "a b/é.png")
    write_scene(source / "text.mp4", frames=5, codec="libx264")
    assert run() == ["done", "unchanged", "done"]
    assert sorted(path.name for path in there.rglob("*") if path.is_file()) == [
        "batch.json", "film.mp4", "text.mp4", "é.png",
    ]  # fmt: skip


def test_a_file_at_a_url_that_is_no_report_stays(tmp_path: Path) -> None:
    source, there, cache = tmp_path / "in", tmp_path / "there", tmp_path / "cache"
    source.mkdir()
    there.mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(scene(number)).save(source / name)
    (there / "a.png.report.json").write_text("a person's own")
    target = RemoteOutput(f"file://{there}", cache)
    plan, found = plan_url(f"file://{source}", target.folder, FAST, cache=cache)
    target.download(plan, reports=True)
    local = ReportingWorker(LocalWorker(inverting()))
    worker = StagingWorker(local, remote_files=found, cache=cache, output=target, reports=True)
    assert [record.status for record in run_batch(plan, worker).records] == ["done", "done"]
    assert (there / "a.png.report.json").read_text() == "a person's own"
    assert is_file_report(there / "b.png.report.json")


def test_an_output_of_another_url_is_not_replaced(tmp_path: Path) -> None:
    def run(place: str, number: int) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        Image.fromarray(scene(number)).save(tmp_path / place / "a.png")
        cache = tmp_path / "cache"
        plan, found = plan_url(f"file://{tmp_path}/{place}", tmp_path / "out", FAST, cache=cache)
        worker = StagingWorker(
            LocalWorker(inverting()), remote_files=found, cache=cache, output=None
        )
        record = run_batch(plan, worker).records[0]
        return record.reason if record.status == "failed" else record.status

    assert run("one", 3) == "done"
    assert run("one", 4) == "done"
    assert run("two", 4) == "unchanged"  # the same content from another place
    assert run("one", 4) == "unchanged"
    for _ in range(2):
        assert f"was made from file://{tmp_path}/one/a.png" in run("two", 5)
    assert run("one", 5) == "done"


def test_no_name_of_a_server_leads_out_of_the_cache(tmp_path: Path) -> None:
    for name in ("%2Fhome%2Fme%2Ffilm.mp4", "..%2F..%2Ffilm.mp4", "%2e%2e", "a/%2E", "%00"):
        place = cached_path(f"http://host/films/{name}", tmp_path)
        assert place.parent.parent == tmp_path
        assert ".." not in place.parts
    assert cached_path("http://host/films/a%20b.mp4", tmp_path).name == "a b.mp4"


@pytest.mark.parametrize("inside", ["", "/", "/out", "/out/deep/"])
def test_outputs_among_the_inputs_are_refused(tmp_path: Path, inside: str) -> None:
    url = f"file://{tmp_path}"
    for output, source in ((url + inside, str(tmp_path)), (f"{tmp_path}{inside}", url)):
        with pytest.raises(OptionError, match="results would be taken for inputs"):
            refuse_output_within(output, source)
    with pytest.raises(OptionError, match="name another place"):
        refuse_output_within(f"{url}/a/out", f"{url}/a/*/*.mkv")
    refuse_output_within(f"{url}s{inside}", url)
    refuse_output_within(url, f"{url}/films")


def test_a_report_that_another_machine_wrote_or_removed_counts(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    target = RemoteOutput(f"file://{there}", tmp_path / "cache")
    nothing = BatchPlan(target.folder, ())
    target.folder.mkdir(parents=True)
    (target.folder / REPORT_NAME).write_text("of a run that was cut off")
    target.download(nothing)
    assert (target.folder / REPORT_NAME).read_text() == "of a run that was cut off"
    target.upload_report()
    assert (there / REPORT_NAME).read_text() == "of a run that was cut off"
    (there / REPORT_NAME).write_text("another machine's, newer")
    again = RemoteOutput(f"file://{there}", tmp_path / "cache")
    again.download(nothing)
    assert (again.folder / REPORT_NAME).read_text() == "another machine's, newer"
    again.upload_report()
    (there / REPORT_NAME).unlink()
    RemoteOutput(f"file://{there}", tmp_path / "cache").download(nothing)
    assert not (again.folder / REPORT_NAME).exists()
