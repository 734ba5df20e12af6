"""Exported ONNX files in onnxruntime against PyTorch."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image
from torch import Tensor
from vqfr_engines import onnx as exporter
from vqfr_engines.onnx import Source, export_onnx

from tests.paths import ROOT
from tests.vqfr_engines.small import small_network, tiny_v1, tiny_v2
from vqfr_media import weights
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.network.checkpoint import load_network, load_official
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.vqfr_v1 import VqfrV1, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config

type Network = VqfrV1 | VqfrV2
DOCS = ROOT / "docs/onnx.md"
SOURCE = Source(model="lite", weights_sha256="ab" * 32, licence="CC-BY-4.0")
CHANNELS = (32, 32, 64, 64, 64, 128)


def lite() -> VqfrV1:
    network = load_network(weights.find("lite", offline=True))
    assert isinstance(network, VqfrV1)
    return network


NETWORKS = ["tiny_v1", "tiny_v2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("v1", "v2"))]


def network_called(name: str, request: pytest.FixtureRequest) -> Network:
    """A network whose offsets are not zero: of two levels, or a golden one at 64 px."""
    if name in ("v1", "v2"):
        return golden(name, request.getfixturevalue("shared"))
    return tiny_v1() if name == "tiny_v1" else tiny_v2()


def golden(name: str, shared: Path) -> Network:
    """The small golden networks."""
    small: dict[str, Any] = {
        "image_size": 64,
        "channels": CHANNELS,
        "codebook_size": 64,
        "code_channels": 64,
    }
    one = (1,) * 6
    network: Network
    if name == "v1":
        network = VqfrV1(replace(vqfr_v1_config(), **small, offset_channels=CHANNELS))
    else:
        config = replace(vqfr_v2_config(), **small, encoder_blocks=one, texture_blocks=one)
        network = VqfrV2(config)
    load_official(shared / f"data/golden/vqfr_{name}_small.safetensors", network)
    return network.eval()


def run(path: Path, **inputs: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(output)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_faces(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    network = network_called(name, request)
    side = network.config.image_size
    exported = export_onnx(copy.deepcopy(network), tmp_path, source=SOURCE, verify=False)
    encoder, decoder = exported.files
    assert exported.error is None
    torch.manual_seed(1)
    for faces in (1, 3):
        crops = torch.rand(faces, 3, side, side)
        latents = EncoderModule(network)(crops)
        # Two values, so that the fidelity is seen to be an input.
        for value in (0.2, 0.9) if isinstance(network, VqfrV2) else (None,):
            fidelity_input = {} if value is None else {"fidelity": torch.tensor([value])}
            wanted = DecoderModule(network)(crops, latents, *fidelity_input.values())
            found = run(decoder, crops=crops, latents=latents, **fidelity_input)
            assert float((found - wanted).abs().max()) < 1e-4
        found = run(encoder, crops=crops)
        assert float((found - latents).abs().max() / latents.square().mean().sqrt()) < 1e-4


@torch.no_grad()
def test_lite_is_standard_onnx_and_says_what_it_is(tmp_path: Path) -> None:
    exported = export_onnx(lite(), tmp_path, source=SOURCE, batch_size=1)

    assert exported.error is not None
    assert exported.error < 1e-4
    assert [path.name for path in exported.files] == ["encoder.onnx", "decoder.onnx"]
    decoder = onnx.load(tmp_path / "decoder.onnx")
    assert [(o.domain, o.version >= 19) for o in decoder.opset_import] == [("", True)]
    warps = [node for node in decoder.graph.node if node.op_type == "DeformConv"]
    assert len(warps) == 4  # every level but the first
    assert {node.domain for node in decoder.graph.node} == {""}
    assert [i.name for i in decoder.graph.input] == ["crops", "latents"]
    assert [d.dim_value for d in decoder.graph.input[0].type.tensor_type.shape.dim] == [
        *(1, 3, 256, 256)
    ]
    properties = {entry.key: entry.value for entry in decoder.metadata_props}
    assert properties["weights_sha256"] == "ab" * 32
    assert properties["licence"] == "CC-BY-4.0"
    assert (properties["model"], properties["size"]) == ("lite", "256")

    # ... and the guide's example runs on these files, with PyTorch's result.
    network = lite()
    rows = np.linspace(0, 255, 256)
    picture = np.stack([np.add.outer(rows, rows) / 2] * 3, axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "face.png")
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(example, {})  # noqa: S102
    crops = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    wanted = DecoderModule(network)(crops, EncoderModule(network)(crops))[0].permute(1, 2, 0) * 255
    restored = np.asarray(Image.open(tmp_path / "restored.png")).astype(np.float32)
    assert np.abs(restored - wanted.numpy()).max() < 0.51


@torch.no_grad()
def test_whole_network_in_one_file(tmp_path: Path) -> None:
    network = tiny_v2()
    export_onnx(
        copy.deepcopy(network), tmp_path, source=SOURCE, batch_size=1, whole=True, fidelity=0.3
    )
    model = onnx.load(tmp_path / "restore.onnx")
    assert [[i.name for i in side] for side in (model.graph.input, model.graph.output)] == [
        ["crops"],
        ["restored"],
    ]
    crops = torch.rand(1, 3, 32, 32)
    wanted = DecoderModule(network)(crops, EncoderModule(network)(crops), torch.tensor([0.3]))
    assert float((run(tmp_path / "restore.onnx", crops=crops) - wanted).abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["tiny_v1", pytest.param("v1", marks=pytest.mark.slow)])
def test_float16_has_float32_borders(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    network = network_called(name, request)
    exported = export_onnx(network, tmp_path, source=SOURCE, batch_size=1, precision="float16")
    assert exported.error is not None
    assert 0 < exported.error < 2e-2
    model = onnx.load(tmp_path / "decoder.onnx")
    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == float32
    assert {float32, float16} <= {tensor.data_type for tensor in model.graph.initializer}


def test_a_file_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "TOLERANCES", {"float32": 0.0})
    (tmp_path / "decoder.onnx").write_text("of before")
    with pytest.raises(EngineError, match=r"differs from PyTorch by .* nothing is written"):
        export_onnx(small_network(), tmp_path, source=SOURCE, batch_size=1)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]
    assert (tmp_path / "decoder.onnx").read_text() == "of before"


def test_what_onnxruntime_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(model: Any, path: Path) -> None:
        path.write_bytes(model.SerializeToString()[:1000])

    monkeypatch.setattr(onnx, "save", cut)
    with pytest.raises(EngineError, match=r"cannot run encoder\.onnx: .*; nothing is written"):
        export_onnx(small_network(), tmp_path, source=SOURCE, batch_size=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [tiny_v1, pytest.param(small_network, marks=pytest.mark.slow)],  # as lite, with gains
)
def test_bfloat16_is_refused_where_it_would_be_checked(
    make: Callable[[], VqfrV1], tmp_path: Path
) -> None:
    network = make()
    with pytest.raises(BackendError, match=r"bfloat16 on CPUs.*--precision float32 or float16"):
        export_onnx(network, tmp_path, source=SOURCE, batch_size=1, precision="bfloat16")
    assert list(tmp_path.iterdir()) == []
    exported = export_onnx(
        network, tmp_path, source=SOURCE, batch_size=1, precision="bfloat16", verify=False
    )
    assert exported.error is None
    assert all(path.is_file() for path in exported.files)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"opset": 18}, "opset must be at least 20, not 18"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"fidelity": 1.5}, r"fidelity must be in \[0, 1\], not 1.5"),
    ],
)
def test_refuses_wrong_numbers(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_onnx(lite(), tmp_path, source=SOURCE, **wrong)


def test_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(BackendError, match=r"onnxscript .* pip install 'vqfr-media\[onnx\]'"):
        export_onnx(lite(), tmp_path, source=SOURCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_published_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VqfrV1(vqfr_v1_config()) if name == "v1" else VqfrV2(vqfr_v2_config())
    exported = export_onnx(network.eval(), tmp_path, source=SOURCE, batch_size=1)
    assert exported.error is not None
    assert exported.error < 1e-3
    assert sum(path.stat().st_size for path in exported.files) < 500e6
