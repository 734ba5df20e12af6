"""Memory of plain PyTorch on a GPU: live storages counted, batches chosen, halved and tried out."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import deform_conv2d
from vqfr_engines.bench import one_after_another
from vqfr_training.recipes import smoke_stage1

from benchmarks.live_bytes import LiveBytes
from vqfr_media.backends.gpu_memory import (
    batch_that_fits,
    fitting_engine,
    gives_finite,
    run_bytes,
)
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.errors import EngineError
from vqfr_media.manifest import Precision
from vqfr_media.network.blocks import Branches
from vqfr_media.network.deform import image_by_image, torchvision_operator
from vqfr_media.network.export_modules import DecoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1, lite_config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config

CPU = torch.device("cpu")
GIB = 2**30


def operands(images: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.rand(images, 8, 12, 10) - 0.5,
        torch.randn(images, 2 * 9 * 2, 12, 10) * 3,
        torch.rand(images, 9 * 2, 12, 10),
        torch.randn(6, 8, 3, 3),
        torch.randn(6),
    )


def test_on_a_gpu_columns_are_those_of_one_image() -> None:
    with FakeTensorMode(), torch.device("cuda"), LiveBytes() as live:
        result = torchvision_operator(*operands(8), 1, 1, 1, 2)
    assert result.shape == (8, 6, 12, 10)
    assert live.columns == [8 * 9 * 12 * 10 * 4] * 8  # it was one of eight times that


def test_image_by_image_gives_the_same_numbers_and_gradients() -> None:
    torch.manual_seed(0)
    tensors = [tensor.requires_grad_() for tensor in operands(3)]
    x, offset, mask, weight, bias = tensors

    def convolved(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
        return result

    whole, parts = convolved(x, offset, mask), image_by_image(convolved, x, offset, mask)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    ours, theirs = (torch.autograd.grad(y.square().sum(), tensors) for y in (parts, whole))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-5)


def peak_of(network: VqfrV1 | VqfrV2, *, precision: Precision, batch_size: int) -> int:
    """Of a decoder that was made on a fake GPU."""
    network = to_mixed_precision(network.eval(), precision)
    size = network.config.image_size
    crops = torch.empty(batch_size, 3, size, size)
    latents = torch.empty(batch_size, *network.config.latent_shape)
    fidelity = [torch.empty(1)] if isinstance(network, VqfrV2) else []
    with LiveBytes() as live:
        DecoderModule(network)(crops, latents, *fidelity)
    return int(live.peak)


@pytest.mark.parametrize(
    "model", ["lite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("v1", "v2"))]
)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_estimate_holds_what_lives(model: str, precision: Precision) -> None:
    with FakeTensorMode(), torch.device("cuda"), torch.inference_mode():
        if model == "v2":
            network: VqfrV1 | VqfrV2 = VqfrV2(vqfr_v2_config())
        else:
            network = VqfrV1(lite_config() if model == "lite" else vqfr_v1_config())
        live = peak_of(network, precision=precision, batch_size=8)
    estimated = run_bytes(network, precision=precision, batch_size=8)
    assert 0.6 * estimated < live < estimated


def test_the_batch_follows_from_what_is_free() -> None:
    with torch.device("meta"):
        v1, v2 = VqfrV1(vqfr_v1_config()), VqfrV2(vqfr_v2_config())
    found = {
        (name, precision, gib): batch_that_fits(
            network, precision=precision, free_bytes=int(gib * GIB), most=8
        )
        for name, network in (("v1", v1), ("v2", v2))
        for precision in ("float32", "float16")
        for gib in (1, 7.2, 11, 79)
    }
    sizes = {
        (name, precision): [found[name, precision, gib] for gib in (1, 7.2, 11, 79)]
        for name in ("v1", "v2")
        for precision in ("float32", "float16")
    }
    assert sizes == {
        ("v1", "float32"): [1, 2, 4, 8],
        ("v1", "float16"): [1, 2, 4, 8],
        ("v2", "float32"): [1, 4, 8, 8],
        ("v2", "float16"): [1, 4, 8, 8],
    }
    assert batch_that_fits(v2, precision="float32", free_bytes=79 * GIB, most=3) == 3


class Exhausted(VqfrV1):
    """Has memory for `most` faces."""

    most: int

    def decode(self, image: Tensor, latent: Tensor) -> Branches:
        if len(image) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore of it")
        return super().decode(image, latent)


def exhausted(*, most: int, batch_size: int) -> TorchEngine:
    torch.manual_seed(0)
    network = Exhausted(smoke_stage1().network)
    network.most = most
    return TorchEngine(network, model="small", device=CPU, batch_size=batch_size)


def test_a_batch_that_does_not_fit_is_halved_once(caplog: pytest.LogCaptureFixture) -> None:
    crops = torch.rand(3, 3, 64, 64)
    engine = fitting_engine(exhausted(most=2, batch_size=4), crops, may_halve=True)
    assert engine.spec.batch_size == 2
    assert "4 faces at once do not fit into the memory of cpu: 2 are run" in caplog.text
    latents = engine.encode(crops)
    alone = engine.with_batch_size(1)
    torch.testing.assert_close(alone.encode(crops), latents, atol=1e-5, rtol=1e-4)
    assert engine.decode(crops, latents, fidelity=0.5).shape == crops.shape
    fits = exhausted(most=2, batch_size=2)
    assert fitting_engine(fits, crops, may_halve=True) is fits


@pytest.mark.parametrize(
    ("most", "may_halve", "says"),
    [
        (1, True, r"with 2 faces of 64 px: use --batch-size 1; CUDA out of memory\.$"),
        (3, False, r"with 4 faces of 64 px: use --batch-size 1; CUDA out of memory\.$"),
    ],
)
def test_where_nothing_fits_the_last_message_names_the_smallest_batch(
    most: int, may_halve: bool, says: str
) -> None:
    engine = exhausted(most=most, batch_size=4)
    with pytest.raises(EngineError, match=says):
        fitting_engine(engine, torch.rand(1, 3, 64, 64), may_halve=may_halve)


def test_values_too_large_for_float16_are_noticed() -> None:
    torch.manual_seed(0)
    network = VqfrV1(smoke_stage1().network)
    finite = []
    for scale in (1.0, 1e6):
        with torch.no_grad():
            for module in network.encoder.modules():
                if isinstance(module, nn.Conv2d) and module is not network.encoder.conv_in:
                    module.weight.mul_(scale)
                    break
        saved = {name: value.clone() for name, value in network.state_dict().items()}
        for precision in ("float32", "float16"):
            fresh = VqfrV1(smoke_stage1().network)
            fresh.load_state_dict(saved)
            engine = TorchEngine(
                fresh, model="small", device=CPU, batch_size=2, precision=precision
            )
            finite.append(gives_finite(engine, torch.rand(1, 3, 64, 64)))
    assert finite == [True, True, True, False]


def test_bench_holds_one_network_at_a_time() -> None:
    made: list[weakref.ref[TorchEngine]] = []
    alive: list[int] = []

    def opened() -> TorchEngine:
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        engine = exhausted(most=9, batch_size=2)
        made.append(weakref.ref(engine))
        return engine

    ms = one_after_another({"torch": opened, "engine": opened}, device=CPU, runs=1)
    assert alive == [0, 0]
    assert set(ms) == {(p, s) for p in ("encode", "decode") for s in ("torch", "engine")}
    assert all(value > 0 for value in ms.values())
