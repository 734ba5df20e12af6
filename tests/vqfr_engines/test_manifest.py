"""The manifest says exactly what an engine is, and refuses to say anything else."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.vqfr_engines.small import a_manifest, an_identity
from vqfr_media.errors import EngineFileError
from vqfr_media.manifest import (
    MANIFEST,
    EngineIdentity,
    Parity,
    is_engine_file,
    read_manifest,
)

OTHERS: dict[str, Any] = {
    "backend": "inductor",
    "model": "v1",
    "weights_sha256": "cd" * 32,
    "network": {"image_size": 128, "channels": [8, 16]},
    "precision": "bfloat16",
    "batch_size": 2,
    "options": {"threads": 3},
    "versions": {"openvino": "2026.5.0", "torch": "2.14.1"},
    "machine": {"cpu": "Another Processor"},
}


def test_the_identity_follows_every_field_of_the_origin() -> None:
    assert set(OTHERS) == {field.name for field in fields(EngineIdentity)}
    variants = [replace(an_identity(), **{name: value}) for name, value in OTHERS.items()]
    identities = {identity.sha256 for identity in (an_identity(), *variants)}
    assert len(identities) == 1 + len(OTHERS)


def test_the_identity_follows_nothing_else() -> None:
    identity = an_identity()
    reordered = replace(
        identity,
        versions={"torch": "2.14.1", "openvino": "2026.4.1"},
        network={"channels": (8, 16), "image_size": 64},
    )
    assert reordered.sha256 == identity.sha256
    manifest = a_manifest()
    other = replace(
        manifest,
        spec=replace(manifest.spec, device="cuda:1"),
        weights="/elsewhere.safetensors",
        built="2027-01-01T00:00:00+00:00",
        seconds=9.0,
        files={"encoder.xml": "67" * 32, "decoder.xml": "89" * 32},
        parity=replace(manifest.parity, crops=8),
    )
    assert other.identity.sha256 == identity.sha256
    # A change of this number makes every engine in the world stale: it must be meant.
    assert identity.sha256 == "06b9c6f6a9bf60d2deef68b0207917b2c63d100c37fb27d29d9f2d1663483117"


def test_differences_name_both_sides() -> None:
    identity = an_identity()
    assert identity.differences(identity) == []
    assert identity.differences(replace(identity, versions={"openvino": "2026.5.0"})) == [
        "versions openvino is 2026.4.1 in it and 2026.5.0 here",
        "versions torch is 2.14.1 in it and none here",
    ]
    assert identity.differences(replace(identity, batch_size=4)) == [
        "batch_size is 1 in it and 4 here"
    ]


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = a_manifest()
    (tmp_path / MANIFEST).write_text(manifest.to_json())
    back = read_manifest(tmp_path)
    assert back == manifest
    assert back.identity.sha256 == manifest.identity.sha256
    assert back.spec.latent_shape == (16, 16, 16)


def changed(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def dropped(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("format_version", value=1), "format version 1, this program reads 2"),
        (dropped("format_version"), "format version None"),
        (dropped("parity"), r"missing fields \['parity'\]"),
        (changed("more", value=1), r"unknown fields \['more'\]"),
        (dropped("identity", "machine"), r"EngineIdentity: missing fields \['machine'\]"),
        (changed("identity", value=[]), "EngineIdentity: missing fields"),
        (changed("identity", "backend", value="magic"), "backend must be one of openvino"),
        (changed("identity", "precision", value="int8"), "precision must be one of"),
        (changed("identity", "weights_sha256", value="ab"), "weights_sha256 cannot be ab"),
        (changed("identity", "batch_size", value=0), "batch_size cannot be 0"),
        (changed("identity", "batch_size", value=True), "batch_size cannot be True"),
        (changed("identity", "versions", value={"openvino": 2}), "versions cannot be"),
        (changed("identity", "network", value="lite"), "network cannot be lite"),
        (changed("spec", "model", value="v2"), "spec.model"),
        (changed("spec", "batch_size", value=8), "spec.batch_size"),
        (changed("spec", "latent_shape", value=[16, 16]), "latent_shape"),
        (changed("spec", "size", value=-64), "spec cannot be"),
        (changed("spec", "has_fidelity", value=1), "has_fidelity"),
        (changed("parity", "psnr_db", value=float("nan")), "psnr_db"),
        (changed("parity", "flipped", value="none"), "flipped"),
        (changed("parity", "crops", value=0), "crops"),
        (changed("files", "../evil.bin", value="01" * 32), "a name in files"),
        (changed("files", "encoder.xml", value="01"), "encoder.xml"),
        (dropped("files", "encoder.xml"), "files cannot be"),
        (changed("built", value="yesterday"), "yesterday"),
        (changed("built", value="2026-07-25T12:00:00"), "built cannot be"),
        (changed("seconds", value=None), "seconds cannot be None"),
    ],
)
def test_a_manifest_with_a_fault_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    document = json.loads(a_manifest().to_json())
    change(document)
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(EngineFileError, match=says) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / MANIFEST) in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_manifest_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / MANIFEST).write_text(a_manifest().to_json()[:length])
    with pytest.raises(EngineFileError, match="damaged"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match=r"is no engine.*No such file"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineFileError, match="damaged"):
        read_manifest(tmp_path)


def test_what_is_no_origin_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="backend"):
        replace(an_identity(), backend="torch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="image_max"):
        Parity(**{**asdict(a_manifest().parity), "image_max": -1.0})


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("manifest.json", True),
        ("encoder.xml", True),
        ("decoder.plan", True),
        ("decoder.v1.bin", True),
        ("encoder", False),
        ("readme.md", False),
        (".encoder.xml", False),
        ("my_encoder.xml", False),
    ],
)
def test_names_of_an_engines_files(name: str, is_ours: bool) -> None:
    assert is_engine_file(name) is is_ours
