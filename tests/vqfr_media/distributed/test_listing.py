"""Listings of URLs are whole, or an error, or say what they lack."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from tests.vqfr_media.distributed.conftest import Quiet
from vqfr_media.batch.find_media import FileFilter
from vqfr_media.distributed.listing import list_inputs, list_outputs
from vqfr_media.distributed.remote import RemoteOutput, plan_url
from vqfr_media.errors import MediaError
from vqfr_media.options import RestoreOptions


class Flaky(LocalFileSystem):  # type: ignore[misc]
    """A file system of which a folder called "down" cannot be listed."""

    protocol = ("flaky",)

    def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
        if path.rstrip("/").endswith("/down"):
            raise TimeoutError("nobody answers")
        return super().ls(path, detail=detail, **more)

    def unstrip_protocol(self, name: str) -> str:
        return f"flaky://{self._strip_protocol(name)}"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("flaky://").rstrip("/") or "/"


@pytest.fixture
def flaky() -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    yield
    fsspec.register_implementation("flaky", LocalFileSystem, clobber=True)


def names(folder: Path, *found: str) -> None:
    for name in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode(errors="surrogateescape"))


@pytest.mark.usefixtures("flaky")
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    names(tmp_path, "a.jpg", "sub/b.jpg", "sub/down/c.jpg")
    url = f"flaky://{tmp_path}"
    listing = list_inputs(url)
    assert {str(path) for path in listing.files} == {"a.jpg", "sub/b.jpg"}
    line = f"{url}/sub/down: cannot be listed: TimeoutError: nobody answers"
    assert listing.unreadable == [line]
    plan, _ = plan_url(url, tmp_path / "out", RestoreOptions(), cache=tmp_path / "cache")
    assert plan.unreadable == (line,)
    with pytest.raises(MediaError, match="cannot be listed: TimeoutError: nobody answers"):
        list_outputs(url)
    with pytest.raises(MediaError, match="cannot be listed: TimeoutError: nobody answers"):
        list_inputs(f"{url}/sub/down")


@pytest.mark.usefixtures("flaky")
def test_outputs_that_cannot_be_listed_are_left_alone(tmp_path: Path) -> None:
    names(tmp_path, "in/a.jpg", "there/down/a.jpg")
    target = RemoteOutput(f"flaky://{tmp_path}/there/down", tmp_path / "cache")
    names(target.folder, "a.jpg", "batch.json")
    plan, _ = plan_url(
        f"file://{tmp_path}/in", target.folder, RestoreOptions(), cache=tmp_path / "cache"
    )
    with pytest.raises(MediaError, match="nobody answers"):
        target.download(plan)
    assert sorted(path.name for path in target.folder.iterdir()) == ["a.jpg", "batch.json"]


def test_what_is_not_there_or_not_answering(tmp_path: Path, web: tuple[Path, str]) -> None:
    with pytest.raises(MediaError, match="nothing: no such folder"):
        list_inputs(f"file://{tmp_path}/nothing")
    with pytest.raises(MediaError, match="no such folder"):
        list_inputs(f"file://{tmp_path}/nothing/*.mp4")
    assert list_outputs(f"file://{tmp_path}/nothing") == {}
    host, _, port = web[1].rpartition(":")
    with pytest.raises(MediaError, match="cannot be listed: ClientConnectorError"):
        list_inputs(f"{host}:{1 if port != '1' else 2}/")


def test_a_web_server_whose_folder_fails(
    web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = web
    names(folder, "a.jpg", "sub/b.jpg")
    usual = Quiet.do_GET

    def do_get(handler: Quiet) -> None:
        if handler.path.startswith("/sub"):
            handler.send_error(404)
        else:
            usual(handler)

    monkeypatch.setattr(Quiet, "do_GET", do_get)
    listing = list_inputs(f"{url}/")
    assert {str(path) for path in listing.files} == {"a.jpg"}
    assert [line.partition(":")[0] for line in listing.unreadable] == ["http"]
    assert f"{url}/sub/: cannot be listed" in listing.unreadable[0]


def test_links_and_names_that_are_no_text(tmp_path: Path) -> None:
    names(tmp_path, "in/caf\udce9.jpg", "in/real/a.jpg", "elsewhere/b.jpg")
    inside = tmp_path / "in"
    (inside / "link.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (inside / "folder").symlink_to(tmp_path / "elsewhere")
    (inside / "dangling.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(inside / "pipe.jpg")
    names(inside, "notes.txt", "x.png")
    plan, found = plan_url(
        f"file://{inside}", tmp_path / "out", RestoreOptions(), cache=tmp_path / "cache",
        file_filter=FileFilter(exclude=("x.*",)),
    )  # fmt: skip
    taken = [task.output.relative_to(tmp_path / "out").as_posix() for task in plan.tasks]
    assert sorted(taken) == sorted(["caf\udce9.jpg", "link.jpg", "real/a.jpg"])
    assert {remote.size for remote in found.values()} == {11, 13, 15}
    assert plan.left_out == (
        f"file://{inside}/folder: a link to a folder",
        "1 file of other kinds: 1 .txt",
        "1 file by --include or --exclude",
    )


def test_a_pattern_is_not_looked_for_deeper_than_it_reaches(tmp_path: Path) -> None:
    names(tmp_path, "a.mp4", "s1/b.mp4", "s1/deep/c.mp4", "s2/d.mkv", "a?b/e.mp4")
    url = f"file://{tmp_path}"
    found = {str(path) for path in list_inputs(f"{url}/*/*.mp4").files}
    assert found == {"s1/b.mp4", "a?b/e.mp4"}
    assert {str(path) for path in list_inputs(f"{url}/s?/*").files} == {"s1/b.mp4", "s2/d.mkv"}
    found = {str(path) for path in list_inputs(f"{url}/**/*.mp4").files}
    assert found == {"a.mp4", "s1/b.mp4", "s1/deep/c.mp4", "a?b/e.mp4"}
    assert list_inputs(f"{url}/a.mp4").files.keys() == {PurePosixPath("a.mp4")}
