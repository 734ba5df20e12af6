"""OpenVINO engines: the same numbers as PyTorch, the same codes, and errors that say what to do."""

import copy
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from vqfr_engines import openvino as builder
from vqfr_training.data.photographs import Photographs, validation_pairs
from vqfr_training.lite_recipes import lite_stage2

from tests.paths import ROOT
from tests.vqfr_engines.small import small_network, tiny_v1, tiny_v2
from vqfr_media import weights
from vqfr_media.backends.openvino_engine import OpenvinoEngine
from vqfr_media.backends.openvino_library import convert_model, openvino
from vqfr_media.engine import Engine, load_engine
from vqfr_media.errors import BackendError, EngineError, EngineFileError
from vqfr_media.faces.openvino_network import converted
from vqfr_media.manifest import Precision
from vqfr_media.network.checkpoint import load_network, load_official
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.vqfr_v1 import VqfrV1, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config
from vqfr_media.options import ModelOptions
from vqfr_media.values import EngineSpec

pytest.importorskip("openvino", reason="OpenVINO is not installed here: pip install openvino")

Name = Literal["lite", "tiny_v1", "tiny_v2", "v1", "v2"]
GOLDEN = [pytest.param(name, marks=pytest.mark.slow) for name in ("v1", "v2")]
CHANNELS = (32, 32, 64, 64, 64, 128)
# Share of the codes that may flip, whatever the precision: the encoder is float32 in all.
MOST_FLIPPED = 0.001


def network_of(name: Name, shared: Path) -> VqfrV1 | VqfrV2:
    """lite, or the published networks: at two levels, or small with weights that mean something."""
    if name == "lite":
        return load_network(weights.find("lite", offline=True))
    if name in ("tiny_v1", "tiny_v2"):
        return tiny_v1() if name == "tiny_v1" else tiny_v2()
    network: VqfrV1 | VqfrV2
    if name == "v1":
        v1 = replace(vqfr_v1_config(), channels=CHANNELS, offset_channels=CHANNELS)
        network = VqfrV1(replace(v1, image_size=128, codebook_size=64, code_channels=64))
    else:
        once = (1,) * len(CHANNELS)
        v2 = replace(vqfr_v2_config(), channels=CHANNELS, encoder_blocks=once, texture_blocks=once)
        network = VqfrV2(replace(v2, image_size=128, codebook_size=64, code_channels=64))
    load_official(shared / "data" / "golden" / f"vqfr_{name}_small.safetensors", network)
    return network.eval()


def engine_of(
    network: VqfrV1 | VqfrV2, folder: Path, *, precision: Precision = "float32", batch_size: int = 1
) -> OpenvinoEngine:
    builder.build(
        copy.deepcopy(network), folder, precision=precision, batch_size=batch_size, device="cpu"
    )
    return OpenvinoEngine(folder, spec_of(network, precision=precision, batch_size=batch_size))


def spec_of(
    network: VqfrV1 | VqfrV2, *, precision: Precision = "float32", batch_size: int = 1
) -> EngineSpec:
    return EngineSpec(
        model="small",
        size=network.config.image_size,
        latent_shape=network.config.latent_shape,
        batch_size=batch_size,
        precision=precision,
        device="cpu",
        has_fidelity=isinstance(network, VqfrV2),
    )


