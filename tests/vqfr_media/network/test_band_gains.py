"""Bands of frequencies and their gains against NumPy and SciPy, and inside the network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from vqfr_media.network.band_gains import (
    BandGains,
    FineGains,
    _energies_of_three,
    _enlarge,
    _enlarging,
    _statistics,
)
from vqfr_media.network.bands import (
    luma,
    measure_directions,
    smooth,
    split_bands,
    split_directions,
)
from vqfr_media.network.checkpoint import load_network, save_network
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config

DILATIONS = (1, 1, 2, 4, 8)
# Rec. 601, as scikit-image and JFIF have it.
TO_LUMA_CHROMA = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def picture(seed: int, *, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, size, size, generator=generator) * 2 - 1


def reference_bands(channel: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Of one channel (H, W), by SciPy's filters."""
    bands, image = [], channel
    for dilation in DILATIONS:
        kernel = np.zeros(2 * dilation + 1)
        kernel[[0, dilation, -1]] = 0.25, 0.5, 0.25
        smooth = ndimage.convolve1d(image, kernel, axis=0, mode="nearest")
        smooth = ndimage.convolve1d(smooth, kernel, axis=1, mode="nearest")
        bands.append(image - smooth)
        image = smooth
    return [*bands, image]


def reference_directions(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one channel (H, W), by SciPy's filters: (15, H, W)."""
    details = []
    for dilation in DILATIONS:
        binomial, ends = np.zeros((2, 2 * dilation + 1))
        binomial[[0, dilation, -1]] = 0.25, 0.5, 0.25
        ends[[0, -1]] = -1, 1
        detail = -binomial
        detail[dilation] += 1

        def filtered(
            along_y: NDArray[np.float64],
            along_x: NDArray[np.float64],
            given: NDArray[np.float64] = image,
        ) -> NDArray[np.float64]:
            result = ndimage.convolve1d(given, along_y, axis=0, mode="nearest")
            both: NDArray[np.float64] = ndimage.convolve1d(result, along_x, axis=1, mode="nearest")
            return both

        details += [filtered(binomial, detail), filtered(detail, binomial)]
        details.append(filtered(ends, ends) / 4)
        image = filtered(binomial, binomial)
    return np.stack(details)


# None, of details by direction, and these in squares of 4 px.
KINDS: list[dict[str, bool]] = [{}, {"directed": True}, {"directed": True, "fine": True}]


def stirred(channels: int = 8, *, directed: bool = False, fine: bool = False) -> BandGains:
    """Gains that differ from place to place."""
    torch.manual_seed(3)
    gains = BandGains(channels, directed=directed, fine=fine).eval()
    for layer in gains.layers_of_zeros():
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.2)
    return gains


def bias(gains: BandGains) -> Tensor:
    assert gains.conv_out.bias is not None
    return gains.conv_out.bias


def test_bands_are_those_of_scipy_and_add_up() -> None:
    image = picture(0)
    bands = torch.stack(split_bands(smooth(image)), dim=1)
    assert bands.shape == (1, 6, 3, 32, 32)
    for channel in range(3):
        wanted = np.stack(reference_bands(image[0, channel].double().numpy()))
        np.testing.assert_allclose(bands[0, :, channel].numpy(), wanted, atol=1e-6)
    torch.testing.assert_close(bands.sum(dim=1), image, atol=1e-6, rtol=0)


def test_directions_are_those_of_scipy() -> None:
    image = luma(picture(0))
    wanted = reference_directions(image[0, 0].double().numpy())
    found = torch.cat(
        [detail for band in split_directions(smooth(image)) for detail in band], dim=1
    )
    assert found.shape == (1, 15, 32, 32)
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-6)


