"""A mixed-precision network against its float32 self, in numbers and in its exported graph."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, fx, nn
from vqfr_training.data.photographs import Photographs, validation_pairs
from vqfr_training.lite_recipes import lite_stage2

from vqfr_media import weights
from vqfr_media.network.checkpoint import load_network, load_official
from vqfr_media.network.export_modules import DecoderModule, EncoderModule
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config
from vqfr_media.network.vqfr_v2 import VqfrV2, VqfrV2Config

type Network = VqfrV1 | VqfrV2
type Half = Literal["float16", "bfloat16"]
DTYPES: dict[Half, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
HALVES = ["bfloat16", "float16"]


@pytest.fixture(params=["v1", "v2", "lite"])
def network(
    request: pytest.FixtureRequest,
    golden: Path,
    golden_v1_config: VqfrV1Config,
    golden_v2_config: VqfrV2Config,
) -> Network:
    """The small golden networks, whose offsets are not zero; lite as it is shipped."""
    if request.param == "lite":
        return load_network(weights.find("lite", offline=True))
    network = VqfrV1(golden_v1_config) if request.param == "v1" else VqfrV2(golden_v2_config)
    load_official(golden / f"vqfr_{request.param}_small.safetensors", network)
    return network.eval()


def inputs(network: Network) -> tuple[Tensor, ...]:
    """Crops, and v2's fidelity."""
    crops = torch.rand(1, 3, 64, 64)  # other sizes than the config's work too
    return (crops, torch.tensor([0.7])) if isinstance(network, VqfrV2) else (crops,)


@pytest.fixture
def all_faces(shared: Path) -> Tensor:
    """(24, 3, 256, 256) degraded photographs in [-1, 1]."""
    recipe = lite_stage2()
    photographs = Photographs(shared / "data/faces/val", size=recipe.network.image_size)
    lq, _ = validation_pairs(photographs, seed=0, degradation=recipe.degradation)
    return lq


@pytest.fixture
def faces(all_faces: Tensor) -> Tensor:
    """Half of them."""
    return all_faces[::2]


@torch.inference_mode()
@pytest.mark.parametrize("precision", HALVES)
def test_results_stay_near_float32(network: Network, precision: Half) -> None:
    crops, *fidelity_input = inputs(network)
    low = to_mixed_precision(copy.deepcopy(network), precision)

    latents, low_latents = EncoderModule(network)(crops), EncoderModule(low)(crops)
    restored = DecoderModule(network)(crops, latents, *fidelity_input)
    low_restored = DecoderModule(low)(crops, latents, *fidelity_input)

    assert low_latents.dtype == low_restored.dtype == torch.float32
    # Measured on the golden networks, whose weights are random: latents 0.014 and 0.0016 of their
    # norm, images 0.0078 and 0.0008; the types' own steps are a factor of 8 apart.
    step = 2 * torch.finfo(DTYPES[precision]).eps
    assert 0 < float((low_latents - latents).norm() / latents.norm()) < 2 * step
    assert 0 < float((low_restored - restored).square().mean().sqrt()) < step


def flipped(network: VqfrV1, other: VqfrV1, images: Tensor) -> float:
    """Share of codes in which two networks differ."""
    # Channels last: on a processor without bfloat16 its convolutions then take a fifth of the time.
    images = images.contiguous(memory_format=torch.channels_last)
    codes = []
    for each in (network, other):
        each = copy.deepcopy(each).to(memory_format=torch.channels_last)
        codes.append(each.codes(each.encode(images)))
    return float((codes[0] != codes[1]).float().mean())


