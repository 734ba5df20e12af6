"""What the backends share: exact float32, engines of elsewhere, TensorRT's log and times."""

import contextlib
import gc
import logging
import weakref
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import platformdirs
import pytest
import torch
from vqfr_engines import tensorrt

from tests.vqfr_engines.small import a_manifest
from vqfr_media.backends import nvidia_gpu, tensorrt_library
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.rebuild_hint import rebuild_hint
from vqfr_media.backends.tensorrt_library import collected_errors, last_reasons, log_bridge
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.manifest import MANIFEST

GPU = torch.device("cuda", 0)
HERE = {
    "tensorrt": "11.1.0",
    "torch": "2.14.1",
    "gpu": "NVIDIA H100 80GB HBM3",
    "compute_capability": "9.0",
}


def precisions() -> tuple[bool, bool, bool, str]:
    flags = torch.backends.cudnn
    return (
        flags.allow_tf32,
        flags.deterministic,
        flags.benchmark,
        torch.get_float32_matmul_precision(),
    )


def test_float32_is_exact_on_a_gpu_for_as_long_as_is_said() -> None:
    before = precisions()
    with exact_float32(GPU):
        assert precisions() == (False, True, False, "highest")
    assert precisions() == before
    try:
        torch.set_float32_matmul_precision("high")
        with exact_float32(GPU):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        with exact_float32(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before[-1])


def engine_folder(folder: Path, **built: str) -> Path:
    """One whose manifest says that it was built with `HERE`, but for `built`."""
    manifest = a_manifest()
    facts = {**HERE, **built}
    identity = replace(
        manifest.identity,
        backend="tensorrt",
        versions={name: facts[name] for name in ("tensorrt", "torch")},
        machine={name: facts[name] for name in ("gpu", "compute_capability")},
    )
    document = replace(
        manifest, identity=identity, weights="/my weights/lite.safetensors"
    ).to_json()
    (folder / MANIFEST).write_text(document)
    return folder


COMMAND = "`vqfr-media engine build --backend tensorrt --model lite --precision float32 "
WEIGHTS = "--batch-size 1 --weights '/my weights/lite.safetensors'`"


@pytest.mark.parametrize(
    ("built", "told"),
    [
        ({"tensorrt": "10.9.0"}, "built with tensorrt 10.9.0, here is tensorrt 11.1.0; "),
        (
            {"gpu": "NVIDIA A10", "compute_capability": "8.6"},
            "built with gpu NVIDIA A10, compute_capability 8.6, "
            "here is gpu NVIDIA H100 80GB HBM3, compute_capability 9.0; ",
        ),
        ({}, f"here is {', '.join(f'{name} {value}' for name, value in HERE.items())}; "),
    ],
)
def test_an_engine_of_elsewhere_names_both_sides(
    built: dict[str, str], told: str, tmp_path: Path
) -> None:
    folder = engine_folder(tmp_path, **built)
    line = rebuild_hint(folder, a_manifest().spec, backend="tensorrt", here=HERE)
    assert line.endswith(f"{told}build it again with {COMMAND}{WEIGHTS}")
    assert line.startswith("it was built with ")


def test_without_a_manifest_there_is_one_side(tmp_path: Path) -> None:
    line = rebuild_hint(tmp_path, a_manifest().spec, backend="tensorrt", here={"torch": "2.14.1"})
    assert line == f"here is torch 2.14.1; build it again with {COMMAND}--batch-size 1`"