def stripes(degrees: float, *, length: float = 12, size: int = 64) -> Tensor:
    """A wave whose brightness changes along a direction, counted from x towards y."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    angle = np.deg2rad(degrees)
    wave: Tensor = (x * np.cos(angle) + y * np.sin(angle)).mul(2 * np.pi / length).sin()
    return wave[None, None]


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 135.0])
def test_a_wave_is_all_in_its_direction(degrees: float) -> None:
    angles = measure_directions(smooth(stripes(degrees)), cell=8)
    assert angles.shape == (1, 1, 10, 8, 8)
    twice = np.deg2rad(2 * degrees)
    # Averaged over the middle, where no rim is repeated; the finest band.
    cosine, sine = angles[0, 0, :2, 2:6, 2:6].mean(dim=(1, 2)).tolist()
    assert (cosine, sine) == pytest.approx((np.cos(twice), np.sin(twice)), abs=0.03)


@pytest.mark.parametrize(("band", "length"), [(2, 6), (3, 10), (4, 20)])
def test_coarse_bands_tell_the_directions_of_short_waves(band: int, length: int) -> None:
    """Of 30 and 60 degrees, which differences over a whole dilation would take for others."""
    for degrees in (30.0, 60.0):
        angles = measure_directions(smooth(stripes(degrees, length=length, size=128)), cell=8)
        cosine, sine = angles[0, 0, 2 * band : 2 * band + 2, 4:12, 4:12].mean(dim=(1, 2)).tolist()
        found = np.rad2deg(np.arctan2(sine, cosine)) / 2
        assert found == pytest.approx(degrees, abs=5)


def test_the_mixed_difference_tells_the_diagonals_apart() -> None:
    # The wave's lines run across the direction in which its brightness changes.
    for degrees, sign in ((45.0, -1), (135.0, 1)):
        wave = stripes(degrees)
        mixed = next(split_directions(smooth(wave)))[2][0, 0]
        middle = slice(8, -8)
        along = (mixed * wave[0, 0])[middle, middle].sum() * sign
        assert float(along) > 0.9 * float(mixed[middle, middle].norm()) * float(
            wave[0, 0, middle, middle].norm()
        )


def test_a_stack_of_pictures_has_the_directions_of_each() -> None:
    first, second = luma(picture(0)), luma(picture(1))
    both = measure_directions(smooth(torch.cat((first, second), dim=1)), cell=8)
    for channel, alone in enumerate((first, second)):
        wanted = measure_directions(smooth(alone), cell=8)[:, 0]
        torch.testing.assert_close(both[:, channel], wanted, atol=1e-6, rtol=0)


def test_nothing_has_no_direction() -> None:
    assert not measure_directions(smooth(torch.zeros(1, 1, 32, 32)), cell=8).any()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_before_training_the_result_is_the_restored_picture(kind: dict[str, bool]) -> None:
    torch.manual_seed(0)
    restored = picture(1)
    assert torch.equal(BandGains(8, **kind)(picture(0), restored), restored)


@torch.inference_mode()
def test_known_directed_gains_give_the_stated_sum() -> None:
    """The same gains everywhere, other ones for every detail; of luma, and so of grey, alone."""
    gains = BandGains(8, directed=True)
    assert gains.directed is not None
    assert gains.directed.conv_out.bias is not None
    values = np.linspace(-0.4, 0.7, 30)
    gains.directed.conv_out.bias.copy_(torch.from_numpy(values))
    image, restored = picture(0), picture(1)
    change = (gains(image, restored) - restored)[0].double().numpy()
    x, y = (reference_directions(luma(one)[0, 0].double().numpy()) for one in (image, restored))
    wanted = np.tensordot(values[:15], x - y, axes=1) + np.tensordot(values[15:], x, axes=1)
    np.testing.assert_allclose(change, np.stack([wanted] * 3), atol=1e-5)


@torch.inference_mode()
def test_directions_join_gains_that_are_trained() -> None:
    """They change nothing before they have learned."""
    plain, joined = stirred(), BandGains(8, directed=True)
    joined.load_state_dict({**joined.state_dict(), **plain.state_dict()})
    image, restored = picture(0), picture(1)
    assert torch.equal(joined(image, restored), plain(image, restored))


@torch.inference_mode()
def test_known_fine_gains_give_the_stated_sum() -> None:
    """Of luma's bands and details, and so of grey, alone: 6 p and 5 q, then 15 of each."""
    gains = BandGains(8, directed=True, fine=True)
    assert gains.fine is not None
    assert gains.fine.conv_out.bias is not None
    values = np.linspace(-0.4, 0.7, 41)
    gains.fine.conv_out.bias.copy_(torch.from_numpy(values))
    image, restored = picture(0), picture(1)
    change = (gains(image, restored) - restored)[0].double().numpy()
    lumas = [luma(one)[0, 0].double().numpy() for one in (image, restored)]
    x, y = (np.stack(reference_bands(one)) for one in lumas)
    x_details, y_details = map(reference_directions, lumas)
    wanted = np.tensordot(values[:6], x - y, axes=1) + np.tensordot(values[6:11], x[:5], axes=1)
    wanted += np.tensordot(values[11:26], x_details - y_details, axes=1)
    wanted += np.tensordot(values[26:], x_details, axes=1)
    np.testing.assert_allclose(change, np.stack([wanted] * 3), atol=2e-5)