class CastInput(nn.Module):
    """A layer in half precision, fed by float32 ones."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.to(self.dtype))
        return result


def all_in_half_precision(network: VqfrV1, dtype: torch.dtype) -> VqfrV1:
    """All of the encoder in `dtype`; latents and distances in float32."""
    naive = copy.deepcopy(network)
    naive.encoder = CastInput(naive.encoder, dtype)  # type: ignore[assignment]
    naive.quantizer.layers.quant_conv.to(dtype)
    return naive


@torch.inference_mode()
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_float32_layers_keep_codes_in_bfloat16(all_faces: Tensor, step: int) -> None:
    network = load_network(weights.find("lite", offline=True))
    assert isinstance(network, VqfrV1)

    faces = all_faces[::step]
    share = flipped(network, to_mixed_precision(copy.deepcopy(network), "bfloat16"), faces)
    naive = flipped(network, all_in_half_precision(network, torch.bfloat16), faces)

    # Measured on 48 faces: 0.0080 and 0.0298 (on the third of them 0.0093 and 0.0327).
    assert 0 < share < 0.015
    assert naive > 1.25 * share


@torch.inference_mode()
def test_distances_have_to_be_float32(faces: Tensor) -> None:
    network = load_network(weights.find("lite", offline=True))
    latents = network.encode(faces[:4])
    codes = network.codes(latents)
    codebook, places = network.quantizer.codebook.bfloat16(), latents.bfloat16()

    rounded = codebook.square().sum(1) - 2 * places.permute(0, 2, 3, 1) @ codebook.T

    assert (rounded.argmin(-1) != codes).float().mean() > 0.05  # measured: 0.135
    # ... and `codes` does so whatever it is given: what is left is the latents' own rounding.
    network.quantizer.codebook.data = codebook.float()
    assert (network.codes(places) != codes).float().mean() < 0.01


@pytest.mark.slow
@torch.inference_mode()
def test_float16_keeps_codes(faces: Tensor) -> None:
    network = load_network(weights.find("lite", offline=True))
    assert isinstance(network, VqfrV1)
    share = flipped(network, to_mixed_precision(copy.deepcopy(network), "float16"), faces)
    assert share < 0.003  # measured: 0.001


def float_types(node: fx.Node) -> Iterator[torch.dtype]:
    """Of the tensors that `node` takes."""
    for argument in node.all_input_nodes:
        value = argument.meta.get("val")
        if isinstance(value, Tensor) and value.is_floating_point():
            yield value.dtype


@pytest.fixture(params=["v1", "v2", "lite"])
def tiny(
    request: pytest.FixtureRequest,
    tiny_v1_config: VqfrV1Config,
    tiny_v2_config: VqfrV2Config,
    tiny_lite_config: VqfrV1Config,
) -> Network:
    """The three layouts at three levels: a graph's types need neither size nor real weights."""
    if request.param == "v2":
        return VqfrV2(tiny_v2_config).eval()
    return VqfrV1(tiny_v1_config if request.param == "v1" else tiny_lite_config).eval()


@pytest.mark.parametrize("precision", HALVES)
def test_float32_layers_are_in_the_exported_graph(tiny: Network, precision: Half) -> None:
    network = tiny
    crops, *fidelity_input = inputs(network)
    latents = network.encode(crops).detach()
    low = to_mixed_precision(network, precision)
    types: dict[str, list[set[torch.dtype]]] = {}
    for module, arguments in (
        (EncoderModule(low), (crops,)),
        (DecoderModule(low), (crops, latents, *fidelity_input)),
    ):
        program = torch.export.export(module, arguments, strict=False)
        for node in program.graph.nodes:
            if node.op == "call_function":
                name = str(node.target).removesuffix(".default").split(".")[-1]
                types.setdefault(name, []).append(set(float_types(node)))

    assert not [name for name in types if "autocast" in name]
    assert all(len(found) <= 1 for uses in types.values() for found in uses)  # only explicit casts
    assert {torch.float32} in types["conv2d"]
    assert {DTYPES[precision]} in types["conv2d"]
    # "sigmoid" is that of the masks; SiLU is an operator of its own.
    exact = ["group_norm", "embedding", "matmul", "sigmoid", "deform_conv2d"]
    if isinstance(network, VqfrV2):
        exact[2:3] = ["layer_norm", "linear", "argmax", "scaled_dot_product_attention"]
    for name in exact:
        assert set(map(frozenset, types[name])) == {frozenset({torch.float32})}, name


def test_float32_is_left_alone(tiny_v1_config: VqfrV1Config) -> None:
    network = VqfrV1(tiny_v1_config)
    assert to_mixed_precision(network, "float32") is network
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_lowers_only_what_is_float32(tiny_v1_config: VqfrV1Config) -> None:
    network = to_mixed_precision(VqfrV1(tiny_v1_config), "bfloat16")
    with pytest.raises(ValueError, match="only a float32 network can be converted"):
        to_mixed_precision(network, "float16")


def test_refuses_unknown_precisions(tiny_v1_config: VqfrV1Config) -> None:
    with pytest.raises(ValueError, match="not 'int8'"):
        to_mixed_precision(VqfrV1(tiny_v1_config), "int8")  # type: ignore[arg-type]
