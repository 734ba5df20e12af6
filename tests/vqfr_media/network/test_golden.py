"""Our networks against the published ones: outputs, and names and shapes of the weights."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqfr_media.network.checkpoint import load_official
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, VqfrV2Config, vqfr_v2_config

TOLERANCE = 1e-4


def assert_all_close(actual: dict[str, Tensor], path: Path) -> None:
    """Every array of the file but the input has a counterpart within the tolerance."""
    with np.load(path) as file:
        assert set(actual) == set(file.files) - {"input"}
        for name, value in actual.items():
            error = float((value - torch.from_numpy(file[name])).abs().max())
            assert error < TOLERANCE, name


def golden_input(path: Path) -> Tensor:
    with np.load(path) as file:
        return torch.from_numpy(file["input"])


@torch.inference_mode()
def test_v1_gives_the_published_numbers(golden: Path, golden_v1_config: VqfrV1Config) -> None:
    network = VqfrV1(golden_v1_config).eval()
    load_official(golden / "vqfr_v1_small.safetensors", network)
    image = golden_input(golden / "vqfr_v1_small_io.npz")
    latent = network.encode(image)
    branches = network.decode(image, latent)
    actual = {
        "Level_32.z_conv": latent,
        "Level_32.z_quant_before_conv": network.quantize(latent),
        "texture": branches.texture,
        "main": branches.main,
    }
    assert_all_close(actual, golden / "vqfr_v1_small_io.npz")


@pytest.mark.parametrize(
    ("stem", "look_up"), [("vqfr_v2_small", "predict"), ("vqfr_v2_nearest_small", "nearest")]
)
@torch.inference_mode()
def test_v2_gives_the_published_numbers(
    golden: Path,
    golden_v2_config: VqfrV2Config,
    stem: str,
    look_up: Literal["predict", "nearest"],
) -> None:
    network = VqfrV2(dataclasses.replace(golden_v2_config, look_up=look_up)).eval()
    load_official(golden / f"{stem}.safetensors", network)
    image = golden_input(golden / f"{stem}_io.npz")
    latent = network.encode(image)
    actual = {"enc_feat": latent}
    for fidelity in (0.0, 0.5, 1.0):
        branches = network.decode(image, latent, fidelity=fidelity)
        actual[f"main_f{fidelity}"] = branches.main
        actual["texture"] = branches.texture
    if look_up == "predict":
        actual["quant_logit"] = network.logits(latent)
    assert_all_close(actual, golden / f"{stem}_io.npz")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_full_size_has_the_published_names_and_shapes(golden: Path, version: str) -> None:
    network: nn.Module
    with torch.device("meta"):
        network = VqfrV1(vqfr_v1_config()) if version == "v1" else VqfrV2(vqfr_v2_config())
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    if version == "v2":
        ours = {name.replace("shortcut_conv", "residual_func"): s for name, s in ours.items()}
    assert ours == json.loads((golden / f"vqfr_{version}_keys.json").read_text())
