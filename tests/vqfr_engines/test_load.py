"""What `--backend auto` takes, builds, refuses and says; and engines that are whole, but broken."""

import logging
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from vqfr_engines import build, source_hash
from vqfr_engines.build import build_engine
from vqfr_engines.load import in_exact_precision, load_automatically, load_built
from vqfr_engines.request import EngineRequest, identity_of
from vqfr_engines.store import (
    check_files,
    file_hashes,
    folder_name,
    list_engines,
    remove_engine,
)

from tests.vqfr_engines.small import copied, edit, request_for
from vqfr_media.backends.openvino_library import openvino
from vqfr_media.engine import load_engine
from vqfr_media.engines_folder import VARIABLE
from vqfr_media.errors import (
    BackendError,
    EngineError,
    EngineFileError,
    InexactEngineError,
    OptionError,
    OutputError,
)
from vqfr_media.files import wait_for_folder
from vqfr_media.manifest import MANIFEST, read_manifest
from vqfr_media.options import ModelOptions

pytest.importorskip("openvino", reason="OpenVINO is not installed here: pip install openvino")


def options_for(weights: Path) -> ModelOptions:
    return ModelOptions(model="lite", weights=weights, device="cpu")


def test_a_precision_that_is_not_to_be_had_is_never_dropped(
    weights: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = replace(options_for(weights), precision="float16")
    with pytest.raises(BackendError, match=r"--precision float16 cannot be had: .*OpenVINO.*leave"):
        load_engine(asked)
    with pytest.raises(BackendError, match="OpenVINO computes in float32 or bfloat16"):
        load_engine(replace(asked, backend="openvino"))
    assert caplog.messages == []
    assert not root.exists()


def test_bfloat16_is_built_where_float16_is_refused_and_nobody_asked_for_it(
    weights: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = replace(request_for(weights), backend="inductor", precision="float16")
    tried: list[str] = []

    def work(wanted: EngineRequest) -> str:
        tried.append(wanted.precision)
        if wanted.precision == "float16":
            raise InexactEngineError("the engine in float16 is refused: 9 % of codes flip")
        return "built"

    with pytest.raises(InexactEngineError):  # asked for by name: never replaced
        in_exact_precision(request, is_open=False, work=work)
    assert tried == ["float16"]
    assert in_exact_precision(request, is_open=True, work=work) == "built"
    assert tried == ["float16", "float16", "bfloat16"]
    assert caplog.messages == [
        "the engine in float16 is refused: 9 % of codes flip; it is built in bfloat16 instead"
    ]
    # From then on it is kept, and float16 is not tried for ten minutes again.
    wider = replace(request, precision="bfloat16")
    (root / folder_name(identity_of(wider))).mkdir(parents=True)
    assert in_exact_precision(request, is_open=True, work=work) == "built"
    assert tried[3:] == ["bfloat16"]
    # A kept one in float16 comes first all the same.
    (root / folder_name(identity_of(request))).mkdir()
    assert in_exact_precision(request, is_open=True, work=lambda one: one.precision) == "float16"
    single = replace(request, precision="float32")
    assert in_exact_precision(single, is_open=True, work=lambda one: one.precision) == "float32"


def test_a_backend_is_checked_before_weights_are_fetched(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    del root
    # v1's weights are not here: were they looked for first, this were a WeightsError.
    asked = ModelOptions(model="v1", backend="openvino", precision="float16")
    with pytest.raises(BackendError, match="not in float16"):
        load_engine(asked, offline=True)
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match=r"PyTorch sees none|vqfr-media\[tensorrt\]"):
            load_engine(ModelOptions(model="v1", backend="tensorrt"), offline=True)


def test_auto_takes_the_newest_that_is_kept(weights: Path, engine: Path, root: Path) -> None:
    default = copied(engine, root)
    newer = build_engine(request_for(weights, batch_size=2))
    edit(default, lambda document: document.update(built="2026-01-01T00:00:00+00:00"))
    loaded, chosen = load_engine(options_for(weights))
    assert (chosen.engine, loaded.spec.batch_size) == (newer.folder, 2)
    edit(default, lambda document: document.update(built="2999-01-01T00:00:00+00:00"))
    assert load_engine(options_for(weights))[1].engine == default
    # What is said is done: another batch size is built, if need be.
    assert load_engine(replace(options_for(weights), batch_size=2))[1].engine == newer.folder


def test_auto_passes_over_what_was_built_for_another_machine(
    weights: Path, engine: Path, root: Path
) -> None:
    other = copied(engine, root)

    def elsewhere(document: dict[str, dict[str, object]]) -> None:
        document["identity"]["batch_size"] = document["spec"]["batch_size"] = 7
        document["identity"]["machine"] = {"cpu": "Another Machine"}

    edit(other, elsewhere)
    other.rename(root / "other")
    assert load_engine(options_for(weights))[0].spec.batch_size == 1


def test_on_a_gpu_without_an_engine_the_reason_is_a_command(weights: Path, root: Path) -> None:
    del root
    wanted = [
        replace(request_for(weights), backend=backend, precision="float16", device="cuda:0")
        for backend in ("tensorrt", "inductor")
    ]
    found = load_automatically(wanted, any_precision=True, any_batch_size=True)
    assert found == (
        "no engine of lite is built for cuda:0: build one with "
        "`vqfr-media engine build --backend inductor --model lite --precision float16 "
        f"--batch-size 1 --weights {weights} --device cuda:0`"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the engine could be looked at")
def test_on_a_gpu_every_reason_is_told(weights: Path, engine: Path, root: Path) -> None:
    kept = copied(engine, root)

    def for_gpu(document: dict[str, dict[str, object]]) -> None:
        document["identity"]["backend"] = "inductor"
        document["spec"]["device"] = "cuda:0"

    edit(kept, for_gpu)
    wanted = [
        replace(request_for(weights), backend=backend, device="cuda:0")
        for backend in ("tensorrt", "inductor")
    ]
    found = load_automatically(wanted, any_precision=True, any_batch_size=True)
    # There is one, so its backend's trouble is the reason; of tensorrt, none is kept.
    assert found == (
        "there is no inductor engine: device 'cuda:0' is not here: no NVIDIA GPU or driver"
    )


@pytest.mark.usefixtures("root")
def test_a_missing_openvino_is_said_on_a_cpu(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    _, chosen = load_engine(options_for(weights))
    (line,) = caplog.messages
    assert chosen.backend == "torch"
    assert line.startswith(chosen.backend_why)
    assert "pip install" in line


def garble(folder: Path) -> None:
    """The files no longer load, and the manifest says that they are as they should be."""
    for path in folder.iterdir():
        if path.name != MANIFEST:
            path.write_bytes(b"garbage " + path.name.encode())
    edit(folder, lambda document: document.update(files=file_hashes(folder)))


def test_an_engine_that_does_not_load_is_replaced(
    weights: Path, engine: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(engine, root)
    garble(folder)
    assert check_files(folder) == read_manifest(folder)
    with caplog.at_level(logging.WARNING):
        loaded = load_built(request_for(weights))
    assert any("it is built again" in line for line in caplog.messages)
    assert loaded.folder == folder
    assert loaded.manifest.files == read_manifest(folder).files == file_hashes(folder)
    assert loaded.engine.encode(torch.rand(1, 3, 32, 32)).shape == (1, 16, 16, 16)


def test_only_the_engine_that_failed_is_built_again(
    weights: Path, engine: Path, root: Path
) -> None:
    folder = copied(engine, root)
    failed = replace(read_manifest(engine), built="2026-01-01T00:00:00+00:00")
    # Another process has replaced the one that failed here.
    built = build_engine(request_for(weights), unusable=failed)
    assert (built.fresh, built.folder) == (False, folder)


def test_an_engine_that_cannot_be_built_again_is_kept(
    weights: Path, engine: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(engine, root)
    garble(folder)
    before = file_hashes(folder)

    def exhausted(*_: object, **__: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory.\n  Tried to allocate 2 GiB.")

    monkeypatch.setattr(build, "Reference", exhausted)
    with pytest.raises(EngineError, match=r"batches of 1: OutOfMemoryError: CUDA out of memory\. "):
        load_built(request_for(weights))
    assert file_hashes(folder) == before
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == [folder.name]


def test_hidden_files_are_no_hindrance_and_not_enough(
    weights: Path, engine: Path, root: Path, tmp_path: Path
) -> None:
    folder = copied(engine, root)
    (folder / ".DS_Store").write_text("a file manager's")
    (folder / MANIFEST).unlink()
    assert build_engine(request_for(weights)).fresh
    (folder / ".nfs0001").write_text("a network's")
    remove_engine(folder)
    assert not folder.exists()
    own = tmp_path / "own"
    own.mkdir()
    (own / ".profile").write_text("mine")
    with pytest.raises(OptionError, match=r"holds \.profile"):
        remove_engine(own)
    (own / ".git").mkdir()
    (own / MANIFEST).write_text("{}")
    with pytest.raises(OptionError, match=r"holds \.git"):
        build_engine(request_for(weights), output=own)


def test_what_lies_in_an_engines_place_is_left_and_said(
    weights: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = root / folder_name(identity_of(request_for(weights)))
    folder.mkdir(parents=True)
    (folder / "diary.txt").write_text("dear diary")
    _, chosen = load_engine(options_for(weights))
    assert chosen.backend == "torch"
    assert "diary.txt" in chosen.backend_why
    assert any("PyTorch does the work" in line for line in caplog.messages)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_a_place_that_cannot_be_looked_at_says_the_way_out(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may read everything; a name that is too long fails in the same calls for everybody.
    place = tmp_path / ("x" * 300)
    monkeypatch.setenv(VARIABLE, str(place))
    with pytest.raises(OutputError, match=VARIABLE):
        build_engine(request_for(weights))
    with pytest.raises(EngineFileError, match=VARIABLE):
        list_engines()
    _, chosen = load_engine(options_for(weights))
    assert chosen.backend == "torch"
    assert VARIABLE in chosen.backend_why


def test_removing_waits_for_who_is_building(
    engine: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(engine, root)
    remover = threading.Thread(target=remove_engine, args=(folder,))
    with wait_for_folder(folder):
        remover.start()
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [line.split(";")[-1] for line in caplog.messages] == [" waiting for it"]
        assert check_files(folder) == read_manifest(engine)
    remover.join(60)
    assert not folder.exists()


def test_a_manifest_that_cannot_be_read_says_the_way_out(engine: Path, root: Path) -> None:
    folder = copied(engine, root)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(EngineFileError, match=r"`vqfr-media engine build --backend .* -o /.*`"):
        load_engine(ModelOptions(engine=folder))


def test_our_own_code_is_part_of_the_identity(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code_of_a_test"
    folder.mkdir()
    for name in ("__init__", "openvino", "inductor"):
        (folder / f"{name}.py").write_text("width = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(source_hash, "modules_of", lambda backend: [f"{folder.name}.{backend}"])
    first = identity_of(request_for(weights))
    (folder / "inductor.py").write_text("width = 2")
    (folder / "openvino.py").write_text("width = 1  # pixels")
    assert identity_of(request_for(weights)) == first
    (folder / "openvino.py").write_text("width = 2")
    changed = identity_of(request_for(weights))
    assert changed.sha256 != first.sha256
    (difference,) = first.differences(changed)
    assert difference.startswith("options sources is ")


@pytest.mark.usefixtures("root")
def test_on_a_cpu_a_trial_of_bfloat16_decides_nothing(weights: Path) -> None:
    if "BF16" not in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("no bfloat16 on this processor")
    tried, _ = load_engine(replace(options_for(weights), precision="bfloat16", backend="openvino"))
    assert tried.spec.precision == "bfloat16"
    assert load_engine(options_for(weights))[0].spec.precision == "float32"
