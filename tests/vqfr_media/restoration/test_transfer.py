"""Crops reach the engine as they are, and what it returns comes back as it is, or not at all."""

import numpy as np
import pytest
import torch

from vqfr_media.errors import EngineError
from vqfr_media.restoration.transfer import crops_to, images_from, latents_from, latents_to

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
    ),
]


@pytest.fixture
def crops() -> list[np.ndarray]:
    """Three crops, of which a few values lie a little outside of 0 to 1, as cubic kernels leave."""
    drawn = np.random.default_rng(0).uniform(-0.05, 1.05, (3, 32, 32, 3)).astype(np.float32)
    return list(drawn)


@pytest.mark.parametrize("device", DEVICES)
def test_crops_arrive_limited_and_in_planes(crops: list[np.ndarray], device: str) -> None:
    before = [crop.copy() for crop in crops]
    arrived = crops_to(device, crops)
    assert arrived.device.type == device
    expected = np.stack([np.clip(crop, 0, 1).transpose(2, 0, 1) for crop in before])
    np.testing.assert_array_equal(arrived.cpu().numpy(), expected)
    np.testing.assert_array_equal(np.stack(crops), np.stack(before))  # the caller's stay


@pytest.mark.parametrize("device", DEVICES)
def test_latents_arrive_as_they_are(device: str) -> None:
    latents = list(np.random.default_rng(1).normal(size=(3, 8, 4, 4)).astype(np.float32))
    arrived = latents_to(device, latents)
    assert arrived.device.type == device
    np.testing.assert_array_equal(arrived.cpu().numpy(), np.stack(latents))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_come_back_interleaved(device: str, layout: torch.memory_format) -> None:
    drawn = np.random.default_rng(2).random((2, 3, 32, 32)).astype(np.float32)
    result = torch.tensor(drawn, device=device).contiguous(memory_format=layout)
    images = images_from(result, [4, 5])
    np.testing.assert_array_equal(np.stack(images), drawn.transpose(0, 2, 3, 1))
    assert all(image.dtype == np.float32 and image.flags.c_contiguous for image in images)
    result.zero_()  # what came back is the caller's own
    np.testing.assert_array_equal(np.stack(images), drawn.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named_by_its_frame(device: str, value: float) -> None:
    latents = torch.zeros(3, 8, 4, 4, device=device)
    latents[1, 7, 3, 3] = value
    with pytest.raises(EngineError, match="no number at frame 7"):
        latents_from(latents, [6, 7, 8])
    images = torch.zeros(3, 3, 32, 32, device=device)
    images[2, 2, 31, 31] = value
    with pytest.raises(EngineError, match="no number at frame 8"):
        images_from(images, [6, 7, 8])


@pytest.mark.parametrize("device", DEVICES)
def test_large_numbers_are_numbers(device: str) -> None:
    large = torch.full((1, 8, 4, 4), 3e38, device=device)
    np.testing.assert_array_equal(latents_from(large, [0])[0], np.full((8, 4, 4), 3e38, np.float32))


@pytest.mark.parametrize("device", DEVICES)
def test_each_face_has_its_result(device: str) -> None:
    with pytest.raises(EngineError, match="2 results for 3 faces"):
        latents_from(torch.zeros(2, 8, 4, 4, device=device), [0, 0, 1])
    with pytest.raises(EngineError, match="2 results for 1 faces"):
        images_from(torch.zeros(2, 3, 32, 32, device=device), [0])
