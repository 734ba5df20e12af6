"""TensorRT as far as a machine without a GPU goes: graphs, their types, dry runs, what is missing.

Dry runs need the folder that `trt_offline/setup.sh` makes, named in VQFR_MEDIA_TRT_OFFLINE.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from vqfr_engines import tensorrt

from tests.paths import ROOT
from vqfr_media.backends.tensorrt_engine import TensorrtEngine, UnusablePlanError, check_tensors
from vqfr_media.backends.tensorrt_library import cuda_device
from vqfr_media.errors import BackendError
from vqfr_media.values import EngineSpec

OFFLINE = "VQFR_MEDIA_TRT_OFFLINE"
SPEC = EngineSpec(
    model="lite",
    size=256,
    latent_shape=(128, 16, 16),
    batch_size=2,
    precision="float16",
    device="cuda:0",
    has_fidelity=False,
)


def test_float32_layers_are_not_rounded_to_tf32() -> None:
    assert tensorrt.BuilderOptions().compiler()["disable_tf32"] is True
    assert tensorrt.BuilderOptions(allow_tf32=True).compiler()["disable_tf32"] is False


def test_settings_are_json() -> None:
    settings = tensorrt.settings("float16")
    assert json.loads(json.dumps(settings)) == settings
    assert settings["allow_tf32"] is False


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError) as error:
        tensorrt.check("cuda")
    assert str(error.value) == "tensorrt is not installed: pip install 'vqfr-media[tensorrt]'"
    with pytest.raises(BackendError, match=r"pip install 'vqfr-media\[tensorrt\]'"):
        TensorrtEngine(tmp_path, SPEC)


def test_a_builder_that_is_missing_beside_the_runtime_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = ModuleType("tensorrt")
    runtime.__spec__ = ModuleSpec("tensorrt", None)
    runtime.__version__ = "11.1.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", runtime)
    known = metadata.version

    def version(name: str) -> str:
        if name == "torch-tensorrt":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(BackendError) as error:
        tensorrt.check("cuda")
    assert str(error.value) == "torch-tensorrt is not installed: pip install 'vqfr-media[tensorrt]'"


def test_a_device_that_cannot_be_is_refused() -> None:
    with pytest.raises(BackendError, match="not on device 'cpu': use --device cuda, or --backend"):
        cuda_device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="PyTorch sees none here: install NVIDIA's driver"):
            cuda_device("cuda")


@pytest.mark.parametrize(
    ("tensors", "difference"),
    [
        ({"crops": ("INPUT", "FLOAT", (2, 3, 64, 64))}, "latents"),
        ({"crops": ("INPUT", "HALF", (2, 3, 64, 64))}, "HALF"),
        ({"crops": ("INPUT", "FLOAT", (4, 3, 64, 64))}, r"4, 3, 64, 64"),
    ],
)
def test_a_plan_of_another_network_is_refused(
    tensors: dict[str, tuple[str, str, tuple[int, ...]]], difference: str
) -> None:
    plan = stand_in_plan(tensors)
    with pytest.raises(UnusablePlanError, match=difference):
        check_tensors(
            SimpleNamespace(TensorIOMode=SimpleNamespace(INPUT="INPUT")),
            plan,
            {"crops": (2, 3, 64, 64)},
            {"latents": (2, 16, 16, 16)},
            "encoder.plan",
        )


def test_a_plan_of_this_network_is_taken() -> None:
    tensors = {
        "crops": ("INPUT", "FLOAT", (2, 3, 64, 64)),
        "latents": ("OUTPUT", "FLOAT", (2, 16, 16, 16)),
    }
    check_tensors(
        SimpleNamespace(TensorIOMode=SimpleNamespace(INPUT="INPUT")),
        stand_in_plan(tensors),
        {"crops": (2, 3, 64, 64)},
        {"latents": (2, 16, 16, 16)},
        "encoder.plan",
    )


def stand_in_plan(tensors: Mapping[str, tuple[str, str, tuple[int, ...]]]) -> Any:
    """What TensorRT's bindings tell of a plan: an enumeration prints as `DataType.FLOAT`."""
    return SimpleNamespace(
        num_io_tensors=len(tensors),
        get_tensor_name=lambda index: list(tensors)[index],
        get_tensor_mode=lambda name: tensors[name][0],
        get_tensor_dtype=lambda name: f"DataType.{tensors[name][1]}",
        get_tensor_shape=lambda name: list(tensors[name][2]),
    )


@pytest.fixture(scope="session")
def offline() -> Path:
    """The folder of TensorRT's Python layer for machines without a GPU."""
    folder = os.environ.get(OFFLINE)
    if not folder or not Path(folder, "env.sh").is_file():
        pytest.skip(f"{OFFLINE} does not name a folder made by trt_offline/setup.sh")
    return Path(folder)


def run_offline(folder: Path, *commands: str, libraries: bool = True) -> list[Any]:
    """The results of `commands`, run one after the other in one process."""
    arguments = " + ".join(commands).split()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("offline_tensorrt.py")), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{folder / 'site'}:{ROOT}",
            "LD_LIBRARY_PATH": str(folder / "lib") if libraries else "",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # TensorRT itself prints a warning before it.
    results: list[Any] = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(commands)
    return results


