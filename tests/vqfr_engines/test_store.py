"""Where engines are kept, what is said of them, and that nothing else is ever deleted."""

from pathlib import Path

import pytest
from platformdirs import user_cache_path
from vqfr_engines.request import build_command
from vqfr_engines.store import (
    check_files,
    file_hashes,
    folder_name,
    list_engines,
    locate_engine,
    remove_engine,
)

from tests.vqfr_engines.small import a_manifest, an_identity
from vqfr_media.engines_folder import VARIABLE, engines_folder
from vqfr_media.errors import EngineFileError, OptionError
from vqfr_media.manifest import MANIFEST


def test_the_variable_moves_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines_folder(environ={}) == user_cache_path("vqfr-media") / "engines"
    assert engines_folder(environ={VARIABLE: "/data/engines"}) == Path("/data/engines")
    monkeypatch.setenv("HOME", "/home/someone")
    assert engines_folder(environ={VARIABLE: "~/engines"}) == Path("/home/someone/engines")


def test_names_can_be_read_and_hold_the_identity() -> None:
    identity = an_identity()
    assert folder_name(identity) == f"lite-openvino-float32-b1-{identity.sha256[:12]}"


def test_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "encoder.bin").write_bytes(b"abc")
    (tmp_path / MANIFEST).write_text("{}")
    (tmp_path / ".DS_Store").write_text("a file manager's")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hashes(tmp_path) == {"encoder.bin": known}


def test_no_engines_where_there_is_no_folder(root: Path) -> None:
    assert list_engines() == []
    root.write_text("a file")
    with pytest.raises(EngineFileError, match="no folder that can be read"):
        list_engines()


def test_only_engines_are_listed(root: Path) -> None:
    for name in (".half-built", "engine"):
        (root / name).mkdir(parents=True)
    (root / "notes.txt").write_text("hello")
    (status,) = list_engines()
    assert (status.folder, status.state, status.manifest) == (root / "engine", "damaged", None)
    assert "is no engine" in status.why


def test_every_fault_of_the_files_is_named(root: Path) -> None:
    root.mkdir()
    (root / MANIFEST).write_text(a_manifest().to_json())
    (root / "encoder.xml").write_text("x")
    (root / "encoder.bin").write_text("x")
    with pytest.raises(EngineFileError) as caught:
        check_files(root)
    message = str(caught.value)
    for fault in (
        "decoder.xml is missing",
        "decoder.bin is missing",
        "encoder.bin is not in its manifest",
        "encoder.xml is not what its manifest says (SHA-256 2d711642b726",
    ):
        assert fault in message


def test_an_engine_is_found_by_name_or_path(root: Path, tmp_path: Path) -> None:
    (root / "kept").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    assert locate_engine("kept") == root / "kept"
    assert locate_engine(str(tmp_path / "own")) == tmp_path / "own"
    with pytest.raises(OptionError, match="there is no engine nowhere"):
        locate_engine("nowhere")


def test_nothing_but_an_engine_is_removed(root: Path) -> None:
    whole, foreign, nested = (root / name for name in ("whole", "foreign", "nested"))
    for folder in (whole, foreign, nested):
        folder.mkdir(parents=True)
        for name in (MANIFEST, "encoder.bin", "decoder.bin"):
            (folder / name).write_text("x")
    (foreign / "index.html").write_text("a web application has a manifest.json, too")
    (nested / "decoder.d").mkdir()
    remove_engine(whole)
    assert not whole.exists()
    for folder, name in ((foreign, "index.html"), (nested, "decoder.d")):
        before = sorted(folder.iterdir())
        with pytest.raises(OptionError, match=f"{name}, which is no engine's; it is not removed"):
            remove_engine(folder)
        assert sorted(folder.iterdir()) == before
    with pytest.raises(OptionError, match="No such file"):
        remove_engine(root / "gone")


def test_the_build_command_can_be_pasted() -> None:
    command = build_command(
        an_identity(), weights="/my weights/lite.safetensors", output=Path("/e")
    )
    assert command == (
        "vqfr-media engine build --backend openvino --model lite --precision float32 "
        "--batch-size 1 --weights '/my weights/lite.safetensors' -o /e"
    )