@torch.inference_mode()
def test_fine_gains_join_gains_that_are_trained() -> None:
    """They change nothing before they have learned, but for how the same gains are enlarged."""
    plain = stirred(directed=True)
    joined = BandGains(8, directed=True, fine=True)
    joined.load_state_dict({**joined.state_dict(), **plain.state_dict()})
    image, restored = picture(0), picture(1)
    change = plain(image, restored) - restored
    error = joined(image, restored) - restored - change
    assert 0 < float(error.square().mean()) < 0.01 * float(change.square().mean())


@torch.inference_mode()
def test_fine_gains_see_squares_of_4_px() -> None:
    torch.manual_seed(1)
    fine = FineGains(8)
    twice = torch.tensor(_enlarging(8, times=2))
    image = torch.cat((picture(0, size=64)[:, :1], picture(1, size=64)[:, :1]), dim=1)
    changed = image.clone()
    changed[..., 32:36, 32:36] *= -0.5
    feature, seen = torch.rand(1, 8, 8, 8), torch.rand(1, 32, 16, 16)
    # Bands without filters, so that a square of one is a square of the other.
    one, other = (
        fine(feature, seen=seen, luma=[stack] * 6, enlarging=twice) for stack in (image, changed)
    )
    assert one.shape == (1, 41, 16, 16)
    places = (one != other).any(dim=1)[0].nonzero()
    # Two convolutions of 3 x 3 around the square at (8, 8).
    assert (places.amin(dim=0).tolist(), places.amax(dim=0).tolist()) == ([6, 6], [10, 10])


def test_energies_in_squares_of_4_px() -> None:
    x, y = (luma(picture(seed)) for seed in (0, 1))
    found = _energies_of_three(torch.cat((x, y), dim=1))[0].numpy()
    first, second = (one[0, 0].numpy().reshape(8, 4, 8, 4) for one in (x, y))
    energies = (first**2, second**2, (first - second) ** 2)
    wanted = [energy.mean(axis=(1, 3)) for energy in energies]
    np.testing.assert_allclose(found, np.stack(wanted), atol=1e-6)


def test_fine_gains_without_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="fine gains need directed gains"):
        BandGains(8, fine=True)


@torch.inference_mode()
def test_known_gains_give_the_stated_sum() -> None:
    """The same gains everywhere, other ones for every band, for luma and for chroma."""
    gains = BandGains(8)
    values = np.linspace(-0.4, 0.7, 22)
    bias(gains).copy_(torch.from_numpy(values))
    image, restored = picture(0), picture(1)
    result = gains(image, restored)[0].double().numpy()

    x, y = (
        np.tensordot(TO_LUMA_CHROMA, one[0].double().numpy(), axes=1) for one in (image, restored)
    )
    wanted = y.copy()
    for channel, (back, strength) in enumerate(
        [(values[:6], values[6:11]), *[(values[11:17], values[17:])] * 2]
    ):
        given, drawn = reference_bands(x[channel]), reference_bands(y[channel])
        for band in range(6):
            wanted[channel] += back[band] * (given[band] - drawn[band])
        for band in range(5):
            wanted[channel] += strength[band] * given[band]
    wanted = np.tensordot(np.linalg.inv(TO_LUMA_CHROMA), wanted, axes=1)
    np.testing.assert_allclose(result, wanted, atol=2e-5)