@pytest.fixture(scope="module")
def sound(convert_once: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine on disk, which no test changes."""
    folder = tmp_path_factory.mktemp("sound")
    convert_once(small_network(), folder, precision="float32", batch_size=1, device="cpu")
    return folder


def degraded(shared: Path, size: int, count: int) -> Tensor:
    """(count, 3, size, size) faces in [0, 1], damaged with a fixed seed."""
    photographs = Photographs(shared / "data" / "faces" / "val", size=size)
    lq, _ = validation_pairs(photographs, seed=7, degradation=lite_stage2().degradation)
    return (lq[:count] / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def eager(network: VqfrV1 | VqfrV2, crops: Tensor) -> tuple[Tensor, Tensor]:
    fidelity_input = [torch.tensor([0.7])] if isinstance(network, VqfrV2) else []
    latents = EncoderModule(network)(crops)
    return latents, DecoderModule(network)(crops, latents, *fidelity_input)


@pytest.mark.parametrize("name", ["lite", "tiny_v1", "tiny_v2", *GOLDEN])
def test_float32_gives_pytorchs_numbers(name: Name, shared: Path, tmp_path: Path) -> None:
    network = network_of(name, shared)
    crops = degraded(shared, network.config.image_size, 3)
    latents, images = eager(network, crops)
    engine: Engine
    if name == "lite":  # built once for all tests
        engine, chosen = load_engine(ModelOptions(model="lite", backend="openvino"))
        assert (chosen.backend, engine.spec.precision) == ("openvino", "float32")
    else:
        engine = engine_of(network, tmp_path)
    torch.testing.assert_close(engine.encode(crops), latents, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        engine.decode(crops, latents, fidelity=0.7), images, atol=1e-3, rtol=0
    )


def supports_bfloat16() -> bool:
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("name", ["lite", *GOLDEN])
def test_bfloat16_chooses_the_same_codes(name: Name, shared: Path, tmp_path: Path) -> None:
    if not supports_bfloat16():
        pytest.skip("this processor has no bfloat16")
    network = network_of(name, shared)
    crops = degraded(shared, network.config.image_size, 6)
    latents, images = eager(network, crops)
    engine = engine_of(network, tmp_path, precision="bfloat16")
    with torch.inference_mode():
        flipped = network.codes(engine.encode(crops)) != network.codes(latents)
    assert flipped.double().mean().item() <= MOST_FLIPPED
    found = engine.decode(crops, latents, fidelity=0.7)
    # A look-up in bfloat16 is far beyond this: a tenth of lite's codes would flip.
    assert (found - images).square().mean().item() < 1e-4
    assert not torch.equal(found, images)


def test_marks_in_a_file_keep_layers_from_bfloat16(tmp_path: Path) -> None:
    network = small_network().requires_grad_(False)
    crops = torch.zeros(1, 3, 32, 32)
    model = convert_model(DecoderModule(network), (crops, network.encode(crops)))
    model.reshape({0: [1, 3, 32, 32], 1: [1, 16, 16, 16]})
    builder.keep_image_in_float32(model)
    marked = sum("precise_0" in node.get_rt_info() for node in model.get_ordered_ops())
    assert marked > 100
    path = tmp_path / "decoder.xml"
    openvino().save_model(model, path, compress_to_fp16=False)
    before = path.read_text()
    builder.spare_marked_from_bfloat16(path)
    after = path.read_text()
    assert before.count('value="dynamic:f16"') == after.count('value="dynamic:bf16"') == marked
    assert after.replace("dynamic:bf16", "dynamic:f16") == before
    read = openvino().Core().read_model(path)
    kept = "DisablePrecisionConversion_0"
    assert sum(kept in node.get_rt_info() for node in read.get_ordered_ops()) == marked


def test_the_bands_of_images_are_marked_to_stay_float32() -> None:
    """What the CPU plugin makes of the marks needs a processor with bfloat16."""
    network = small_network().requires_grad_(False)
    crops = torch.zeros(1, 3, 32, 32)
    model = convert_model(DecoderModule(network), (crops, network.encode(crops)))
    model.reshape({0: [1, 3, 32, 32], 1: [1, 16, 16, 16]})
    builder.keep_image_in_float32(model)

    convolutions = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    marked = [node for node in convolutions if "precise_0" in node.get_rt_info()]
    depthwise = [node for node in marked if node.get_type_name() == "GroupConvolution"]
    # For each of five bands luma and chroma smoothed, and of luma three details and two gradients;
    # each once for input and restored picture.
    assert len(depthwise) == 5 * (2 + 3 + 2)
    # Beside them: channels mixed three times, all of the gains' own, the main branch's last.
    gains = sum(isinstance(module, nn.Conv2d) for module in network.band_gains.modules())
    assert len(marked) == len(depthwise) + 3 + gains + 1
    # Gains of six bands each of luma and chroma, and of luma's 15 details; before, luma's together
    # and the feature of fine ones; all along two axes.
    enlarging = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul" and "precise_0" in node.get_rt_info()
    ]
    assert len(enlarging) == 2 * (6 + 6 + 15 + 1 + 1)
    assert {
        "precise_0" in node.get_rt_info()
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("Log", "AvgPool")
    } == {True}
    assert len(convolutions) > 30


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_face_does_not_depend_on_its_batch(batch_size: int, sound: Path, tmp_path: Path) -> None:
    if batch_size == 1:
        engine = OpenvinoEngine(sound, spec_of(small_network()))
    else:
        engine = engine_of(small_network(), tmp_path, batch_size=batch_size)
    crops = torch.rand(6, 3, 32, 32)
    latents = engine.encode(crops)
    images = engine.decode(crops, latents, fidelity=0.5)
    for i in (5, 0, 3):
        alone = engine.encode(crops[i : i + 1])
        assert torch.equal(alone[0], latents[i])
        assert torch.equal(engine.decode(crops[i : i + 1], alone, fidelity=0.5)[0], images[i])


def test_results_are_the_callers_own(sound: Path) -> None:
    engine = OpenvinoEngine(sound, spec_of(small_network()))
    crops = torch.rand(2, 3, 32, 32)
    first = engine.encode(crops[:1])
    before = first.clone()
    engine.encode(crops[1:])
    assert torch.equal(first, before)


def test_crops_in_any_layout_give_the_same(sound: Path) -> None:
    engine = OpenvinoEngine(sound, spec_of(small_network()))
    crops = torch.rand(1, 3, 32, 32)
    turned = crops.contiguous(memory_format=torch.channels_last)
    assert torch.equal(engine.encode(turned), engine.encode(crops))


NAMES_ON_DISK = ("encoder.xml", "decoder.codes.xml", "decoder.xml", "encoder.bin", "decoder.bin")


@pytest.mark.parametrize("name", NAMES_ON_DISK)
@pytest.mark.parametrize("damage", ["absent", "empty", "cut"])
def test_damaged_files_are_named_with_the_way_out(
    name: str, damage: str, sound: Path, tmp_path: Path
) -> None:
    for path in sound.iterdir():
        content = path.read_bytes()
        if path.name == name:
            if damage == "absent":
                continue
            content = content[: len(content) // 2] if damage == "cut" else b""
        (tmp_path / path.name).write_bytes(content)
    stem = name.rpartition(".")[0]
    with pytest.raises(
        EngineFileError, match=rf"{stem}\.xml does not load.*engine build"
    ) as caught:
        OpenvinoEngine(tmp_path, spec_of(small_network()))
    assert "\n" not in str(caught.value)


def test_an_engine_of_another_shape_is_refused(sound: Path) -> None:
    spec = replace(spec_of(small_network()), batch_size=2)
    with pytest.raises(EngineFileError, match=r"encoder\.xml does not load: shapes .*engine build"):
        OpenvinoEngine(sound, spec)


def test_what_openvino_cannot_do_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="float16: use --precision float32"):
        builder.build(small_network(), tmp_path, precision="float16", batch_size=1, device="cpu")
    with pytest.raises(BackendError, match=r"on CPUs, not on cuda:0: use --device cpu"):
        builder.check("cuda:0")
    assert list(tmp_path.iterdir()) == []


class Unconvertible(nn.Module):
    """OpenVINO has no QR decomposition."""

    def forward(self, x: Tensor) -> Tensor:
        orthogonal: Tensor = torch.linalg.qr(x)[0]
        return orthogonal


def test_a_network_that_openvino_cannot_convert_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "EncoderModule", lambda _: Unconvertible())
    with pytest.raises(
        EngineError,
        match=r"^OpenVINO \S+ cannot convert encoder: No conversion rule found for "
        r"operations: aten::linalg_qr[^\n]*; use --backend torch$",
    ):
        builder.build(small_network(), tmp_path, precision="float32", batch_size=1, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_openvino_cannot_convert_is_refused_in_one_line() -> None:
    with pytest.raises(
        EngineError, match=r"^OpenVINO cannot convert the face detector: .*aten::linalg_qr[^\n]*$"
    ):
        converted(Unconvertible())


def test_a_failed_conversion_leaves_the_programs_log_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(EngineError):
        converted(Unconvertible())
    logging.getLogger("anyone").warning("still heard")
    assert caplog.messages == ["still heard"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"OpenVINO cannot write .*file/engine/encoder\.xml: \S"):
        builder.build(
            small_network(),
            tmp_path / "file" / "engine",
            precision="float32",
            batch_size=1,
            device="cpu",
        )


def run_apart(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="pip install openvino"):
        builder.check("cpu")


def test_the_library_is_imported_without_its_telemetry() -> None:
    assert (
        run_apart(
            "import sys\n"
            "from vqfr_media.backends.openvino_library import openvino\n"
            "import torch\n"
            "openvino().convert_model(torch.export.export(torch.nn.ReLU(), (torch.ones(1),)))\n"
            "found = {n: m for n, m in sys.modules.items() if n.startswith('openvino_telemetry')}\n"
            "print(found)"
        )
        == "{'openvino_telemetry': None}\n"
    )
