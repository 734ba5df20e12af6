"""Small networks, and a small engine for tests of how engines are kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vqfr_engines.request import EngineRequest

from vqfr_media.manifest import MANIFEST, EngineIdentity, Manifest, Parity
from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1, lite_config, vqfr_v1_config
from vqfr_media.network.vqfr_v2 import VqfrV2, vqfr_v2_config
from vqfr_media.values import EngineSpec

_TINY: dict[str, Any] = {
    "image_size": 32,
    "channels": (8, 16),
    "encoder_blocks": (1, 1),
    "texture_blocks": (1, 1),
    "codebook_size": 16,
    "code_channels": 8,
    "norm_groups": 4,
    "offset_groups": 2,
    "input_channels": 4,
}


def an_identity() -> EngineIdentity:
    """Of an engine that does not exist."""
    return EngineIdentity(
        backend="openvino",
        model="lite",
        weights_sha256="ab" * 32,
        network={"image_size": 64, "channels": [8, 16]},
        precision="float32",
        batch_size=1,
        options={"threads": 2},
        versions={"openvino": "2026.4.1", "torch": "2.14.1"},
        machine={"cpu": "Some Processor"},
    )


def a_manifest() -> Manifest:
    """Of the same."""
    return Manifest(
        identity=an_identity(),
        spec=EngineSpec(
            model="lite",
            size=64,
            latent_shape=(16, 16, 16),
            batch_size=1,
            precision="float32",
            device="cpu",
            has_fidelity=False,
        ),
        weights="/somewhere/lite.safetensors",
        files={"encoder.xml": "01" * 32, "decoder.xml": "23" * 32, "decoder.bin": "45" * 32},
        parity=Parity(
            crops=4,
            latent_max=1e-5,
            latent_rms=1e-6,
            flipped=0.0,
            image_max=2e-5,
            image_mean=1e-6,
            psnr_db=110.5,
        ),
        built="2026-07-25T12:00:00+00:00",
        seconds=3.5,
    )


def small_network(seed: int = 0) -> VqfrV1:
    """The lite edition's layout at two levels, 32 px; all of its parts matter for its output.

    An engine is built from its graph node by node, so what a build costs is their number.
    """
    torch.manual_seed(seed)
    config = replace(
        lite_config(),
        image_size=32,
        channels=(16, 32),
        encoder_blocks=(0, 1),
        texture_blocks=(1, 1),
        offset_channels=(0, 8),
        codebook_size=16,
        code_channels=16,
        gain_channels=8,
    )
    network = VqfrV1(config).eval()
    with torch.no_grad():  # all are zero before training: then nothing else would matter
        gains = network.band_gains.layers_of_zeros()
        for layer in (network.main_decoder.conv_out, *gains):
            for parameter in layer.parameters():
                parameter.normal_(0, 0.05)
        move_warps(network)
    return network.half().float()  # as a file keeps it


def move_warps(network: nn.Module) -> None:
    """Gives the deformable convolutions offsets that are not zero, as training does."""
    for module in network.modules():
        if isinstance(module, ModulatedDeformConv):
            nn.init.normal_(module.conv_offset.weight, std=0.1)


def tiny_v1() -> VqfrV1:
    """The published first network's layout at two levels, 32 px."""
    torch.manual_seed(0)
    config = replace(vqfr_v1_config(), **_TINY, offset_channels=(8, 16))
    network = VqfrV1(config).eval()
    move_warps(network)
    return network


def tiny_v2() -> VqfrV2:
    """The published second network's layout at two levels, 32 px."""
    torch.manual_seed(0)
    network = VqfrV2(replace(vqfr_v2_config(), **_TINY)).eval()
    move_warps(network)
    return network


def small_weights(folder: Path, seed: int = 0) -> Path:
    """The small network as a file of model lite."""
    path = folder / "lite.safetensors"
    save_network(path, small_network(seed))
    return path


def request_for(weights: Path, *, batch_size: int = 1) -> EngineRequest:
    """The engine of these weights that the tests build."""
    return EngineRequest(
        backend="openvino",
        model="lite",
        weights=weights,
        precision="float32",
        batch_size=batch_size,
        device="cpu",
    )


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest of the engine in `folder`."""
    path = folder / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def decoder_of(folder: Path) -> Path:
    """The largest file of the decoder."""
    return max(folder.glob("decoder.*"), key=lambda path: path.stat().st_size)


def flip_a_bit(folder: Path) -> None:
    path = decoder_of(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_the_decoder(folder: Path) -> None:
    path = decoder_of(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_decoder(folder: Path) -> None:
    for path in folder.glob("decoder.*"):
        path.unlink()


def cut_the_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text()[:200])


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def add_a_file(folder: Path) -> None:
    (folder / "decoder.more").write_bytes(b"more")


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_bit: "is not what its manifest says",
    cut_the_decoder: "is not what its manifest says",
    lose_the_decoder: "is missing",
    cut_the_manifest: "is damaged or of another version",
    lose_the_manifest: "is no engine",
    add_a_file: "is not in its manifest",
}


def copied(engine: Path, root: Path) -> Path:
    """A copy of an engine in another place where engines are kept."""
    return Path(shutil.copytree(engine, root / engine.name))
