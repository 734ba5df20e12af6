"""Small networks and the published networks' numbers."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.paths import SHARED
from vqfr_media.network.vqfr_v1 import VqfrV1Config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2Config, vqfr_v2_config

GOLDEN = SHARED / "data" / "golden"


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def golden() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(
            f"{GOLDEN} is absent: the published networks' numbers are kept outside the tree"
        )
    return GOLDEN


@pytest.fixture
def golden_v1_config() -> VqfrV1Config:
    channels = (32, 32, 64, 64, 64, 128)
    return dataclasses.replace(
        vqfr_v1_config(),
        image_size=128,
        channels=channels,
        offset_channels=channels,
        codebook_size=64,
        code_channels=64,
    )


@pytest.fixture
def golden_v2_config() -> VqfrV2Config:
    return dataclasses.replace(
        vqfr_v2_config(),
        image_size=128,
        channels=(32, 32, 64, 64, 64, 128),
        encoder_blocks=(1,) * 6,
        texture_blocks=(1,) * 6,
        codebook_size=64,
        code_channels=64,
    )


@pytest.fixture
def tiny_v1_config() -> VqfrV1Config:
    """The published layout, three levels."""
    return dataclasses.replace(
        vqfr_v1_config(),
        image_size=32,
        channels=(8, 8, 16),
        encoder_blocks=(1, 1, 1),
        texture_blocks=(1, 1, 1),
        codebook_size=16,
        code_channels=8,
        norm_groups=4,
        offset_channels=(8, 8, 16),
        offset_groups=2,
        input_channels=4,
    )


@pytest.fixture
def tiny_lite_config(tiny_v1_config: VqfrV1Config) -> VqfrV1Config:
    """The lite edition's layout, three levels."""
    return dataclasses.replace(
        tiny_v1_config, offset_channels=(0, 4, 8), input_pyramid=True, predict_residual=True
    )


@pytest.fixture
def tiny_v2_config() -> VqfrV2Config:
    return dataclasses.replace(
        vqfr_v2_config(),
        image_size=32,
        channels=(8, 8, 16),
        encoder_blocks=(1, 1, 1),
        texture_blocks=(1, 1, 1),
        codebook_size=16,
        code_channels=8,
        norm_groups=4,
        offset_groups=2,
        input_channels=4,
    )