@pytest.fixture(scope="module")
def checked_and_built(offline: Path) -> list[Any]:
    """What a check and a build end with here."""
    return run_offline(offline, "check cuda", "builder tiny_v2")


@pytest.fixture(scope="module")
def lite_converted(offline: Path) -> list[Any]:
    """A dry run and the conversion of lite, and what the recorded network refuses."""
    return run_offline(offline, "dry-run float16 lite", "convert float16 lite", "faults")


def results_of(
    command: str, names: list[str], request: pytest.FixtureRequest
) -> dict[str, dict[str, Any]]:
    """What `command` gives of networks, by name."""
    results: dict[str, dict[str, Any]]
    if names == ["lite"]:
        results = request.getfixturevalue("lite_converted")[("dry-run", "convert").index(command)]
    else:
        folder = request.getfixturevalue("offline")
        (results,) = run_offline(folder, f"{command} float16 {' '.join(names)}")
    assert list(results) == names
    return results


def assert_one_engine_each(found: dict[str, Any], *, deformable: int) -> None:
    for module, run in found.items():
        assert run["engines"] == 1
        assert run["not_in_float32"] == []
        types = run["convolutions"]
        assert types.count("torch.float16") > len(types) / 2
        assert run["deformable"] == ["torch.float16"] * (deformable if module == "decoder" else 0)


@pytest.mark.parametrize(
    "names", [["lite"], pytest.param(["v1_small", "v2_small"], marks=pytest.mark.slow)]
)
def test_dry_runs_give_one_engine_each(names: list[str], request: pytest.FixtureRequest) -> None:
    for name, modules in results_of("dry-run", names, request).items():
        assert list(modules) == ["encoder", "decoder"]
        assert_one_engine_each(modules, deformable=4 if name == "lite" else 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_dry_runs_of_the_published_networks_give_one_engine_each(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = results_of("dry-run", [name], request)[name]
    assert found["decoder"]["inputs"][:2] == [[2, 3, 512, 512], [2, 256, 16, 16]]
    assert_one_engine_each(found, deformable=6)


@pytest.mark.parametrize(
    "names",
    [
        ["lite"],
        pytest.param(["v1_small", "v2_small", "v2_nearest_small"], marks=pytest.mark.slow),
        pytest.param(["v1", "v2"], marks=pytest.mark.slow),
    ],
)
def test_what_the_converters_make_is_strongly_typed(
    names: list[str], request: pytest.FixtureRequest
) -> None:
    for name, modules in results_of("convert", names, request).items():
        size = {"lite": 256, "v1": 512, "v2": 512}.get(name, 128)
        fidelity_input = ["fidelity"] if name.startswith("v2") else []
        for module, inputs in (
            ("encoder", ["crops"]),
            ("decoder", ["crops", "latents", *fidelity_input]),
        ):
            found = modules[module]
            assert found["ended"][1].count("the network is recorded") == 1
            assert found["faults"] == []
            assert found["inputs"] == inputs
            ((output, shape, dtype),) = found["outputs"]
            assert (output, dtype) == ("latents" if module == "encoder" else "output", "FLOAT")
            assert module == "encoder" or shape == [2, 3, size, size]
            assert found["types"]["normalization"] == ["FLOAT"]
            assert found["types"]["convolution"] == ["FLOAT", "HALF"]
        assert modules["encoder"]["deformable"] == 0
        assert modules["decoder"]["deformable"] == (4 if name == "lite" else 6)
        assert modules["decoder"]["types"]["deform"] == ["HALF"]
        assert modules["decoder"]["types"]["matmul"] == ["FLOAT"]
        assert modules["decoder"]["types"]["topk"] == ["FLOAT"]


def test_the_recorded_network_refuses_mixed_types(lite_converted: list[Any]) -> None:
    assert lite_converted[2] == ["elementwise", "convolution", "deform"]


def test_a_build_gets_as_far_as_the_missing_builder(checked_and_built: list[Any]) -> None:
    """Arguments, names and shapes are taken; then the stub in the builder's place returns NULL."""
    _, found = checked_and_built
    assert list(found) == ["encoder", "decoder"]
    for module, (kind, message) in found.items():
        assert kind == "EngineError"
        assert message.startswith(
            f"TensorRT cannot build the {module} on cuda:0: While interpreting"
        )
        assert "factory function returned nullptr" in message


def test_libraries_that_do_not_load_are_one_clear_line(offline: Path) -> None:
    ((kind, message),) = run_offline(offline, "check cuda", libraries=False)
    assert kind == "BackendError"
    assert message.startswith("tensorrt is installed but does not load (libnv")
    assert message.endswith("pip install --force-reinstall 'vqfr-media[tensorrt]'")


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_libraries_without_a_gpu_name_the_gpu(checked_and_built: list[Any]) -> None:
    (kind, message), _ = checked_and_built
    assert kind == "BackendError"
    assert "TensorRT needs an NVIDIA GPU and PyTorch sees none here" in message
