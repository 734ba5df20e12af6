"""What `vqfr-media doctor` finds of the model files."""

import hashlib
from pathlib import Path

import pytest
import torch

from vqfr_media import weights
from vqfr_media.doctor import DoctorCheck, examine


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing provided."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    folder = weights.cache_folder()
    folder.mkdir(parents=True)
    return folder


def by_topic() -> dict[str, DoctorCheck]:
    return {check.topic: check for check in examine()}


def test_every_model_file_is_listed_with_its_hash_and_licence(cache: Path) -> None:
    found = by_topic()
    for name, file in weights.WEIGHTS.items():
        check = found[f"weights {name}"]
        is_ours = file.url is None
        state, verdict = ("bundled", "ok") if is_ours else ("missing", "missing")
        if name in ("v1", "v2") and not torch.cuda.is_available():
            verdict = "info"  # this machine could not make use of it
        assert check.verdict == verdict
        assert check.detail.startswith(f"{state}, sha256 {(file.sha256 or 'not known')[:16]}")
        assert file.licence in check.detail
        assert is_ours or f"`vqfr-media weights fetch {name}`" in check.detail
    assert found["--detector auto"] == DoctorCheck(
        "--detector auto", "ok", "bundled: facexlib's mobilenet is not on this machine"
    )
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="TensorRT may be of use here")
@pytest.mark.usefixtures("cache")
def test_what_this_machine_could_not_use_is_not_called_missing() -> None:
    checks = examine()
    assert (
        DoctorCheck("backend tensorrt", "info", "for NVIDIA GPUs, and there is none here") in checks
    )
    assert {c.topic for c in checks if c.verdict == "missing"} <= {
        "weights mobilenet", "weights resnet50", "backend inductor", "backend openvino",
    }  # fmt: skip


def test_cached_damaged_and_provided_files_are_told_apart(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"PK a file of one's own"
    digest = hashlib.sha256(content).hexdigest()[:16]
    (cache / "VQFR_v2.pth").write_bytes(content)
    (cache / "detection_Resnet50_Final.pth").write_bytes(content)
    (tmp_path / "mobilenet0.25_Final.pth").write_bytes(content)
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    found = by_topic()
    cached, damaged = found["weights v2"], found["weights resnet50"]
    provided = found["weights mobilenet"]
    assert (cached.verdict, cached.detail) == (
        "ok",
        f"cached, sha256 {digest}, Apache-2.0, {cache / 'VQFR_v2.pth'}",
    )
    assert damaged.verdict == "missing"
    assert damaged.detail == (
        f"damaged, sha256 {digest}, not the published file, MIT, "
        f"{cache / 'detection_Resnet50_Final.pth'}; "
        "`vqfr-media weights fetch resnet50` gets it"
    )
    assert provided.detail == (
        f"provided, sha256 {digest}, not the published file, MIT, "
        f"{tmp_path / 'mobilenet0.25_Final.pth'}"
    )
    assert found["--detector auto"].detail.startswith("mobilenet: its weights are on this machine")


def test_a_variable_that_names_nothing_is_a_finding(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.VARIABLE, str(cache / "nowhere"))
    found = by_topic()
    for topic in ("weights", "--detector auto"):
        assert found[topic].verdict == "missing"
        assert f"{cache / 'nowhere'}, which does not exist" in found[topic].detail


@pytest.mark.usefixtures("cache")
def test_a_compiler_that_is_missing_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    check = by_topic()["backend inductor"]
    assert check.verdict == "missing"
    assert "'no-such-compiler' is not here: install g++" in check.detail
