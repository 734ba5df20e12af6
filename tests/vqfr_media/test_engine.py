"""The torch backend keeps the engine's contract; the choice of a model says what and why."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from vqfr_training.recipes import smoke_gains

from vqfr_media import weights
from vqfr_media.backends.torch_engine import TorchEngine, resolve_device
from vqfr_media.choices import ChosenModel, choose_model
from vqfr_media.engine import (
    load_engine,
    request_engine,
    request_for,
    torch_precisions,
)
from vqfr_media.errors import (
    BackendError,
    CheckpointError,
    EngineError,
    InputError,
    OptionError,
    WeightsError,
)
from vqfr_media.manifest import Precision
from vqfr_media.network.blocks import Branches
from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.options import ModelOptions


def small_network() -> VqfrV1:
    torch.manual_seed(0)
    network = VqfrV1(smoke_gains().network).eval()
    for layer in (network.main_decoder.conv_out, *network.band_gains.layers_of_zeros()):
        for parameter in layer.parameters():  # zero before training: the input would come back
            torch.nn.init.normal_(parameter, std=0.05)
    return network.half().float()  # as a file keeps it


def devices() -> list[object]:
    return ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)]


@pytest.fixture(params=devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return resolve_device(request.param)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_engine_equals_the_network(device: torch.device, batch_size: int) -> None:
    network = small_network()
    crops = torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        latents = network.encode(crops * 2 - 1)
        expected = (network.decode(crops * 2 - 1, latents).main / 2 + 0.5).clamp(0, 1)
    engine = TorchEngine(network, model="small", device=device, batch_size=batch_size)
    assert engine.spec.latent_shape == (16, 16, 16)
    assert engine.spec.batch_size == batch_size
    got = engine.encode(crops.to(device))
    torch.testing.assert_close(got.cpu(), latents, atol=1e-4, rtol=1e-4)
    images = engine.decode(crops.to(device), latents.to(device), fidelity=0.5)
    assert images.shape == crops.shape
    assert images.min() >= 0
    assert images.max() <= 1
    torch.testing.assert_close(images.cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_face_does_not_depend_on_its_batch(batch_size: int) -> None:
    engine = TorchEngine(
        small_network(), model="small", device=torch.device("cpu"), batch_size=batch_size
    )
    crops = torch.rand(7, 3, 64, 64)
    together = engine.encode(crops)
    pictures = engine.decode(crops, together, fidelity=0.5)
    for i in (6, 0, 3):
        alone = engine.encode(crops[i : i + 1])
        assert torch.equal(alone[0], together[i])
        picture = engine.decode(crops[i : i + 1], alone, fidelity=0.5)
        assert torch.equal(picture[0], pictures[i])


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 32, 64), (0, 3, 64, 64), (1, 1, 64, 64)])
def test_crops_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    engine = TorchEngine(small_network(), model="small", device=torch.device("cpu"), batch_size=1)
    with pytest.raises(ValueError, match=r"crops must be \(N, 3, 64, 64\)"):
        engine.encode(torch.zeros(shape))


def test_a_failure_of_the_network_names_model_device_and_size() -> None:
    class Exhausted(VqfrV1):
        def decode(self, image: Tensor, latent: Tensor) -> Branches:
            raise torch.OutOfMemoryError(f"{len(image) + len(latent)} faces are too many")

    network = Exhausted(small_network().config)
    engine = TorchEngine(network, model="small", device=torch.device("cpu"), batch_size=1)
    crops = torch.zeros(1, 3, 64, 64)
    with pytest.raises(
        EngineError,
        match=r"small in float32 does not fit into the memory of cpu with 1 faces of 64 px: "
        r"end what else runs there.*--model lite.*2 faces are too many",
    ):
        engine.decode(crops, engine.encode(crops), fidelity=0.5)


@pytest.mark.parametrize("name", ["cuda:97", "mps", "nonsense", "cpu0"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match=name):
        resolve_device(name)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights that the search finds first, with a small lite in it."""
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    save_network(tmp_path / "lite.safetensors", small_network())
    return tmp_path


def test_auto_takes_lite_where_there_is_no_gpu_and_says_so(cached: Path) -> None:
    chosen = choose_model(ModelOptions(), has_gpu=False, offline=True)
    assert chosen.name == "lite"
    assert chosen.weights == cached / "lite.safetensors"
    assert "no GPU" in chosen.why


def test_auto_on_a_gpu_takes_v2_where_it_is_and_lite_where_it_cannot_be_had(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached / "empty"))
    chosen = choose_model(ModelOptions(), has_gpu=True, offline=True)
    assert chosen.name == "lite"
    assert "v2 is not to be had" in chosen.why
    (cached / "VQFR_v2.pth").write_bytes(b"PK")
    chosen = choose_model(ModelOptions(), has_gpu=True, offline=True)
    assert (chosen.name, chosen.weights) == ("v2", cached / "VQFR_v2.pth")


def test_options_that_contradict_each_other_are_refused(cached: Path) -> None:
    path = cached / "lite.safetensors"
    with pytest.raises(OptionError, match="--model"):
        choose_model(ModelOptions(weights=path), has_gpu=False, offline=True)
    with pytest.raises(OptionError, match="only v2 has this setting"):
        choose_model(ModelOptions(model="lite", fidelity=0.3), has_gpu=False, offline=True)
    with pytest.raises(OptionError, match="fidelity"):
        ModelOptions(fidelity=1.2)
    with pytest.raises(OptionError, match="batch_size"):
        ModelOptions(batch_size=0)
    with pytest.raises(OptionError, match="precision must be one of auto, float32"):
        ModelOptions(precision="int8")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="openvino runs on the CPU, not on cuda:1"):
        ModelOptions(backend="openvino", device="cuda:1")
    with pytest.raises(OptionError, match="fixed by the engine in somewhere"):
        ModelOptions(engine=Path("somewhere"), batch_size=2)


