"""The networks as callers use them: two calls, training, export, and the lite edition's limits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config, lite_config
from vqfr_media.network.vqfr_v2 import VqfrV2, VqfrV2Config
from vqfr_media.network.vqgan import Vqgan
from vqfr_media.network.vqgan_v2 import VqganV2


def stirred(network: nn.Module) -> nn.Module:
    """Random values also where training begins with zeros."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def picture(size: int, *, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size) * 2 - 1


@pytest.mark.parametrize("fixture", ["tiny_v1_config", "tiny_lite_config", "tiny_v2_config"])
@pytest.mark.parametrize("size", [32, 48])
@torch.inference_mode()
def test_two_calls_are_one(fixture: str, size: int, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(fixture)
    network: Any = VqfrV2(config) if fixture == "tiny_v2_config" else VqfrV1(config)
    fidelity_input = {"fidelity": 0.7} if fixture == "tiny_v2_config" else {}
    stirred(network)
    image = picture(size)
    latent = network.encode(image)
    whole, parts = network(image, **fidelity_input), network.decode(image, latent, **fidelity_input)
    assert latent.shape == (2, config.code_channels, size // 4, size // 4)
    assert network.codes(latent).shape == (2, size // 4, size // 4)
    assert torch.equal(whole.main, parts.main)
    assert torch.equal(whole.texture, parts.texture)
    assert whole.main.shape == whole.texture.shape == image.shape
    again = network.decode_quantized(image, network.quantize(latent), **fidelity_input)
    assert torch.equal(again.main, parts.main)


@torch.inference_mode()
def test_the_main_output_sees_the_input_and_the_texture_output_does_not(
    tiny_lite_config: VqfrV1Config,
) -> None:
    network = VqfrV1(tiny_lite_config)
    stirred(network)
    image, latent = picture(32), network.encode(picture(32))
    one, other = network.decode(image, latent), network.decode(-image, latent)
    assert torch.equal(one.texture, other.texture)
    assert not torch.equal(one.main, other.main)


def test_fidelity_outside_its_range_is_refused(tiny_v2_config: VqfrV2Config) -> None:
    network, image = VqfrV2(tiny_v2_config), picture(32)
    for fidelity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="fidelity"):
            network(image, fidelity=fidelity)


def test_nearest_codes_have_no_logits(tiny_v2_config: VqfrV2Config) -> None:
    values = tiny_v2_config.to_dict() | {"look_up": "nearest"}
    network = VqfrV2(VqfrV2Config.from_dict(values))
    with pytest.raises(ValueError, match="logits"):
        network.logits(torch.zeros(1, 8, 8, 8))


def test_stage_one_fits_into_stage_two(
    tiny_lite_config: VqfrV1Config, tiny_v2_config: VqfrV2Config
) -> None:
    image = picture(32)
    for first, second in (
        (Vqgan(tiny_lite_config), VqfrV1(tiny_lite_config)),
        (VqganV2(tiny_v2_config), VqfrV2(tiny_v2_config)),
    ):
        missing, surplus = second.load_state_dict(first.state_dict(), strict=False)
        assert not surplus
        assert all(not key.startswith(("encoder", "decoder", "quantizer")) for key in missing)
        with torch.inference_mode():
            assert torch.equal(first.encode(image), second.encode(image))
            quantized = first.quantize(first.encode(image))
            fidelity_input = {"fidelity": 1.0} if isinstance(second, VqfrV2) else {}
            texture = second.decode_quantized(image, quantized, **fidelity_input).texture
            assert torch.equal(first(image), texture)


def test_lite_is_within_its_limits() -> None:
    network = VqfrV1(lite_config()).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 8_000_000
    deformable = 0

    def count(module: nn.Module, given: tuple[Tensor, Tensor], _: Tensor) -> None:
        nonlocal deformable
        assert isinstance(module, ModulatedDeformConv)
        deformable += 2 * module.weight.numel() * given[0].shape[2] * given[0].shape[3]

    for module in network.modules():
        if isinstance(module, ModulatedDeformConv):
            module.register_forward_hook(count)
    image = picture(256, count=1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        branches = network(image)
    assert deformable > 0
    assert counter.get_total_flops() + deformable <= 15.5e9
    assert torch.equal(branches.main, image), "an untrained lite network returns its input"


@pytest.mark.parametrize("fixture", ["tiny_v1_config", "tiny_lite_config", "tiny_v2_config"])
def test_it_trains_in_bfloat16(fixture: str, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(fixture)
    network: Any = VqfrV2(config) if fixture == "tiny_v2_config" else VqfrV1(config)
    fidelity_input = {"fidelity": 1.0} if fixture == "tiny_v2_config" else {}
    stirred(network).train().to(memory_format=torch.channels_last)
    image = picture(32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        latent = network.encode(image)
        quantized = latent + (network.quantize(latent) - latent).detach()
        branches = network.decode_quantized(image, quantized, **fidelity_input)
        loss = branches.texture.float().square().mean() + branches.main.float().square().mean()
    loss.backward()
    # The look-up itself passes no gradient on: neither to the codes nor to v2's classifier.
    unreached = {name for name, p in network.named_parameters() if p.grad is None}
    assert all("embedding" in name or "feat2index" in name for name in unreached)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())


class Encode(nn.Module):
    """An engine's first call."""

    def __init__(self, network: VqfrV1 | VqfrV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.encode(image)


class Decode(nn.Module):
    """An engine's second call, the fidelity an input where there is one."""

    def __init__(self, network: VqfrV1 | VqfrV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, latent: Tensor, fidelity: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.network, VqfrV2):
            branches = self.network.decode(image, latent, fidelity=fidelity)
        else:
            branches = self.network.decode(image, latent)
        return branches.texture, branches.main


@pytest.mark.parametrize("fixture", ["tiny_v1_config", "tiny_lite_config", "tiny_v2_config"])
@torch.no_grad()
def test_both_calls_export(fixture: str, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(fixture)
    network = VqfrV2(config) if fixture == "tiny_v2_config" else VqfrV1(config)
    stirred(network)
    image, fidelity = picture(32), torch.tensor(0.25)
    latent = network.encode(image)
    batch = {0: torch.export.Dim("batch")}
    encode = torch.export.export(Encode(network), (image,), dynamic_shapes=(batch,)).module()
    decode = torch.export.export(
        Decode(network), (image, latent, fidelity), dynamic_shapes=(batch, batch, None)
    ).module()
    torch.testing.assert_close(encode(image[:1]), latent[:1])
    for number, given in ((1, 0.25), (2, 1.0)):
        few, fidelity = image[:number], torch.tensor(given)
        for actual, expected in zip(
            decode(few, latent[:number], fidelity),
            Decode(network)(few, latent[:number], fidelity),
            strict=True,
        ):
            torch.testing.assert_close(actual, expected)