def test_statistics_are_those_of_the_bands() -> None:
    """Their order too, for weights that are trained know no other."""
    x, y = (np.tensordot(TO_LUMA_CHROMA, picture(i)[0].double().numpy(), axes=1) for i in (0, 1))
    given, drawn = (
        np.array([reference_bands(channel) for channel in one]) for one in (x, y)
    )  # (3, 6, 32, 32)

    def energy(product: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of luma's bands, then of chroma's: (2 B, 4, 4)."""
        cells = product.reshape(*product.shape[:2], 4, 8, 4, 8).mean(axis=(3, 5))
        return np.concatenate((cells[0], cells[1] + cells[2]))

    first, second, shared = map(
        energy,
        (given[:, :5] ** 2, drawn[:, :5] ** 2, given[:, :5] * drawn[:, :5]),
    )
    difference = energy((given[:, 5:] - drawn[:, 5:]) ** 2)
    logarithms = np.log(np.concatenate((first, difference, second)) + 1e-6) * 0.3 + 2
    correlation = shared / np.sqrt((first + 1e-6) * (second + 1e-6))
    stacks = [
        torch.from_numpy(np.concatenate((x[channels], y[channels]))[None]).float()
        for channels in (slice(0, 1), slice(1, 3))
    ]
    found = _statistics(*(split_bands(smooth(stack)) for stack in stacks))
    np.testing.assert_allclose(
        found[0].numpy(), np.concatenate((logarithms, correlation)), atol=2e-4
    )


@torch.inference_mode()
def test_each_face_of_a_batch_is_weighed_for_itself() -> None:
    gains = stirred(directed=True, fine=True)
    image, restored = (torch.cat([picture(seed) for seed in seeds]) for seeds in ((0, 1), (2, 3)))
    together = gains(image, restored)
    for i in range(2):
        alone = gains(image[i : i + 1], restored[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cells", "times"), [(1, 8), (5, 8), (5, 4), (3, 2)])
def test_gains_are_enlarged_as_pytorch_interpolates(cells: int, times: int) -> None:
    gains = torch.rand(2, 3, cells, cells, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(gains, scale_factor=float(times), mode="bilinear", align_corners=False)
    found = _enlarge(gains, torch.tensor(_enlarging(cells, times=times)))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_autocast_leaves_the_gains_alone() -> None:
    gains = stirred(directed=True, fine=True)
    image, restored = picture(0), picture(1)
    wanted = gains(image, restored)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gains(image, restored), wanted)


@torch.inference_mode()
def test_all_the_way_back_is_the_input() -> None:
    gains = BandGains(8)
    for first in (0, 11):  # the gains towards the input, of luma and of chroma
        bias(gains)[first : first + 6] = 1
    image = picture(0)
    torch.testing.assert_close(gains(image, picture(1)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_gains_follow_the_place(kind: dict[str, bool]) -> None:
    """What the input is at one end does not change the other, but by the mean of all."""
    gains = stirred(**kind)
    for name, parameter in gains.named_parameters():
        if name.endswith("whole.weight"):
            nn.init.zeros_(parameter)
    image, restored = picture(0, size=256), picture(1, size=256)
    changed = image.clone()
    changed[..., :32] = picture(2, size=256)[..., :32]
    one, other = gains(image, restored), gains(changed, restored)
    # Seven convolutions see 7 cells far, and the first ones and the bands 16 px and 9 px.
    assert torch.equal(one[..., 160:], other[..., 160:])
    assert not torch.equal(one[..., 32:64], other[..., 32:64])


@torch.inference_mode()
def test_the_whole_picture_counts() -> None:
    gains = stirred()
    image, restored = picture(0, size=256), picture(1, size=256)
    changed = image.clone()
    changed[..., :32] = 0
    one, other = gains(image, restored), gains(changed, restored)
    assert not torch.equal(one[..., 192:], other[..., 192:])


def test_a_flat_input_has_finite_gains_and_gradients() -> None:
    gains = stirred(directed=True, fine=True)
    flat = torch.zeros(1, 3, 32, 32)
    result = gains(flat, flat.clone())
    result.sum().backward()
    assert bool(result.isfinite().all())
    gradients = [parameter.grad for parameter in gains.parameters()]
    assert all(bool(one is not None and one.isfinite().all()) for one in gradients)


@torch.inference_mode()
def test_the_network_weighs_its_main_output_alone(tiny_lite_config: VqfrV1Config) -> None:
    torch.manual_seed(0)
    network = VqfrV1(dataclasses.replace(tiny_lite_config, gain_channels=8)).eval()
    plain = VqfrV1(tiny_lite_config).eval()
    network.band_gains = stirred()
    weights = {
        name: value
        for name, value in network.state_dict().items()
        if not name.startswith("band_gains.")
    }
    plain.load_state_dict(weights)
    image = picture(0)
    weighed, unweighed = network(image), plain(image)
    assert torch.equal(weighed.texture, unweighed.texture)
    assert torch.equal(weighed.main, network.band_gains(image, unweighed.main))
    assert not torch.equal(weighed.main, unweighed.main)


@torch.inference_mode()
def test_gains_are_kept_in_a_file(tiny_lite_config: VqfrV1Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        tiny_lite_config, gain_channels=8, directed_gains=True, fine_gains=True
    )
    network = VqfrV1(config).eval()
    network.band_gains = stirred(directed=True, fine=True)
    network = network.half().float()
    save_network(tmp_path / "network.safetensors", network)
    read = load_network(tmp_path / "network.safetensors")
    assert isinstance(read, VqfrV1)
    assert read.config == config
    assert torch.equal(read(picture(0)).main, network(picture(0)).main)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_gains_stay_in_float32(tiny_lite_config: VqfrV1Config, precision: str) -> None:
    config = dataclasses.replace(
        tiny_lite_config, gain_channels=8, directed_gains=True, fine_gains=True
    )
    network = VqfrV1(config)
    to_mixed_precision(network, precision)  # type: ignore[arg-type]
    assert {p.dtype for p in network.band_gains.parameters()} == {torch.float32}
    with torch.inference_mode():
        assert network(picture(0)).main.dtype == torch.float32