def test_weights_that_are_not_to_be_had_say_what_to_do(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached / "empty"))
    with pytest.raises(WeightsError, match=r"get https://.*v1.* by hand"):
        load_engine(ModelOptions(model="v1"), offline=True)
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        load_engine(ModelOptions(model="v1", weights=cached / "nowhere.pth"), offline=True)


@pytest.mark.usefixtures("cached")
def test_load_engine_runs_the_file_it_was_given() -> None:
    engine, chosen = load_engine(ModelOptions(model="lite", device="cpu"), offline=True)
    assert chosen.why == "asked for"
    assert (engine.spec.size, engine.spec.batch_size, engine.spec.device) == (64, 1, "cpu")
    crops = torch.rand(1, 3, 64, 64)
    images = engine.decode(crops, engine.encode(crops), fidelity=0.5)
    with torch.inference_mode():
        expected = (small_network()(crops * 2 - 1).main / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


def test_a_checkpoint_of_another_network_is_refused(cached: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lite\.safetensors"):
        load_engine(
            ModelOptions(model="v2", weights=cached / "lite.safetensors", device="cpu"),
            offline=True,
        )


def test_torch_is_run_where_it_is_asked_for(cached: Path) -> None:
    engine, chosen = load_engine(
        ModelOptions(model="lite", device="cpu", backend="torch"), offline=True
    )
    assert isinstance(engine, TorchEngine)
    assert (chosen.backend, chosen.backend_why, chosen.engine) == ("torch", "asked for", None)
    assert chosen.weights == cached / "lite.safetensors"


def test_auto_on_a_cpu_is_an_engine_that_equals_torch(cached: Path, engines: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed here")
    network = small_network()
    with torch.no_grad():
        for parameter in network.main_decoder.conv_out.parameters():
            parameter.normal_(0, 0.05)  # zero before training: nothing else would matter
    save_network(cached / "lite.safetensors", network)
    engine, chosen = load_engine(ModelOptions(model="lite", device="cpu"), offline=True)
    assert (chosen.backend, chosen.engine and chosen.engine.parent) == ("openvino", engines)
    eager, _ = load_engine(ModelOptions(model="lite", device="cpu", backend="torch"), offline=True)
    assert engine.spec == eager.spec
    crops = torch.rand(2, 3, 64, 64)
    latents = eager.encode(crops)
    torch.testing.assert_close(engine.encode(crops), latents, atol=1e-4, rtol=1e-4)
    images = eager.decode(crops, latents, fidelity=0.5)
    torch.testing.assert_close(
        engine.decode(crops, latents, fidelity=0.5), images, atol=1e-4, rtol=0
    )
    assert (images - crops).abs().max() > 0.01


def test_what_is_left_open_is_decided_by_the_device(cached: Path) -> None:
    chosen = ChosenModel("lite", cached / "lite.safetensors", "asked for")
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    request = request_for(ModelOptions(), "inductor", chosen, cpu)
    assert (request.precision, request.batch_size, request.device) == ("float32", 1, "cpu")
    request = request_for(ModelOptions(), "inductor", chosen, gpu)
    assert (request.precision, request.batch_size, request.device) == ("float16", 8, "cuda:1")
    options = ModelOptions(precision="bfloat16", batch_size=3)
    request = request_for(options, "tensorrt", chosen, gpu)
    assert (request.precision, request.batch_size) == ("bfloat16", 3)
    # OpenVINO's place is the CPU, whatever else there is.
    request = request_engine(ModelOptions(model="lite"), "openvino")
    assert (request.device, request.model, request.weights) == ("cpu", "lite", chosen.weights)


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", (8, 9), ["float16", "bfloat16"]),
        ("Tesla T4", (7, 5), ["float16", "float32"]),
        ("NVIDIA GeForce GTX 1660", (7, 5), ["float32"]),
        ("NVIDIA GeForce GTX 1080", (6, 1), ["float32"]),
    ],
)
def test_plain_pytorch_takes_float16_on_tensor_cores_and_says_so(
    name: str, capability: tuple[int, int], expected: list[str]
) -> None:
    found = torch_precisions(ModelOptions(), name=name, capability=capability)
    assert [precision for precision, _ in found] == expected
    assert all(why.startswith(f"{precision}, as this") for precision, why in found)
    asked = torch_precisions(ModelOptions(precision="bfloat16"), name=name, capability=capability)
    assert asked == (("bfloat16", ""),)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_plain_pytorch_computes_in_half_precision_where_asked(precision: Precision) -> None:
    options = ModelOptions(model="lite", device="cpu", backend="torch", precision=precision)
    engine, chosen = load_engine(options, offline=True)
    exact = TorchEngine(small_network(), model="lite", device=torch.device("cpu"), batch_size=1)
    assert (engine.spec.precision, chosen.backend_why) == (precision, "asked for")
    crops = torch.rand(2, 3, 64, 64)
    latents = exact.encode(crops)
    assert 0 < (engine.encode(crops) - latents).abs().max() < 0.05
    images = engine.decode(crops, latents, fidelity=0.5)
    assert images.dtype == torch.float32
    assert (images - exact.decode(crops, latents, fidelity=0.5)).abs().max() < 0.05