def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(BackendError) as error:
        nvidia_gpu.check_capability(GPU, engine="TensorRT", instead="torch")
    assert str(error.value) == (
        "Tesla T4 has compute capability 7.5, and the TensorRT engine needs 8.0 (Ampere): "
        "use --backend torch"
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    nvidia_gpu.check_capability(GPU, engine="TensorRT", instead="torch")


def test_what_tensorrt_says_is_in_the_error() -> None:
    name = "torch_tensorrt [TensorRT Conversion Context]"
    log = logging.getLogger(name)
    with collected_errors(name) as logged:
        log.warning("slow")
        log.error("first")
        log.error("[E] Error Code 10:\n  no implementation for %s", "node")
    log.error("after")
    assert logged == ["first", "[E] Error Code 10:\n  no implementation for node"]
    empty = RuntimeError("While interpreting the module got an error: ")
    told = (
        "While interpreting the module got an error: [E] Error Code 10: no implementation for node"
    )
    assert tensorrt.build_failure(empty, logged) == told
    assert tensorrt.build_failure(KeyError(), []) == "KeyError"
    assert tensorrt.build_failure(ValueError("a: first\nmore"), ["first"]) == "a: first"
    # What the plugin failed on comes first, each reason once.
    of_plugin = ["the plugin p failed in implement: E: a\n b"] * 5
    assert tensorrt.build_failure(empty, logged, of_plugin) == (
        f"the plugin p failed in implement: E: a b; {told}"
    )


class Messages:
    """The part of TensorRT's bindings that is asked for a logger."""

    class ILogger:
        Severity = Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


def test_one_logger_serves_the_process_and_each_call_collects_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library, severity = cast(ModuleType, Messages), Messages.ILogger.Severity
    bridge = log_bridge(library)
    known = weakref.ref(bridge)
    del bridge
    gc.collect()
    assert known() is log_bridge(library)  # TensorRT keeps a pointer to it for ever
    say = log_bridge(library).log
    say(severity.ERROR, "before")
    with collected_errors() as outer:
        say(severity.ERROR, "one\n line")
        with collected_errors() as inner:
            say(severity.INTERNAL_ERROR, "two")
            say(severity.WARNING, "slow")
    say(severity.ERROR, "after")
    assert (outer, inner) == (["one\n line", "two"], ["two"])
    assert last_reasons(outer, "nothing") == "one line / two"
    assert last_reasons([], "nothing") == "nothing"
    assert [(r.levelname, r.getMessage()) for r in caplog.records][2:4] == [
        ("CRITICAL", "TensorRT: two"),
        ("WARNING", "TensorRT: slow"),
    ]


def test_a_failed_build_does_not_flood_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    builder = logging.getLogger("torch_tensorrt [TensorRT Conversion Context]")
    module = logging.getLogger("torch_tensorrt.dynamo.some_module")
    own = logging.StreamHandler()
    builder.addHandler(own)
    try:
        with (
            caplog.at_level(logging.DEBUG, logger="vqfr_engines.tensorrt"),
            tensorrt.quiet_torch_tensorrt(),
        ):
            builder.error("a network of many lines")
            module.warning("an operator")
            logging.getLogger("torch_tensorrt.dynamo.made_later").error("and another")
        assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
            ("vqfr_engines.tensorrt", "DEBUG", f"{log}: {said}")
            for log, said in (
                (builder.name, "a network of many lines"),
                (module.name, "an operator"),
                ("torch_tensorrt.dynamo.made_later", "and another"),
            )
        ]
        caplog.clear()
        assert builder.handlers == [own]
        assert builder.propagate
        assert module.propagate
        module.warning("heard again")
        assert caplog.messages == ["heard again"]
    finally:
        builder.removeHandler(own)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel times of an H100 are kept."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    versions = {"tensorrt": "11.1.0", "triton": "3.8.0"}
    monkeypatch.setattr(tensorrt_library, "versions", lambda: versions)
    monkeypatch.setattr(tensorrt_library, "machine", lambda _: HERE)
    name = f"timing-11.1.0-NVIDIA-H100-80GB-HBM3-{tensorrt.plugin_version()}.cache"
    return tmp_path / "vqfr-media" / "tensorrt" / name


def test_kernel_times_are_kept_for_one_gpu_model(kept: Path) -> None:
    for times in (b"first", b"second"):
        with tensorrt.timing_cache(GPU) as cache:
            assert cache.is_file() == (times == b"second")
            cache.write_bytes(times)
    assert kept.read_bytes() == b"second"
    with contextlib.suppress(EngineError), tensorrt.timing_cache(GPU) as cache:
        cache.write_bytes(b"of a build that failed")
        raise EngineError
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert kept.read_bytes() == b"second"
    plugin = tensorrt.plugin_version()
    assert tensorrt.timing_cache_name("11.1.0", "NVIDIA H100 NVL", plugin=plugin) != kept.name


def test_kernel_times_of_another_plugin_are_not_used(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tensorrt.timing_cache(GPU) as cache:
        cache.write_bytes(b"of this plugin")
    before = tensorrt.plugin_version()
    versions = {"tensorrt": "11.1.0", "triton": "3.9.0"}
    monkeypatch.setattr(tensorrt_library, "versions", lambda: versions)
    another_triton = tensorrt.plugin_version()
    monkeypatch.setattr(tensorrt, "code_sha256", lambda modules: f"other code of {modules}")
    assert len({before, another_triton, tensorrt.plugin_version()}) == 3
    with tensorrt.timing_cache(GPU) as cache:
        assert not cache.exists()
        cache.write_bytes(b"of another")
    assert kept.read_bytes() == b"of this plugin"
    assert len(list(kept.parent.iterdir())) == 2


def test_a_build_goes_on_without_damaged_kernel_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def build(half: Any, *, timing_cache: Path, **_: Any) -> bytes:
        if timing_cache.is_file() or half == "never":
            raise EngineError("TensorRT cannot build the encoder")
        return b"plan"

    monkeypatch.setattr(tensorrt, "_plan_of", build)
    times = tmp_path / "times"
    options = tensorrt.BuilderOptions()

    def plan(half: Any) -> bytes:
        return tensorrt.plan_of(half, device=GPU, options=options, timing_cache=times)

    times.write_bytes(b"damaged")
    assert plan("encoder") == b"plan"
    assert not times.exists()
    assert "cannot build the encoder; once more, without the kernel times" in caplog.text
    with pytest.raises(EngineError):
        plan("never")
