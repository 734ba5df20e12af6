"""AOTInductor engines, built with g++ for the CPU, against PyTorch's eager results."""

import copy
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from vqfr_engines import inductor
from vqfr_engines.parity import fixed_crops

from tests.vqfr_engines.small import small_network, tiny_v2
from vqfr_media import weights
from vqfr_media.backends.inductor_engine import InductorEngine
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.errors import BackendError, EngineError, EngineFileError
from vqfr_media.network.checkpoint import load_network
from vqfr_media.values import EngineSpec

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TorchEngine]:
    """An engine for two faces in a run, and the reference."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    with torch.random.fork_rng():
        network = small_network()
    reference = TorchEngine(
        copy.deepcopy(network), model="lite", device=torch.device("cpu"), batch_size=2
    )
    folder = tmp_path_factory.mktemp("engine")
    inductor.build(network, folder, precision="float32", batch_size=2, device="cpu")
    return folder, reference


@pytest.mark.slow
def test_gives_pytorchs_numbers_for_any_number_of_faces(built: tuple[Path, TorchEngine]) -> None:
    folder, reference = built
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.pt2", "encoder.pt2"]
    engine = InductorEngine(folder, reference.spec)
    torch.manual_seed(1)
    crops = torch.rand(3, 3, 32, 32)

    latents = reference.encode(crops)
    restored = reference.decode(crops, latents, fidelity=1.0)

    assert float((restored - crops).abs().max()) > 0.01  # the network does something
    torch.testing.assert_close(engine.encode(crops), latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        engine.decode(crops, latents, fidelity=1.0), restored, atol=1e-5, rtol=0
    )


@pytest.mark.slow
def test_results_are_the_callers(built: tuple[Path, TorchEngine]) -> None:
    folder, reference = built
    engine = InductorEngine(folder, reference.spec)
    torch.manual_seed(1)
    first, second = torch.rand(2, 2, 3, 32, 32)
    kept = engine.encode(first)
    before = kept.clone()
    assert not torch.equal(engine.encode(second), before)
    assert torch.equal(kept, before)
    # Alone or in a batch, and in whatever layout it comes: the same bits.
    assert torch.equal(engine.encode(first[:1]), before[:1])
    channels_last = first.contiguous(memory_format=torch.channels_last)
    assert torch.equal(engine.encode(channels_last), before)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["absent", "empty", "half"])
def test_a_damaged_engine_names_the_build_command(
    built: tuple[Path, TorchEngine], damage: str, tmp_path: Path
) -> None:
    folder, reference = built
    shutil.copytree(folder, tmp_path / "engine")
    encoder = tmp_path / "engine/encoder.pt2"
    whole = encoder.read_bytes()
    if damage == "absent":
        encoder.unlink()
    else:
        encoder.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    with pytest.raises(
        EngineFileError,
        match=r"encoder.pt2 .*here is torch 2.*"
        r"vqfr-media engine build --backend inductor --model lite --precision float32 "
        r"--batch-size 2",
    ):
        InductorEngine(tmp_path / "engine", reference.spec)


@pytest.mark.slow
@needs_compiler
def test_v2_in_bfloat16_keeps_its_fidelity(tmp_path: Path) -> None:
    network = tiny_v2()
    reference = TorchEngine(
        copy.deepcopy(network), model="v2", device=torch.device("cpu"), batch_size=1
    )
    inductor.build(network, tmp_path, precision="bfloat16", batch_size=1, device="cpu")
    engine = InductorEngine(tmp_path, replace(reference.spec, precision="bfloat16"))
    crops = torch.rand(1, 3, 32, 32)
    latents = reference.encode(crops)
    for fidelity in (0.0, 1.0):
        found = engine.decode(crops, latents, fidelity=fidelity)
        wanted = reference.decode(crops, latents, fidelity=fidelity)
        assert 0 < float((found - wanted).square().mean().sqrt()) < 0.01
    images = [engine.decode(crops, latents, fidelity=value) for value in (0.0, 1.0)]
    assert float((images[0] - images[1]).abs().max()) > 0.05


def test_says_that_the_compiler_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match=r"'no-such-compiler' is not here: install g\+\+"):
        inductor.build(small_network(), tmp_path, precision="float32", batch_size=1, device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@needs_compiler
def test_says_that_compiling_failed(tmp_path: Path) -> None:
    import torch._inductor.config as compiler

    with (
        compiler.patch({"cpp.cxx": (shutil.which("false"),)}),
        pytest.raises(EngineError, match=r"cannot compile encoder for cpu: .*--backend torch"),
    ):
        inductor.build(small_network(), tmp_path, precision="float32", batch_size=1, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="'cuda:0' is not here"):
        inductor.check("cuda:0")
    spec = EngineSpec(
        model="lite",
        size=32,
        latent_shape=(8, 16, 16),
        batch_size=1,
        precision="float16",
        device="cuda:0",
        has_fidelity=False,
    )
    with pytest.raises(BackendError, match="'cuda:0' is not here"):
        InductorEngine(tmp_path, spec)


def test_is_bound_to_this_machine() -> None:
    machine = inductor.machine("cpu")
    assert machine["isa"] == torch.backends.cpu.get_cpu_capability()
    assert machine["cpu"] in Path("/proc/cpuinfo").read_text()
    assert inductor.versions()["torch"] == torch.__version__
    assert inductor.settings("float16") != inductor.settings("bfloat16")


@pytest.mark.slow
def test_is_bound_to_the_number_of_threads(built: tuple[Path, TorchEngine]) -> None:
    threads = torch.get_num_threads()
    before = inductor.machine("cpu")
    try:
        torch.set_num_threads(threads + 1)
        assert inductor.machine("cpu") == {**before, "threads": str(threads + 1)}
    finally:
        torch.set_num_threads(threads)
    # ... because the compiler writes it into the code.
    with zipfile.ZipFile(built[0] / "decoder.pt2") as package:
        sources = [package.read(name) for name in package.namelist() if name.endswith(".cpp")]
    found = {count for text in sources for count in re.findall(rb"num_threads\((\d+)\)", text)}
    assert found <= {str(threads).encode()}
    assert found or threads == 1


@pytest.mark.slow
@pytest.mark.needs_cuda
@needs_compiler
def test_on_a_gpu_float16_is_near_pytorch_and_steady(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    network = load_network(weights.find("lite", offline=True))
    device = torch.device("cuda", 0)
    reference = TorchEngine(copy.deepcopy(network), model="lite", device=device, batch_size=2)
    inductor.build(network, tmp_path, precision="float16", batch_size=2, device="cuda:0")
    engine = InductorEngine(tmp_path, replace(reference.spec, precision="float16"))
    crops = fixed_crops(256)[:3].to(device)
    latents = reference.encode(crops)
    wanted = reference.decode(crops, latents, fidelity=1.0)

    found = engine.decode(crops, latents, fidelity=1.0)

    assert 0 < float((found - wanted).square().mean().sqrt()) < 1e-3  # 60 dB; on a CPU it is 94
    scale = latents.square().mean().sqrt()
    encoded = engine.encode(crops)
    assert float((encoded - latents).square().mean().sqrt() / scale) < 1e-2
    assert torch.equal(engine.encode(crops), encoded)
    assert torch.equal(engine.decode(crops, latents, fidelity=1.0), found)
    assert torch.equal(engine.encode(crops[1:2]), encoded[1:2])
    assert torch.equal(engine.decode(crops[1:2], latents[1:2], fidelity=1.0), found[1:2])
