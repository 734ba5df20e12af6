"""Every way that a weights file can be wrong is one clear line; the right ones load exactly."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from vqfr_media.errors import CheckpointError, OutputError
from vqfr_media.network import checkpoint
from vqfr_media.network.checkpoint import load_model, load_network, load_official, save_network
from vqfr_media.network.vqfr_v1 import VqfrV1, VqfrV1Config
from vqfr_media.network.vqfr_v2 import VqfrV2, VqfrV2Config


@pytest.fixture
def network(tiny_v1_config: VqfrV1Config) -> VqfrV1:
    return VqfrV1(tiny_v1_config)


@pytest.fixture
def state(tiny_v1_config: VqfrV1Config) -> dict[str, Tensor]:
    """The weights of another network, the same in shape."""
    return VqfrV1(tiny_v1_config).state_dict()


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("wrapper", ["params_ema", "params", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_layouts_load(
    network: VqfrV1, state: dict[str, Tensor], tmp_path: Path, wrapper: str | None, prefix: str
) -> None:
    path = tmp_path / "network.pth"
    prefixed = {prefix + key: value for key, value in state.items()}
    torch.save(prefixed if wrapper is None else {wrapper: prefixed, "iter": 3}, path)
    load_official(path, network)
    assert_same(network.state_dict(), state)


def test_the_averaged_weights_are_preferred(
    network: VqfrV1, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "network.pth"
    torch.save({"params": network.state_dict(), "params_ema": state}, path)
    load_official(path, network)
    assert_same(network.state_dict(), state)


def test_v2_is_known_by_its_published_names(tiny_v2_config: VqfrV2Config, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    state = VqfrV2(tiny_v2_config).state_dict()
    published = {k.replace("shortcut_conv", "residual_func"): v for k, v in state.items()}
    assert published.keys() != state.keys()
    safetensors.torch.save_file(published, path)
    network = VqfrV2(tiny_v2_config)
    load_official(path, network)
    assert_same(network.state_dict(), state)


def test_missing_surplus_and_misshapen_keys_are_named(
    network: VqfrV1, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "network.pth"
    before = {key: value.clone() for key, value in network.state_dict().items()}
    del state["encoder.conv_in.weight"]
    state["encoder.conv_in.bias"] = torch.zeros(5)
    state["novelty"] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load_official(path, network)
    message = str(caught.value)
    assert "network.pth does not fit VqfrV1" in message
    assert "1 missing: encoder.conv_in.weight;" in message
    assert "1 surplus: novelty;" in message
    assert "1 misshapen: encoder.conv_in.bias (5,) instead of (8,)" in message
    assert_same(network.state_dict(), before)


def test_at_most_ten_names_are_shown(network: VqfrV1, tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save({}, path)
    count = len(network.state_dict())
    with pytest.raises(CheckpointError, match=rf"{count} missing: .* and {count - 10} more$"):
        load_official(path, network)


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html><body>404</body></html>", b"\x80\x02", b"PK\x03\x04", bytes(99)],
    ids=["empty", "html", "pickle start", "zip start", "zeros"],
)
@pytest.mark.parametrize("name", ["network.pth", "network.safetensors"])
def test_what_is_no_checkpoint_is_refused(
    network: VqfrV1, tmp_path: Path, content: bytes, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_official(path, network)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_network(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(network: VqfrV1, tmp_path: Path, kept: float) -> None:
    whole, official, own = (tmp_path / n for n in ("whole.pth", "cut.pth", "cut.safetensors"))
    torch.save(network.state_dict(), whole)
    official.write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read"):
        load_official(official, network)
    save_network(own, network)
    own.write_bytes(own.read_bytes()[: int(kept * own.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be read"):
        load_network(own)


@pytest.mark.parametrize("held", [[1, 2], 3.5, {"params": "text"}, {"epoch": 4}, {1: 2}])
def test_other_pickled_values_are_refused(network: VqfrV1, tmp_path: Path, held: Any) -> None:
    path = tmp_path / "network.pth"
    torch.save(held, path)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_official(path, network)


class Trap:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_a_pickle_is_not_run(network: VqfrV1, tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save({"params": Trap()}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_official(path, network)


def test_an_absent_file_is_refused(network: VqfrV1, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        load_official(tmp_path / "absent.pth", network)
    with pytest.raises(CheckpointError, match="is not a file"):
        load_network(tmp_path)


@pytest.mark.parametrize("fixture", ["tiny_v1_config", "tiny_lite_config", "tiny_v2_config"])
def test_own_files_describe_themselves(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    config = request.getfixturevalue(fixture)
    network = VqfrV2(config) if fixture == "tiny_v2_config" else VqfrV1(config)
    path = tmp_path / "network.safetensors"
    save_network(path, network.to(memory_format=torch.channels_last))
    loaded = load_network(path)
    assert type(loaded) is type(network)
    assert loaded.config == config
    assert not loaded.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in loaded.parameters())
    halves = {key: value.half().float() for key, value in network.state_dict().items()}
    assert_same(loaded.state_dict(), halves)
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"
    first = path.read_bytes()
    save_network(path, loaded)
    assert path.read_bytes() == first, "the same weights are the same bytes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"kind": "vqfr_v3"}, "vqfr_v3"),
        ({"config": {"image_size": 32}}, "missing fields"),
        ({"config": None}, "cannot be used"),
    ],
)
def test_a_wrong_description_is_refused(
    network: VqfrV1, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "network.safetensors"
    description = {"format_version": 1, "kind": "vqfr_v1", "config": network.config.to_dict()}
    metadata = {"vqfr_media": json.dumps(description | change)}
    safetensors.torch.save_file(network.state_dict(), path, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_network(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_garbled_description_is_refused(network: VqfrV1, tmp_path: Path, text: str) -> None:
    path = tmp_path / "network.safetensors"
    safetensors.torch.save_file(network.state_dict(), path, {"vqfr_media": text})
    with pytest.raises(CheckpointError, match="its description"):
        load_network(path)


def test_a_file_without_description_is_refused(network: VqfrV1, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    with pytest.raises(CheckpointError, match="does not say which network"):
        load_network(path)


def test_weights_must_fit_their_own_description(network: VqfrV1, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    description = {"format_version": 1, "kind": "vqfr_v1", "config": network.config.to_dict()}
    state = network.state_dict()
    del state["encoder.conv_in.bias"]
    safetensors.torch.save_file(state, path, {"vqfr_media": json.dumps(description)})
    with pytest.raises(CheckpointError, match=r"1 missing: encoder\.conv_in\.bias"):
        load_network(path)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_what_float16_cannot_hold_is_not_written(
    network: VqfrV1, tmp_path: Path, value: float
) -> None:
    with torch.no_grad():
        network.quantizer.codebook[3, 1] = value
    with pytest.raises(ValueError, match=r"embedding\.weight has a value"):
        save_network(tmp_path / "network.safetensors", network)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_the_weights_follows_the_umask(
    network: VqfrV1, tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "network.safetensors"
    before = os.umask(umask)
    try:
        save_network(path, network)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_absent_is_named(network: VqfrV1, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="absent"):
        save_network(tmp_path / "absent" / "network.safetensors", network)


def test_a_model_is_had_from_our_own_file(
    tiny_v1_config: VqfrV1Config, tiny_v2_config: VqfrV2Config, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_network(first, VqfrV1(tiny_v1_config))
    save_network(second, VqfrV2(tiny_v2_config))
    assert load_model(first, model="lite").config == tiny_v1_config
    assert load_model(first, model="v1").config == tiny_v1_config
    assert load_model(second, model="v2").config == tiny_v2_config
    for path, model in ((first, "v2"), (second, "v1"), (second, "lite")):
        with pytest.raises(CheckpointError, match=f"not {model}"):
            load_model(path, model=model)
    with pytest.raises(ValueError, match="not 'v3'"):
        load_model(first, model="v3")


@pytest.mark.parametrize("name", ["network.pth", "network.safetensors"])
def test_a_model_is_had_from_a_published_file(
    network: VqfrV1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(checkpoint, "vqfr_v1_config", lambda: network.config)
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save({"params_ema": network.state_dict()}, path)
    else:
        safetensors.torch.save_file(network.state_dict(), path)
    loaded = load_model(path, model="v1")
    assert not loaded.training
    assert_same(loaded.state_dict(), network.state_dict())
    with pytest.raises(CheckpointError, match=r"cannot be read|does not say which"):
        load_model(path, model="lite")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(path, model="v1")
