"""A small engine from a small network, for tests of how engines are kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from vqfr_engines.request import EngineRequest
from vqfr_training.recipes import smoke_stage1

from vqfr_media.manifest import MANIFEST, EngineIdentity, Manifest, Parity
from vqfr_media.network.checkpoint import save_network
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.values import EngineSpec


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
    """64 px, all of whose parts matter for its output."""
    torch.manual_seed(seed)
    network = VqfrV1(smoke_stage1().network).eval()
    with torch.no_grad():
        for parameter in network.main_decoder.conv_out.parameters():
            parameter.normal_(0, 0.05)  # zero before training: then nothing else would matter
    return network.half().float()  # as a file keeps it


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
