"""An engine is built once, whole or not at all, and what is wrong with one is seen and mended."""

import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from vqfr_engines import parity
from vqfr_engines.build import build_engine
from vqfr_engines.parity import CROPS, LIMITS, Limits, Reference, faults, fixed_crops
from vqfr_engines.request import identity_of, open_engine
from vqfr_engines.store import check_files, folder_name, list_engines
from vqfr_engines.verify import verify_engine

from tests.vqfr_engines.small import (
    DAMAGES,
    copied,
    cut_the_manifest,
    edit,
    flip_a_bit,
    lose_the_decoder,
    request_for,
    small_network,
    small_weights,
)
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.engine import load_engine
from vqfr_media.engines_folder import VARIABLE
from vqfr_media.errors import (
    BackendError,
    EngineFileError,
    InexactEngineError,
    OptionError,
    OutputError,
    WeightsError,
)
from vqfr_media.manifest import MANIFEST, read_manifest
from vqfr_media.options import ModelOptions

pytest.importorskip("openvino", reason="OpenVINO is not installed here: pip install openvino")


def options_for(weights: Path) -> ModelOptions:
    return ModelOptions(model="lite", weights=weights, backend="openvino")


def visible(root: Path) -> list[str]:
    """What is in a folder but its locks."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


def test_a_built_engine_computes_what_the_network_does(weights: Path, engine: Path) -> None:
    manifest = read_manifest(engine)
    assert manifest.weights == str(weights)
    assert manifest.spec.latent_shape == (16, 16, 16)
    assert set(manifest.files) | {MANIFEST} == {path.name for path in engine.iterdir()}
    torch.manual_seed(1)
    crops = torch.rand(3, 3, 32, 32)
    network = small_network()
    with torch.inference_mode():
        latents = network.encode(crops * 2 - 1)
        images = (network.decode(crops * 2 - 1, latents).main / 2 + 0.5).clamp(0, 1)
    loaded = open_engine(engine, "openvino", manifest.spec)
    torch.testing.assert_close(loaded.encode(crops), latents, atol=1e-4, rtol=1e-4)
    restored = loaded.decode(crops, latents, fidelity=0.5)
    torch.testing.assert_close(restored, images, atol=1e-4, rtol=0)


def test_the_second_request_takes_what_the_first_built(weights: Path, root: Path) -> None:
    first = build_engine(request_for(weights))
    stamp = (first.folder / MANIFEST).stat().st_mtime_ns
    second = build_engine(request_for(weights))
    assert (first.fresh, second.fresh) == (True, False)
    assert second.folder == first.folder
    assert second.manifest == first.manifest
    assert (first.folder / MANIFEST).stat().st_mtime_ns == stamp
    assert visible(root) == [first.folder.name]
    assert first.folder.name == folder_name(identity_of(request_for(weights)))
    other = build_engine(request_for(weights, batch_size=2))
    assert other.fresh
    assert visible(root) == sorted([first.folder.name, other.folder.name])


def test_the_parity_is_that_of_the_fixed_crops(engine: Path) -> None:
    """Every figure against its plain definition."""
    told = read_manifest(engine).parity
    network = small_network()
    crops = fixed_crops(32)
    assert torch.equal(crops, fixed_crops(32))
    with torch.inference_mode():
        latents = network.encode(crops * 2 - 1)
        images = (network.decode(crops * 2 - 1, latents).main / 2 + 0.5).clamp(0, 1)
        loaded = open_engine(engine, "openvino", read_manifest(engine).spec)
        got = loaded.encode(crops)
        restored = loaded.decode(crops, latents, fidelity=1.0)
    assert told.crops == CROPS == len(crops)
    rms = latents.square().mean().sqrt()
    for figure, errors in (
        (told.latent_max, (got - latents).abs().max() / rms),
        (told.image_max, (restored - images).abs().max()),
        (told.image_mean, (restored - images).abs().mean()),
    ):
        # Not the same to the last bit: the reference runs in another memory format.
        assert figure == pytest.approx(float(errors), rel=0.3, abs=2e-6)
    flips = (network.codes(got) != network.codes(latents)).double().mean()
    assert told.flipped == pytest.approx(float(flips), abs=1e-3)
    assert faults(told, "float32") == []


def test_another_networks_engine_is_seen_by_its_results(engine: Path) -> None:
    spec = read_manifest(engine).spec
    other = Reference(small_network(seed=5), model="lite", device="cpu")
    found = other.compare(open_engine(engine, "openvino", spec))
    assert found.flipped > 0.5
    assert found.image_max > 0.05
    assert found.psnr_db < 40
    assert len(faults(found, "float32")) == 3


def test_an_engine_beyond_the_limits_is_refused_and_not_kept(
    weights: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Limits(flipped=0.0, image_max=0.0, psnr_db=200.0)
    monkeypatch.setattr(parity, "LIMITS", {**LIMITS, "float32": exact})
    with pytest.raises(
        InexactEngineError, match=r"refused: .*200 are asked for; .*--backend torch"
    ):
        build_engine(request_for(weights))
    assert visible(root) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_engine_is_seen_and_refused(
    engine: Path, root: Path, damage: Callable[[Path], None]
) -> None:
    folder = copied(engine, root)
    damage(folder)
    says = DAMAGES[damage]
    (status,) = list_engines()
    assert (status.state, status.folder) == ("damaged", folder)
    assert says in status.why
    for refuse in (verify_engine, lambda path: load_engine(ModelOptions(engine=path))):
        with pytest.raises(EngineFileError, match=f"{re.escape(str(folder))}.*{says}"):
            refuse(folder)
    with pytest.raises(EngineFileError, match="vqfr-media engine build"):
        verify_engine(folder)


@pytest.mark.parametrize("damage", [flip_a_bit, lose_the_decoder, cut_the_manifest])
def test_a_damaged_engine_is_built_again_where_it_is_needed(
    weights: Path,
    engine: Path,
    root: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    folder = copied(engine, root)
    damage(folder)
    with caplog.at_level(logging.WARNING):
        loaded, chosen = load_engine(options_for(weights))
    assert any(DAMAGES[damage] in line and "it is built again" in line for line in caplog.messages)
    assert chosen.engine == folder
    assert visible(root) == [folder.name]
    assert check_files(folder).identity == read_manifest(engine).identity
    assert loaded.encode(torch.rand(1, 3, 32, 32)).shape == (1, 16, 16, 16)


def other_machine(document: dict[str, Any]) -> None:
    key = next(iter(document["identity"]["machine"]))
    document["identity"]["machine"][key] = "Another Machine"


def other_version(document: dict[str, Any]) -> None:
    document["identity"]["versions"]["openvino"] = "1999.1"


def other_settings(document: dict[str, Any]) -> None:
    document["identity"]["options"]["turbo"] = True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_machine, "machine .* is Another Machine in it and .* here"),
        (other_version, "versions openvino is 1999.1 in it and .* here"),
        (other_settings, "options turbo is True in it and none here"),
    ],
)
def test_an_engine_of_another_machine_or_version_is_refused(
    engine: Path, root: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    folder = copied(engine, root)
    edit(folder, change)
    with pytest.raises(EngineFileError, match=f"{says}; build it again with `vqfr-media"):
        verify_engine(folder)
    with pytest.raises(EngineFileError, match=says):
        load_engine(ModelOptions(engine=folder))
    (status,) = list_engines()
    assert status.state == "stale"


@pytest.mark.parametrize("change", [other_machine, other_version])
def test_the_engine_for_this_machine_is_built_beside_anothers(
    weights: Path,
    engine: Path,
    root: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], None],
) -> None:
    folder = copied(engine, root)
    edit(folder, change)
    # As it is kept by the machine or the version that built it: under its own identity.
    elsewhere = folder.rename(root / folder_name(read_manifest(folder).identity))
    with caplog.at_level(logging.WARNING):
        _, chosen = load_engine(options_for(weights))
    assert any("that is here is stale" in line for line in caplog.messages)
    assert chosen.engine == folder
    assert visible(root) == sorted([folder.name, elsewhere.name])


def test_an_engine_in_anothers_place_is_built_again(
    weights: Path, engine: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(engine, root)
    edit(folder, other_machine)
    with caplog.at_level(logging.WARNING):
        load_engine(options_for(weights))
    assert any("another engine than the one wanted" in line for line in caplog.messages)
    assert read_manifest(folder).identity == read_manifest(engine).identity


def test_engines_of_other_weights_and_networks_are_refused(
    engine: Path, root: Path, tmp_path: Path
) -> None:
    folder = copied(engine, root)

    def other_weights(document: dict[str, Any]) -> None:
        document["identity"]["weights_sha256"] = "0" * 64

    def other_network(document: dict[str, Any]) -> None:
        document["identity"]["network"]["codebook_size"] += 1

    edit(folder, other_weights)
    with pytest.raises(WeightsError, match="SHA-256 000000000000"):
        verify_engine(folder)
    edit(folder, lambda document: document["identity"].update(weights_sha256=sha_of(engine)))
    edit(folder, other_network)
    with pytest.raises(EngineFileError, match=r"network codebook_size is .* in it and .* here"):
        verify_engine(folder)
    loaded, chosen = load_engine(options_for(small_weights(tmp_path, seed=3)))
    assert chosen.engine is not None
    assert chosen.engine.name != folder.name
    crops = torch.rand(1, 3, 32, 32)
    wanted = TorchEngine(
        small_network(seed=3),
        model="lite",
        device=torch.device("cpu"),
        batch_size=1,
    )
    torch.testing.assert_close(loaded.encode(crops), wanted.encode(crops), atol=1e-4, rtol=1e-4)


def sha_of(engine: Path) -> str:
    return read_manifest(engine).identity.weights_sha256


COMMAND = [sys.executable, "-m", "vqfr_media", "engine", "build", "--backend", "openvino"]


def test_two_processes_that_want_the_same_engine_build_it_once(weights: Path, root: Path) -> None:
    name = folder_name(identity_of(request_for(weights)))
    words = [*COMMAND, "--model", "lite", "--weights", str(weights)]
    root.mkdir()
    with FileLock(root / f".{name}.lock"):
        # Both arrive while a third builds: then both want the lock at the same moment.
        processes = [
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in processes:
            assert process.stderr is not None
            assert "waiting for it" in process.stderr.readline()
    said = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    outcomes = sorted("built in" in out for out, _ in said)
    assert outcomes == [False, True]
    assert sum("was here already" in out for out, _ in said) == 1
    assert visible(root) == [name]
    assert verify_engine(root / name).manifest.spec.batch_size == 1


def test_a_build_that_was_killed_leaves_nothing_that_loads(weights: Path, root: Path) -> None:
    words = [*COMMAND, "--model", "lite", "--weights", str(weights)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 900
        while not list(root.glob(".*.part-*/*")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (left,) = root.glob(".*.part-*")
    assert not (left / MANIFEST).exists()
    assert list_engines() == []
    built = build_engine(request_for(weights))
    assert built.fresh
    assert visible(root) == [built.folder.name]


@pytest.fixture(params=["a file in its place", "a full disk", "a read-only disk"])
def unusable(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A place where no engine can be kept; real ones, because root may write anywhere."""
    if request.param != "a full disk":  # which the converter itself fills
        request.getfixturevalue("converted_once")
    folder = tmp_path / "engines"
    monkeypatch.setenv(VARIABLE, str(folder))
    if request.param == "a file in its place":
        folder.write_text("not a folder")
        yield folder
        return
    folder.mkdir()
    options = "size=64k" if request.param == "a full disk" else "ro"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_where_no_engine_can_be_kept_the_error_says_the_way_out(
    weights: Path, unusable: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OutputError) as caught:
        load_engine(options_for(weights))
    message = str(caught.value)
    assert str(unusable) in message
    assert VARIABLE in message
    assert "-o" in message
    if unusable.is_dir():
        assert visible(unusable) == []
    else:  # and that way is one
        assert build_engine(request_for(weights), output=tmp_path / "own").fresh
    with caplog.at_level(logging.WARNING):
        engine, chosen = load_engine(ModelOptions(model="lite", weights=weights, device="cpu"))
    assert chosen.backend == "torch"
    assert chosen.engine is None
    assert VARIABLE in chosen.backend_why
    assert any("PyTorch does the work" in line for line in caplog.messages)
    assert engine.encode(torch.rand(1, 3, 32, 32)).shape == (1, 16, 16, 16)


