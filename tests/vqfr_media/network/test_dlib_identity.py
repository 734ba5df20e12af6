"""dlib's face network: its shapes, its file, and whom it takes for whom."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqfr_media.errors import WeightsError
from vqfr_media.network.dlib_identity import DlibIdentity, ScaledConv, load_dlib_identity


def test_a_scaled_convolution_by_hand() -> None:
    layer = ScaledConv(1, 1, 1, stride=1, padding=0)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (3.0, 5.0, 2.0, 1.0), strict=True):
            parameter.fill_(value)
    given = dict(layer.named_parameters())
    scale, shift = given["scale"].item(), given["shift"].item()
    weight, bias = given["conv.weight"].item(), given["conv.bias"].item()
    assert layer(torch.full((1, 1, 1, 1), 7.0)).item() == (7 * weight + bias) * scale + shift


def test_sizes_on_the_way_are_dlibs() -> None:
    network = DlibIdentity()
    sides = []
    for block in network.blocks.values():
        block.register_forward_hook(lambda _m, _i, out: sides.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert network(torch.rand(2, 3, 150, 150)).shape == (2, 128)
    assert sides[0] == (32, 35, 35)
    assert sides[3] == (64, 17, 17)
    assert sides[7] == (128, 8, 8)
    assert sides[10] == (256, 4, 4)
    assert sides[13] == (256, 2, 2)


def test_the_file_is_checked(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        load_dlib_identity(tmp_path / "absent")
    given = load_file(shared / "weights" / "dlib_face_resnet.safetensors")
    bad = dict(given)
    bad["conv32_1__conv1__conv__bias"] = bad["conv32_1__conv1__conv__bias"][:3].clone()
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match="conv32_1__conv1__conv__bias is"):
        load_dlib_identity(tmp_path / "bad.safetensors")
    del bad["fc"]
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match="fc differs"):
        load_dlib_identity(tmp_path / "bad.safetensors")