@pytest.mark.usefixtures("root")
def test_a_missing_extra_says_what_to_install(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="pip install"):
        load_engine(options_for(weights))
    _, chosen = load_engine(ModelOptions(model="lite", weights=weights, device="cpu"))
    assert chosen.backend == "torch"
    assert "pip install" in chosen.backend_why
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"vqfr-media\[tensorrt\]|GPU"):
        load_engine(ModelOptions(model="lite", weights=weights, backend="tensorrt"))


@pytest.mark.usefixtures("converted_once")
def test_a_directory_of_ones_own(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert build_engine(request_for(weights), output=folder).fresh
    assert not build_engine(request_for(weights), output=folder).fresh
    engine, chosen = load_engine(ModelOptions(engine=folder))
    assert (chosen.name, chosen.backend, chosen.engine) == ("lite", "openvino", folder)
    assert engine.spec.device == "cpu"
    # Another engine under this name takes its place, but nothing else is ever replaced.
    assert build_engine(request_for(weights, batch_size=2), output=folder).fresh
    assert read_manifest(folder).spec.batch_size == 2
    (folder / "diary.txt").write_text("dear diary")
    with pytest.raises(OptionError, match=r"diary\.txt"):
        build_engine(request_for(weights), output=folder)
    assert (folder / "diary.txt").read_text() == "dear diary"


def test_a_directory_that_is_not_what_was_asked_for(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--model v2 is not what the engine in .* holds: lite"):
        load_engine(ModelOptions(engine=engine, model="v2"))
    with pytest.raises(OptionError, match="only v2 has this setting"):
        load_engine(ModelOptions(engine=engine, fidelity=0.2))
    with pytest.raises(EngineFileError, match="is no engine"):
        load_engine(ModelOptions(engine=tmp_path))
    with pytest.raises(BackendError, match="cuda:9"):
        load_engine(ModelOptions(engine=engine, device="cuda:9"))
